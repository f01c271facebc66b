"""What one caller sends reaches no other caller's answer, whoever else asks what at the same time.

Answers are compared with those that the same image gets alone.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import grpc
import pytest
from doors import grpc_door, rest_door
from gradcam_export.server import EmbeddedServer, ServedModel
from gradcam_export.server.models import every
from load import Load
from questions import QUICK, SIGNATURES, Pictures, two_doors, two_versions

if TYPE_CHECKING:
    from pathlib import Path

    from load import Door

BOTH = pytest.mark.parametrize(
    ("count", "signatures"),
    [(2000, QUICK), pytest.param(20_000, tuple(SIGNATURES), marks=pytest.mark.soak)],
    ids=["quick", "all"],
)
GOOD, BAD = 0.9, 0.1


class Written(NamedTuple):
    """Versions 1 and 2, which answer differently, and the doors to both in Sessions."""

    base_path: Path
    even: Door
    odd: Door


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    base_path = tmp_path_factory.mktemp("written") / "tiny"
    for number, version in enumerate(two_versions(tmp_path_factory.getbasetemp())):
        shutil.copytree(version, base_path / str(number or 2))
    return Written(base_path, *two_doors(tmp_path_factory.getbasetemp()))


def check(load, *, count, bad=True):
    """All were answered: the good ones as they are alone, the bad ones each with its own INVALID_ARGUMENT."""
    report = load.run()
    assert not report.faults, report.told()
    assert report.count == count
    refused = sum(many for (_, code), many in report.codes.items() if code == "INVALID_ARGUMENT")
    assert count * 0.07 < refused < count * 0.13 if bad else refused == 0
    return report


@pytest.mark.soak
def test_bad_requests_fail_alone_behind_a_server(serve_both, written, tmp_path):
    """In short form: test_faults_wire.py, on a server that has a process of its own."""
    base_path = tmp_path / "tiny"
    shutil.copytree(written.base_path / "1", base_path / "1")
    pictures = Pictures([written.odd])
    addresses = serve_both(base_path, "tiny")
    with (
        grpc.insecure_channel(addresses.grpc) as first,
        grpc.insecure_channel(addresses.grpc) as second,
        rest_door(addresses.rest, "tiny", 1) as rest,
    ):
        doors = [*[grpc_door(first, "tiny"), grpc_door(second, "tiny")] * 4, rest]
        pictures.meet(doors[0])
        questions = {GOOD: pictures.good(), BAD: pictures.bad()}
        report = check(Load(questions, doors, threads=18, count=20_000), count=20_000)
    assert len({kind for kind, _ in report.codes}) > 20


@BOTH
def test_bad_requests_fail_alone_in_a_session(written, count, signatures):
    pictures = Pictures([written.odd], signatures)
    questions = {GOOD: pictures.good(), BAD: pictures.bad()}
    check(Load(questions, [written.odd], threads=16, count=count), count=count)


@BOTH
def test_versions_in_one_process_never_receive_each_other_s_rows(written, count, signatures):
    pictures = Pictures([written.even, written.odd], signatures[:1] + signatures[2:])
    check(Load({1: pictures.good()}, [written.odd, written.even], threads=16, count=count), count=count, bad=False)


@pytest.mark.soak
def test_versions_and_models_behind_a_server_never_receive_each_other_s_rows(written, tmp_path):
    shutil.copytree(written.base_path / "2", tmp_path / "other" / "2")
    models = [
        ServedModel(name="tiny", base_path=written.base_path, policy=every),
        ServedModel(name="other", base_path=tmp_path / "other"),
    ]
    pictures = Pictures([written.even, written.odd])
    with EmbeddedServer(models) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        doors = [grpc_door(channel, "tiny", 1), grpc_door(channel, "tiny", 2), grpc_door(channel, "other")]
        for door in doors:
            pictures.meet(door)
        report = check(Load({1: pictures.good()}, doors, threads=18, count=20_000), count=20_000, bad=False)
    assert min(report.versions[1], report.versions[2]) > 2000
