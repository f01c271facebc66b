"""The demo's road: the classifier and its reuse, the processes and how they fail, and the whole of it."""

import json
import logging
import os
import sys

import keras
import numpy as np
import pytest
from gradcam_export.demo import processes, road
from gradcam_export.demo.answers import Tally, Verdict
from gradcam_export.demo.classifier import Recipe, build_classifier, prepare_classifier, train_classifier
from gradcam_export.demo.processes import explain_folder, require_client, serving
from gradcam_export.demo.road import run_demo
from gradcam_export.demo.scenes import LABELS, draw_scenes, load_digits
from gradcam_export.errors import DemoError, OptionError
from PIL import Image

TINY = Recipe(scenes=60, epochs=1)


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture
def lines():
    return []


def test_a_cell_of_the_map_sees_pixels_that_are_centred_on_it() -> None:
    """An impulse moves the cells around it by the same amount on either side: the map lies on the image."""
    network = build_classifier()
    features = keras.Model(network.inputs[0], network.layers[-4].output)
    rows = []
    for row in range(128):
        image = np.zeros((1, 128, 128, 3), np.float32)
        image[0, row] = 255
        rows.append(image)
    quiet = features(np.zeros((1, 128, 128, 3), np.float32), training=False).numpy()
    values = features(np.concatenate(rows), training=False).numpy()
    # Cell (8, 8) covers rows 64..71; which rows change it?
    seen = np.flatnonzero(np.abs(values[:, 8, 8] - quiet[:, 8, 8]).max(-1) > 0)
    assert 63 - seen.min() == seen.max() - 72
    assert seen.max() - seen.min() + 1 == 54


@pytest.fixture(scope="module")
def learnt(digits):
    train, test = digits
    lines: list[str] = []
    network = train_classifier(train, Recipe(scenes=600, epochs=5, batch_size=16), lines.append)
    return network, lines, draw_scenes(test, 100, 3)


@pytest.mark.large
def test_a_short_training_beats_chance_on_digits_never_seen(learnt) -> None:
    network, lines, scenes = learnt
    predicted = network.predict(np.stack([scene.pixels for scene in scenes]), verbose=0).argmax(1)
    # By chance 10 of 100, and 20 or more in one of 500 trials.
    assert (predicted == [scene.label for scene in scenes]).sum() >= 20
    assert [line.split(":")[0] for line in lines] == [f"epoch {n} of 5" for n in range(1, 6)]


def test_the_same_recipe_trains_the_same_network(digits) -> None:
    one, other = (train_classifier(digits[0], TINY, [].append).get_weights() for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_a_classifier_is_reused_only_for_its_own_recipe_and_untouched(digits, tmp_path, lines) -> None:
    file = tmp_path / "classifier.keras"

    def trained(recipe: Recipe) -> bool:
        lines.clear()
        prepare_classifier(file, digits[0], recipe, lines.append)
        return any(line.startswith("epoch") for line in lines)

    assert trained(TINY)
    assert not trained(TINY)
    assert str(file) in lines[0]
    assert trained(Recipe(scenes=60, epochs=1, seed=9))
    file.write_bytes(file.read_bytes() + b"!")
    assert trained(Recipe(scenes=60, epochs=1, seed=9))
    assert keras.models.load_model(file).output_shape == (None, len(LABELS))


def test_own_pictures_without_a_model_are_refused(tmp_path, lines) -> None:
    with pytest.raises(OptionError, match="add --model"):
        run_demo(tmp_path, images=tmp_path, report_line=lines.append)
    with pytest.raises(OptionError, match="add --model"):
        run_demo(tmp_path, labels=tmp_path / "labels.txt", report_line=lines.append)


def test_a_model_without_a_folder_of_pictures_is_refused(tmp_path, lines) -> None:
    with pytest.raises(OptionError, match=r"--model needs --images.*none was given"):
        run_demo(tmp_path, model="m.keras", report_line=lines.append)
    with pytest.raises(OptionError, match=r"--model needs --images.*missing is no folder"):
        run_demo(tmp_path, model="m.keras", images=tmp_path / "missing", report_line=lines.append)
    assert lines == []


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path, lines) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match=r"The demo cannot go on in .*file"):
        run_demo(tmp_path / "file", report_line=lines.append)


def test_a_missing_client_is_said_before_anything_is_trained(tmp_path, monkeypatch, lines) -> None:
    monkeypatch.setattr(processes, "_CLIENT", "gradcam_client_that_is_not_there")
    with pytest.raises(DemoError, match="pip install gradcam-client"):
        require_client()
    with pytest.raises(DemoError, match="pip install gradcam-client"):
        run_demo(tmp_path, report_line=lines.append)
    assert lines == []


def test_a_server_that_ends_at_once_is_quoted(tmp_path) -> None:
    log = tmp_path / "server.log"
    with (
        pytest.raises(DemoError, match=r"The server ended before it served: .*missing"),
        serving(tmp_path / "missing", log),
    ):
        pytest.fail("there is no model to serve")
    assert "missing" in log.read_text("utf-8")


def test_a_server_that_does_not_come_up_is_stopped(tmp_path, monkeypatch) -> None:
    pid = tmp_path / "pid"
    sleeper = tmp_path / "python"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 600\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    serving_soon = serving(tmp_path, tmp_path / "server.log", start_limit_s=1)
    with pytest.raises(DemoError, match="did not come up within 1 s"), serving_soon:
        pytest.fail("it never said its port")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_client_that_fails_is_quoted(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DemoError, match=r"The client could not explain all of .*: gradcam: .*127\.0\.0\.1:9"):
        explain_folder(tmp_path, "127.0.0.1:9", "m", overlays=tmp_path / "o", report=tmp_path / "r.html")


def test_a_stray_picture_among_the_scenes_is_named() -> None:
    truths = [road.Truth(f"scene_{n}.png", "0", None) for n in range(2)]
    answers = [road.Answer(road.Path(truth.file), "0", 1.0, None, None) for truth in truths]
    road._check_complete(truths, answers)
    with pytest.raises(DemoError, match=r"2 scenes were drawn and 1 pictures answered; not in both: scene_1\.png"):
        road._check_complete(truths, answers[:1])


@pytest.mark.parametrize("scores", [Tally(200, 193, 193), Tally(200, 200, 195)])
def test_figures_that_are_too_low_are_an_error(scores) -> None:
    with pytest.raises(DemoError, match=f"accuracy {scores.accuracy:.1%}.*pointing game {scores.pointing_game:.1%}"):
        road._check_scores(scores)


def test_figures_that_are_just_enough_pass() -> None:
    road._check_scores(Tally(200, 194, 191))


def test_the_sheet_shows_failures_first() -> None:
    right, wrong = Verdict(correct=True, pointed=True), Verdict(correct=False, pointed=True)
    missed = Verdict(correct=True, pointed=False)
    verdicts = [right] * 100
    verdicts[70], verdicts[40] = wrong, missed
    shown = road._failures_first(verdicts)
    assert shown[:2] == [40, 70]
    assert shown[2:] == list(range(22))
    assert len(road._failures_first([wrong] * 30)) == 6
    assert road._failures_first([right] * 3) == [0, 1, 2]


def test_pictures_of_ones_own_are_shown_evenly() -> None:
    assert road._spread(range(100), 4) == [0, 25, 50, 75]
    assert road._spread("abc", 24) == ["a", "b", "c"]
    assert road._spread([], 24) == []


@pytest.mark.slow
def test_the_whole_road_on_digits(tmp_path, lines) -> None:
    """A classifier trained for seconds goes the whole road, and is told that its figures are too low."""
    directory = tmp_path / "demo"
    with pytest.raises(DemoError, match="The figures are too low"):
        run_demo(directory, report_line=lines.append, recipe=TINY, test_scenes=20)
    truths = json.loads((directory / "truth.json").read_text("utf-8"))
    assert [truth["label"] for truth in truths] == list(LABELS) * 2
    for truth in truths:
        stem = truth["file"].removesuffix(".png")
        with Image.open(directory / "overlays" / f"{stem}_overlay.png") as overlay:
            assert overlay.size == (128, 128)
    with Image.open(directory / "contact_sheet.png") as sheet:
        assert np.asarray(sheet).std() > 10
    assert "scene_019.png" in (directory / "report.html").read_text("utf-8")
    accuracy = next(line for line in lines if line.startswith("accuracy"))
    assert "of 20 scenes" in accuracy


@pytest.mark.slow
@pytest.mark.large
def test_the_whole_road_on_a_model_and_pictures_of_ones_own(digits, tmp_path, lines) -> None:
    file = tmp_path / "classifier.keras"
    prepare_classifier(file, digits[0], TINY, lines.append)
    (tmp_path / "scenes").mkdir()
    for number, scene in enumerate(draw_scenes(digits[1], 20, 3)):
        Image.fromarray(scene.pixels).save(tmp_path / "scenes" / f"scene_{number}.png")
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"digit {label}\n" for label in LABELS), "utf-8")
    own = run_demo(
        tmp_path / "own",
        model=file,
        images=tmp_path / "scenes",
        labels=labels,
        report_line=lines.append,
    )
    assert (own.images, own.scores) == (20, None)
    assert len(list(own.overlays.glob("*_overlay.png"))) == 20
    assert own.contact_sheet.is_file()
    assert "digit " in own.report.read_text("utf-8")
    assert (tmp_path / "own/models/classifier/1/saved_model.pb").is_file()
    # Nothing is served any more, and the server stopped without complaint.
    log = (tmp_path / "own/server.log").read_text("utf-8")
    assert "Traceback" not in log


def test_the_library_prints_nothing(capsys, caplog, digits, tmp_path) -> None:
    with caplog.at_level(logging.DEBUG, "gradcam_export"):
        prepare_classifier(tmp_path / "c.keras", digits[0], TINY, [].append)
    assert capsys.readouterr().out == ""
