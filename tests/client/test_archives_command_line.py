"""`gradcam` takes an archive as it takes a folder, and its results name the files in it."""

import io
import json
import os

import pytest
from gradcam_client.records import fingerprint
from packed import EITHER, WRITE, write_zip


@EITHER
@pytest.mark.parametrize("how", ["named", "listed", "pattern"])
@pytest.mark.parametrize("verb", ["explain", "predict", "overlay"])
def test_the_command_takes_an_archive_as_it_takes_a_folder(run, tmp_path, files, suffix, how, verb, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, data in enumerate(files):
        (folder / f"{i}.png").write_bytes(data)
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", [(f"{i}.png", data) for i, data in enumerate(files)])
    if how == "listed":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(archive) + b"\n")))
    named = {"named": archive, "listed": "-", "pattern": tmp_path / f"ph*{suffix}"}[how]
    outs = [[], []] if verb == "predict" else [["--out", tmp_path / "out"], ["--out", tmp_path / "direct"]]
    code, lines, err = run(verb, named, *outs[0])
    assert (code, err) == (0, [])
    code, direct, err = run(verb, folder, *outs[1])
    assert (code, err) == (0, [])
    told = [line.replace(str(archive), str(folder)).replace(f"{tmp_path}/out", f"{tmp_path}/direct") for line in lines]
    assert told == direct
    for picture in (tmp_path / "direct").glob("*_*"):
        assert (tmp_path / "out" / picture.name).read_bytes() == picture.read_bytes()


def test_results_name_the_file_and_resume_looks_at_the_archive(run, server, tmp_path, files):
    archive, out = tmp_path / "photos.zip", tmp_path / "out"
    write_zip(archive, [("a/x.png", files[0]), ("b/x.png", b"no image"), ("c/y.png", files[1])])
    code, lines, err = run("explain", archive, "--out", out)
    assert (code, len(lines), err) == (1, 2, [f"gradcam: {archive}/b/x.png: is not an image that Pillow can read"])
    kept = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(one["image"], one["stem"]) for one in kept] == [(f"{archive}/a/x.png", "x"), (f"{archive}/c/y.png", "y")]
    found = archive.stat()
    assert (kept[0]["file_size"], kept[0]["file_mtime_ns"]) == (found.st_size, found.st_mtime_ns)
    assert fingerprint(archive / "a/x.png") == {"file_size": found.st_size, "file_mtime_ns": found.st_mtime_ns}

    asked = len(server.requests)
    code, lines, err = run("explain", archive, "--out", out, "--resume")
    assert (code, lines) == (1, [])
    assert err == [
        "gradcam: 2 images have their results already, 1 are left",
        f"gradcam: {archive}/b/x.png: is not an image that Pillow can read",
    ]
    assert all("images" not in request.inputs for request in server.requests[asked:])

    write_zip(archive, [("a/x.png", files[0]), ("b/x.png", files[2]), ("c/y.png", files[1])])
    code, lines, err = run("explain", archive, "--out", out, "--resume")
    assert (code, err) == (0, [])
    assert [line.split("\t")[0] for line in lines] == [f"{archive}/{name}.png" for name in ("a/x", "b/x", "c/y")]
