import threading

import grpc
import numpy as np
import pytest
from colour_server import manifest
from gradcam_client import codec
from gradcam_client.errors import (
    DeadlineExceeded,
    IncompatibleModel,
    InvalidRequest,
    MalformedAnswer,
    ModelNotFound,
    OptionError,
    ServerError,
    ServerOverloaded,
    ServerUnavailable,
)


def test_an_image_that_cannot_be_read_is_refused_before_any_call(client, server):
    with pytest.raises(ValueError, match="is not an image"):
        client.explain(b"no picture")
    assert server.requests == []


def test_nobody_answers(connect, server, pictures):
    server.stop()
    with (
        connect(server.target, model="colours") as client,
        pytest.raises(ServerUnavailable, match=f"{server.target}: no server answers: is it running") as caught,
    ):
        client.explain(pictures[0])
    assert (caught.value.target, caught.value.status) == (server.target, "UNAVAILABLE")
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@pytest.mark.parametrize("used", [True, False])
def test_a_closed_client_says_so(connect, server, pictures, used):
    with connect(server.target, model="colours") as client:
        if used:
            client.explain(pictures[0])
    with pytest.raises(ServerError, match=f"{server.target}: this client is closed: make another"):
        client.explain(pictures[0])
    with pytest.raises(ServerError, match="this client is closed"):
        list(client.explain_many(pictures))


def test_an_unknown_model_or_version(connect, server, pictures):
    for options in ({"model": "flowers"}, {"model": "colours", "version": 9}):
        with connect(server.target, **options) as client:
            for call in (client.describe, client.status, lambda: client.explain(pictures[0])):
                with pytest.raises(ModelNotFound, match=r"is served \(NOT_FOUND: Servable"):
                    call()


def test_the_deadline_is_kept(connect, server, pictures):
    server.delay = threading.Event()
    with connect(server.target, model="colours", timeout=0.05) as client:
        with pytest.raises(DeadlineExceeded, match="no answer in time: give a longer timeout"):
            client.explain(pictures[0])
        threading.Timer(0.2, server.delay.set).start()
        assert client.explain(pictures[0], timeout=None).model_version == 1


def test_a_call_may_have_a_deadline_of_its_own(client, server, pictures):
    server.delay = threading.Event()
    with pytest.raises(DeadlineExceeded, match="DEADLINE_EXCEEDED"):
        client.predict(pictures[0], timeout=0.05)
    server.delay.set()


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest, "the server refused the request"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerOverloaded, "the server is at a limit"),
        (grpc.StatusCode.UNAVAILABLE, ServerUnavailable, "no server answers"),
        (grpc.StatusCode.INTERNAL, ServerError, "the call failed"),
    ],
)
def test_a_refusal_becomes_the_error_of_its_status(client, server, pictures, code, error, message):
    client.describe()
    server.refuse = (code, "out of luck")
    with pytest.raises(error, match=rf"{message}.* \({code.name}: out of luck\)") as caught:
        client.explain(pictures[0])
    assert type(caught.value) is error
    assert caught.value.status == code.name


def test_a_refusal_of_the_values_is_not_retried_on_the_same_version(client, server, pictures):
    server.versions[1].description = manifest(input=manifest()["input"] | {"shape": [8, 16, 3]})
    client.describe()
    server.versions[1].description = manifest()
    server.requests.clear()
    with pytest.raises(InvalidRequest, match=r"images of shape \(1, 8, 16, 3\)"):
        client.explain(pictures[0])
    assert server.signatures_asked() == ["serving_default", "describe"]


def test_a_model_that_was_not_exported_by_us_is_named_so(client, server, pictures):
    server.versions[1].signatures = ("serving_default",)
    with pytest.raises(IncompatibleModel, match="'colours' does not describe itself: serve what gradcam-export built"):
        client.explain(pictures[0])


def replaced(name, array):
    def tamper(response):
        if "heatmap" in response.outputs:
            response.outputs[name].CopyFrom(codec.encode(array))
        return response

    return tamper


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("heatmap", np.zeros((1, 7, 7), np.float32), r"'heatmap' came as float32 of shape \[1, 7, 7\], .* \[1, 2, 3\]"),
        ("heatmap", np.zeros((2, 2, 3), np.float32), r"'heatmap' came as float32 of shape \[2, 2, 3\]"),
        ("heatmap", np.zeros((1, 2, 3), np.int32), "'heatmap' came as int32"),
        ("heatmap", np.full((1, 2, 3), np.nan, np.float32), "a heatmap came with values outside 0..1"),
        ("heatmap", np.full((1, 2, 3), 1.5, np.float32), "a heatmap came with values outside 0..1"),
        ("heatmap_peak", np.array([-1], np.float32), "a peak below 0"),
        ("predictions", np.zeros((1, 4), np.float32), "predictions came for 4 classes, the model has 3"),
        ("predictions", np.full((1, 3), np.inf, np.float32), "predictions came that are not finite"),
        ("class_index", np.array([3], np.int32), r"class indices \[3\] came, the model has 3 classes"),
        ("score", np.array(["x"], "O").astype("S").astype(object), "'score' came as object"),
        ("label", np.array([1], np.int64), "'label' came as int64"),
    ],
)
def test_an_answer_against_the_contract_is_refused(client, server, pictures, name, array, message):
    server.tamper = replaced(name, array)
    with pytest.raises(MalformedAnswer, match=message):
        client.explain(pictures[0])


def test_an_answer_without_an_output_is_refused(client, server, pictures):
    def forget(response):
        response.outputs.pop("heatmap", None)
        return response

    server.tamper = forget
    with pytest.raises(MalformedAnswer, match=r"output 'heatmap' is missing: .*'class_index'"):
        client.explain(pictures[0])


def test_a_heatmap_that_lost_its_values_is_no_empty_heatmap(client, server, pictures):
    def lose(response):
        if "heatmap" in response.outputs:
            response.outputs["heatmap"].ClearField("tensor_content")
        return response

    server.tamper = lose
    with pytest.raises(MalformedAnswer, match="output 'heatmap': a tensor came with 0 values where its shape needs 6"):
        client.explain(pictures[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "http://localhost:8501"}, "give HOST:PORT, such as localhost:8500, without http://"),
        ({"target": ""}, "server '': give HOST:PORT"),
        ({"target": "localhost"}, "server 'localhost': names no port: give HOST:PORT"),
        ({"target": "localhost:"}, "server 'localhost:': names no port"),
        ({"model": ""}, "give the name the model is served under"),
        ({"version": -1}, "version -1: give a number from 0 up"),
        ({"timeout": 0}, "timeout 0: give seconds above 0, or None"),
        ({"timeout": float("nan")}, "timeout nan: give seconds above 0"),
    ],
)
def test_wrong_options_are_refused_where_they_are_given(connect, options, message):
    given = {"target": "localhost:8500", "model": "colours"} | options
    with pytest.raises(OptionError, match=message):
        connect(given.pop("target"), **given)


def test_a_wrong_deadline_of_a_call_is_refused(client, server):
    with pytest.raises(OptionError, match="timeout -1: give seconds above 0"):
        client.describe(timeout=-1)
    assert server.requests == []
