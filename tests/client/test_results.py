import io
import json

import numpy as np
import pytest
from gradcam_client import Explanation, OptionError, Prediction
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
