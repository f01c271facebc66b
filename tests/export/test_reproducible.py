"""The same model, options and versions give the same bytes, in whatever process and after whatever else it did."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from assembled import Folded
from gradcam_export import OptionError, export_classifier
from gradcam_export.checks.digest import check_digest
from gradcam_export.graph.batching import queue_of
from gradcam_export.savedmodel.canonical import content_digest, make_reproducible
from gradcam_export.savedmodel.session import LoadedVersion
from keras import layers
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2

OPTIONS = {"method": ("gradcam", "layercam"), "max_batch_size": 2, "batch_timeout_micros": 50, "top_k": 2}
TIMES = {"assets/describe.tsv", "assets.extra/manifest.json"}
"""Files that tell when, and how far the values lay from the live model's."""

EXPORT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from gradcam_export import export_classifier
from verification import verified_here
with verified_here():
    export_classifier(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A classifier with Dropout, whose generator's state is another one after each loading."""
    keras.utils.set_random_seed(3)
    network = [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((12, 12, 3)), *network, layers.Dense(3, activation="softmax")])
    path = tmp_path_factory.mktemp("trained") / "tiny.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def version(file, tmp_path_factory):
    """An export from this process, after all that other tests did in it."""
    with mock.patch.dict(os.environ, {"SOURCE_DATE_EPOCH": "1700000000"}):
        return export_classifier(file, tmp_path_factory.mktemp("here") / "tiny", **OPTIONS).path


@pytest.fixture(scope="module")
def elsewhere(file, tmp_path_factory):
    """The same from a fresh process, whose sets and dictionaries of sets have another order."""
    base_path = tmp_path_factory.mktemp("elsewhere") / "tiny"
    command = [sys.executable, "-c", EXPORT, str(Path(__file__).parents[1]), str(file), str(base_path)]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run([*command, json.dumps(OPTIONS)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return base_path / "1"


def contents(version):
    return {path.relative_to(version).as_posix(): path.read_bytes() for path in version.rglob("*") if path.is_file()}


def manifest_of(version):
    return json.loads((version / "assets.extra/manifest.json").read_text())


def test_every_file_is_the_same_byte_for_byte_from_a_fresh_process_and_from_this_one(version, elsewhere):
    found, other = contents(version), contents(elsewhere)
    assert {"saved_model.pb", "fingerprint.pb", "variables/variables.index"} < set(found)
    assert [name for name in found | other if name not in TIMES and found.get(name) != other.get(name)] == []


def test_the_manifests_differ_in_nothing_but_measured_differences(version, elsewhere):
    told, told_again = manifest_of(version), manifest_of(elsewhere)
    assert list(told["verified"]) == list(told_again["verified"])
    assert {**told, "verified": {}} == {**told_again, "verified": {}}
    assert told["model"]["created"] == "2023-11-14T22:13:20+00:00"
    assert told["digest"] == told_again["digest"]


def test_what_is_written_names_no_path_of_this_machine(version, file):
    for name, content in contents(version).items():
        assert b"/tmp" not in content, name
        assert str(file.parent).encode() not in content, name


def test_renamed_functions_still_call_each_other(file, version):
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)
    wanted = keras.saving.load_model(file).predict(images.astype(np.float32), verbose=0)
    with LoadedVersion.load(version) as loaded:
        answer = loaded.run("explain", {"images": images, "class_index": np.array([-1, 1], np.int32)})
    np.testing.assert_allclose(answer["predictions"], wanted, atol=1e-5)
    eager = tf.saved_model.load(version).signatures["explain"]
    again = eager(images=tf.constant(images), class_index=tf.constant([-1, 1]))
    np.testing.assert_allclose(again["heatmap"], answer["heatmap"], atol=1e-4)


def queue(file, **options):
    """What an export would call its queues."""
    export = Folded(file, **{**OPTIONS, "batching": "in-graph", **options})
    content = content_digest(export.folded.graph_def, export.folded.weights)
    return queue_of(export.options, export.manifest(("a", "b", "c")), content).identity


def test_exports_that_compute_otherwise_share_no_queue(file):
    """Their weights are those of one file; a queue of one name would let one version compute the other's rows."""

    def preprocessed(factor):
        def preprocess(images):
            return images / factor

        return {"preprocessing": preprocess}

    told = [{}, {"weights": "constants"}, {"max_batch_size": 3}, {"score": "probability"}, {"method": "layercam"}]
    # Functions of one name, of which only the code differs.
    told += [preprocessed(1.5), preprocessed(255.0)]
    assert len({queue(file, **options) for options in told}) == len(told)
    assert queue(file) == queue(file)


def test_the_queues_of_a_version_bear_that_name(file, version):
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    nodes = [
        node for function in functions for node in function.node_def if node.op in ("BatchFunction", "FIFOQueueV2")
    ]
    names = [node.attr["shared_name"].s.decode().split("-") for node in nodes]
    assert {name[0] for name in names} == {"serving_default", "explain", "explain_layercam", "top_k", "predict"} | {
        "explain_bytes",
        "overlay",
    }
    (identity,) = {name[1] for name in names}
    assert len(identity) == 16


def test_equal_versions_loaded_beside_each_other_answer_and_go_alone(version):
    """Their queues have one name; whichever computes a row, computes the same, and the one that stays goes on."""
    images = np.random.default_rng(1).integers(0, 256, (8, 12, 12, 3), np.uint8)
    with LoadedVersion.load(version) as stays, ThreadPoolExecutor(8) as pool:
        wanted = [stays.run("explain", asked(images, row)) for row in range(8)]
        goes = LoadedVersion.load(version)
        both = pool.map(lambda n: (n % 8, (stays, goes)[n // 8 % 2].run("explain", asked(images, n % 8))), range(160))
        answers = list(both)
        goes.close()
        answers += pool.map(lambda n: (n % 8, stays.run("explain", asked(images, n % 8))), range(80))
    for row, answer in answers:
        for name in ("predictions", "heatmap", "heatmap_peak"):
            np.testing.assert_allclose(answer[name], wanted[row][name], rtol=1e-5, atol=1e-5)


def asked(images, row):
    return {"images": images[[row]], "class_index": np.array([row % 3], np.int32)}


def test_the_fingerprint_is_that_of_the_file(version):
    from tensorflow.saved_model.experimental import read_fingerprint

    fingerprint = fingerprint_pb2.FingerprintDef.FromString((version / "fingerprint.pb").read_bytes())
    assert read_fingerprint(str(version)).saved_model_checksum == fingerprint.saved_model_checksum
    before = contents(version)
    make_reproducible(version)
    assert contents(version) == before


def test_content_differs_by_any_weight_or_node_and_by_no_function_name():
    def graph(name, op="Relu"):
        made = graph_pb2.GraphDef()
        made.node.add(name="call", op="PartitionedCall").attr["f"].func.name = name
        function = made.library.function.add()
        function.signature.name = name
        function.node_def.add(name="inner", op=op)
        return made

    weights = {"kernel": np.arange(3, dtype=np.float32)}
    told = content_digest(graph("body_12"), weights)
    assert told == content_digest(graph("body_977"), weights)
    other = {
        content_digest(graph("body_12", "Elu"), weights),
        content_digest(graph("body_12"), {"kernel": weights["kernel"] + 1}),
        content_digest(graph("body_12"), {"kernel": weights["kernel"].astype(np.float64)}),
        content_digest(graph("body_12"), {"bias": weights["kernel"]}),
    }
    assert len({told, *other}) == 5


@pytest.mark.parametrize("told", ["soon", "", "1e9", "9" * 30])
def test_a_time_that_is_none_is_refused(file, tmp_path, monkeypatch, told):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", told)
    with pytest.raises(
        OptionError, match=f"SOURCE_DATE_EPOCH must be seconds since 1970, a whole number; got '{told}'"
    ):
        export_classifier(file, tmp_path / "tiny", **OPTIONS)
    assert not (tmp_path / "tiny" / "1").exists()


def test_the_digest_is_what_sha256sum_says(version):
    manifest = manifest_of(version)
    names = sorted(contents(version).keys() - TIMES)
    assert sorted(manifest["files"]) == names
    assert "variables/variables.data-00000-of-00001" in names
    lines = subprocess.run(["sha256sum", *names], cwd=version, capture_output=True, check=True).stdout
    total = subprocess.run(["sha256sum"], input=lines, capture_output=True, check=True).stdout.split()[0].decode()
    assert manifest["digest"] == f"sha256:{total}"
    assert check_digest(version, manifest).passed


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("variables/variables.index", b"", "variables/variables.index was changed"),
        ("assets/labels.txt", None, "assets/labels.txt is missing"),
        ("assets/more.txt", b"x", "assets/more.txt was added"),
    ],
)
def test_files_that_were_changed_after_publication_are_named(version, tmp_path, name, content, message):
    for file, kept in {**contents(version), name: content}.items():
        if kept is not None:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(kept)
    check = check_digest(tmp_path, manifest_of(version))
    assert not check.passed
    assert check.message == f"not the files that were verified and published: {message}"


def test_a_digest_of_other_files_than_those_listed_is_refused(version):
    check = check_digest(version, {**manifest_of(version), "digest": "sha256:0"})
    assert not check.passed
    assert check.message == "the manifest's digest is not that of the files it lists"


def test_a_manifest_without_digests_says_so(version):
    check = check_digest(version, {"files": {}})
    assert check.passed
    assert check.message == "the manifest holds no digests"
