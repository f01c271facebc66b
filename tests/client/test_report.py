import base64
import html.parser
import io
import json

import numpy as np
import pytest
from colour_server import manifest
from gradcam_client import Explanation, Manifest
from gradcam_client.overlay import blend
from gradcam_client.report import Report
from PIL import Image

HOSTILE = '<script>alert("&")</script>'


class Page(html.parser.HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def described():
    return Manifest.parse(json.dumps(manifest(labels=["red", HOSTILE])).encode(), version=3)


@pytest.fixture
def explanation(rng):
    return Explanation(
        label=HOSTILE,
        class_index=1,
        score=0.75,
        predictions=np.array([0.25, 0.75], np.float32),
        labels=("red", HOSTILE),
        model_version=3,
        heatmap=np.array([[0, 0.5], [0.25, 1]], np.float32),
        heatmap_peak=2.0,
        method="gradcam",
        image=Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)),
    )


@pytest.fixture
def page(described, explanation, tmp_path):
    report = Report(described, colormap="jet", alpha=0.4)
    report.add(f"{HOSTILE}.png", explanation)
    report.add("caf\udce9.png", explanation)
    report.write(tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_page_names_the_model_and_what_was_explained(page):
    text = " ".join(page.text)
    for part in ("colours, version 3", "2 heatmaps", "gradcam on body/last", "grid 2 × 3", "0.750", "0.250"):
        assert part in text


def test_names_and_labels_are_text_not_markup(page):
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count(HOSTILE) == 4
    assert f"{HOSTILE}.png" in page.text


def test_the_page_asks_nothing_of_the_network(page):
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
        assert "http:" not in attributes.get("style", "")
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]


def test_the_layers_are_those_of_the_overlay(page, explanation):
    """What the page shows at an opacity of 0.4 is what `overlay` paints, but for the layer's size and JPEG."""
    heat = next(attributes["src"] for tag, attributes in page.tags if tag == "img")
    layer = Image.open(io.BytesIO(base64.b64decode(heat.split(",")[1]))).resize((96, 64))
    faded = layer.copy()
    faded.putalpha(layer.getchannel("A").point(lambda value: round(value * 0.4)))
    shown = Image.alpha_composite(explanation.image.convert("RGBA"), faded).convert("RGB")
    expected = blend(explanation.image, explanation.heatmap, colormap="jet", alpha=0.4)
    assert np.abs(np.asarray(shown, int) - np.asarray(expected, int)).max() <= 8


def test_the_explained_class_is_marked(page):
    rows = [attributes for tag, attributes in page.tags if tag == "tr"]
    assert [row.get("class") for row in rows] == ["chosen", None] * 2


def test_an_empty_map_is_said_to_be_empty(described, explanation, tmp_path):
    from dataclasses import replace

    report = Report(described, colormap="jet", alpha=0.4)
    report.add("a.png", explanation)
    report.add("b.png", replace(explanation, heatmap=np.zeros((2, 2), np.float32)))
    report.write(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("Nothing raised this score") == 1


def test_large_pictures_are_shown_small(described, explanation, tmp_path):
    from dataclasses import replace

    report = Report(described, colormap="jet", alpha=0.4)
    report.add("large.png", replace(explanation, image=Image.new("RGB", (4000, 3000))))
    report.write(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 100_000
    assert "aspect-ratio: 4000 / 3000" in (tmp_path / "report.html").read_text()
