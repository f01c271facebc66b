"""The page that reports are written on: what stands in it, where plots have their points, and that it loads nothing."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from gradcam_client.overlay import blend
from gradcam_client.overlay import upsample as upsample_of_the_client
from gradcam_export.checks.charts import bars_svg, lines_svg
from gradcam_export.checks.heat_colours import overlay, upsample
from gradcam_export.checks.page import PICTURE_SIDE, Page
from PIL import Image

HOSTILE = "<script>alert('x')</script> & \"y\""


class Reader(HTMLParser):
    """Collects elements, and the text in each."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), ""))

    def handle_data(self, data):
        if self.elements:
            tag, attributes, text = self.elements[-1]
            self.elements[-1] = (tag, attributes, text + data.strip())

    def of(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


@pytest.fixture
def written(tmp_path):
    def write(page):
        page.write(tmp_path / "page.html")
        return (tmp_path / "page.html").read_text("utf-8")

    return write


def test_all_text_is_escaped(written):
    page = Page(HOSTILE, subtitle=HOSTILE)
    page.heading(HOSTILE)
    page.paragraph(HOSTILE)
    page.table([HOSTILE], [[HOSTILE]])
    page.pictures([(HOSTILE, [np.zeros((2, 2, 3), np.uint8)])])
    page.lines(HOSTILE, {HOSTILE: [(0, 0), (1, 1)]}, x=HOSTILE, y=HOSTILE)
    page.bars(HOSTILE, {HOSTILE: 1.0})
    reader = Reader(written(page))
    assert reader.of("script") == []
    shown = [text for _, _, text in reader.elements]
    assert shown.count(HOSTILE) == 14  # title, heading and so on, all as they were given


def test_the_page_loads_nothing_and_allows_nothing_but_its_own_style(written):
    text = written(Page("x"))
    (policy,) = [one["content"] for one, _ in Reader(text).of("meta") if "http-equiv" in one]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert not re.search(r"(?:src|href)=(?!\"data:)|url\(|@import|style=", text)
    assert "prefers-color-scheme: dark" in style


def test_numbers_stand_to_the_right_and_failing_cells_are_marked(written):
    page = Page("x")
    rows = [["gradcam", 0.123456, "98.0%", 3, None], ["cam++ 2", -1.0, "–", 12, "1e-05"]]
    page.table(["method", "a", "b", "c", "d"], rows, failing={(1, 1)})
    reader = Reader(written(page))
    assert [text for _, text in reader.of("td")] == [
        *("gradcam", "0.1235", "98.0%", "3", "–"),
        *("cam++ 2", "-1", "–", "12", "1e-05"),
    ]
    classes = [attributes.get("class", "") for attributes, _ in reader.of("td")]
    assert classes == ["", *["number"] * 4, "", "number bad", *["number"] * 3]
    assert [attributes.get("class", "") for attributes, _ in reader.of("th")] == ["", *["number"] * 4]


def test_a_table_whose_rows_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="a table of 2 columns has a row of 2, 3"):
        Page("x").table(["a", "b"], [[1, 2], [1, 2, 3]])


def test_an_empty_table_has_headers(written):
    page = Page("x")
    page.table(["a", "b"], [])
    assert [text for _, text in Reader(written(page)).of("th")] == ["a", "b"]


def test_pictures_are_in_the_page_and_large_ones_reduced(written):
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (20, 30, 3), np.uint8)
    large = np.full((1000, 500, 3), 77, np.uint8)
    page = Page("x")
    page.pictures([("one", [small, large]), ("two", [small])])
    sources = [attributes["src"] for attributes, _ in Reader(written(page)).of("img")]
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))) for source in sources]
    np.testing.assert_array_equal(shown[0], small)
    assert shown[1].shape == (PICTURE_SIDE, PICTURE_SIDE // 2, 3)
    assert (shown[1] == 77).all()


def drawn(svg):
    return ET.fromstring(svg)  # noqa: S314 - our own


def numbers(points):
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_curves_have_their_points_between_round_numbers():
    svg = drawn(lines_svg({"a": [(0, 0.07), (0.5, 0.5), (1, 0.93)], "b": [(0, 0.5)]}, x="x", y="y"))
    curves = [numbers(line.get("points")) for line in svg.iter("polyline")]
    (left, low), (middle, half), (right, high) = curves[0]
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert half == pytest.approx((low + high) / 2, abs=0.1)
    assert curves[1] == [(left, half)]
    texts = [text.text for text in svg.iter("text")]
    assert [text for text in texts if text == "1"] == ["1", "1"]
    assert texts[:6] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert {"a", "b", "x", "y"} < set(texts)
    # 0 and 1 lie at the frame: 0.07 above the one as far as 0.93 below the other.
    frame = sorted({float(line.get("y1")) for line in svg.iter("line") if line.get("class") == "rule"})
    assert frame[-1] - low == pytest.approx(high - frame[0], abs=0.1)


def test_curves_beyond_the_colours_are_told_by_dashes():
    svg = drawn(lines_svg({str(index): [(0, index), (1, 0)] for index in range(16)}, x="x", y="y"))
    looks = [(line.get("class"), line.get("stroke-dasharray")) for line in svg.iter("polyline")]
    assert len(set(looks)) == 16


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(0.0, 1.0)]}, {"a": [(0, float("nan")), (1, 0.5)]}])
def test_curves_of_little_are_drawn_all_the_same(series):
    svg = drawn(lines_svg(series, x="x", y="y"))
    assert "nan" not in ET.tostring(svg, "unicode")


def test_bars_begin_at_0_and_are_as_long_as_their_values():
    svg = drawn(bars_svg({"a": 0.5, "b": -0.25, "c": 0.0, "d": float("nan")}))
    left, width = zip(*((float(bar.get("x")), float(bar.get("width"))) for bar in svg.iter("rect")), strict=True)
    assert width[0] == pytest.approx(2 * width[1], abs=0.1)
    assert left[0] == pytest.approx(left[1] + width[1], abs=0.1) == pytest.approx(left[2], abs=0.1)
    texts = [text.text for text in svg.iter("text")]
    assert texts == ["a", "0.5", "b", "-0.25", "c", "0", "d", "–"]
    assert width[2] == width[3] == 1


def test_bars_that_follow_one_another_share_a_row(written):
    page = Page("x")
    page.bars("one", {"a": 1.0})
    page.bars("two", {"a": 1.0})
    page.heading("then")
    page.bars("three", {"a": 1.0})
    text = written(page)
    assert [part.count("<figure") for part in text.split('<div class="charts">')[1:]] == [2, 1]
    assert text.count("<div") == text.count("</div>")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 7), (40, 60)])
def test_maps_are_resized_as_the_client_does(shape):
    maps = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    resized = upsample(maps, (30, 41))
    for one, expected in zip(resized, maps, strict=True):
        np.testing.assert_allclose(one, upsample_of_the_client(expected, 30, 41), atol=1e-6)


def test_a_resized_map_is_bilinear_with_centres_at_halves():
    np.testing.assert_allclose(upsample(np.array([[0.0, 1.0]]), (1, 4)), [[0, 0.25, 0.75, 1]])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_is_the_clients(channels):
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (24, 33, channels), np.uint8)
    heatmap = random.random((5, 6)).astype(np.float32)
    picture = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    np.testing.assert_array_equal(overlay(pixels, heatmap), np.asarray(blend(picture, heatmap)))
    unchanged = overlay(pixels, np.zeros((5, 6), np.float32))
    np.testing.assert_array_equal(unchanged, np.broadcast_to(pixels, (24, 33, 3)))
