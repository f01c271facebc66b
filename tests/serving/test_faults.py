"""Versions that come, break or vanish while everybody asks: nobody notices, and the state says what happened."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time

import grpc
import pytest
import tensorflow as tf
from doors import grpc_door
from gradcam_export.server import EmbeddedServer, ServedModel
from load import Load
from questions import Pictures, two_doors, two_versions
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, prediction_log_pb2

STATE = get_model_status_pb2.ModelVersionStatus.State
WARMUP = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    return two_versions(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return Pictures(two_doors(tmp_path_factory.getbasetemp()), ("predict", "describe"))


@pytest.fixture
def publish(versions, tmp_path):
    """Put version `number` in place as an exporter does, broken by `break_it` beforehand."""
    base_path = tmp_path / "tiny"

    def publish(number, break_it=None):
        unfinished = shutil.copytree(versions[number % 2], base_path / f"tmp_{number}")
        if break_it:
            break_it(unfinished)
        unfinished.rename(base_path / str(number))
        return base_path

    return publish


def states(channel):
    """State and error message of each version."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "tiny"
    time.sleep(0.1)
    answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    return {one.version: (one.state, one.status.error_message) for one in answer.model_version_status}


def state_by_rest(address, number):
    connection = http.client.HTTPConnection(address)
    connection.request("GET", f"/v1/models/tiny/versions/{number}")
    (status,) = json.loads(connection.getresponse().read())["model_version_status"]
    connection.close()
    return status


@pytest.mark.parametrize(("count", "pause"), [(2, 0.2), pytest.param(10, 0, marks=pytest.mark.soak)])
def test_versions_come_under_load_and_no_request_fails(serve_both, publish, pictures, eventually, count, pause):
    addresses = serve_both(publish(1), "tiny")
    questions = {9: pictures.good("predict"), 1: pictures.good("describe")}
    with grpc.insecure_channel(addresses.grpc) as channel:
        load = Load(questions, [grpc_door(channel, "tiny")], pause=pause)
        with load.running() as report:
            for number in range(2, count + 2):
                base_path = publish(number)
                eventually(lambda number=number: report.versions[number] > 20 or report.faults)
                shutil.rmtree(base_path / str(number - 1))
    assert not report.faults, report.told()
    assert report.versions.keys() == set(range(1, count + 2))


def cut(name, size=-100):
    def cut_short(version):
        path = version / name
        path.write_bytes(path.read_bytes()[:size])

    return cut_short


def remove(name):
    def removed(version):
        shutil.rmtree(version / name) if (version / name).is_dir() else (version / name).unlink()

    return removed


def warmed_up_wrongly(version):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "describe"
    log.predict_log.request.inputs["key"].CopyFrom(tf.make_tensor_proto([b"?"]))
    with tf.io.TFRecordWriter(str(version / WARMUP)) as writer:
        writer.write(log.SerializeToString())


BROKEN = {
    "graph cut short": (cut("saved_model.pb"), "Cannot parse file"),
    "copied as far as the disk had room, the graph last": (remove("saved_model.pb"), "SavedModel file does not exist"),
    "variables missing": (remove("variables"), "variables/variables"),
    "variables cut short": (cut("variables/variables.data-00000-of-00001"), "Read less bytes than requested"),
    "assets missing": (remove("assets"), "describe.tsv"),
    "warm-up request refused": (warmed_up_wrongly, f"{WARMUP}, record 0: .*key must be manifest or labels"),
    "warm-up cut short": (cut(WARMUP, -10), "verify your warmup data is in TFRecord format"),
}


def test_broken_versions_leave_the_old_one_serving_and_say_why(publish, pictures, eventually):
    model = ServedModel(name="tiny", base_path=publish(1))
    with (
        EmbeddedServer([model], poll_seconds=0.05, rest_port=0) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        Load({1: pictures.good("predict")}, [grpc_door(channel, "tiny")], threads=4, pause=0.2).running() as report,
    ):
        for number, (break_it, why) in enumerate(BROKEN.values(), 2):
            publish(number, break_it)
            eventually(lambda number=number: states(channel).get(number, (None,))[0] == STATE.END)
            _, message = states(channel)[number]
            assert re.search(why, message), message
            assert states(channel)[1] == (STATE.AVAILABLE, "")
            told = state_by_rest(f"127.0.0.1:{server.rest_port}", number)
            assert (told["state"], told["status"]["error_message"]) == ("END", message)
        publish(number + 1)
        eventually(lambda: report.versions[number + 1] > 20)
    assert not report.faults, report.told()
    assert report.versions.keys() == {1, number + 1}
