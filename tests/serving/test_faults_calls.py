"""What calls may take: a thread at once, however many wait for what never comes, and strings to a limit."""

from __future__ import annotations

import threading

import grpc
import pytest
from gradcam_export.server import EmbeddedServer, ServedModel, embedded
from gradcam_export.server.call_threads import CallThreads
from gradcam_export.server.status import StatusError
from gradcam_export.server.tensors import MAX_REPEATED_STRINGS, decode
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture
def threads():
    with CallThreads(2) as threads:
        yield threads


def test_every_call_runs_at_once_and_the_kept_threads_are_used_again(threads, eventually):
    def working():
        return [thread for thread in threading.enumerate() if thread.name.startswith("gradcam-serve")]

    # Those of servers in this process, which have the same name, come and go.
    before = set(working())
    go = threading.Event()
    waiting = [threads.submit(go.wait) for _ in range(8)]
    assert threads.submit(lambda: "at once").result(30) == "at once"
    go.set()
    assert [one.result(30) for one in waiting] == [True] * 8
    eventually(lambda: len(set(working()) - before) == 2)
    names = {threads.submit(lambda: threading.current_thread().name).result(30) for _ in range(20)}
    assert all(name.startswith("gradcam-serve_") for name in names)


@pytest.mark.parametrize("busy", [0, 2])
def test_what_a_call_raises_is_the_future_s(threads, busy):
    go = threading.Event()
    waiting = [threads.submit(go.wait) for _ in range(busy)]
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        threads.submit(lambda: 1 / 0).result(30)
    go.set()
    assert all(one.result(30) for one in waiting)


def test_more_calls_than_are_taken_are_told_so_and_the_others_go_on(publish, connect, monkeypatch, eventually):
    monkeypatch.setattr(embedded, "MAX_CALLS", 20)
    never = threading.Event()

    def messages():
        never.wait()
        yield b""

    with EmbeddedServer([ServedModel(name="toy", base_path=publish(1))]) as server:
        stub = connect(server.port)
        begun = [stub.channel.stream_unary(PREDICT, None, None).future(messages()) for _ in range(30)]
        eventually(lambda: sum(call.done() for call in begun) == 10)
        assert {call.code() for call in begun if call.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        for call in begun:
            call.cancel()
        never.set()

        def answered():
            try:
                return bool(stub.predict(signature="describe", key=[b"k"]))
            except grpc.RpcError:
                return False

        eventually(answered)


def test_strings_are_repeated_no_more_often_than_a_thousand_times():
    """Each may be answered by thousands of bytes."""
    info = meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_STRING)
    info.tensor_shape.unknown_rank = True
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b"manifest"])
    proto.tensor_shape.dim.add(size=MAX_REPEATED_STRINGS + 1)
    assert decode("key", proto, info).tolist() == [b"manifest"] * (MAX_REPEATED_STRINGS + 1)
    proto.tensor_shape.dim[0].size += 1
    with pytest.raises(StatusError, match=r"tensor parsing error: key: 1 values for \[1026\]: over 1024 to fill in"):
        decode("key", proto, info)
