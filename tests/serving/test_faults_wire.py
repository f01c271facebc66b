"""What hostile or broken callers send: the server stays up, answers the others meanwhile, and keeps nothing of it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

import grpc
import numpy as np
import pytest
from doors import grpc_door, rest_door, retrying
from hostile import BEGINNINGS, PREDICT, claim, code_of, raw, watching
from load import Load
from questions import QUICK, SIGNATURES, SIZE, Pictures, two_doors, two_versions
from server_process import ServerProcess
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

MEGABYTE = 2**20
KEPT_BYTES = 256 * MEGABYTE
"""What the allocator may hold on to for the next large message; those here are of 54 MB at most."""
SHORT_AND_LONG = [1, pytest.param(10, marks=pytest.mark.soak)]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return two_versions(tmp_path_factory.getbasetemp())[1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return Pictures(two_doors(tmp_path_factory.getbasetemp())[1:], QUICK)


@pytest.fixture(scope="module")
def server(odd, tmp_path_factory):
    directory = tmp_path_factory.mktemp("served")
    (directory / "tiny").mkdir()
    (directory / "tiny" / "1").symlink_to(odd)
    with ServerProcess(directory / "tiny", directory / "log") as server:
        yield server


@pytest.fixture(scope="module")
def others(server, pictures):
    """Other callers who must notice nothing: `others()` asks some questions, good and bad, by gRPC and REST."""
    questions = {9: pictures.good(), 1: pictures.bad()}

    def ask(count=30, threads=4):
        with grpc.insecure_channel(server.grpc) as channel, rest_door(server.rest, "tiny", 1) as rest:
            doors = [grpc_door(channel, "tiny", timeout=20), rest]
            report = Load(questions, doors, threads=threads, count=count).run()
        assert not report.faults, report.told()

    with grpc.insecure_channel(server.grpc) as channel:
        pictures.meet(grpc_door(channel, "tiny"))
    ask(200, threads=40)  # until every thread is there
    return ask


@pytest.fixture
def nothing_is_kept(server, others, eventually):
    """After the test others are answered, and threads, files and memory are as they were."""
    before = server.taken()
    yield
    others()
    eventually(lambda: server.taken().files <= before.files + 2 and server.taken().threads <= before.threads + 2)
    assert server.taken().memory - before.memory < KEPT_BYTES


def test_bad_requests_fail_alone(server, pictures):
    """2000 requests of which a tenth is bad; 20 000 in test_isolation.py."""
    questions = {9: pictures.good(), 1: pictures.bad()}
    with grpc.insecure_channel(server.grpc) as channel, rest_door(server.rest, "tiny", 1) as rest:
        doors = [*[grpc_door(channel, "tiny")] * 8, rest]
        report = Load(questions, doors, threads=18, count=2000).run()
    assert not report.faults, report.told()
    assert report.count == 2000
    assert 140 < sum(count for (_, code), count in report.codes.items() if code == "INVALID_ARGUMENT") < 260
    assert len({kind for kind, _ in report.codes}) > 12


@pytest.mark.usefixtures("nothing_is_kept")
def test_bytes_that_are_no_request_are_refused(server, pictures):
    chance = random.Random(0)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "tiny", "predict"
    request.inputs["images"].CopyFrom(claim("images", 1, tensor_content=bytes(SIZE * SIZE * 3)))
    whole = request.SerializeToString()
    refused = 0
    with raw(server) as call:
        assert code_of(call, whole) is grpc.StatusCode.OK
        for _ in range(300):
            broken = bytearray(whole[: chance.randrange(1, len(whole))])
            for _ in range(chance.randrange(8)):
                broken[chance.randrange(min(len(broken), 100))] = chance.randrange(256)
            code = code_of(call, bytes(broken))
            # The stock server's code for bytes that are no message; what is one is judged by its content.
            known = grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
            assert code in (*known, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OK)
            refused += code is not grpc.StatusCode.OK
    assert refused > 290


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("rows", [2**17, 2**20, 2**62])
def test_a_message_of_a_few_bytes_costs_no_gigabyte(server, pictures, rows):
    """Its shape claims more than it brings, and the parser would repeat the one value that there is."""
    values = {"images": {"int_val": [7]}, "image_bytes": {"string_val": [pictures.inputs["image_bytes"][0]]}}
    values |= {"class_index": {"int_val": [0]}, "key": {"string_val": [b"manifest"]}}
    most = [server.taken().memory]
    before = most[0]
    with raw(server) as call, watching(server, most):
        for signature, names in SIGNATURES.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = "tiny", signature
            for name in names:
                request.inputs[name].CopyFrom(claim(name, rows, **values[name]))
            assert code_of(call, request.SerializeToString()) is grpc.StatusCode.INVALID_ARGUMENT, signature
    assert most[0] - before < 128 * MEGABYTE


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("times", SHORT_AND_LONG)
def test_gigantic_tensors_are_refused_and_forgotten(server, times):
    with raw(server) as call:
        for _ in range(times):
            for shape in ((1, SIZE, SIZE * 8192, 3), (2**12, SIZE * 8, SIZE, 3)):
                tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8, tensor_content=bytes(np.prod(shape)))
                for size in shape:
                    tensor.tensor_shape.dim.add(size=size)
                request = predict_pb2.PredictRequest(inputs={"images": tensor})
                request.model_spec.name = "tiny"
                assert code_of(call, request.SerializeToString()) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("times", SHORT_AND_LONG)
def test_connections_opened_and_dropped_leave_nothing_behind(server, others, times):
    """500 to each port; 10 000 in the long form."""
    for number in range(1000 * times):
        port = (server.port, server.rest_port)[number % 2]
        with socket.create_connection(("127.0.0.1", port)) as connection, contextlib.suppress(OSError):
            connection.sendall(BEGINNINGS[number // 2 % len(BEGINNINGS)])
            if number % 3 == 0:  # reset, where the others say good-bye
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if number % 500 == 250:
            others(20)


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("count", [64, pytest.param(1000, marks=pytest.mark.soak)])
def test_requests_that_never_come_hold_nobody_up(server, others, count):
    """Calls that are begun, and whose message is not sent."""
    never = threading.Event()

    def messages():
        never.wait()
        yield b""

    with grpc.insecure_channel(server.grpc) as channel:
        begin = channel.stream_unary(PREDICT, None, None)
        calls = [begin.future(messages()) for _ in range(count)]
        time.sleep(0.5)
        others()
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
        never.set()


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("count", [64, pytest.param(1000, marks=pytest.mark.soak)])
def test_answers_that_are_never_read_hold_nobody_up(server, others, pictures, count):
    """Each is longer than what is sent ahead of its reader."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "tiny", "describe"
    request.inputs["key"].CopyFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b"manifest"] * 60))
    request.inputs["key"].tensor_shape.dim.add(size=60)
    with grpc.insecure_channel(server.grpc) as channel:
        unread = channel.unary_stream(PREDICT, None, None)
        calls = [unread(request.SerializeToString()) for _ in range(count)]
        time.sleep(0.5)
        others()
        for call in calls:
            call.cancel()


@pytest.mark.usefixtures("nothing_is_kept")
def test_heads_that_never_end_and_bodies_that_are_not_read_hold_nobody_up(server, others):
    with contextlib.ExitStack() as slow:

        def connect(message):
            connection = slow.enter_context(socket.create_connection(("127.0.0.1", server.rest_port)))
            connection.sendall(message)
            return connection

        heads = [connect(b"GET /v1/models/tiny HTTP/1.1\r\n") for _ in range(150)]
        bodies = [connect(b"POST /v1/models/tiny:predict HTTP/1.1\r\nContent-Length: 9\r\n\r\n{") for _ in range(50)]
        ask = b'{"signature_name": "describe", "inputs": ["manifest"%s]}' % (b', "manifest"' * 3000)
        for _ in range(4):
            connect(b"POST /v1/models/tiny:predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(ask), ask))
        for _ in range(4):
            for connection in heads + bodies:
                connection.sendall(b"a")
            others(20)


def test_a_caller_in_a_hurry_fails_nobody_else(server, pictures):
    """Requests of 20 ms among requests of 20 s; their rows are merged."""
    questions = {1: pictures.good("explain", "predict")}
    with grpc.insecure_channel(server.grpc) as channel:
        hurried = Load(questions, [grpc_door(channel, "tiny", timeout=0.02)], threads=12)
        with hurried.running() as report:
            patient = Load(questions, [grpc_door(channel, "tiny", timeout=20)], threads=12, count=400).run()
    server.taken()
    assert not patient.faults, patient.told()
    codes = {code for _, code in report.codes}
    assert "DEADLINE_EXCEEDED" in codes
    assert codes <= {"OK", "DEADLINE_EXCEEDED"}


def test_callers_who_ask_again_lose_nothing_when_the_server_is_killed(server, pictures, eventually):
    quick = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    questions = {1: pictures.good("predict")}
    with grpc.insecure_channel(server.grpc, quick) as channel, rest_door(server.rest, "tiny", 1) as rest:
        doors = [retrying(grpc_door(channel, "tiny")), retrying(rest)]
        with Load(questions, doors, pause=0.1).running() as report:
            eventually(lambda: report.count > 200)
            server.kill()
            server.start()
            before = report.count
            eventually(lambda: report.count > before + 200)
    assert not report.faults, report.told()
    assert {code for _, code in report.codes} == {"OK"}
