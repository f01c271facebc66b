import io
import json
from dataclasses import replace

import numpy as np
import pytest
from gradcam_client import Explanation, OptionError, Prediction
from gradcam_client.figures import Tile, scaled, sheet
from gradcam_client.overlay import blend
from gradcam_client.visualization import Visualization
from PIL import Image


@pytest.fixture
def explanation():
    return Explanation(
        label="<rose>",
        class_index=1,
        score=0.5,
        predictions=np.array([0.2, 0.5, 0.3], np.float32),
        labels=("daisy", "<rose>", "tulip"),
        model_version=3,
        heatmap=np.array([[0, 1]], np.float32),
        heatmap_peak=4.0,
        method="layercam",
        image=Image.new("RGB", (1200, 600), "white"),
    )


def test_top_names_the_best_classes_first(explanation):
    assert [label for label, _ in explanation.top()] == ["<rose>", "tulip", "daisy"]
    assert explanation.top(1) == [("<rose>", 0.5)]
    assert explanation.top(0) == []


def test_equal_scores_keep_the_order_of_the_classes():
    even = Prediction(
        label="a",
        class_index=0,
        score=0.5,
        predictions=np.full(3, 0.5, np.float32),
        labels=("a", "b", "c"),
        model_version=1,
    )
    assert [label for label, _ in even.top()] == ["a", "b", "c"]


def test_to_json_is_what_json_writes(explanation):
    assert json.loads(json.dumps(explanation.to_json())) == {
        "label": "<rose>",
        "class_index": 1,
        "score": 0.5,
        "predictions": pytest.approx([0.2, 0.5, 0.3]),
        "model_version": 3,
        "heatmap": [[0, 1]],
        "heatmap_peak": 4.0,
        "method": "layercam",
    }


def test_a_notebook_shows_the_overlay_small_and_its_label_as_text(explanation):
    with Image.open(io.BytesIO(explanation._repr_png_())) as shown:
        assert shown.size == (480, 240)
        # White, and where the map is 1 the end of jet over it at 0.4.
        assert shown.getpixel((0, 100)) == (255, 255, 255)
        assert shown.getpixel((479, 100)) == (204, 153, 153)
    figure = explanation._repr_html_()
    assert "&lt;rose&gt; 0.500" in figure
    assert "<rose>" not in figure
    assert explanation.image.size == (1200, 600)


def test_the_repr_is_short(explanation):
    assert repr(explanation) == (
        "Explanation(label='<rose>', class_index=1, score=0.5, model_version=3, heatmap_peak=4.0, method='layercam')"
    )


def test_save_writes_the_format_that_the_suffix_names(explanation, tmp_path):
    explanation.save(tmp_path / "rose.jpg", colormap="magma", alpha=1)
    with Image.open(tmp_path / "rose.jpg") as saved:
        assert (saved.format, saved.size) == ("JPEG", (1200, 600))
    with pytest.raises(OptionError, match="no colour map 'x'"):
        explanation.save(tmp_path / "rose.png", colormap="x")
    assert not (tmp_path / "rose.png").exists()


@pytest.fixture
def halves(rng):
    """A signed map, and the explanations for and against a class that it is the difference of."""
    whole = rng.normal(size=(3, 4)).astype(np.float32) * 5 + 1
    image = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))

    def explanation(method, half):
        return Explanation(
            label="rose",
            class_index=1,
            score=0.5,
            predictions=np.array([0.2, 0.5, 0.3], np.float32),
            labels=("daisy", "rose", "tulip"),
            model_version=3,
            heatmap=half / half.max(),
            heatmap_peak=float(half.max()),
            method=method,
            image=image,
            colormap="viridis",
            alpha=0.3,
        )

    return (
        whole,
        explanation("gradcam", np.maximum(whole, 0)),
        explanation("counterfactual", np.maximum(-whole, 0)),
    )


def test_an_overlay_is_in_the_models_own_colours_unless_others_are_asked_for(halves):
    _, rose, _ = halves
    assert rose.overlay() == blend(rose.image, rose.heatmap, colormap="viridis", alpha=0.3)
    assert rose.overlay(alpha=1) == blend(rose.image, rose.heatmap, colormap="viridis", alpha=1)
    assert rose.overlay(colormap="jet") == blend(rose.image, rose.heatmap, colormap="jet", alpha=0.3)
    grey = Visualization(overlay_type="grayscale")
    assert rose.overlay(grey) == grey.draw(rose.image, rose.heatmap)
    changed = Visualization(overlay_type="grayscale", colormap="magma", threshold=0.4)
    assert rose.overlay(grey, colormap="magma", threshold=0.4) == changed.draw(rose.image, rose.heatmap)


def test_both_polarities_show_the_signed_map(halves):
    whole, rose, against = halves
    shown = Visualization(polarity="both", colormap="red_green")
    signed = whole / abs(whole).max()
    pixels = np.asarray(rose.overlay(shown, negative=against)).astype(int)
    np.testing.assert_allclose(pixels, shown.draw(rose.image, signed), atol=1)
    parts = {
        polarity: np.asarray(rose.overlay(shown, polarity=polarity, negative=against, overlay_type="none"))
        for polarity in ("positive", "negative", "both")
    }
    assert len({part.tobytes() for part in parts.values()}) == 3


def test_the_negative_polarity_shows_what_lowered_the_score(halves):
    _, rose, against = halves
    shown = Visualization(polarity="negative", colormap="pink_green")
    expected = shown.draw(rose.image, -against.heatmap)
    assert rose.overlay(shown, negative=against) == expected
    assert against.overlay(shown) == expected, "it is the negative evidence itself"
    assert rose.overlay(polarity="negative", negative=against) == blend(
        rose.image, against.heatmap, colormap="viridis", alpha=0.3
    )


def test_where_nothing_speaks_for_or_against_a_class_its_picture_is_unchanged(halves):
    _, rose, against = halves
    rose, against = (replace(half, heatmap=np.zeros((3, 4), np.float32), heatmap_peak=0.0) for half in (rose, against))
    for polarity in ("positive", "negative", "both"):
        assert rose.overlay(polarity=polarity, negative=against, alpha=1) == rose.image


def test_negative_evidence_has_to_fit(halves):
    _, rose, against = halves
    said = r"polarity 'both' needs the counterfactual map: give negative=client.explain\(image, class_index=1, method="
    with pytest.raises(OptionError, match=said):
        rose.overlay(polarity="both")
    with pytest.raises(OptionError, match="polarity 'negative' needs the counterfactual map"):
        rose.strip(polarity="negative")
    with pytest.raises(OptionError, match="negative: a map by gradcam; explain with method='counterfactual'"):
        rose.overlay(polarity="negative", negative=rose)
    with pytest.raises(OptionError, match="negative: explains class 2, not 1; explain with class_index=1"):
        rose.overlay(polarity="negative", negative=replace(against, class_index=2))
    for other in ({"image": rose.image.resize((5, 5))}, {"heatmap": np.zeros((2, 2), np.float32)}):
        with pytest.raises(OptionError, match="negative: explains another picture; explain the same one twice"):
            rose.overlay(polarity="both", negative=replace(against, **other))
    with pytest.raises(OptionError, match=r"'both' of a map by layercam: its peak has another unit .*method='gradcam'"):
        replace(rose, method="layercam").overlay(polarity="both", negative=against)


def test_an_overlay_has_the_size_that_is_asked_for(halves):
    _, rose, _ = halves
    small = scaled(rose.image, 10)
    assert rose.overlay(size=10) == blend(small, rose.heatmap, colormap="viridis", alpha=0.3)
    assert rose.overlay(size=10).size == (10, 8)
    with pytest.raises(OptionError, match="size 0"):
        rose.overlay(size=0)


@pytest.mark.parametrize("size", [None, 16])
def test_a_strip_shows_picture_heatmap_and_overlay(halves, size):
    _, rose, against = halves
    fields = {"polarity": "negative", "overlay_type": "outlines", "colormap": "inferno"}
    image = scaled(rose.image, size)
    overlay = Visualization(**fields, alpha=0.3)
    heatmap = replace(overlay, overlay_type="none")
    pictures = (image, heatmap.draw(image, -against.heatmap), overlay.draw(image, -against.heatmap))
    expected = sheet([Tile(pictures=pictures, label="rose", class_index=1, score=0.5)])
    assert rose.strip(negative=against, size=size, **fields) == expected
    assert rose.strip(overlay, negative=against, size=size) == expected


def test_fields_that_do_not_exist_are_refused(halves):
    with pytest.raises(TypeError, match="unexpected keyword argument 'colourmap'"):
        halves[1].overlay(colourmap="jet")
