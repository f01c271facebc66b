"""`gradcam explain`: several classes of an image, and other methods."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from colour_server import ColourModel, best_first, channel_maps, classify, manifest
from gradcam_client import codec
from gradcam_client.cli import main
from gradcam_client.images import fit, read
from gradcam_client.overlay import blend, colorize, upsample
from gradcam_client.paths import class_stem, unique_stems
from hypothesis import given
from hypothesis import strategies as st
from report_page import page_data


@pytest.fixture
def folder(tmp_path, pictures):
    found = tmp_path / "pictures"
    found.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(found / f"p{number}.png")
    return found


@pytest.fixture
def run(server, capsys):
    def run(*arguments):
        code = main(["explain", *map(str, arguments), "--server", server.target, "--model", "colours"])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def test_top_k_prints_a_line_for_each_class_best_first(run, folder, server):
    code, out, err = run(folder, "--top-k")
    assert (code, err, len(out)) == (0, [], 20)
    for path, lines in itertools.groupby(out, key=lambda line: line.split("\t")[0]):
        predictions = classify(fit(read(path), (8, 12, 3))[None])
        assert [line.split("\t")[1:] for line in lines] == [
            [("red", "green", "blue")[index], f"{predictions[0, index]:.4f}"] for index in best_first(predictions, 2)[0]
        ]
    assert server.signatures_asked() == ["describe", "describe", "top_k", "top_k"]


def test_top_k_as_json_ranks_each_class(run, folder):
    code, out, _ = run(folder / "p0.png", folder / "p1.png", "--top-k", "--json")
    records = [json.loads(line) for line in out]
    assert code == 0
    assert [(record["image"], record["rank"]) for record in records] == [
        (str(folder / name), rank) for name in ("p0.png", "p1.png") for rank in (1, 2)
    ]
    for record in records:
        pixels = fit(read(record["image"]), (8, 12, 3))[None]
        maps = channel_maps(pixels, [record["class_index"]])[0]
        np.testing.assert_allclose(record["heatmap"], maps / maps.max(), rtol=1e-6)
        assert record["class_index"] == best_first(classify(pixels), 2)[0, record["rank"] - 1]
        assert record["overlay"] is None


def test_one_class_has_no_rank(run, folder):
    assert "rank" not in json.loads(run(folder / "p0.png", "--json")[1][0])


def test_top_k_writes_an_overlay_and_a_heatmap_for_each_class(run, folder, tmp_path, server):
    server.versions = {1: ColourModel(manifest(labels=["Côte d'Azur/1", "../_x", "???"]))}
    server.versions[1].description["explanation"]["top_k"] = 3
    out = tmp_path / "out"
    _, lines, _ = run(folder / "p3.png", "--top-k", "--json", "--out", out)
    names = {"Côte d'Azur/1": "Côte-d-Azur-1", "../_x": "x", "???": "class"}
    for line in lines:
        record = json.loads(line)
        stem = f"p3_{record['rank']}_{names[record['label']]}"
        assert record["overlay"] == str(out / f"{stem}_overlay.png")
        heatmap = np.array(record["heatmap"], np.float32)
        picture = read(folder / "p3.png")
        assert read(record["overlay"]) == blend(picture, heatmap, colormap="viridis", alpha=0.5)
        painted = colorize(upsample(heatmap, picture.height, picture.width), "viridis")
        np.testing.assert_array_equal(np.asarray(read(out / f"{stem}_heatmap.png")), painted)
    assert len(list(out.glob("*.png"))) == 6


def test_ranks_have_as_many_digits_as_the_last(run, folder, tmp_path, server):
    labels = [f"c{i}" for i in range(12)]
    explanation = manifest()["explanation"] | {"top_k": 11}
    server.versions = {1: ColourModel(manifest(labels=labels, explanation=explanation))}

    def widen(response):
        if "heatmap" in response.outputs:
            ranked = np.arange(11, dtype=np.int32)[None]
            for name, array in {
                "predictions": np.linspace(1, 0, 12, dtype=np.float32)[None],
                "class_index": ranked,
                "label": np.array([[label.encode() for label in labels[:11]]], object),
                "score": np.linspace(1, 0, 12, dtype=np.float32)[None, :11],
                "heatmap": np.ones((1, 11, 2, 3), np.float32),
                "heatmap_peak": np.ones((1, 11), np.float32),
            }.items():
                response.outputs[name].CopyFrom(codec.encode(array))
        return response

    server.tamper = widen
    run(folder / "p0.png", "--top-k", "--out", tmp_path / "out")
    overlays = sorted(path.name for path in (tmp_path / "out").glob("*_overlay.png"))
    assert overlays == [f"p0_{rank:02}_c{rank - 1}_overlay.png" for rank in range(1, 12)]


def test_the_report_shows_each_class(run, folder, tmp_path):
    assert run(folder, "--top-k", "--report", tmp_path / "report.html")[0] == 0
    page = tmp_path / "report.html"
    assert [len(picture["maps"]) for picture in page_data(page)["pictures"]] == [2] * 10
    assert "20 heatmaps · gradcam on body/last" in page.read_text()


def test_a_method_is_chosen(run, folder, tmp_path, server):
    page = tmp_path / "report.html"
    code, out, _ = run(folder / "p1.png", "--method", "gradcam++", "--class", "blue", "--json", "--report", page)
    record = json.loads(out[0])
    maps = channel_maps(fit(read(folder / "p1.png"), (8, 12, 3))[None], [2], "gradcam++")[0]
    np.testing.assert_allclose(record["heatmap"], maps / maps.max(), rtol=1e-6)
    assert (code, record["method"], record["label"]) == (0, "gradcam++", "blue")
    assert "1 heatmap · gradcam++ on body/last" in page.read_text()


def test_an_unknown_method_is_one_line(run, folder):
    code, out, err = run(folder / "p1.png", "--method", "scorecam")
    assert (code, out) == (1, [])
    assert err == ["gradcam: model 'colours' version 1 has no method 'scorecam': it explains by gradcam, gradcam++"]


@pytest.mark.parametrize("other", [("--class", "red"), ("--class", ""), ("--method", "gradcam")])
def test_top_k_takes_no_class_and_no_method(run, folder, server, capsys, other):
    with pytest.raises(SystemExit, match="2"):
        run(folder, "--top-k", *other)
    printed = capsys.readouterr()
    assert printed.err.startswith("usage: gradcam explain ")
    assert "error: --top-k explains the best classes by the model's own method: leave out" in printed.err
    assert printed.out == ""
    assert server.requests == []


STEMS = st.text(st.sampled_from("aA1_-é"), min_size=1, max_size=4)
LABELS = st.text(st.sampled_from("aA1_-. é/\\\udce9") | st.characters(), max_size=60)


@given(st.lists(st.tuples(STEMS, st.lists(LABELS, max_size=3)), max_size=4))
def test_no_two_classes_share_a_file(files):
    stems = unique_stems([Path(f"{stem}.png") for stem, _ in files])
    names = [
        class_stem(stem, str(rank), label)
        for stem, (_, labels) in zip(stems, files, strict=True)
        for rank, label in enumerate(labels, 1)
    ]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert Path(name).name == name
        assert len(name.encode()) < 200
