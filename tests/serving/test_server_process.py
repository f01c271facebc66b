"""The server as a process: it starts, says where, and leaves as it was asked to."""

from __future__ import annotations

import contextlib
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
    serve(models, port=int(sys.argv[2]), grace=float(sys.argv[3]), on_ready=lambda port: print(port, flush=True))
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
