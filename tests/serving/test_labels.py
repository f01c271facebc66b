"""A version is rolled out and rolled back by its labels, with the configuration read again while calls go on."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from colour_server import manifest
from gradcam_client import Client, ModelNotFound, ServerError
from gradcam_export.errors import ServeError
from gradcam_export.server import EmbeddedServer, ServedModel
from gradcam_export.server.models import every
from served_configuration import Configuration, answering, listed, server_has, states

IMAGE = np.zeros((8, 12, 3), np.uint8)


class Described(tf.Module):
    """A classifier whose score is its version's number; says of itself what an export says."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = tf.Variable(float(number))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "key")])
    def describe(self, key: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"value": tf.fill(tf.shape(key), json.dumps(manifest()))}

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 12, 3], tf.uint8, "images")])
    def predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        score = tf.reduce_mean(tf.cast(images, tf.float32) * 0, [1, 2, 3]) + self.number
        return {
            "predictions": tf.stack([score, score * 0, score * 0], axis=1),
            "class_index": tf.cast(score * 0, tf.int32),
            "label": tf.fill(tf.shape(score), "red"),
            "score": score,
        }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two versions of a model that describes itself, where no server looks."""
    folder = tmp_path_factory.mktemp("described")
    for number in (1, 2):
        module = Described(number)
        signatures = {"describe": module.describe, "predict": module.predict}
        tf.saved_model.save(module, str(folder / str(number)), signatures)
    return folder


@pytest.fixture
def configuration(tmp_path):
    return Configuration(tmp_path)


def test_a_rollout_and_a_rollback_by_the_client(written, tmp_path, configuration, eventually) -> None:
    """The README's steps; four callers of `stable` go on all the while, and none of their calls fails."""
    base_path = tmp_path / "models"
    shutil.copytree(written / "1", base_path / "1")
    configuration.edit(listed(base_path, 1, stable=1, canary=1))
    failures: list[ServerError] = []
    done = threading.Event()

    def call(target: str) -> None:
        with Client(target, model="toy", label="stable") as client:
            while not done.is_set():
                try:
                    answer = client.predict(IMAGE)
                    assert answer.score == answer.model_version
                except (ServerError, AssertionError) as error:
                    failures.append(error)

    with configuration.serve() as server:
        target = f"127.0.0.1:{server.port}"
        callers = [threading.Thread(target=call, args=[target]) for _ in range(4)]
        for caller in callers:
            caller.start()
        with (
            Client(target, model="toy", label="stable") as stable,
            Client(target, model="toy", label="canary") as canary,
            Client(target, model="toy") as latest,
        ):

            def answer() -> tuple[int, int]:
                return stable.predict(IMAGE).model_version, canary.predict(IMAGE).model_version

            shutil.copytree(written / "2", tmp_path / "unfinished")
            (tmp_path / "unfinished").rename(base_path / "2")
            configuration.edit(listed(base_path, 1, 2, stable=1, canary=1))
            eventually(lambda: [one.state for one in latest.status()] == ["AVAILABLE"] * 2)
            # Who names no label gets the highest version that is loaded, before anybody decided so.
            assert latest.predict(IMAGE).score == 2
            assert answer() == (1, 1)
            for labels, versions in (
                ({"stable": 1, "canary": 2}, (1, 2)),
                ({"stable": 2, "canary": 2}, (2, 2)),
                ({"stable": 1, "canary": 2}, (1, 2)),
                ({"stable": 2, "canary": 2}, (2, 2)),
            ):
                configuration.edit(listed(base_path, 1, 2, **labels))
                eventually(lambda versions=versions: answer() == versions)
            assert [(one.version, one.state) for one in stable.status()] == [(2, "AVAILABLE")]
            configuration.edit(listed(base_path, 2, stable=2, canary=2))
            eventually(lambda: [one.state for one in latest.status()] == ["AVAILABLE", "END"])
        done.set()
        for caller in callers:
            caller.join()
    assert failures == []


@pytest.mark.parametrize("unavailable_labels", [False, True])
def test_a_label_in_use_moves_only_to_a_version_that_is_loaded(
    publish, connect, configuration, eventually, caplog, unavailable_labels
) -> None:
    base_path = publish(1)
    publish(2)
    configuration.edit(listed(base_path, 1, stable=1))
    with caplog.at_level(logging.ERROR), configuration.serve(unavailable_labels=unavailable_labels) as server:
        stub = connect(server.port)
        # Both at once: the edit is refused whole, however often it is read.
        configuration.edit(listed(base_path, 1, 2, stable=2))
        eventually(lambda: "label 'stable' names 2, but [1] are served: a label is given to" in caplog.text)
        assert (states(stub), answering(stub, "stable")) == ({1: "AVAILABLE"}, 1)
        configuration.edit(listed(base_path, 1, 2, stable=1))
        eventually(lambda: states(stub) == {1: "AVAILABLE", 2: "AVAILABLE"})
        configuration.edit(listed(base_path, 1, 2, stable=2))
        eventually(lambda: answering(stub, "stable") == 2)
    assert caplog.text.count("what is loaded stays") == 1


def test_a_new_label_waits_for_its_version_where_that_is_allowed(publish, connect, configuration, eventually) -> None:
    base_path = publish(1)
    configuration.edit(listed(base_path, 1, 7, beta=7))
    with configuration.serve(unavailable_labels=True) as server:
        stub = connect(server.port)
        request = stub.request(images=np.ones([1, 4, 4, 3], np.uint8))
        request.model_spec.version_label = "beta"
        with pytest.raises(grpc.RpcError, match=r"Servable not found for request: Specific\(toy, 7\)") as refusal:
            stub.prediction.Predict(request)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
        with Client(f"127.0.0.1:{server.port}", model="toy", label="beta") as client, pytest.raises(ModelNotFound):
            client.describe()
        publish(7)
        eventually(lambda: answering(stub, "beta") == 7)


def test_an_answer_names_the_version_and_not_the_label(publish, connect, configuration) -> None:
    configuration.edit(listed(publish(3), 3, stable=3))
    with configuration.serve() as server:
        stub = connect(server.port)
        request = stub.request(images=np.ones([1, 4, 4, 3], np.uint8))
        request.model_spec.version_label = "stable"
        spec = stub.prediction.Predict(request).model_spec
    assert spec.WhichOneof("version_choice") == "version"
    assert (spec.name, spec.version.value, spec.signature_name) == ("toy", 3, "serving_default")


def test_models_come_and_go_with_the_list(publish, connect, configuration, eventually) -> None:
    base_path = publish(1)
    one, other = listed(base_path, 1, stable=1), listed(base_path, 1, name="other")
    configuration.edit(one)
    with configuration.serve() as server:
        stub = connect(server.port)
        configuration.edit(one, other)
        eventually(lambda: server_has(stub, "other"))
        configuration.edit(other)
        eventually(lambda: states(stub) == {1: "END"})
        images = np.ones([1, 4, 4, 3], np.uint8)
        with pytest.raises(grpc.RpcError, match=r"Servable not found for request: Latest\(toy\)"):
            stub.predict(images=images)
        assert answering(stub, "stable") == 0
        assert stub.predict("other", images=images).model_spec.version.value == 1
        # With a label it would be refused: nothing of this model is loaded any more.
        configuration.edit(listed(base_path, 1))
        eventually(lambda: states(stub) == {1: "AVAILABLE"})
        eventually(lambda: states(stub, "other") == {1: "END"})


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ("model_config_list { config {", "is not a readable ModelServerConfig"),
        ("", "lists no model"),
        (None, "is not a readable ModelServerConfig: .*No such file"),
        ("twice", "Illegal to list model toy multiple times"),
    ],
)
def test_an_edit_that_cannot_be_taken_changes_nothing_and_is_told_once(
    publish, connect, configuration, eventually, caplog, edit, told
) -> None:
    base_path = publish(1)
    publish(2)
    model = listed(base_path, 1, stable=1)
    configuration.edit(model)
    with caplog.at_level(logging.ERROR), configuration.serve() as server:
        stub = connect(server.port)
        if edit is None:
            configuration.path.unlink()
        elif edit == "twice":
            configuration.edit(model, model)
        else:
            configuration.path.write_text(edit)
        eventually(lambda: "what is loaded stays" in caplog.text)
        assert (states(stub), answering(stub, "stable")) == ({1: "AVAILABLE"}, 1)
        configuration.edit(listed(base_path, 1, 2, stable=1))
        eventually(lambda: states(stub) == {1: "AVAILABLE", 2: "AVAILABLE"})
    (record,) = caplog.records
    assert record.message.startswith(f"{configuration.path}: ")
    assert caplog.text.count("what is loaded stays") == 1
    assert re.search(told, record.message)


def test_a_file_is_read_once_unless_told_otherwise(publish, connect, configuration, eventually) -> None:
    base_path = publish(1)
    configuration.edit(
        f'config {{ name: "toy" base_path: "{base_path}" model_platform: "tensorflow" '
        'model_version_policy { all {} } version_labels { key: "stable" value: 1 } }'
    )
    with configuration.serve(config_poll_seconds=0) as server:
        stub = connect(server.port)
        publish(2)
        eventually(lambda: states(stub) == {1: "AVAILABLE", 2: "AVAILABLE"})
        configuration.edit(listed(base_path, 2, stable=2))
        publish(3)
        eventually(lambda: states(stub).get(3) == "AVAILABLE")
        assert answering(stub, "stable") == 1


def test_a_new_base_path_leaves_a_version_that_is_loaded(publish, connect, configuration, eventually) -> None:
    base_path = publish(1)
    other = base_path.with_name("elsewhere")
    shutil.copytree(base_path / "1", other / "1")
    shutil.copytree(publish(2) / "2", other / "2")
    configuration.edit(listed(base_path, 1))
    with configuration.serve() as server:
        stub = connect(server.port)
        configuration.edit(listed(other, 1, 2))
        eventually(lambda: states(stub) == {1: "AVAILABLE", 2: "AVAILABLE"})


def test_labels_at_the_start_are_said_to_need_a_flag(publish, caplog) -> None:
    base_path = publish(1)
    with caplog.at_level(logging.WARNING):
        for labels, allowed in (({}, False), ({"stable": 1}, True)):
            model = ServedModel(name="toy", base_path=base_path, policy=every, labels=labels)
            EmbeddedServer([model], unavailable_labels=allowed).__enter__().stop()
        assert caplog.text == ""
        with EmbeddedServer([model]):
            assert "only under --allow_version_labels_for_unavailable_models" in caplog.text


def test_there_must_be_a_file_to_read_again(publish) -> None:
    with pytest.raises(ServeError, match="no configuration to read again: give one"):
        EmbeddedServer([ServedModel(name="toy", base_path=publish(1))], config_poll_seconds=1)


def test_the_command_reads_its_file_again(publish, connect, configuration, eventually) -> None:
    base_path = publish(1)
    publish(2)
    configuration.edit(listed(base_path, 1, stable=1, beta=7))
    flags = ["--model-config-file-poll-wait-seconds", "0.05", "--allow-version-labels-for-unavailable-models"]
    serve = [sys.executable, "-m", "gradcam_export.cli", "serve", "--model-config-file", str(configuration.path)]
    with subprocess.Popen([*serve, *flags, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            stub = connect(int(process.stdout.readline().rpartition(":")[2]))
            assert (answering(stub, "stable"), answering(stub, "beta")) == (1, 0)
            configuration.edit(listed(base_path, 1, 2, stable=1))
            eventually(lambda: states(stub).get(2) == "AVAILABLE")
            configuration.edit(listed(base_path, 1, 2, stable=2))
            eventually(lambda: answering(stub, "stable") == 2)
        finally:
            process.terminate()
