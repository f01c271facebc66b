"""A version answers its own warm-up requests before anybody else's, or is not served at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.errors import ServeError
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.server import EmbeddedServer, ServedModel
from gradcam_export.server.repository import ModelRepository
from gradcam_export.server.warmup import MAX_RECORDS, replay
from tensorflow_serving.apis import prediction_log_pb2

if TYPE_CHECKING:
    from gradcam_export.server.status import StatusError

IMAGES = np.ones([1, 4, 4, 3], np.uint8)


@pytest.fixture
def log(predict_request):
    def log(signature="", **inputs) -> bytes:
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.CopyFrom(predict_request("any name", signature, **inputs))
        return log.SerializeToString()

    return log


@pytest.fixture
def records(tmp_path):
    def records(*payloads: bytes) -> bytes:
        path = str(tmp_path / "records")
        with tf.io.TFRecordWriter(path) as writer:
            for payload in payloads:
                writer.write(payload)
        return (tmp_path / "records").read_bytes()

    return records


def test_every_request_is_run(publish, log, records, monkeypatch) -> None:
    ran = []
    run = LoadedVersion.run

    def watched(self, signature, inputs, outputs=(), *, timeout_ms=None):
        values = run(self, signature, inputs, outputs, timeout_ms=timeout_ms)
        ran.append((signature, {name: value.tolist() for name, value in values.items()}))
        return values

    monkeypatch.setattr(LoadedVersion, "run", watched)
    warmup = records(log(images=IMAGES), b"", log("describe", key=[b"labels"]))
    versions = ModelRepository(ServedModel(name="toy", base_path=publish(1, warmup=warmup)))
    assert versions.poll() == {}
    assert ran == [
        ("serving_default", {"sums": [49], "mean": [1], "name": [b"48"]}),
        ("describe", {"value": [b"labels=1.000000"]}),
    ]


def test_a_version_without_the_file_is_served(publish) -> None:
    with LoadedVersion.load(publish(1) / "1") as version:
        assert replay(version, publish(2) / "2") == 0


def refusing(publish, warmup) -> StatusError:
    versions = ModelRepository(ServedModel(name="toy", base_path=publish(1, warmup=warmup)))
    (error,) = versions.poll().values()
    return error


def test_a_request_that_fails_fails_the_load(publish, log, records) -> None:
    error = refusing(publish, records(log(images=IMAGES), log("checked", class_index=np.int32([7]))))
    assert "assets.extra/tf_serving_warmup_requests, record 1: " in str(error)
    assert "not a class" in str(error)


def test_an_input_that_is_missing_fails_the_load(publish, log, records) -> None:
    assert "record 0: input size does not match signature" in str(refusing(publish, records(log())))


def test_a_record_that_is_no_log_fails_the_load(publish, records) -> None:
    assert "record 0: not a PredictionLog" in str(refusing(publish, records(b"\xff")))


def test_a_log_of_another_call_fails_the_load(publish, records) -> None:
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.SetInParent()
    match = "record 0: a classify_log, where only predict_log is run"
    assert match in str(refusing(publish, records(log.SerializeToString())))


def test_a_file_that_holds_no_records_fails_the_load(publish) -> None:
    assert "verify your warmup data is in TFRecord format" in str(
        refusing(publish, b"longer than the head of a record")
    )


def test_more_records_than_the_stock_server_takes_fail_the_load(publish, records) -> None:
    match = f"record {MAX_RECORDS}: more than {MAX_RECORDS} records"
    assert match in str(refusing(publish, records(*[b""] * (MAX_RECORDS + 1))))


def test_as_many_records_as_it_takes_are_fine(publish, records) -> None:
    warmup = records(*[b""] * MAX_RECORDS)
    assert ModelRepository(ServedModel(name="toy", base_path=publish(1, warmup=warmup))).poll() == {}


def test_missing_variables_are_found_by_the_warm_up(publish, log, records) -> None:
    base_path = publish(1, warmup=records(log(images=IMAGES)))
    for file in (base_path / "1" / "variables").iterdir():
        file.unlink()
    with pytest.raises(ServeError, match="version 1 cannot be served"):
        EmbeddedServer([ServedModel(name="toy", base_path=base_path)]).start()


def test_a_version_that_fails_to_warm_up_leaves_the_old(publish, log, records) -> None:
    versions = ModelRepository(ServedModel(name="toy", base_path=publish(1)))
    versions.poll()
    publish(2, warmup=records(log("explain", images=IMAGES)))
    (error,) = versions.poll().values()
    assert 'Serving signature key "explain" not found' in str(error)
    with versions.lease(None) as served:
        assert served.number == 1
