import numpy as np
import pytest
from gradcam_client import Explanation, OptionError
from gradcam_client.contact_sheet import grid
from gradcam_client.figures import Tile, sheet
from gradcam_client.visualization import Visualization
from PIL import Image


def expected(explanations, columns=None, negatives=None, size=240, **fields):
    negatives = negatives or [None] * len(explanations)
    return sheet(
        [
            Tile(
                pictures=(explanation.overlay(size=size, negative=negative, **fields),),
                label=explanation.label,
                class_index=explanation.class_index,
                score=explanation.score,
            )
            for explanation, negative in zip(explanations, negatives, strict=True)
        ],
        columns,
    )


def test_a_sheet_of_many_pictures(client, pictures):
    explanations = client.explain(pictures)
    assert grid(explanations) == expected(explanations)
    fields = {"colormap": "magma", "overlay_type": "mask_black"}
    made = grid(iter(explanations), Visualization(alpha=0.1), columns=5, size=60, **fields)
    assert made == expected(explanations, 5, size=60, **fields)


def test_a_sheet_of_one_pictures_classes(client, pictures):
    ranked = client.top_k(pictures[0])
    made = grid(ranked, columns=len(ranked))
    assert made == expected(ranked, len(ranked))
    assert len({explanation.label for explanation in ranked}) == len(ranked)


def test_the_colours_of_a_sheet_are_the_overlays():
    red = Explanation(
        label="red",
        class_index=0,
        score=1.0,
        predictions=np.ones(1, np.float32),
        labels=("red",),
        model_version=1,
        heatmap=np.zeros((1, 1), np.float32),
        heatmap_peak=0.0,
        method="gradcam",
        image=Image.new("RGB", (240, 240), (255, 0, 0)),
    )
    assert grid([red]).getpixel((120, 150)) == (255, 0, 0)


def test_each_explanation_has_its_own_negative(client, pictures):
    explanations = client.explain(pictures[:3], class_index=1)
    negatives = [
        Explanation(**{**vars(explanation), "method": "counterfactual", "heatmap": explanation.heatmap[::-1].copy()})
        for explanation in explanations
    ]
    fields = {"polarity": "both", "colormap": "pink_green"}
    assert grid(explanations, negatives=iter(negatives), **fields) == expected(
        explanations, negatives=negatives, **fields
    )
    with pytest.raises(OptionError, match="2 negatives for 3 explanations: give one for each"):
        grid(explanations, negatives=negatives[:2], **fields)
    with pytest.raises(OptionError, match="no explanations: give one at least"):
        grid([])
