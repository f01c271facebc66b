"""`gradcam` on folders: what is kept and told when some images fail, or the run is ended half-way."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import colour_server
import grpc
import pytest
from colour_server import SIGNATURES, ColourModel, manifest
from gradcam_client import Client, explaining
from gradcam_client.cli import main
from gradcam_client.drawing import Drawing
from gradcam_client.images import read
from PIL import Image
from report_page import page_data

# A shell without job control starts what it runs in the background with SIGINT ignored, and so do its children.
LISTENING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", LISTENING + "import sys; from gradcam_client.cli import main; sys.exit(main())"]


def where(server):
    # However slow the machine is at the moment.
    return ["--server", server.target, "--model", "colours", "--timeout", "120"]


@pytest.fixture
def folder(tmp_path, pictures):
    """Forty pictures."""
    found = tmp_path / "pictures"
    found.mkdir()
    for number in range(40):
        pictures[number % 10].save(found / f"p{number:02}.png")
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(server, capsys):
    def run(verb, *arguments):
        code = main([verb, *map(str, arguments), *where(server)])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


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


def kept(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def images_sent(server):
    """How many images the server was sent to explain."""
    tensors = (request.inputs["images"] for request in server.requests if "images" in request.inputs)
    return sum(tensor.tensor_shape.dim[0].size for tensor in tensors)


def test_results_are_a_line_for_each_image_in_their_order(run, server, folder, out):
    code, lines, err = run("explain", folder, "--out", out, "--concurrency", "3")
    assert (code, err, images_sent(server)) == (0, [], 40)
    paths = sorted(folder.iterdir())
    assert [record["image"] for record in kept(out)] == [line.split("\t")[0] for line in lines] == list(map(str, paths))
    with Client(server.target, model="colours") as client:
        for record, explanation in zip(kept(out), client.explain(paths), strict=True):
            assert (record["label"], record["score"]) == (explanation.label, explanation.score)
            assert record["heatmap_peak"] == explanation.heatmap_peak
            assert read(out / record["overlay"]) == explanation.overlay()


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (["--overlay-type", "outlines", "--level", "0.3"], {"overlay_type": "outlines", "level": 0.3}),
        (["--overlay-type", "mask_black", "--threshold", "0.6"], {"overlay_type": "mask_black", "threshold": 0.6}),
        (
            ["--clip-percent-upper", "80", "--clip-percent-lower", "20", "--colormap", "pink_green", "--alpha", "0.9"],
            {
                "clip_percent_upperbound": 80,
                "clip_percent_lowerbound": 20,
                "colormap": "pink_green",
                "alpha": 0.9,
            },
        ),
    ],
)
def test_heatmaps_are_drawn_as_the_flags_say(run, server, folder, out, flags, fields):
    assert run("explain", folder / "p05.png", "--out", out, *flags, "--strip")[0] == 0
    with Client(server.target, model="colours") as client:
        explanation = client.explain(folder / "p05.png")
    assert read(out / "p05_overlay.png") == explanation.overlay(**fields) != explanation.overlay()
    assert read(out / "p05_heatmap.png") == explanation.overlay(**fields | {"overlay_type": "none"})
    assert read(out / "p05_strip.png") == explanation.strip(**fields)
    assert kept(out)[0]["asked"] == {"model": "colours", "strip": True, **fields}


@pytest.mark.parametrize("polarity", ["negative", "both"])
def test_evidence_against_the_class_is_asked_for_and_drawn(run, server, folder, out, monkeypatch, polarity):
    monkeypatch.setitem(colour_server.FURTHER, "explain_counterfactual", "gradcam++")
    explanation = manifest()["explanation"] | {"methods": ["gradcam", "counterfactual"]}
    model = ColourModel(manifest(explanation=explanation), (*SIGNATURES, "explain_counterfactual"))
    server.versions = {1: model}
    code, lines, _ = run("explain", folder, "--out", out, "--polarity", polarity)
    assert (code, len(lines), images_sent(server)) == (0, 40, 80)
    with Client(server.target, model="colours") as client:
        one = client.explain(folder / "p07.png")
        against = client.explain(folder / "p07.png", class_index=one.class_index, method="counterfactual")
    assert read(out / "p07_overlay.png") == one.overlay(polarity=polarity, negative=against)


def test_evidence_against_a_class_needs_a_model_that_tells_it(run, server, folder, out):
    code, lines, err = run("explain", folder, "--out", out, "--polarity", "negative")
    assert (code, lines) == (1, [])
    assert err == [
        "gradcam: model 'colours' version 1 has no method 'counterfactual': it explains by gradcam, gradcam++"
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "--polarity", "both"], "--polarity negative or both explains one class: leave out --top-k"),
        (["--report", "r.html", "--polarity", "both"], "leave out --report, or --polarity negative or both"),
        (["--strip"], "--strip writes files: say where with --out"),
        (["--resume"], "--resume reads results.jsonl: say where it is with --out"),
        (["--resume", "--out", "o", "--report", "r.html"], "a report shows the images of one run: leave out --resume"),
        (["--concurrency", "0"], "argument --concurrency: invalid count value: '0'"),
        (["--metadata", "=x"], "argument --metadata: invalid key_value value: '=x'"),
        (["--clip-percent-upper", "101"], "argument --clip-percent-upper: invalid percent value: '101'"),
    ],
)
def test_options_that_have_no_meaning_are_refused(run, server, folder, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        run("explain", folder, *arguments)
    assert message in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clip-percent-upper", "20", "--clip-percent-lower", "30"], "give two percentiles between 0 and 100"),
        (["--metadata", "a=1", "--metadata", "a=2"], "--metadata a, a: a key is given twice; give each once"),
        (["--tls-ca", __file__], "tls: ca holds no certificate in PEM"),
        (["--tls-key", "absent.pem"], "absent.pem"),
        (["--token-file", "absent.txt"], "absent.txt: No such file or directory"),
        (["--report", "absent/report.html"], "absent/report.html: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_image_is_sent(run, server, folder, arguments, message):
    code, out, err = run("explain", folder, *arguments)
    assert (code, out, len(err), images_sent(server)) == (1, [], 1, 0)
    assert message in err[0]


def test_files_come_from_standard_input(run, folder, monkeypatch):
    names = [folder / f"p{number:02}.png" for number in (3, 1, 2)]
    text = "".join(f"{name}\n" for name in names)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = run("predict", "-", "--json")
    assert (code, [json.loads(line)["image"] for line in out]) == (0, list(map(str, names)))


@pytest.mark.parametrize("verb", ["explain", "predict", "overlay"])
def test_images_that_fail_are_named_at_the_end(run, server, folder, out, verb):
    (folder / "p03.png").write_bytes(b"no image")
    (folder / "p30.png").unlink()
    (folder / "p30.png").symlink_to("absent")
    arguments = ["--out", out] if verb != "predict" else []
    code, lines, err = run(verb, *(folder / f"p{number:02}.png" for number in range(40)), *arguments)
    assert (code, len(lines)) == (1, 38)
    assert err == [
        f"gradcam: {folder}/p03.png: is not an image that Pillow can read",
        f"gradcam: {folder}/p30.png: no such file",
    ]


@pytest.mark.parametrize("verb", ["explain", "predict", "overlay"])
def test_what_the_server_refuses_is_told_of_each_image(run, server, folder, out, verb, tmp_path):
    class Picky(ColourModel):
        def run(self, signature, inputs):
            if signature != "describe":
                raise ValueError("too dark")
            return super().run(signature, inputs)

    server.versions = {1: Picky()}
    report = ["--report", tmp_path / "r.html"] if verb == "explain" else []
    arguments = ["--out", out, *report] if verb != "predict" else []
    code, lines, err = run(verb, *(folder / f"p{number:02}.png" for number in range(3)), *arguments)
    assert (code, lines, len(err)) == (1, [], 3)
    for number, line in enumerate(err):
        assert line.startswith(f"gradcam: {folder}/p{number:02}.png: ")
        assert "too dark" in line
    assert not (out / "results.jsonl").exists() or kept(out) == []
    if report:
        page = page_data(tmp_path / "r.html")
        assert [failure["name"] for failure in page["failures"]] == [f"{folder}/p{n:02}.png" for n in range(3)]


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
        assert err.decode() == f"gradcam: interrupted after {done} of 40 images\n"
    else:
        assert (process.returncode, err) == (-how, b"")
    server.tamper = lambda response: response
    server.requests.clear()
    code, _, err = run("explain", folder, "--out", out, "--resume")
    assert (code, images_sent(server)) == (0, 40 - done)
    assert [record["image"] for record in kept(out)] == [str(path) for path in sorted(folder.iterdir())]


def test_a_reader_that_has_enough_ends_the_run_in_one_line(start, folder, out):
    process = start("explain", folder, "--out", out, "--json")
    process.stdout.readline()
    process.stdout.close()
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


def test_a_bar_is_shown_on_a_terminal_and_cleared_for_lines(run, folder, monkeypatch):
    monkeypatch.setattr("gradcam_client.progress.REDRAW_S", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    err = "\n".join(run("predict", folder)[2])
    assert "100% |########################| 40/40 images" in err
    assert err.count("\x1b[K") == 41
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert "\n".join(run("predict", folder)[2]).count("\x1b[K") == 80


def test_the_server_draws_overlays(run, server, folder, out):
    files = [folder / f"p0{number}.png" for number in range(3)]
    code, lines, err = run("overlay", *files, "--out", out, "--class", "green", "--json")
    assert (code, err) == (0, [])
    with Client(server.target, model="colours") as client:
        for file, line in zip(files, lines, strict=True):
            drawn = out / f"{file.stem}_overlay.jpg"
            assert json.loads(line) == {"image": str(file), "overlay": str(drawn)}
            assert drawn.read_bytes() == client.overlay(file, label="green")
    assert run("overlay", files[0], "--out", out)[1] == [f"{files[0]}\t{out}/p00_overlay.jpg"]
    assert run("overlay", files[0], "--out", out, "--class", "grey")[2][0].startswith(
        "gradcam: model 'colours' version 1 has no class 'grey'"
    )


def test_what_goes_with_each_call(run, server, folder, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    sent = ["--token-file", tmp_path / "token", "--metadata", "tenant=a=b", "--metadata", "x="]
    assert run("predict", folder / "p01.png", *sent, "--compression", "gzip")[0] == 0
    for metadata in server.metadata:
        assert (metadata["authorization"], metadata["tenant"], metadata["x"]) == ("Bearer secret", "a=b", "")
