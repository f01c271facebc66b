"""`gradcam` on folders: each image has its line and its files, drawn and asked for as the flags say."""

import io
import json

import colour_server
import numpy as np
import pytest
from colour_server import SIGNATURES, ColourModel, manifest
from command_runs import images_sent, kept
from gradcam_client import Client
from gradcam_client.images import read
from PIL import Image


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


def test_overlays_and_strips_are_jpeg_where_that_is_asked_for(run, server, folder, out):
    code, lines, _ = run("explain", folder / "p05.png", "--out", out, "--strip", "--format", "jpeg", "--json")
    with Client(server.target, model="colours") as client:
        explanation = client.explain(folder / "p05.png")
    assert (code, json.loads(lines[0])["overlay"]) == (0, str(out / "p05_overlay.jpg"))
    assert kept(out)[0]["overlay"] == "p05_overlay.jpg"
    for name, wanted in (("overlay", explanation.overlay()), ("strip", explanation.strip())):
        with Image.open(out / f"p05_{name}.jpg") as written:
            assert written.format == "JPEG"
            difference = np.asarray(written, int) - np.asarray(wanted, int)
        # Of noise, which is the hardest to compress.
        assert np.abs(difference).mean() < 8
    assert read(out / "p05_heatmap.png") == explanation.overlay(overlay_type="none")
    assert sorted(path.suffix for path in out.iterdir()) == [".jpg", ".jpg", ".jsonl", ".png"]


def test_a_picture_too_long_for_jpeg_fails_alone(run, folder, out):
    Image.new("RGB", (65_501, 1), "red").save(folder / "long.png")
    code, lines, err = run("explain", folder / "long.png", folder / "p05.png", "--out", out, "--format", "jpeg")
    assert (code, len(lines)) == (1, 1)
    assert err == [
        f"gradcam: {folder}/long.png: long_overlay.jpg: a JPEG has no side above 65500 pixels, and this one would have "
        "65501: leave out --format"
    ]
    assert [line["image"] for line in kept(out)] == [str(folder / "p05.png")]


def test_a_run_in_another_format_is_not_resumed(run, folder, out):
    assert run("explain", folder / "p05.png", "--out", out)[0] == 0
    code, _, err = run("explain", folder / "p05.png", "--out", out, "--resume", "--format", "jpeg")
    assert code == 1
    assert err[0].endswith("now with model colours, format jpeg: give the same, another --out, or leave out --resume")


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


def test_files_come_from_standard_input(run, folder, monkeypatch):
    names = [folder / f"p{number:02}.png" for number in (3, 1, 2)]
    text = "".join(f"{name}\n" for name in names)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = run("predict", "-", "--json")
    assert (code, [json.loads(line)["image"] for line in out]) == (0, list(map(str, names)))


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
