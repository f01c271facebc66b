"""What an operator copies from `serving_config/` is what the server reads, and fits what `build` writes."""

from __future__ import annotations

import deployment
import numpy as np
import pytest
import tensorflow as tf
from deployment import CONFIG
from google.protobuf import text_format
from gradcam_export.server import EmbeddedServer, read_model_config

EXPLAINED = [file.relative_to(CONFIG) for kind in ("config", "pbtxt", "yaml") for file in CONFIG.rglob(f"*.{kind}")]


@pytest.mark.parametrize("file", EXPLAINED, ids=str)
def test_every_line_or_block_says_why(file) -> None:
    blocks = file.parts[0] in {"kubernetes", "kserve", "kustomization.yaml"}
    assert deployment.silent_lines((CONFIG / file).read_text(), blocks=blocks) == []


def test_a_line_that_does_not_say_why_is_found() -> None:
    assert deployment.silent_lines("# why\na: 1\nb: 2  # why\nc: 3\n", blocks=False) == ["c: 3"]
    assert deployment.silent_lines("# why\na:\n  b: 2\n  c: 3\nd: 4\n", blocks=True) == ["d: 4"]


def test_two_models_are_served_one_by_labels_and_one_by_its_exports() -> None:
    models = deployment.models()
    assert set(models) == {"flowers", "demo"}
    for name, model in models.items():
        assert (model.base_path, model.model_platform) == (f"/models/{name}", "tensorflow")
        assert not model.HasField("logging_config")
    assert set(models["flowers"].version_labels) == {"stable", "canary"}
    assert not models["demo"].version_labels
    assert models["demo"].model_version_policy.latest.num_versions == 1


def test_labels_name_versions_that_are_kept_loaded() -> None:
    """`latest` would unload the version of a label when a newer one appears."""
    flowers = deployment.models()["flowers"]
    assert set(flowers.version_labels.values()) <= set(flowers.model_version_policy.specific.versions)


@pytest.fixture
def base_paths(publish, tmp_path):
    """Versions 1 and 2 of both models, where `build` puts them; the text of models.config with those paths."""
    publish(1)
    publish(2).rename(tmp_path / "flowers")
    publish(1).rename(tmp_path / "demo")
    return (CONFIG / "models.config").read_text().replace('"/models/', f'"{tmp_path}/')


def answers(text: str, tmp_path, connect, *labels: str) -> list[float]:
    """What each label of `flowers` answers for an image of ones: 48, and the number of the version."""
    config = tmp_path / "models.config"
    config.write_text(text)
    with EmbeddedServer(read_model_config(config)) as server:
        stub = connect(server.port)
        request = stub.request("flowers", images=np.ones([1, 4, 4, 3], np.uint8))
        found = []
        for label in labels:
            request.model_spec.version_label = label
            found.append(stub.prediction.Predict(request).outputs["sums"].float_val[0])
        demo = stub.predict("demo", images=np.ones([1, 4, 4, 3], np.uint8))
    assert list(demo.outputs["sums"].float_val) == [49]
    return found


def test_the_embedded_server_serves_it_as_it_is(base_paths, connect, tmp_path) -> None:
    assert answers(base_paths, tmp_path, connect, "stable", "canary") == [49, 49]


def test_the_steps_of_a_rollout_are_edits_of_the_file(base_paths, connect, tmp_path) -> None:
    loaded = base_paths.replace("specific { versions: 1 }", "specific { versions: 1 versions: 2 }")
    canary = loaded.replace('key: "canary" value: 1', 'key: "canary" value: 2')
    promoted = canary.replace('key: "stable" value: 1', 'key: "stable" value: 2')
    assert len({base_paths, loaded, canary, promoted}) == 4
    assert answers(canary, tmp_path, connect, "stable", "canary") == [49, 50]
    assert answers(promoted, tmp_path, connect, "stable", "canary") == [50, 50]


def test_the_batching_parameters_are_consistent() -> None:
    parameters = deployment.batching()
    sizes = list(parameters.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == parameters.max_batch_size.value
    assert parameters.batch_timeout_micros.value > 0
    assert parameters.max_enqueued_batches.value >= parameters.num_batch_threads.value > 0
    assert not parameters.pad_variable_length_inputs


def test_a_number_without_its_wrapper_would_not_be_read() -> None:
    with pytest.raises(text_format.ParseError):
        deployment.parse("BatchingParameters", "max_batch_size: 32")


def test_metrics_are_on_and_where_prometheus_looks() -> None:
    assert deployment.metrics_path() == "/monitoring/prometheus/metrics"


@pytest.mark.parametrize("choice", ["OFF", "ON"])
def test_the_session_takes_memory_as_needed_and_precision_by_choice(choice) -> None:
    text = (
        (CONFIG / "session.pbtxt").read_text().replace("auto_mixed_precision: OFF", f"auto_mixed_precision: {choice}")
    )
    config = text_format.Parse(text, tf.compat.v1.ConfigProto())
    assert config.gpu_options.allow_growth
    rewriting = config.graph_options.rewrite_options
    assert rewriting.auto_mixed_precision == getattr(rewriting, choice)
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        assert session.run(tf.constant([1.0, 2.0]) * 2).tolist() == [2, 4]
