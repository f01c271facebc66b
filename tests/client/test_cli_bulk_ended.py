"""`gradcam` on folders: what is kept and told when the run is ended half-way, and how it is resumed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from command_runs import images_sent, kept, where
from gradcam_client import explaining
from gradcam_client.drawing import Drawing
from PIL import Image

# A shell without job control starts what it runs in the background with SIGINT ignored, and so do its children.
LISTENING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", LISTENING + "import sys; from gradcam_client.cli import main; sys.exit(main())"]


@pytest.fixture
def start(server):
    """Start the command in a process of its own."""
    processes = []

    def start(*arguments, **pipes):
        command = [*COMMAND, *map(str, arguments), *where(server)]
        defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, **defaults | pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("seconds", [0, 0.1], ids=["", "slow_disk"])
def test_a_server_that_is_gone_for_long_ends_the_run(seconds, run, server, folder, out, monkeypatch):
    monkeypatch.setattr(explaining, "GIVE_UP", 4)
    write = Drawing.write
    monkeypatch.setattr(Drawing, "write", lambda *given: time.sleep(seconds) or write(*given))

    def leave(response):
        if len(server.requests) > 3:
            server.refuse = (grpc.StatusCode.DEADLINE_EXCEEDED, "gone")
        return response

    server.tamper = leave
    code, lines, err = run("explain", folder, "--out", out, "--concurrency", "1")
    assert (code, len(lines), len(err)) == (1, 16, 4)
    assert [line.split(": ")[1] for line in err[:3]] == [f"{folder}/p{number}.png" for number in (16, 17, 18)]
    assert "gone" in err[3]
    assert len(kept(out)) == 16


def test_resuming_asks_only_what_is_left(run, server, folder, out):
    (folder / "p05.png").rename(folder / "p05.later")
    (folder / "p05.png").write_bytes(b"no image")
    assert run("explain", folder, "--out", out, "--top-k")[0] == 1
    (folder / "p05.later").rename(folder / "p05.png")
    Image.new("RGB", (5, 5), "blue").save(folder / "p06.png")
    Image.new("RGB", (5, 5), "red").save(folder / "p00a.png")
    server.requests.clear()
    code, lines, err = run("explain", folder, "--out", out, "--top-k", "--resume", "--json")
    assert (code, images_sent(server)) == (0, 3)
    assert err == ["gradcam: 38 images have their results already, 3 are left"]
    assert [json.loads(line)["image"] for line in lines[::2]] == [
        str(folder / name) for name in ("p00a.png", "p05.png", "p06.png")
    ]
    records = {record["image"]: record for record in kept(out)}
    assert len(records) == len(kept(out)) == 41
    assert records[str(folder / "p06.png")]["label"] == "blue"
    assert all((out / one["overlay"]).exists() for record in records.values() for one in record["classes"])
    assert run("explain", folder, "--out", out, "--top-k", "--resume")[1:] == (
        [],
        ["gradcam: 41 images have their results already, 0 are left"],
    )


def test_an_image_of_a_known_name_takes_no_other_ones_files(run, folder, out, tmp_path):
    run("explain", folder, "--out", out)
    before = (out / "p01_overlay.png").read_bytes()
    (tmp_path / "a").mkdir()
    Image.new("RGB", (5, 5)).save(tmp_path / "a" / "p01.png")
    code, lines, _ = run("explain", tmp_path / "a", folder, "--out", out, "--resume", "--json")
    assert (code, [json.loads(line)["overlay"] for line in lines]) == (0, [str(out / "p01-2_overlay.png")])
    assert (out / "p01_overlay.png").read_bytes() == before


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_keeps_its_results_and_goes_on(start, run, server, folder, out, how, tmp_path):
    gate, reached = threading.Event(), threading.Event()

    def hold(response):
        if images_sent(server) > 24:
            reached.set()
            gate.wait(20)
        return response

    server.tamper = hold
    process = start("explain", folder, "--out", out, "--concurrency", "1")
    for _ in range(8):
        process.stdout.readline()
    assert reached.wait(20)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    gate.set()
    done = len(kept(out))
    assert 8 <= done <= 24
    if how == signal.SIGINT:
        assert process.returncode == 130
        # Between writing a line down and counting it, the interrupt may come too.
        assert err.decode() in [f"gradcam: interrupted after {told} of 40 images\n" for told in (done - 1, done)]
    else:
        assert (process.returncode, err) == (-how, b"")
    server.tamper = lambda response: response
    server.requests.clear()
    code, _, err = run("explain", folder, "--out", out, "--resume")
    assert (code, images_sent(server)) == (0, 40 - done)
    assert [record["image"] for record in kept(out)] == [str(path) for path in sorted(folder.iterdir())]


def test_a_reader_that_has_enough_ends_the_run_in_one_line(start, server, folder, out):
    closed = threading.Event()

    def hold_the_last(response):
        if images_sent(server) > 30:  # of 40
            closed.wait(20)
        return response

    server.tamper = hold_the_last
    process = start("explain", folder, "--out", out, "--json", "--concurrency", "1")
    process.stdout.readline()
    process.stdout.close()
    closed.set()
    assert process.stderr.read() == b"gradcam: standard output: Broken pipe\n"
    assert process.wait(30) == 1
    assert kept(out)


def test_a_full_disk_is_one_line(start, folder, out):
    with Path("/dev/full").open("wb") as full:
        process = start("predict", folder, stdout=full)
    assert (process.communicate(timeout=30)[1], process.returncode) == (
        b"gradcam: standard output: No space left on device\n",
        1,
    )


@pytest.mark.parametrize("name", ["results.jsonl", "p01_overlay.png", "p01_strip.png"])
def test_a_full_disk_names_the_file_that_did_not_fit(run, folder, out, name):
    out.mkdir()
    (out / name).symlink_to("/dev/full")
    code, _, err = run("explain", folder, "--out", out, "--strip")
    assert (code, err) == (1, [f"gradcam: {out}/{name}: No space left on device"])


def test_a_closed_standard_error_is_no_further_trouble(start, folder):
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start("predict", folder / "absent.png", stderr=write_end)
    os.close(write_end)
    process.communicate(timeout=30)
    assert process.returncode == 1
