"""Versions come and go as in TensorFlow Serving, and no request notices."""

from __future__ import annotations

import logging
import shutil
import threading
import weakref

import grpc
import numpy as np
import pytest
from gradcam_export.server import EmbeddedServer, ServedModel
from gradcam_export.server.models import every, latest
from gradcam_export.server.repository import ModelRepository, find_versions, version_number
from gradcam_export.server.status import StatusError
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus

IMAGES = np.ones([1, 4, 4, 3], np.uint8)
STATE = ModelVersionStatus.State


def model(base_path, **options) -> ServedModel:
    return ServedModel(name="toy", base_path=base_path, **options)


def repository(base_path, **options) -> ModelRepository:
    return ModelRepository(model(base_path, **options))


def states(repository: ModelRepository) -> dict[int, str]:
    return {number: STATE.Name(state.state) for number, state in repository.states().items()}


def statuses(stub) -> dict[int, ModelVersionStatus]:
    request = GetModelStatusRequest()
    request.model_spec.name = "toy"
    return {status.version: status for status in stub.model.GetModelStatus(request).model_version_status}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("00000123", 123),
        ("0", 0),
        ("1718000000", 1718000000),
        (" 7", 7),
        ("+7", 7),
        ("-7", -7),
        ("9223372036854775807", 2**63 - 1),
        ("0" * 5000 + "1", 1),
        ("9223372036854775808", None),
        ("1" * 5000, None),
        ("", None),
        ("-", None),
        ("1.0", None),
        ("1_0", None),
        ("v5", None),
        ("tmp_5", None),
        (".tmp-5", None),
        ("5.tmp", None),
        ("٣", None),
        ("0x1", None),
    ],
)
def test_a_name_is_a_version_where_the_stock_server_reads_a_number(name, number) -> None:
    assert version_number(name) == number


@given(st.integers(-(2**64), 2**64))
def test_every_64_bit_number_is_a_version(number) -> None:
    assert version_number(str(number)) == (number if -(2**63) <= number < 2**63 else None)


def test_of_two_names_for_a_number_the_last_is_taken(tmp_path) -> None:
    for name in ("1", "01", "10", "tmp_2"):
        (tmp_path / name).mkdir()
    assert find_versions(tmp_path) == {1: tmp_path / "1", 10: tmp_path / "10"}


def test_the_new_version_is_loaded_before_the_old_is_unloaded(publish, monkeypatch) -> None:
    versions = repository(publish(9))
    versions.poll()
    during = []
    load = ModelRepository._load

    def watched(self, number, path) -> None:
        load(self, number, path)
        during.append(states(self))

    monkeypatch.setattr(ModelRepository, "_load", watched)
    publish(10)
    versions.poll()
    assert during == [{10: "AVAILABLE", 9: "AVAILABLE"}]
    assert states(versions) == {10: "AVAILABLE", 9: "END"}


def test_taking_the_new_version_away_brings_the_old_back(publish) -> None:
    versions = repository(publish(1))
    publish(2)
    versions.poll()
    shutil.rmtree(versions.model.base_path / "2")
    versions.poll()
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    with versions.lease(None) as served:
        assert served.number == 1


def test_a_base_path_emptied_serves_nothing(publish) -> None:
    versions = repository(publish(1))
    versions.poll()
    shutil.rmtree(versions.model.base_path / "1")
    versions.poll()
    assert states(versions) == {1: "END"}
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(toy\)"), versions.lease(None):
        pass


def test_a_broken_version_keeps_the_old_and_is_not_tried_again(publish) -> None:
    versions = repository(publish(1))
    versions.poll()
    (versions.model.base_path / "2").mkdir()
    assert set(versions.poll()) == {2}
    assert versions.poll() == {}
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    assert "SavedModel file does not exist" in str(versions.states()[2].error)
    publish(3)
    assert versions.poll() == {}
    assert states(versions) == {3: "AVAILABLE", 2: "END", 1: "END"}


def test_a_broken_version_published_anew_is_tried_again(publish) -> None:
    versions = repository(publish(1))
    (versions.model.base_path / "2").mkdir()
    versions.poll()
    (versions.model.base_path / "2").rmdir()
    versions.poll()
    publish(2)
    versions.poll()
    assert states(versions) == {2: "AVAILABLE", 1: "END"}


def test_a_broken_version_leaves_the_highest_of_the_old(publish) -> None:
    versions = repository(publish(1), policy=latest(2))
    publish(2)
    versions.poll()
    assert states(versions) == {2: "AVAILABLE", 1: "AVAILABLE"}
    for number in (3, 4):
        (versions.model.base_path / str(number)).mkdir()
    versions.poll()
    assert states(versions) == {4: "END", 3: "END", 2: "AVAILABLE", 1: "END"}


def test_a_version_in_use_is_unloaded_after_its_last_request(publish) -> None:
    versions = repository(publish(1))
    versions.poll()
    with versions.lease(1) as first, versions.lease(1):
        publish(2)
        versions.poll()
        assert states(versions) == {2: "AVAILABLE", 1: "UNLOADING"}
        with pytest.raises(StatusError, match=r"Specific\(toy, 1\)"), versions.lease(1):
            pass
        answer = first.loaded.run("serving_default", {"images": IMAGES})
        np.testing.assert_array_equal(answer["sums"], [48 + 1])
    assert states(versions) == {2: "AVAILABLE", 1: "END"}


def test_a_version_unloaded_leaves_no_graph_behind(publish) -> None:
    versions = repository(publish(1))
    versions.poll()
    with versions.lease(1) as served:
        served.loaded.run("serving_default", {"images": IMAGES})
        graph = weakref.ref(served.loaded._session.graph)
    del served
    versions.configure(None)
    versions.poll()
    assert graph() is None


def test_a_version_back_while_its_former_self_is_in_use_stays_available(publish) -> None:
    versions = repository(publish(1), policy=every)
    publish(2)
    versions.poll()
    away = versions.model.base_path / "away"
    with versions.lease(2):
        (versions.model.base_path / "2").rename(away)
        versions.poll()
        away.rename(versions.model.base_path / "2")
        versions.poll()
        assert states(versions) == {2: "AVAILABLE", 1: "AVAILABLE"}
    assert states(versions) == {2: "AVAILABLE", 1: "AVAILABLE"}


def test_the_error_of_a_broken_version_is_in_its_status_and_told_once(connect, publish, caplog, eventually) -> None:
    base_path = publish(1)
    with caplog.at_level(logging.ERROR), EmbeddedServer([model(base_path)], poll_seconds=0.02) as server:
        stub = connect(server.port)
        (base_path / "2").mkdir()
        eventually(lambda: 2 in statuses(stub) and statuses(stub)[2].state == STATE.END)
        broken, old = statuses(stub)[2], statuses(stub)[1]
        assert old.state == STATE.AVAILABLE
        assert broken.status.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        assert "SavedModel file does not exist" in broken.status.error_message
        publish(3)
        eventually(lambda: statuses(stub)[1].state == STATE.END)
    assert caplog.text.count("toy version 2 is not served: SavedModel file does not exist") == 1


def test_a_label_leads_to_its_version(connect, publish, predict_request) -> None:
    base_path = publish(1)
    publish(2)
    served = model(base_path, policy=every, labels={"stable": 1, "canary": 2})
    with EmbeddedServer([served]) as server:
        for label, number in served.labels.items():
            request = predict_request(images=IMAGES)
            request.model_spec.version_label = label
            response = connect(server.port).prediction.Predict(request)
            assert response.model_spec.version.value == number
            assert list(response.outputs["sums"].float_val) == [48 + number]


def test_no_request_fails_while_versions_come_and_go(connect, publish, eventually) -> None:
    """16 callers in a row without a pause; every answer is the one of the version that it names."""
    base_path = publish(1)
    answered: dict[int, int] = {}
    wrong: list[object] = []
    done = threading.Event()

    def call(stub) -> None:
        while not done.is_set():
            try:
                response = stub.predict(images=IMAGES)
            except grpc.RpcError as error:
                wrong.append(error)
                return
            version = response.model_spec.version.value
            answered[version] = answered.get(version, 0) + 1
            if list(response.outputs["sums"].float_val) != [48 + version]:
                wrong.append(response)

    with EmbeddedServer([model(base_path)], poll_seconds=0.02) as server:
        stub = connect(server.port)
        callers = [threading.Thread(target=call, args=[stub]) for _ in range(16)]
        for caller in callers:
            caller.start()
        for number in range(2, 7):
            publish(number)
            eventually(lambda number=number: statuses(stub)[number - 1].state == STATE.END)
            eventually(lambda number=number: number in answered)
            shutil.rmtree(base_path / str(number - 1))
        done.set()
        for caller in callers:
            caller.join()
    assert wrong == []
    assert set(range(2, 7)) <= answered.keys()
