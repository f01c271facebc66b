"""Minutes of everything at full speed: what the server takes stays flat.

`make soak` runs it; GRADCAM_SOAK_MINUTES says for how long.
"""

from __future__ import annotations

import os
import shutil
import sys
import time

import grpc
import numpy as np
import psutil
import pytest
from doors import grpc_door, rest_door
from gradcam_client import Client
from load import Load
from on_a_loop import ClientOnALoop
from questions import Pictures, two_doors, two_versions
from server_process import ServerProcess

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

IMAGES = 100_000
MINUTES = float(os.environ.get("GRADCAM_SOAK_MINUTES", "10"))
GROWTH = 1.05
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    return two_versions(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return Pictures(two_doors(tmp_path_factory.getbasetemp()))


@pytest.fixture
def tell(capsys):
    """Write a line where whoever waits for minutes can see it."""

    def tell(line):
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")
            sys.stdout.flush()

    return tell


def told(taken):
    return f"{taken.memory // MEGABYTE} MB, {taken.threads} threads, {taken.files} files"


def test_mixed_load_takes_no_more_after_minutes_than_after_one(versions, pictures, tmp_path, tell):
    shutil.copytree(versions[1], tmp_path / "tiny" / "1")
    questions = {9: pictures.good(), 1: pictures.bad()}
    with (
        ServerProcess(tmp_path / "tiny", tmp_path / "log") as server,
        grpc.insecure_channel(server.grpc) as first,
        grpc.insecure_channel(server.grpc) as second,
        rest_door(server.rest, "tiny", 1) as rest,
    ):
        doors = [grpc_door(first, "tiny"), grpc_door(second, "tiny"), rest]
        pictures.meet(doors[0])
        end = time.monotonic() + MINUTES * 60
        with Load(questions, doors, threads=24).running() as report:
            time.sleep(60)
            early = server.taken()
            tell(f"minute 1: {report.count} requests; {told(early)}")
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(60, left))
                left = max(0, end - time.monotonic())
                tell(f"{left:.0f} s to the end: {report.count} requests; {told(server.taken())}")
            late = server.taken()
        tell(f"latency median {report.latency(0.5) * 1000:.1f} ms, p99 {report.latency(0.99) * 1000:.1f} ms")
    assert not report.faults, report.told()
    assert late.memory < early.memory * GROWTH
    assert late.threads <= early.threads + 2
    assert late.files <= early.files + 2


def test_versions_that_come_and_go_leave_nothing_behind(versions, pictures, tmp_path, tell, eventually):
    base_path = tmp_path / "tiny"
    shutil.copytree(versions[1], base_path / "1")
    taken = {}
    with (
        ServerProcess(base_path, tmp_path / "log") as server,
        grpc.insecure_channel(server.grpc) as channel,
        Load({1: pictures.good()}, [grpc_door(channel, "tiny")], threads=8, pause=0.02).running() as report,
    ):
        for number in range(2, 62):
            shutil.copytree(versions[number % 2], base_path / "unfinished").rename(base_path / str(number))
            eventually(lambda number=number: report.versions[number] > 50 or report.faults)
            shutil.rmtree(base_path / str(number - 1))
            if number % 10 == 0:
                taken[number] = server.taken()
                tell(f"version {number}: {told(taken[number])}")
    assert not report.faults, report.told()
    # What is taken at a moment depends on whether the version before is gone yet.
    early, late = (max(taken[number].memory for number in numbers) for numbers in ((10, 20, 30), (40, 50, 60)))
    assert late < early * GROWTH
    assert taken[60].threads <= taken[20].threads + 2
    assert taken[60].files <= taken[20].files + 2


@pytest.mark.parametrize("connect", [Client, ClientOnALoop], ids=["sync", "async"])
def test_a_client_takes_no_more_for_a_hundred_thousand_images_than_for_ten_thousand(versions, connect, tmp_path, tell):
    shutil.copytree(versions[1], tmp_path / "tiny" / "1")
    images = (np.full((60, 80, 3), number % 256, np.uint8) for number in range(IMAGES))
    here, memory, failed = psutil.Process(), {}, []
    with ServerProcess(tmp_path / "tiny", tmp_path / "log") as server, connect(server.grpc, model="tiny") as client:
        for done, outcome in enumerate(client.explain_many(images), 1):
            failed += [outcome] if outcome.error else []
            if done % 10_000 == 0:
                memory[done] = here.memory_info().rss
                tell(f"{done} images: {memory[done] // MEGABYTE} MB")
    assert not failed
    assert memory[IMAGES] < memory[10_000] * GROWTH
