"""What the embedded server alone promises: hostile tensors, health, ports, start-up errors."""

from __future__ import annotations

import logging
import shutil

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from gradcam_export.errors import ServeError
from gradcam_export.server import EmbeddedServer, ServedModel
from gradcam_export.server.models import specific
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import classification_pb2

IMAGES = np.ones([1, 4, 4, 3], np.uint8)


def model(base_path, **options) -> ServedModel:
    return ServedModel(name="toy", base_path=base_path, **options)


def test_a_claim_of_gigabytes_costs_nothing(connect, publish) -> None:
    claim = tensor_pb2.TensorProto(dtype=tf.uint8.as_datatype_enum, int_val=[1])
    for size in (25_000_000, 4, 4, 3):
        claim.tensor_shape.dim.add(size=size)
    with EmbeddedServer([model(publish(1))]) as server:
        stub = connect(server.port)
        stub.predict(images=IMAGES)
        before = psutil.Process().memory_info().rss
        for _ in range(20):
            with pytest.raises(grpc.RpcError, match="tensor parsing error: images: 1 values for"):
                stub.predict(images=claim)
        assert psutil.Process().memory_info().rss - before < 50 * 2**20
        assert stub.predict(images=IMAGES).outputs["sums"].float_val == [48 + 1]


def test_a_call_whose_time_is_up_before_it_is_run_is_not_run(connect, publish) -> None:
    with EmbeddedServer([model(publish(1))]) as server, pytest.raises(grpc.RpcError) as refusal:
        connect(server.port).predict(signature="slow", timeout=0.000001, steps=np.int32([10**6]))
    assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_other_calls_are_unimplemented(connect, publish) -> None:
    with EmbeddedServer([model(publish(1))]) as server, pytest.raises(grpc.RpcError) as refusal:
        connect(server.port).prediction.Classify(classification_pb2.ClassificationRequest())
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("service", ["", "PredictionService", "ModelService"])
def test_health_is_told_under_the_stock_server_s_names(connect, publish, service) -> None:
    with EmbeddedServer([model(publish(1))]) as server:
        health = health_pb2_grpc.HealthStub(connect(server.port).channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_busy_port_is_refused_before_a_model_is_loaded(publish, tmp_path) -> None:
    with EmbeddedServer([model(publish(1))]) as server:
        second = EmbeddedServer([model(tmp_path / "not looked at")], port=server.port)
        with pytest.raises(ServeError, match=rf"Cannot listen on 127.0.0.1:{server.port}: .*in use"):
            second.start()


def test_a_port_taken_while_the_models_load_is_refused(publish, monkeypatch) -> None:
    with EmbeddedServer([model(publish(1))]) as server:
        second = EmbeddedServer([model(publish(2))], port=server.port)
        monkeypatch.setattr("gradcam_export.server.embedded._check_port", lambda *_: None)
        with pytest.raises(ServeError, match=f"Cannot listen on 127.0.0.1:{server.port}"):
            second.start()


def test_a_missing_base_path_is_refused(tmp_path) -> None:
    with pytest.raises(ServeError, match=r"Model 'toy': cannot read its base path: .*No such file.*absent"):
        EmbeddedServer([model(tmp_path / "absent")]).start()


def test_an_empty_base_path_is_refused(tmp_path) -> None:
    (tmp_path / "tmp_1").mkdir()
    with pytest.raises(ServeError, match="holds no version, a directory named by a number"):
        EmbeddedServer([model(tmp_path)]).start()


def test_a_version_in_place_of_a_base_path_is_told(publish) -> None:
    with pytest.raises(ServeError, match="is itself a version; give the directory that holds it"):
        EmbeddedServer([model(publish(1) / "1")]).start()


def test_a_policy_that_takes_nothing_is_refused(publish) -> None:
    with pytest.raises(ServeError, match=r"its version policy takes none of the versions \[1\]"):
        EmbeddedServer([model(publish(1), policy=specific([2]))]).start()


def cut_short(version) -> None:
    graph = version / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("break_it", "match"),
    [
        (lambda version: (version / "saved_model.pb").unlink(), "SavedModel file does not exist"),
        (cut_short, "Cannot parse file"),
        (lambda version: (version / "saved_model.pb").write_bytes(b""), "could not be found in SavedModel"),
        (
            lambda version: (version / "variables/variables.index").write_bytes(b"x"),
            "version 1 cannot be served",
        ),
    ],
    ids=["no graph", "graph cut short", "empty graph", "broken variables"],
)
def test_a_broken_version_is_refused_in_one_line(publish, break_it, match) -> None:
    base_path = publish(1)
    break_it(base_path / "1")
    with pytest.raises(ServeError, match=f"Model 'toy': version 1 cannot be served: .*{match}|{match}") as refusal:
        EmbeddedServer([model(base_path)]).start()
    assert "\n" not in str(refusal.value)


def test_a_label_for_a_version_that_is_not_served_is_refused(publish) -> None:
    with pytest.raises(ServeError, match=r"Model 'toy': label 'stable' names 7, but \[1\] are served"):
        EmbeddedServer([model(publish(1), labels={"stable": 7})]).start()


def test_a_base_path_that_vanishes_leaves_what_is_served(connect, publish, caplog, eventually) -> None:
    base_path = publish(1)
    with caplog.at_level(logging.ERROR), EmbeddedServer([model(base_path)], poll_seconds=0.02) as server:
        shutil.move(base_path, base_path.with_name("elsewhere"))
        eventually(lambda: "what is loaded stays" in caplog.text)
        assert connect(server.port).predict(images=IMAGES).model_spec.version.value == 1
    assert caplog.text.count("what is loaded stays") == 1


def test_nothing_is_served_after_the_stop(connect, publish) -> None:
    server = EmbeddedServer([model(publish(1))])
    server.start()
    stub = connect(server.port)
    stub.predict(images=IMAGES)
    server.stop()
    with pytest.raises(grpc.RpcError) as refusal:
        stub.predict(images=IMAGES)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
