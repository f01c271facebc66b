"""Pictures for reports, and what a browser shows of them."""

from __future__ import annotations

import io

import numpy as np
from gradcam_client import Explanation
from gradcam_client.report import Report
from gradcam_client.visualization import Visualization
from PIL import Image

LABELS = ("red", "green", "blue")
SIZE = (360, 240)


def write(path, described, pictures, failures=(), against=None, **fields):
    """Write a page of pictures, given as name and ranked explanations, and of failures, as name and message."""
    report = Report(described, visualization=Visualization(**fields))
    for name, ranked in pictures:
        report.add(name, ranked, against)
    for name, message in failures:
        report.add_failure(name, message)
    report.write(path)
    return path


def scene(hue=(220, 120, 40)):
    """A smooth picture: its pixels survive being resized."""
    width, height = SIZE
    across, down = np.linspace(0.2, 1, width)[None, :, None], np.linspace(0.4, 1, height)[:, None, None]
    return Image.fromarray(np.rint(across * down * np.array(hue)).astype(np.uint8))


def explain(index=0, score=0.7, peak=2.0, heatmap=((0, 0.4, 0.1), (0.2, 1, 0.5)), labels=LABELS, **changes):
    """An explanation of class `index`, whose score stands in the predictions too."""
    predictions = np.full(len(labels), (1 - score) / (len(labels) - 1), np.float32)
    predictions[index] = score
    fields = {
        "label": labels[index],
        "class_index": index,
        "score": score,
        "predictions": predictions,
        "labels": labels,
        "model_version": 3,
        "heatmap": np.array(heatmap, np.float32),
        "heatmap_peak": peak,
        "method": "gradcam",
        "image": scene(),
    }
    return Explanation(**fields | changes)


def pixels(locator):
    """[H, W, 3] what the browser shows there, without the rounded corners."""
    shown = Image.open(io.BytesIO(locator.screenshot(animations="disabled"))).convert("RGB")
    return np.asarray(shown, int)[12:-12, 12:-12]


def stretched(image, like):
    """`image` in the size that `pixels` was cut from."""
    height, width, _ = like.shape
    resized = image.convert("RGB").resize((width + 24, height + 24), Image.Resampling.BILINEAR)
    return np.asarray(resized, int)[12:-12, 12:-12]
