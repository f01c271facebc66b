"""Phones, dark and light, and a thousand images."""

import itertools
import re
import time

import numpy as np
import pytest
from PIL import Image

from browser.pictures import LABELS, explain, scene, write
from browser.waiting import until

THOUSAND = 1000


def luminance(colour):
    """Relative luminance of a CSS colour, as WCAG defines it."""
    red, green, blue = (int(value) / 255 for value in re.findall(r"\d+", colour)[:3])
    linear = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (red, green, blue))
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(page, selector, ground):
    """Contrast of an element's text with the background of `ground`."""
    style = "(element, name) => getComputedStyle(element)[name]"
    bright, dark = sorted(
        (
            luminance(page.locator(selector).first.evaluate(style, "color")),
            luminance(page.locator(ground).first.evaluate(style, "backgroundColor")),
        ),
        reverse=True,
    )
    return (bright + 0.05) / (dark + 0.05)


@pytest.fixture
def small(write_report):
    """Long names and labels, a map without evidence, several classes, a failure."""
    labels = ("a label of many words that does not fit on a card", "green", "blue")
    first = [explain(0, labels=labels), explain(2, 0.2, labels=labels)]
    empty = [explain(1, heatmap=((0, 0), (0, 0)), peak=0.0)]
    pictures = [("folder/" + "long" * 60 + ".png", first), ("b.png", empty), ("c.png", [explain(1)])]
    return write_report(pictures, [("folder/" + "broken" * 40 + ".png", "word" * 80)])


def test_dark_and_light_follow_the_system(small, open_page):
    shades = {}
    for scheme in ("light", "dark"):
        page = open_page(small, color_scheme=scheme)
        page.locator("#failures summary").click()
        page.locator(".card").first.click()
        texts = {
            "h1": "body", "header p": "body", "#count": "body", ".caption b": ".card", ".caption span": ".card",
            ".caption .none": ".card", "#failures td": "#failures", "#opened": "dialog", "dialog .file": "dialog",
            "dialog dt": "dialog", ".views :checked + span": ".views :checked + span", "figure small": "figure",
        }  # fmt: skip
        for text, ground in texts.items():
            assert contrast(page, text, ground) >= 4.5, (scheme, text)
        shades[scheme] = luminance(page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor"))
    assert shades["light"] > 0.8
    assert shades["dark"] < 0.05


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_nothing_is_wider_than_the_window(small, open_page, width):
    page = open_page(small, viewport={"width": width, "height": 700}, has_touch=True)
    page.locator("#failures summary").click()
    if width < 800:
        page.locator("#filters summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for field in page.locator("#controls input:visible, #controls select:visible, #controls button:visible").all():
        box = field.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    page.locator(".card").first.click()
    for part in page.locator("dialog, .stage, .panel, .panel *").all():
        box = part.bounding_box()
        assert box is None or box["x"] + box["width"] <= width + 1


def test_a_phone_shows_two_cards_in_a_row_and_folds_the_filters(small, open_page):
    page = open_page(small, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.locator("#words").is_hidden()
    first, second = (page.locator(".card").nth(index).bounding_box() for index in range(2))
    assert first["y"] == second["y"]
    page.locator("#filters summary").tap()
    page.fill("#words", "c.png")
    assert page.inner_text("#count") == "1 of 3 images"
    page.locator(".card").first.tap()
    stage = page.locator(".stage").bounding_box()
    assert stage["width"] > 340
    assert page.locator("#opened-alpha").bounding_box()["y"] < 844
    page.locator("#close").tap()
    assert page.locator("dialog").is_hidden()


@pytest.fixture(scope="module")
def thousand(tmp_path_factory, described):
    rng = np.random.default_rng(3)
    noise = Image.fromarray(rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)).resize((360, 240))
    photo = Image.blend(scene(), noise, 0.3)

    def ranked():
        scores, peaks, maps = rng.random(3), rng.gamma(2, size=3), rng.random((3, 7, 7))
        order = map(int, rng.permutation(3))
        return [explain(*one, image=photo) for one in zip(order, scores, peaks, maps, strict=True)]

    pictures = [(f"folder/{index:04}.png", ranked()) for index in range(THOUSAND)]
    return write(tmp_path_factory.mktemp("thousand") / "report.html", described, pictures)


def measured(page):
    """How often the browser laid the page out, and computed its styles."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    found = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    return np.array([found["LayoutCount"], found["RecalcStyleCount"]])


def test_a_thousand_images_stay_fluent(thousand, open_page):
    began = time.monotonic()
    page = open_page(thousand)
    page.wait_for_selector(".card img[src]")
    assert time.monotonic() - began < 60
    assert page.locator(".card").count() == THOUSAND
    drawn = "document.querySelectorAll('.card img[src]').length"
    # Only what is near the window is decoded and painted.
    assert page.evaluate(drawn) < 120

    before = measured(page)
    for percent in range(20):
        page.fill("#alpha", str(5 * percent))
    # Moving the slider recomposes the layers: at most the page's own figure is laid out again.
    assert (measured(page) - before)[0] <= 60

    seconds = page.evaluate(
        """async () => {
          const took = [];
          for (const words of ["0", "01", "012", "01", "0", ""]) {
            const began = performance.now(), field = document.getElementById("words");
            field.value = words;
            field.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
            took.push((performance.now() - began) / 1000);
          }
          return took;
        }"""
    )
    assert max(seconds) < 5, seconds

    page.locator(".card").first.focus()
    page.keyboard.press("End")
    page.wait_for_selector(".card:focus img[src]")
    assert "0999.png" in page.evaluate("document.activeElement.textContent")
    until(page, lambda: page.evaluate("document.querySelector('.card:focus img').naturalWidth > 0"))
    assert page.evaluate(drawn) < 400


def test_a_thousand_images_scroll_without_long_frames(thousand, open_page):
    page = open_page(thousand)
    page.wait_for_selector(".card img[src]")
    frames = page.evaluate(
        """async () => {
          const began = [];
          for (let step = 0; step < 90; step++) {
            scrollBy(0, 300);
            began.push(await new Promise((resolve) => requestAnimationFrame(resolve)));
          }
          return began;
        }"""
    )
    lengths = np.array([after - before for before, after in itertools.pairwise(frames)])
    # Far above what a quiet machine needs, and far below what painting all thousand would take.
    assert np.median(lengths) < 250, lengths
    assert page.evaluate("scrollY") > 5000


def test_every_label_of_a_thousand_images_is_offered(thousand, open_page):
    page = open_page(thousand)
    page.select_option("#rank", "2")
    counts = [int(text.split("(")[1][:-1]) for text in page.locator("#label option").all_inner_texts()[1:]]
    assert (len(counts), sum(counts)) == (len(LABELS), THOUSAND)
