"""Whatever an image or a class is called, its results are files of their own in the folder that was asked for."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from colour_server import ColourModel, manifest
from gradcam_client.cli import main
from gradcam_client.errors import ImageError
from gradcam_client.paths import check_writable, class_stem, expand, one_line, unique_stems
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

HOSTILE = [
    "../../up",
    "/etc/passwd",
    "..",
    ".",
    "",
    "..\\..\\up",
    "C:\\up",
    "nul\0byte",
    "line\nfeed",
    "\x1b[31mred",
    "a/b/c",
]


def explain(server, out, *images, top_k=False):
    options = ["--json", "--out", str(out), *(["--top-k"] if top_k else [])]
    return main(["explain", *map(str, images), "--server", server.target, "--model", "colours", *options])


def everything_under(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "name", ["..png", "...png", "..\\..\\up.png", "a\nb.png", "\x1b[2J.png", "-.png", "*?.png", "~.png"]
)
def test_results_of_an_oddly_named_picture_lie_in_the_folder(server, pictures, tmp_path, capsys, name):
    folder, out = tmp_path / "in", tmp_path / "deep" / "out"
    folder.mkdir()
    pictures[0].save(folder / name, "PNG")
    before = everything_under(tmp_path)
    assert explain(server, out, folder / name) == 0
    overlay = Path(json.loads(capsys.readouterr().out)["overlay"])
    assert overlay.parent == out
    assert len(list(out.glob("*.png"))) == 2
    assert everything_under(tmp_path) - before == {
        out.parent.relative_to(tmp_path),
        out.relative_to(tmp_path),
        *(path.relative_to(tmp_path) for path in out.iterdir()),
    }


def test_a_picture_named_by_another_folder_keeps_its_name_alone(server, pictures, tmp_path, capsys, monkeypatch):
    (tmp_path / "here").mkdir()
    pictures[0].save(tmp_path / "above.png")
    monkeypatch.chdir(tmp_path / "here")
    assert explain(server, "out", "../above.png", tmp_path / "above.png") == 0
    assert {path.name for path in Path("out").iterdir()} == {
        "results.jsonl",
        *(f"above{number}_{kind}.png" for number in ("", "-2") for kind in ("overlay", "heatmap")),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["above.png", "here"]


def test_a_name_that_no_file_can_have_is_one_line(server, tmp_path, capsys):
    assert explain(server, tmp_path / "out", "nul\0byte.png") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "gradcam: nul\\x00byte.png: cannot be read: embedded null byte\n"


def test_a_name_as_long_as_a_name_may_be_is_shortened(server, pictures, tmp_path, capsys):
    for name in ("é" * 125, "é" * 124 + "ab"):
        pictures[0].save(tmp_path / f"{name}.png")
    labels = ["ß" * 200, "long " * 100, "c"]
    explanation = manifest()["explanation"] | {"top_k": 3}
    server.versions = {1: ColourModel(manifest(labels=labels, explanation=explanation))}
    for top_k, files in ((False, 4), (True, 12)):
        out = tmp_path / f"out{files}"
        assert explain(server, out, *sorted(tmp_path.glob("*.png")), top_k=top_k) == 0
        assert len(list(out.glob("*.png"))) == files
        assert all(path.name.startswith("é" * 75) for path in out.glob("*.png"))


def test_classes_of_any_name_get_files_in_the_folder(server, pictures, tmp_path, capsys):
    pictures[0].save(tmp_path / "p.png")
    explanation = manifest()["explanation"] | {"top_k": 3}
    for number in range(len(HOSTILE) - 2):
        labels = HOSTILE[number : number + 3]
        server.versions = {1: ColourModel(manifest(labels=labels, explanation=explanation))}
        out = tmp_path / "outs" / str(number) / "out"
        assert explain(server, out, tmp_path / "p.png", top_k=True) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {record["label"] for record in records} == set(labels)
        assert {Path(record["overlay"]).parent for record in records} == {out}
        assert len(list(out.glob("*.png"))) == 6
        assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outs", "p.png"]


@pytest.mark.parametrize("label", ["two\nlines", "tab\tbed", "\x1b[2J\x9b", "\u2028", "\x7f\r"])
def test_a_label_is_printed_on_one_line_and_commands_no_terminal(server, pictures, tmp_path, capsys, label):
    server.versions = {1: ColourModel(manifest(labels=[label, label + "2", label + "3"]))}
    name = f"p{label}.png"
    pictures[0].save(tmp_path / name)
    assert main(["predict", str(tmp_path / name), "--server", server.target, "--model", "colours"]) == 0
    (line,) = capsys.readouterr().out.removesuffix("\n").split("\n")
    path, shown, _ = line.split("\t")
    assert Path(path).name == f"p{one_line(label)}.png"
    assert shown.rstrip("23") == one_line(label) == label.encode("unicode_escape").decode()
    assert line.replace("\t", "").isprintable()


@given(st.text())
def test_a_text_without_control_characters_is_shown_as_it_is(text):
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert (shown == text) == all(one_line(character) == character for character in text)
    assert one_line(shown) == shown


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1)


@given(st.lists(NAMES.filter(lambda name: name not in (".", "..")), max_size=6))
def test_stems_are_names_of_one_folder_and_differ(names):
    stems = unique_stems([Path("/in", name) for name in names])
    assert len({os.path.normcase(stem).casefold() for stem in stems}) == len(stems)
    for stem in stems:
        file = f"{stem}_overlay.png"
        assert Path("/out", file).name == file
        assert len(os.fsencode(file)) <= 255


def test_bytes_that_are_not_utf_8_are_kept():
    names = ["caf\udce9", "\udce9" * 150, "\udce9" * 151]
    assert unique_stems([Path(f"{name}.png") for name in names]) == [*names[:2], f"{names[1]}-2"]


def test_accents_spelled_in_two_ways_are_one_name():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert unique_stems([Path(f"{composed}.png"), Path(f"{decomposed.upper()}.png")]) == [composed, "CAFE\u0301-2"]


@given(st.text(), st.text())
def test_the_longest_name_of_a_class_is_a_file_name(stem, label):
    (short,) = unique_stems([Path(f"{'x' * 300}.png")])
    name = f"{class_stem(short, '1000', label)}_overlay.png"
    assert len(os.fsencode(name)) <= 255
    assert not set(name) & set("/\\\0\n")


def test_a_picture_of_results_is_no_other_pictures_result(server, tmp_path, capsys):
    """`a_overlay.png` beside `a.png`: each gets two files of its own, and neither is written over."""
    for number, name in enumerate(("a", "a_overlay", "a_heatmap")):
        Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(tmp_path / f"{name}.png")
    assert explain(server, tmp_path / "out", *sorted(tmp_path.glob("*.png"))) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 6


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Images in two folders, one of them with a pattern's characters in its name."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.jpg", "a/2.PNG", "a/notes.txt", "a/deep/3.jpg", "b [x]/4.jpg", "5.jpg", "*.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a"], ["a/1.jpg", "a/2.PNG"]),
        (["a/*"], ["a/1.jpg", "a/2.PNG"]),
        (["a/**/*.jpg"], ["a/1.jpg", "a/deep/3.jpg"]),
        (["?.jpg", "a/[13].*"], ["*.jpg", "5.jpg", "a/1.jpg"]),
        (["*.jpg"], ["*.jpg"]),
        (["b [x]"], ["b [x]/4.jpg"]),
        (["b [x]/4.jpg", "absent.jpg", "a/notes.txt"], ["b [x]/4.jpg", "absent.jpg", "a/notes.txt"]),
    ],
)
def test_folders_and_patterns_stand_for_their_images(tree, names, found):
    assert expand(names, None) == [Path(name) for name in found]


def test_standard_input_lists_files_and_folders_by_their_bytes(tree):
    lines = io.BytesIO(b"5.jpg\n\na\r\n*.jpg\ncaf\xe9 1.png")
    expected = ["a/1.jpg", "5.jpg", "a/1.jpg", "a/2.PNG", "*.jpg", "caf\udce9 1.png", "5.jpg"]
    assert expand(["a/1.jpg", "-", "5.jpg"], lines) == [Path(name) for name in expected]


@pytest.mark.parametrize(
    ("name", "listed", "message"),
    [
        ("a/*.gif", None, r"a/\*\.gif: no image matches this pattern"),
        ("a/*.txt", None, "no image matches this pattern"),
        ("-", io.BytesIO(b"\n\r\n"), "standard input names no image: give one path a line"),
        ("-", None, "standard input names no image"),
        ("-", io.BytesIO(b"empty\n"), "empty: the folder holds no image"),
    ],
)
def test_what_names_no_image_is_refused(tree, name, listed, message):
    (tree / "empty").mkdir()
    with pytest.raises(ImageError, match=message):
        expand([name], listed)


def test_stems_of_an_earlier_run_are_kept_and_given_to_nobody_else():
    kept = {"x/a.png": "a", "y/a.png": "A-2"}
    paths = [Path(name) for name in ("w/a.png", "y/a.png", "x/a.png", "z/a.png")]
    assert unique_stems(paths, kept) == ["a-3", "A-2", "a", "a-4"]


def test_a_hundred_thousand_files_of_one_name_are_numbered_at_once():
    stems = unique_stems([Path(f"{number}/image.png") for number in range(100_000)])
    assert (stems[0], stems[1], stems[-1]) == ("image", "image-2", "image-100000")


def test_a_file_is_known_to_be_writable_without_a_trace(tmp_path):
    there = tmp_path / "there"
    there.write_text("kept")
    check_writable(there)
    check_writable(tmp_path / "new")
    assert there.read_text() == "kept"
    assert not (tmp_path / "new").exists()
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        check_writable(tmp_path)
