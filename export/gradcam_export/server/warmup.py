"""Replay the requests that a version brings along, before it answers anybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from gradcam_export.server.predict import predict
from gradcam_export.server.status import StatusError, from_op_error

if TYPE_CHECKING:
    from pathlib import Path

    from gradcam_export.savedmodel.session import LoadedVersion

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000


def replay(version: LoadedVersion, path: Path) -> int:
    """Run every request in the warm-up file of the version in directory `path`; returns how many ran.

    A version without the file is warm as it is. Records that hold no log are skipped, as in the stock server.

    Raises:
        StatusError: the file is not a TFRecord of `PredictionLog`s, holds more than 1000, holds another
            call than Predict, or one of the requests failed.
    """
    file = path / WARMUP_FILE
    if not file.exists():
        return 0
    ran = 0
    for position, record in enumerate(_records(file)):
        if position == MAX_RECORDS:
            raise _failure(position, grpc.StatusCode.INVALID_ARGUMENT, f"more than {MAX_RECORDS} records")
        ran += _replay_record(version, position, record)
    return ran


def _records(file: Path) -> list[bytes]:
    try:
        # One more than are allowed tells that there are too many.
        return list(tf.data.TFRecordDataset(str(file)).take(MAX_RECORDS + 1).as_numpy_iterator())
    except tf.errors.OpError as error:
        status = from_op_error(error)
        message = f"{file}: {status.message}. Please verify your warmup data is in TFRecord format."
        raise StatusError(status.code, message) from error


def _replay_record(version: LoadedVersion, position: int, record: bytes) -> bool:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise _failure(position, grpc.StatusCode.INVALID_ARGUMENT, "not a PredictionLog") from error
    kind = log.WhichOneof("log_type")
    if kind is None:
        return False
    if kind != "predict_log":
        raise _failure(position, grpc.StatusCode.UNIMPLEMENTED, f"a {kind}, where only predict_log is run")
    try:
        predict(version, log.predict_log.request)
    except StatusError as error:
        raise _failure(position, error.code, error.message) from error
    return True


def _failure(position: int, code: grpc.StatusCode, message: str) -> StatusError:
    return StatusError(code, f"{WARMUP_FILE}, record {position}: {message}")
