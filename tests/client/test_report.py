"""What stands in the page's file; what a browser makes of it is tested in one, in tests/browser."""

import base64
import hashlib
import html.parser
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from colour_server import manifest
from gradcam_client import Explanation, Manifest
from gradcam_client.errors import OptionError
from gradcam_client.overlay import blend, upsample
from gradcam_client.report import Report
from gradcam_client.visualization import Visualization
from PIL import Image

HOSTILE = '</script><!--<script>alert("&")</script>'


class Page(html.parser.HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.scripts, self.styles = [], [], {}, []
        self._inside = None
        self.feed(text)
        self.data = json.loads(self.scripts["application/json"])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = (tag, dict(attrs))

    def handle_endtag(self, tag):  # noqa: ARG002 - the base class calls it so
        self._inside = None

    def handle_data(self, data):
        if self._inside and self._inside[0] == "script":
            self.scripts[self._inside[1]["type"]] = data
        elif self._inside and self._inside[0] == "style":
            self.styles.append(data)
        else:
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
def write_page(described, tmp_path):
    """Write a page and read it: of pictures, each a list of explanations, and of failures, each a message."""

    def written(*pictures, failures=(), against=None, **fields):
        report = Report(described, visualization=Visualization(**fields))
        for number, ranked in enumerate(pictures):
            report.add(f"{HOSTILE}{number}.png", ranked, against)
        for message in failures:
            report.add_failure("caf\udce9.png", message)
        report.write(tmp_path / "report.html")
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return written


def cells(found):
    return np.frombuffer(base64.b64decode(found["cells"]), np.uint8).reshape(found["grid"]).astype(int)


def table(page, name):
    return np.frombuffer(base64.b64decode(page.data[name]), np.uint8).reshape(-1, 4)


def test_the_page_names_the_model_and_what_was_explained(described, explanation, tmp_path):
    report = Report(described, visualization=Visualization(), method="gradcam++")
    report.add("a.png", [explanation, explanation])
    report.add("b.png", [explanation])
    report.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>colours, version 3</title>" in text
    assert "2 images · 3 heatmaps · gradcam++ on body/last, grid 2 × 3" in text


def test_the_data_are_those_of_the_explanations(write_page, explanation):
    page = write_page([explanation, replace(explanation, label="red", class_index=0, score=0.25)], failures=[HOSTILE])
    (picture,) = page.data["pictures"]
    assert picture["name"] == f"{HOSTILE}0.png"
    assert picture["size"] == [96, 64]
    assert picture["top"] == [[HOSTILE, 0.75], ["red", 0.25]]
    assert [(one["label"], one["index"], one["score"], one["peak"]) for one in picture["maps"]] == [
        (HOSTILE, 1, 0.75, 2.0),
        ("red", 0, 0.25, 2.0),
    ]
    np.testing.assert_array_equal(cells(picture["maps"][0]), [[0, 128], [64, 255]])
    assert page.data["failures"] == [{"name": "caf\udce9.png", "message": HOSTILE}]


def test_names_and_labels_cannot_end_the_data(write_page, explanation):
    page = write_page([explanation])
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not set("<>&") & set(page.scripts["application/json"])
    assert page.scripts["application/json"].isascii()


def test_a_hostile_model_name_is_text(explanation, tmp_path):
    raw = manifest(model={"name": f"{HOSTILE}$data\0", "source": "", "digest": "", "created": ""})
    report = Report(Manifest.parse(json.dumps(raw).encode(), version=3), visualization=Visualization())
    report.write(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert page.text.count(f"{HOSTILE}$data\0, version 3") == 2


def test_the_page_asks_nothing_of_the_network_and_runs_its_own_script_alone(write_page, explanation):
    page = write_page([explanation])
    for tag, attributes in page.tags:
        assert not {"src", "href", "style", "onclick", "onload"} & set(attributes), (tag, attributes)

    def source(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    (policy,) = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policy == (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {source(page.styles[0])}; script-src {source(page.scripts['module'])}"
    )


def test_the_layers_are_those_of_the_overlay(write_page, explanation):
    """What the page composes is what `overlay` paints, but for JPEG and the cells' rounding."""
    page = write_page([explanation], colormap="viridis", alpha=0.6)
    strength = upsample(cells(page.data["pictures"][0]["maps"][0]), 64, 96)
    layer = Image.fromarray(table(page, "cover")[np.rint(strength).astype(int)])
    layer.putalpha(layer.getchannel("A").point(lambda value: round(value * page.data["alpha"])))
    shown = Image.alpha_composite(explanation.image.convert("RGBA"), layer).convert("RGB")
    expected = blend(explanation.image, explanation.heatmap, colormap="viridis", alpha=0.6)
    assert np.abs(np.asarray(shown, int) - np.asarray(expected, int)).max() <= 6


def test_evidence_against_the_class_takes_cells_of_both_signs(write_page, explanation):
    against = replace(explanation, heatmap=np.array([[1, 0], [0, 0]], np.float32), method="counterfactual")
    page = write_page([explanation], against=against, polarity="both", colormap="pink_green")
    np.testing.assert_array_equal(cells(page.data["pictures"][0]["maps"][0]), [[0, 190], [159, 254]])
    assert len(table(page, "colours")) == 255
    assert table(page, "cover")[127, 3] == 0


def test_evidence_against_the_class_needs_its_map(described, explanation):
    report = Report(described, visualization=Visualization(polarity="both"))
    with pytest.raises(OptionError, match="needs the counterfactual map"):
        report.add("a.png", [explanation])


@pytest.mark.parametrize(
    ("fields", "alpha"), [({"alpha": 0.3}, 0.3), ({"overlay_type": "mask_black", "alpha": 0.3}, 1)], ids=str
)
def test_the_slider_stands_where_the_visualization_puts_it(write_page, explanation, fields, alpha):
    assert write_page([explanation], **fields).data["alpha"] == alpha


def test_an_empty_map_is_said_to_be_empty(write_page, explanation):
    page = write_page([explanation], [replace(explanation, heatmap=np.zeros((2, 2), np.float32))])
    assert [picture["maps"][0]["empty"] for picture in page.data["pictures"]] == [False, True]


def test_numbers_that_are_not_finite_are_null(write_page, explanation):
    page = write_page([replace(explanation, score=float("nan"), heatmap_peak=float("inf"))])
    assert [page.data["pictures"][0]["maps"][0][key] for key in ("score", "peak")] == [None, None]


def test_a_picture_without_an_explanation_is_refused(described):
    with pytest.raises(ValueError, match=r"a\.png: no explanation to show"):
        Report(described, visualization=Visualization()).add("a.png", [])


def test_large_pictures_and_maps_are_kept_small(write_page, explanation):
    large = replace(explanation, image=Image.new("RGB", (4000, 3000)), heatmap=np.ones((600, 800), np.float32))
    (picture,) = write_page([large]).data["pictures"]
    scene = Image.open(io.BytesIO(base64.b64decode(picture["scene"])))
    assert (picture["size"], scene.size, picture["maps"][0]["grid"]) == ([4000, 3000], (480, 360), [96, 128])
    assert large.image.size == (4000, 3000)


def test_a_page_without_pictures_is_a_page(write_page):
    assert write_page().data["pictures"] == []


def test_a_folder_is_not_written_over(described, tmp_path):
    with pytest.raises(OSError, match="Is a directory"):
        Report(described, visualization=Visualization()).write(tmp_path)
