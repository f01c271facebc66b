import json
import subprocess
import sys

import numpy as np
import pytest
from colour_server import LABELS, ColourModel, classify, manifest
from gradcam_client.cli import main
from gradcam_client.images import fit, read
from gradcam_client.overlay import blend, colorize, upsample
from PIL import Image
from report_page import page_data


@pytest.fixture
def folder(tmp_path, rng):
    """Ten pictures, two of them with the same stem, and a file that is no image."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(9):
        Image.fromarray(rng.integers(0, 256, (20, 30 + number, 3), dtype=np.uint8)).save(pictures / f"p{number}.png")
    Image.fromarray(rng.integers(0, 256, (10, 10), dtype=np.uint8)).save(pictures / "p0.BMP")
    (pictures / "notes.txt").write_text("no image")
    return pictures


@pytest.fixture
def run(server, capsys):
    def run(verb, *arguments, model="colours"):
        code = main([verb, *map(str, arguments), "--server", server.target, "--model", model])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def test_explain_prints_a_line_for_each_image(run, folder):
    code, out, err = run("explain", folder)
    assert (code, err) == (0, [])
    names = sorted(file.name for file in folder.iterdir() if file.suffix != ".txt")
    assert [line.split("\t")[0] for line in out] == [str(folder / name) for name in names]
    for line in out:
        path, label, score = line.split("\t")
        predictions = classify(fit(read(path), (8, 12, 3))[None])[0]
        assert (label, score) == (LABELS[predictions.argmax()], f"{predictions.max():.4f}")


def test_explain_json_holds_the_whole_answer(run, folder, tmp_path):
    file = folder / "p3.png"
    code, out, _ = run("explain", file, "--json", "--class", "blue", "--out", tmp_path / "out")
    record = json.loads(out[0])
    assert code == 0
    assert list(record) == [
        "image",
        "label",
        "class_index",
        "score",
        "predictions",
        "model_version",
        "heatmap",
        "heatmap_peak",
        "method",
        "overlay",
    ]
    assert record["overlay"] == str(tmp_path / "out" / "p3_overlay.png")
    assert (record["label"], record["class_index"], record["model_version"]) == ("blue", 2, 1)
    heatmap = np.array(record["heatmap"], np.float32)
    assert read(record["overlay"]) == blend(read(file), heatmap, colormap="viridis", alpha=0.5)
    painted = np.asarray(read(tmp_path / "out" / "p3_heatmap.png"))
    np.testing.assert_array_equal(painted, colorize(upsample(heatmap, 20, 33), "viridis"))


def test_json_lines_without_out_have_no_overlay(run, folder):
    _, out, _ = run("explain", folder, "--json")
    assert [json.loads(line)["overlay"] for line in out] == [None] * 10
    _, out, _ = run("predict", folder, "--json")
    assert list(json.loads(out[0])) == ["image", "label", "class_index", "score", "predictions", "model_version"]


def test_images_of_one_stem_get_files_of_their_own(run, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("p0.png", "P0.png", "p0-2.png"):
        Image.new("RGB", (3, 3)).save(other / name)
    code, out, _ = run("explain", folder, other, "--json", "--out", tmp_path / "out")
    overlays = [json.loads(line)["overlay"] for line in out]
    assert code == 0
    assert len({path.casefold() for path in overlays}) == 13
    assert len(list((tmp_path / "out").glob("*.png"))) == 26


def test_colormap_and_opacity_are_chosen(run, folder, tmp_path):
    run("explain", folder / "p1.png", "--out", tmp_path, "--colormap", "magma", "--alpha", "1")
    _, out, _ = run("explain", folder / "p1.png", "--json")
    heatmap = np.array(json.loads(out[0])["heatmap"])
    expected = blend(read(folder / "p1.png"), heatmap, colormap="magma", alpha=1)
    assert read(tmp_path / "p1_overlay.png") == expected


def test_one_failing_image_does_not_stop_the_others(run, folder):
    (folder / "p4.png").write_bytes(b"no image")
    (folder / "p5.png").write_bytes((folder / "p6.png").read_bytes()[:200])
    code, out, err = run("explain", folder, folder / "absent.png")
    assert code == 1
    assert len(out) == 8
    assert [line.split(": ")[:2] for line in err] == [
        ["gradcam", str(folder / name)] for name in ("p4.png", "p5.png", "absent.png")
    ]


def test_a_class_is_a_label_or_an_index(run, folder, server):
    file = folder / "p1.png"
    assert run("explain", file, "--class", "1")[1][0].split("\t")[1] == "green"
    assert run("explain", file, "--class", "green")[1][0].split("\t")[1] == "green"
    code, out, err = run("explain", file, "--class", "3")
    assert (code, out) == (1, [])
    assert err == ["gradcam: model 'colours' version 1 has no class 3: give 0..2, or -1 for the predicted"]
    code, _, err = run("explain", file, "--class", "gren")
    assert code == 1
    assert "did you mean 'green'" in err[0]
    server.versions[2] = ColourModel(manifest(labels=["2", "1", "0"]))
    assert run("explain", file, "--class", "0", "--json")[1][0].count('"class_index": 2') == 1


def test_a_version_is_chosen(run, folder, server):
    server.versions[2] = ColourModel()
    _, out, _ = run("predict", folder / "p1.png", "--version", "1", "--json")
    assert json.loads(out[0])["model_version"] == 1


def test_describe_prints_the_manifest(run):
    code, out, _ = run("describe")
    assert code == 0
    assert json.loads("\n".join(out)) == {"model_version": 1, **manifest()}


def test_status_tells_by_its_exit_code_whether_the_model_can_be_asked(run, server):
    assert run("status") == (0, ["1\tAVAILABLE", "0\tEND\tno pb file"], [])
    server.versions.clear()
    server._find = lambda *_: None
    assert run("status") == (1, ["0\tEND\tno pb file"], [])


def test_errors_are_one_line_without_a_traceback(run, server, folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (("describe",), "no such model or version is served"),
        (("explain", empty), "the folder holds no image (.avif .bmp"),
        (("explain", folder / "p1.png", "--out", tmp_path / "file"), "File exists"),
        (("explain", folder / "p1.png", "--report", tmp_path), "Is a directory"),
    ):
        code, out, err = run(*arguments, model="flowers" if arguments == ("describe",) else "colours")
        assert code == 1
        assert out == [] or arguments[2] == "--report"
        assert len(err) == 1
        assert err[0].startswith("gradcam: ")
        assert message in err[0]
    server.stop()
    code, _, err = run("predict", folder / "p1.png")
    assert code == 1
    assert len(err) == 1
    assert "no server answers" in err[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["explain", "a.png"], "the following arguments are required: --model"),
        (["explain", "--model", "m"], "the following arguments are required: PATH"),
        (["explain", "a.png", "--model", "m", "--alpha", "1.5"], "invalid opacity value: '1.5'"),
        (["explain", "a.png", "--model", "m", "--colormap", "rainbow"], "invalid choice: 'rainbow'"),
        (["explain", "a.png", "--model", "m", "--timeout", "soon"], "invalid seconds value: 'soon'"),
        (["explain", "a.png", "--model", "m", "--top-k", "--class", "red"], "leave out --class and --method"),
        (["explain", "a.png", "--model", "m", "--top-k", "--method", "gradcam"], "leave out --class and --method"),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_a_timeout_may_be_lifted(run, folder):
    assert run("predict", folder / "p1.png", "--timeout", "none")[0] == 0
    code, _, err = run("predict", folder / "p1.png", "--timeout", "0")
    assert code == 1
    assert "give seconds above 0" in err[0]


def test_the_report_is_written(run, folder, tmp_path):
    code, _, _ = run("explain", folder, "--report", tmp_path / "report.html")
    assert code == 0
    pictures = page_data(tmp_path / "report.html")["pictures"]
    assert [picture["name"] for picture in pictures] == sorted(str(path) for path in folder.glob("p*"))


def test_a_name_that_is_not_unicode_comes_out_as_it_went_in(server, folder):
    odd = folder / "caf\udce9.png"
    (folder / "p1.png").rename(odd)
    command = [sys.executable, "-c", "import sys; from gradcam_client.cli import main; sys.exit(main())"]
    arguments = ["predict", str(odd), "--server", server.target, "--model", "colours"]
    done = subprocess.run([*command, *arguments], capture_output=True, check=True)
    assert b"/caf\xe9.png\t" in done.stdout
