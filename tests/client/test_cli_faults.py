"""`gradcam` where the surroundings fail: closed streams, names too long, a folder that another run writes to."""

import errno
import json
import os
import subprocess
import sys

import pytest
from gradcam_client import images
from gradcam_client.cli import main
from gradcam_client.errors import ImageError, OptionError
from gradcam_client.records import Results

COMMAND = [sys.executable, "-c", "import sys; from gradcam_client.cli import main; sys.exit(main())"]
LONG = "a" * 300 + ".png"


def where(server):
    return ["--server", server.target, "--model", "colours", "--timeout", "120"]


def started_without(descriptor, *arguments):
    # The shell closes it: what is forked here would be a process with threads of gRPC.
    command = ["sh", "-c", f'exec "$@" {descriptor}>&-', "sh", *COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path, pictures):
    found = tmp_path / "pictures"
    found.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(found / f"p{number}.png")
    return found


def test_a_closed_standard_input_is_one_line(server):
    code, out, err = started_without(0, "predict", "-", *where(server))
    assert (code, out, err) == (1, b"", b"gradcam: standard input names no image: give one path a line\n")


def test_a_closed_standard_output_is_one_line_before_anything_is_asked(server, folder, tmp_path):
    code, _, err = started_without(1, "explain", folder, "--out", tmp_path / "out", *where(server))
    assert (code, err) == (1, b"gradcam: standard output: Bad file descriptor\n")
    assert server.requests == []


def test_what_is_told_to_a_closed_standard_error_goes_nowhere_else(server, folder, tmp_path):
    (folder / "p3.png").write_bytes(b"no image")
    out = tmp_path / "out"
    code, printed, _ = started_without(2, "explain", folder, "--out", out, *where(server))
    assert code == 1
    assert [line.split(b"\t")[0] for line in printed.splitlines()] == [
        os.fsencode(folder / f"p{number}.png") for number in range(10) if number != 3
    ]
    assert len([json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]) == 9


def test_an_empty_name_is_not_the_folder_one_is_in(server, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["predict", "", *where(server)]) == 1
    assert capsys.readouterr() == ("", "gradcam: an empty name was given: name an image, a folder or an archive\n")
    assert server.requests == []


def test_a_name_that_is_too_long_fails_alone(server, folder, capsys):
    assert main(["predict", LONG, str(folder / "p1.png"), *where(server)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{folder}/p1.png\t")
    assert printed.err == f"gradcam: {LONG}: cannot be read: File name too long\n"
    with pytest.raises(ImageError, match=r"png: cannot be read: File name too long$"):
        images.encoded(LONG)


def test_two_runs_do_not_write_to_one_folder(server, folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["explain", str(folder), "--out", str(out), *where(server)]
    assert main(command) == 0
    before = (out / "results.jsonl").read_bytes()
    message = f"{out}: another run is writing its results here: wait for its end, or give another --out"
    capsys.readouterr()
    with Results(out, {}, resume=[]):
        for more in ([], ["--resume"]):
            assert main([*command, *more]) == 1
            assert capsys.readouterr() == ("", f"gradcam: {message}\n")
        with pytest.raises(OptionError, match=message):
            Results(out, {})
    assert (out / "results.jsonl").read_bytes() == before
    # What is refused for another reason leaves no lock behind.
    (out / "results.jsonl").write_bytes(b"no line of ours\n")
    for _ in range(2):
        with pytest.raises(OptionError, match="is no line that gradcam explain wrote"):
            Results(out, {}, resume=[])


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with Results(tmp_path, {}), Results(tmp_path, {}):
        assert (tmp_path / "results.jsonl").exists()
