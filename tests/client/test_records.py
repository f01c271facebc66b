"""`results.jsonl` keeps what was answered, whatever ends the run, and tells what is still to be asked."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from colour_server import LABELS
from gradcam_client.errors import OptionError
from gradcam_client.records import Results, fingerprint, record

ASKED = {"model": "colours"}


@pytest.fixture
def files(tmp_path, pictures):
    """Four pictures in files, and an overlay of each."""
    (tmp_path / "out").mkdir()
    paths = [tmp_path / f"p{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        pictures[number].save(path)
        (tmp_path / "out" / f"s{number}.png").touch()
    return paths


def line(path, number, **changes):
    return {"image": str(path), "stem": f"s{number}", "overlay": f"s{number}.png"} | changes


@pytest.fixture
def written(files, tmp_path):
    """The path of the results of all four."""
    with Results(tmp_path / "out", ASKED) as results:
        for number, path in enumerate(files):
            results.append(line(path, number), seconds=0.25, file=fingerprint(path))
    return tmp_path / "out" / "results.jsonl"


def resumed(written, files, asked=ASKED):
    with Results(written.parent, asked, resume=files) as results:
        return dict(results.kept)


def images(written):
    return [json.loads(text)["image"] for text in written.read_text().splitlines()]


def test_a_line_says_what_was_answered_when_and_for_which_file(client, files, tmp_path):
    one = client.explain(files[2])
    with Results(tmp_path, ASKED) as results:
        results.append(
            record(files[2], "s2", [one], ["o.png"], several=False), seconds=0.0123456, file=fingerprint(files[2])
        )
        # Before the file is closed: what is written is there for whoever looks, or kills.
        (text,) = (tmp_path / "results.jsonl").read_text().splitlines()
    found = json.loads(text)
    answered = datetime.fromisoformat(found.pop("answered"))
    assert abs(answered - datetime.now(UTC)) < timedelta(minutes=1)
    assert found == {
        "image": str(files[2]),
        "stem": "s2",
        "label": one.label,
        "class_index": LABELS.index(one.label),
        "score": one.score,
        "heatmap_peak": one.heatmap_peak,
        "top": [{"label": label, "score": score} for label, score in one.top(5)],
        "method": "gradcam",
        "model_version": 1,
        "overlay": "o.png",
        "seconds": 0.012346,
        "file_size": files[2].stat().st_size,
        "file_mtime_ns": files[2].stat().st_mtime_ns,
        "asked": ASKED,
    }


def test_a_line_tells_each_of_the_best_classes(client, files):
    ranked = client.top_k(files[1])
    found = record(files[1], "s", ranked, ["1.png", "2.png"], several=True)
    assert found["classes"] == [
        {
            "rank": rank,
            "label": one.label,
            "class_index": one.class_index,
            "score": one.score,
            "heatmap_peak": one.heatmap_peak,
            "overlay": f"{rank}.png",
        }
        for rank, one in enumerate(ranked, 1)
    ]
    assert (found["label"], found["overlay"]) == (ranked[0].label, "1.png")


def test_without_resuming_the_file_begins_anew(written, files):
    with Results(written.parent, ASKED) as results:
        assert results.kept == {}
    assert written.read_bytes() == b""


def test_resuming_where_nothing_is_asks_for_everything(tmp_path, files):
    assert resumed(tmp_path / "out" / "results.jsonl", files) == {}


def test_resuming_keeps_each_line_as_it_is(written, files):
    before = written.read_bytes()
    assert resumed(written, files) == {str(path): f"s{number}" for number, path in enumerate(files)}
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.glob("results*")] == ["results.jsonl"]


@pytest.mark.parametrize("change", ["content", "time", "gone", "overlay"])
def test_an_image_that_changed_or_lost_its_overlay_is_asked_again(written, files, change):
    path = files[1]
    found = path.stat()
    if change == "content":
        path.write_bytes(path.read_bytes() + b"x")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    elif change == "gone":
        path.unlink()
    else:
        (written.parent / "s1.png").unlink()
    assert list(resumed(written, files)) == [str(files[number]) for number in (0, 2, 3)]
    assert images(written) == [str(files[number]) for number in (0, 2, 3)]


def test_the_overlay_of_each_class_must_be_there(written, files):
    with Results(written.parent, ASKED) as results:
        classes = [{"overlay": "s0.png"}, {"overlay": "lost.png"}]
        results.append(line(files[0], 0, classes=classes), seconds=0, file=fingerprint(files[0]))
        results.append(line(files[1], 1, overlay=None, classes=[]), seconds=0, file=fingerprint(files[1]))
    assert list(resumed(written, files)) == [str(files[1])]


def test_images_that_are_not_named_now_keep_their_lines_and_names(written, files):
    files[3].unlink()
    assert list(resumed(written, files[:1])) == [str(path) for path in files]
    assert len(images(written)) == 4


def test_a_run_may_be_killed_at_any_byte(tmp_path):
    paths = [tmp_path / f"caf\udce9 {number}.png" for number in range(2)]
    for path in paths:
        path.touch()

    def go_on(resume=None):
        with Results(tmp_path, ASKED, resume=resume) as results:
            for number, path in enumerate(paths):
                if str(path) not in results.kept:
                    results.append(line(path, number, overlay=None), seconds=0, file=fingerprint(path))

    go_on()
    whole = (tmp_path / "results.jsonl").read_bytes()
    for kept in (*range(0, len(whole), 13), *range(len(whole) - 30, len(whole))):
        (tmp_path / "results.jsonl").write_bytes(whole[:kept])
        go_on(paths)
        assert images(tmp_path / "results.jsonl") == [str(path) for path in paths]


@pytest.mark.parametrize("text", [b"no json\n", b"[]\n", b'{"image": "a"}\n', b"\xff\n", b"\n"])
def test_a_file_that_holds_something_else_is_left_alone(written, files, text):
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join([lines[0], text, *lines[1:]]))
    before = written.read_bytes()
    with pytest.raises(OptionError, match=r"results\.jsonl line 2: is no line that gradcam explain wrote.*--resume"):
        resumed(written, files)
    assert written.read_bytes() == before


def test_another_question_is_not_resumed(written, files):
    before = written.read_bytes()
    message = r"p0\.png was asked with model colours, now with model colours, explained red: give the same, another"
    with pytest.raises(OptionError, match=message):
        resumed(written, files, {"model": "colours", "explained": "red"})
    assert written.read_bytes() == before


def test_a_full_disk_names_the_file(tmp_path, files):
    (tmp_path / "results.jsonl").symlink_to("/dev/full")
    with (
        Results(tmp_path, ASKED) as results,
        pytest.raises(OSError, match=r"No space left on device: '.*results\.jsonl'"),
    ):
        results.append(line(files[0], 0), seconds=0, file=fingerprint(files[0]))
