"""What the browser paints, against the library's own overlays and against numpy."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from gradcam_client.overlay import colorize, coverage, upsample
from gradcam_client.visualization import Visualization

from browser.pictures import explain, pixels, scene, stretched
from browser.waiting import until

FURTHER = np.array([[1, 0, 0.3], [0.6, 0, 0.1]], np.float32)
CANVAS = """(canvas) => {
  const { width, height } = canvas, copy = new OffscreenCanvas(width, height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  let text = "";
  for (const value of data) text += String.fromCharCode(value);
  return [width, height, btoa(text)];
}"""


def canvas_pixels(locator):
    """[H, W, 4] RGBA of a canvas."""
    width, height, text = locator.evaluate(CANVAS)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4).astype(int)


def opened(page, view="overlay", opacity=None):
    """Open the first card; what its stage shows."""
    if page.locator("dialog").is_hidden():
        page.locator(".card").first.click()
    page.check(f"[name=view][value={view}]", force=True)
    if opacity is not None:
        page.fill("#opened-alpha", str(opacity))
    until(page, lambda: page.evaluate("document.querySelector('.stage img').complete"))
    return pixels(page.locator(".stage"))


def assert_close(shown, expected, most=12, mean=2.5):
    difference = np.abs(shown - expected)
    assert difference.mean() <= mean
    assert np.percentile(difference, 99.5) <= most


def assert_like(shown, image):
    assert_close(shown, stretched(image, shown))


def test_the_layer_is_the_painted_map(write_report, open_page):
    """The opened heatmap, value by value: bilinear upsampling at pixel centres, then the colour map's table."""
    explanation = explain()
    page = open_page(write_report([("a.png", [explanation])], colormap="viridis"))
    opened(page, "heatmap")
    painted = canvas_pixels(page.locator(".stage canvas"))
    height, width, _ = painted.shape
    assert (width, height) == (640, 427)
    strength = upsample(explanation.heatmap, height, width)
    np.testing.assert_allclose(painted[..., :3], colorize(strength, "viridis"), atol=4)
    assert (painted[..., 3] == 255).all()
    opened(page, "overlay")
    np.testing.assert_allclose(canvas_pixels(page.locator(".stage canvas"))[..., 3], 255 * coverage(strength), atol=3)


def test_the_scale_runs_through_the_colour_map(write_report, open_page):
    page = open_page(write_report([("a.png", [explain()])], colormap="inferno"))
    scale = canvas_pixels(page.locator(".scale canvas"))
    np.testing.assert_array_equal(scale[0, :, :3], colorize(np.linspace(0, 1, 256)[None], "inferno")[0])
    assert page.locator(".scale span").all_inner_texts() == ["no evidence", "strongest"]


@pytest.mark.parametrize("opacity", [0, 40, 100])
def test_the_slider_moves_pixels(write_report, open_page, opacity):
    explanation = explain()
    page = open_page(write_report([("a.png", [explanation])], alpha=0.7))
    assert_like(opened(page), explanation.overlay(Visualization(alpha=0.7)))
    assert_like(opened(page, opacity=opacity), explanation.overlay(Visualization(alpha=opacity / 100)))
    assert page.inner_text("dialog .opacity output") == f"{opacity} %"


def test_the_slider_above_the_cards_moves_the_pixels_of_all(write_report, open_page):
    explanation = explain()
    page = open_page(write_report([("a.png", [explanation]), ("b.png", [explanation])]))
    frames = page.locator(".thumb > span")
    for opacity in (40, 0, 100):
        page.fill("#alpha", str(opacity))
        for index in range(2):
            assert_like(pixels(frames.nth(index)), explanation.overlay(Visualization(alpha=opacity / 100)))


def test_the_views_show_image_heatmap_and_overlay(write_report, open_page):
    explanation = explain()
    page = open_page(write_report([("a.png", [explanation])]))
    assert_like(opened(page, "image"), explanation.image)
    assert_like(opened(page, "heatmap"), explanation.overlay(overlay_type="none"))
    assert page.locator("#opened-alpha").is_disabled()
    assert_like(opened(page, "overlay"), explanation.overlay())


@pytest.mark.parametrize(
    "fields",
    [
        {"overlay_type": "grayscale"},
        {"overlay_type": "mask_black"},
        {"overlay_type": "none", "colormap": "magma"},
        {"threshold": 0.5},
        {"clip_percent_upperbound": 70},
        {"clip_percent_lowerbound": 60, "colormap": "pink_green"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_the_page_shows_what_the_visualization_says(write_report, open_page, fields):
    explanation = explain()
    page = open_page(write_report([("a.png", [explanation])], **fields))
    # Cut edges lie within the width of one of the 128 cells, and so do a few pixels beside them.
    shown = opened(page)
    expected = stretched(explanation.overlay(**fields), shown)
    difference = np.abs(shown - expected)
    assert difference.mean() <= 4
    assert np.percentile(difference, 95) <= 14


def test_outlines_lie_where_the_map_crosses_the_level(write_report, open_page):
    explanation = explain()
    page = open_page(write_report([("a.png", [explanation])], overlay_type="outlines", level=0.6))
    opened(page)
    lines = canvas_pixels(page.locator(".stage canvas"))[..., 3] > 0
    strength = upsample(explanation.heatmap, *lines.shape)
    assert 0.002 < lines.mean() < 0.1
    slope = np.hypot(*np.gradient(strength)).max()
    # A line of three pixels to each side of the crossing, and one more for the map's rounding.
    assert np.abs(strength[lines] - 0.6).max() <= 6 * slope
    crossing = np.abs(strength - 0.6) < np.hypot(*np.gradient(strength)) / 2
    assert lines[crossing].mean() > 0.99


@pytest.mark.parametrize("polarity", ["negative", "both"])
def test_evidence_against_the_class_is_shown(write_report, open_page, polarity):
    explanation = explain(peak=2.0)
    against = replace(explanation, heatmap=FURTHER, heatmap_peak=4.0, method="counterfactual")
    fields = {"polarity": polarity, "colormap": "pink_white_green"}
    page = open_page(write_report([("a.png", [explanation])], against=against, **fields))
    assert_like(opened(page), explanation.overlay(negative=against, **fields))
    words = {"negative": ["no evidence", "strongest against"], "both": ["against", "for"]}[polarity]
    assert page.locator(".scale span").all_inner_texts() == words


def test_each_class_has_its_own_map(write_report, open_page):
    ranked = [explain(0, 0.6), explain(2, 0.3, heatmap=FURTHER)]
    page = open_page(write_report([("a.png", ranked)]))
    assert_like(opened(page), ranked[0].overlay())
    page.locator("#classes button").nth(1).click()
    assert_like(pixels(page.locator(".stage")), ranked[1].overlay())
    page.keyboard.press("Escape")
    page.select_option("#rank", "1")
    page.wait_for_timeout(200)
    assert_like(pixels(page.locator(".thumb > span")), ranked[1].overlay())


def test_a_large_map_is_sent_small_and_looks_the_same(write_report, open_page):
    rows, columns = np.mgrid[:240, :360]
    heatmap = np.exp(-((rows - 90) ** 2 + (columns - 250) ** 2) / 5000)
    explanation = explain(heatmap=heatmap)
    path = write_report([("a.png", [explanation])])
    assert path.stat().st_size < 80_000
    assert_like(opened(open_page(path)), explanation.overlay())


def test_pictures_of_any_shape_keep_it(write_report, open_page):
    tall, wide = scene().resize((40, 400)), scene().resize((400, 40))
    page = open_page(write_report([("tall.png", [explain(image=tall)]), ("wide.png", [explain(image=wide)])]))
    for index, shape in enumerate((0.1, 10)):
        page.locator(".card").nth(index).click()
        for frame in (page.locator(".stage"), page.locator(".thumb > span").nth(index)):
            box = frame.bounding_box()
            assert box["width"] / box["height"] == pytest.approx(shape, rel=0.06)
        page.keyboard.press("Escape")


def test_mean_heatmaps_are_the_means_of_the_images_shown(write_report, open_page):
    first, second, other = explain(0), explain(0, heatmap=FURTHER), explain(1)
    page = open_page(write_report([("a.png", [first]), ("b.png", [second]), ("c.png", [other])], colormap="grey"))

    def means():
        page.wait_for_timeout(100)
        tiles = page.locator(".means > div")
        return tiles.all_inner_texts(), canvas_pixels(tiles.first.locator("canvas"))

    words, shown = means()
    assert [text.split() for text in words] == [["red", "2", "images"], ["green", "1", "image"]]
    expected = upsample((first.heatmap + second.heatmap) / 2, *shown.shape[:2])
    np.testing.assert_allclose(shown[..., 0], 255 * expected, atol=2)
    page.fill("#words", "b.png")
    words, shown = means()
    assert [text.split() for text in words] == [["red", "1", "image"]]
    np.testing.assert_allclose(shown[..., 0], 255 * upsample(FURTHER, *shown.shape[:2]), atol=2)
    assert shown.shape[1] / shown.shape[0] == pytest.approx(1.5, rel=0.02)


def test_histograms_count_all_images_and_those_shown(write_report, open_page):
    scores = (0.02, 0.03, 0.52, 0.97, 1.0)
    page = open_page(write_report([(f"{i}.png", [explain(score=score, peak=i)]) for i, score in enumerate(scores)]))

    def heights(kind):
        page.wait_for_timeout(100)
        bars = page.locator(f"#scores rect.{kind}")
        return np.array(bars.evaluate_all("(bars) => bars.map((bar) => Number(bar.getAttribute('height')))"))

    expected = np.zeros(20)
    expected[[0, 10, 19]] = 2, 1, 2
    for kind in ("all", "shown"):
        np.testing.assert_allclose(heights(kind) / heights("all").max() * 2, expected, atol=1e-6)
    page.fill("#score-from", "0.5")
    np.testing.assert_allclose(heights("all") / heights("all").max() * 2, expected, atol=1e-6)
    np.testing.assert_allclose((heights("shown") / heights("all").max() * 2)[[0, 10, 19]], [0, 1, 2], atol=1e-6)
    assert page.locator("#scores svg").get_attribute("aria-label") == "Scores of 3 images: from 0.52 to 1"
    assert page.locator("#peaks text").all_text_contents()[:2] == ["0", "4"]


def test_points_stand_at_score_and_peak_and_open_their_image(write_report, open_page):
    high, low = explain(score=0.2, peak=8.0), explain(score=0.7, peak=2.0)
    page = open_page(write_report([("a.png", [high]), ("b.png", [low])]))
    places = page.locator("circle").evaluate_all(
        "(all) => all.map((one) => [Number(one.getAttribute('cx')), Number(one.getAttribute('cy'))])"
    )
    left, right, base, top = 34, 352, 128, 8
    assert places[0] == pytest.approx([left + 0.2 * (right - left), top])
    assert places[1] == pytest.approx([left + 0.7 * (right - left), base - (base - top) / 4])
    page.locator("circle").nth(1).click()
    assert page.inner_text("dialog .file") == "b.png"
