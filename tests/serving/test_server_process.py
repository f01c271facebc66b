"""The server as a process: it starts, says where, and leaves as it was asked to."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf

SERVE = """
import sys
from pathlib import Path
from gradcam_export.errors import ServeError
from gradcam_export.server import ServedModel, serve

models = [ServedModel(name="toy", base_path=Path(sys.argv[1]))]
try:
    serve(models, port=int(sys.argv[2]), grace=float(sys.argv[3]), on_ready=lambda port, _: print(port, flush=True))
except ServeError as error:
    sys.exit(str(error))
print("stopped", flush=True)
"""


@contextlib.contextmanager
def process(base_path, port=0, grace=60.0):
    command = [sys.executable, "-c", SERVE, str(base_path), str(port), str(grace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def in_flight(stub, steps: int) -> grpc.Future:
    """A slow request that the server has received: it takes the requests of a channel in their order."""
    request = stub.request("toy", "slow", steps=np.int32([steps]))
    future = stub.prediction.Predict.future(request)
    stub.predict(signature="describe", key=[b"labels"])
    assert not future.done()
    return future


def describe_error(stub) -> grpc.RpcError | None:
    try:
        stub.predict(signature="describe", key=[b"labels"])
    except grpc.RpcError as error:
        return error
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_requests_in_flight(publish, connect, number) -> None:
    with process(publish(1)) as running:
        stub = connect(int(running.stdout.readline()))
        slow = in_flight(stub, 2000)
        running.send_signal(number)
        np.testing.assert_array_equal(tf.make_ndarray(slow.result().outputs["done"]), [2000])
        output, errors = running.communicate()
    assert running.returncode == 0, errors
    assert output == "stopped\n"
    assert "Traceback" not in errors
    assert "in production, run TensorFlow Serving" in errors


def test_new_requests_are_turned_away_while_it_finishes(publish, connect) -> None:
    with process(publish(1)) as running:
        stub = connect(int(running.stdout.readline()))
        slow = in_flight(stub, 3000)
        running.send_signal(signal.SIGTERM)
        while (error := describe_error(stub)) is None:
            assert not slow.done()
        # gRPC cancels a call that crosses its "go away" on the wire; both codes say: try another server.
        assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert slow.result().outputs["done"].float_val == [3000]


def test_requests_that_outlast_the_grace_are_cut_off(publish, connect) -> None:
    with process(publish(1), grace=0.1) as running:
        slow = in_flight(connect(int(running.stdout.readline())), 5000)
        running.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as refusal:
            slow.result()
    assert refusal.value.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


def test_a_second_signal_ends_it_at_once(publish, connect) -> None:
    with process(publish(1)) as running:
        in_flight(connect(int(running.stdout.readline())), 10**6)
        running.send_signal(signal.SIGTERM)
        while running.poll() is None:
            running.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(0.2)
    assert running.returncode == -signal.SIGTERM


def test_a_busy_port_is_one_line_and_a_failure(publish, connect) -> None:
    with process(publish(1)) as first:
        port = int(first.stdout.readline())
        with process(publish(2), port) as second:
            _, errors = second.communicate()
        assert second.returncode == 1
        assert errors.splitlines()[-1].startswith(f"Cannot listen on 127.0.0.1:{port}: ")
        assert "Traceback" not in errors


@contextlib.contextmanager
def command(*arguments):
    """`gradcam-export serve …` on free ports."""
    words = [sys.executable, "-m", "gradcam_export.cli", "serve", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_the_command_serves_what_the_operator_s_files_say(publish, connect, tmp_path) -> None:
    base_path = publish(1)
    publish(2)
    models = tmp_path / "models.config"
    models.write_text(
        f"""model_config_list {{ config {{
            name: "toy" base_path: "{base_path}" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
        }} }}"""
    )
    monitoring = tmp_path / "monitoring.pbtxt"
    monitoring.write_text("prometheus_config { enable: true }")
    files = ["--model-config-file", models, "--monitoring-config-file", monitoring]
    with command(*files, "--rest-port", 0) as running:
        grpc_line, rest_line = running.stdout.readline(), running.stdout.readline()
        assert grpc_line.startswith("serving toy on 127.0.0.1:")
        stub = connect(int(grpc_line.rpartition(":")[2]))
        assert stub.predict(signature="describe", key=[b"k"]).outputs["value"].string_val == [b"k=2.000000"]
        assert rest_line.startswith("REST at http://127.0.0.1:")
        rest = http.client.HTTPConnection(rest_line.split("/")[2], timeout=30)
        body = json.dumps({"signature_name": "describe", "instances": ["k"]})
        for label, value in (("stable", "k=1.000000"), ("canary", "k=2.000000")):
            rest.request("POST", f"/v1/models/toy/labels/{label}:predict", body)
            assert json.loads(rest.getresponse().read()) == {"predictions": [value]}
        rest.request("GET", "/monitoring/prometheus/metrics")
        assert b':tensorflow:serving:request_count{model_name="toy",status="OK"} 3\n' in rest.getresponse().read()
        rest.close()
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate()
    assert running.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ("--ssl-config-file", "error: {file} is not a readable SSLConfig: "),
        ("--monitoring-config-file", "error: {file} is not a readable MonitoringConfig: "),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, option, match) -> None:
    file = tmp_path / "config"
    file.write_text("what is this?")
    with command(tmp_path, option, file) as running:
        output, errors = running.communicate()
    assert (running.returncode, output) == (1, "")
    assert errors.startswith(match.format(file=file))
    assert errors.count("\n") == 1


def test_metrics_without_rest_are_one_line(tmp_path) -> None:
    file = tmp_path / "monitoring.pbtxt"
    file.write_text("prometheus_config { enable: true }")
    with command(tmp_path, "--monitoring-config-file", file) as running:
        _, errors = running.communicate()
    assert running.returncode == 1
    assert errors.splitlines()[-1].startswith("error: Metrics are read on the REST port, and there is none")
