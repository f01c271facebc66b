"""Sorting, filtering and opening by mouse and by keyboard; names and labels that mean harm."""

import pytest

from browser.pictures import LABELS, explain
from browser.waiting import until

SCORES = (0.91, 0.35, 0.62, 0.99, 0.48, 0.77)
PEAKS = (3.0, 9.0, 0.5, 4.0, 12.0, 1.5)
HOSTILE = '</script><img src=x onerror="window.harm=1"><b>&amp;\''


@pytest.fixture
def page(write_report, open_page):
    """Six pictures p1, p2, p3, p10, p11, p12 of three labels in turn."""
    ranked = [[explain(i % 3, SCORES[i], PEAKS[i])] for i in range(6)]
    pictures = [(f"holiday/{name}", one) for name, one in zip(named(1, 2, 3, 10, 11, 12), ranked, strict=True)]
    return open_page(write_report(pictures, [("broken.png", "the file is truncated")]))


def shown(page):
    return page.locator(".caption > span:nth-child(3)").all_text_contents()


def named(*numbers):
    return [f"p{number}.png" for number in numbers]


def focused(page):
    return page.evaluate("document.activeElement.textContent || document.activeElement.id")


def test_cards_say_what_was_found(page):
    assert page.locator(".card").nth(4).inner_text().split() == ["green", "0.480", "p11.png", "peak", "12"]
    assert page.inner_text("header p") == "6 images · 6 heatmaps · gradcam on body/last, grid 2 × 3"
    assert page.inner_text("#count") == "6 of 6 images"


def test_cards_are_sorted(page):
    orders = {
        "label": named(3, 12, 2, 11, 1, 10),
        "score": named(2, 11, 3, 12, 1, 10),
        "-score": named(10, 1, 12, 3, 11, 2),
        "peak": named(3, 12, 1, 10, 2, 11),
        "-peak": named(11, 2, 10, 1, 12, 3),
        "given": named(1, 2, 3, 10, 11, 12),
    }
    for order, expected in orders.items():
        page.select_option("#sort", order)
        assert shown(page) == expected, order


def test_names_are_sorted_by_the_numbers_in_them(write_report, open_page):
    page = open_page(write_report([(name, [explain()]) for name in named(10, 9, 100)]))
    page.select_option("#sort", "name")
    assert shown(page) == named(9, 10, 100)


def test_equal_scores_keep_the_order_given_in_either_direction(write_report, open_page):
    page = open_page(write_report([(name, [explain(score=0.5)]) for name in named(3, 1, 2)]))
    for order in ("score", "-score", "peak", "-peak"):
        page.select_option("#sort", order)
        assert shown(page) == named(3, 1, 2)


def test_cards_are_filtered(page):
    filters = [
        ("#score-from", "0.77", named(1, 10, 12)),
        ("#score-to", "0.48", named(2, 11)),
        ("#peak-from", "4", named(2, 10, 11)),
        ("#peak-to", "1.5", named(3, 12)),
        ("#words", "P1", named(1, 10, 11, 12)),
        ("#words", "gree", named(2, 11)),
        ("#words", "holiday/p3", named(3)),
        ("#words", "nothing like it", []),
    ]
    for field, text, expected in filters:
        page.fill(field, text)
        assert shown(page) == expected, (field, text)
        assert page.inner_text("#count") == f"{len(expected)} of 6 images"
        assert page.locator("#nothing").is_visible() is not bool(expected)
        page.fill(field, "")


def test_filters_join_and_are_cleared(page):
    page.select_option("#label", label="red (2)")
    assert shown(page) == named(1, 10)
    page.fill("#score-from", "0.95")
    page.select_option("#sort", "-score")
    assert shown(page) == named(10)
    page.click("#clear")
    until(page, lambda: page.evaluate("document.querySelectorAll('.card').length === 6"))
    assert shown(page) == named(1, 2, 3, 10, 11, 12)


def test_labels_are_offered_with_their_number_of_images(page):
    assert page.locator("#label option").all_inner_texts() == ["all", "blue (2)", "green (2)", "red (2)"]


def test_failures_are_told(page):
    page.click("#failures summary")
    assert page.inner_text("#failures summary") == "1 image failed"
    assert page.locator("#failures td").all_inner_texts() == ["broken.png", "the file is truncated"]


def test_the_keyboard_opens_steps_and_closes(page):
    page.focus("#clear")
    page.keyboard.press("Tab")
    assert "p1.png" in focused(page)
    for key, name in (("ArrowRight", "p2"), ("ArrowRight", "p3"), ("ArrowLeft", "p2"), ("End", "p12"), ("Home", "p1")):
        page.keyboard.press(key)
        assert f"{name}.png" in focused(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.inner_text("dialog .file") == "holiday/p2.png"
    page.keyboard.press("ArrowRight")
    assert (page.inner_text("dialog .file"), page.inner_text("#position")) == ("holiday/p3.png", "3 of 6")
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()
    until(page, lambda: "p3.png" in focused(page))


def test_an_opened_picture_takes_the_focus_from_what_had_it_before_the_page_was_drawn(write_report, open_page):
    page = open_page(write_report([("a.png", [explain()])]))
    page.add_init_script("addEventListener('DOMContentLoaded', () => document.querySelector('#alpha').focus())")
    page.reload()
    assert focused(page) == "alpha"
    page.locator(".card").first.click()
    assert page.evaluate("document.activeElement.id") == "close"


def test_the_arrows_up_and_down_go_by_rows(page):
    page.set_viewport_size({"width": 700, "height": 900})
    page.locator(".card").first.focus()
    rows = page.evaluate("[...document.querySelectorAll('.card')].map((card) => card.getBoundingClientRect().top)")
    columns = rows.count(rows[0])
    assert 1 < columns < 6
    page.keyboard.press("ArrowDown")
    assert named(1, 2, 3, 10, 11, 12)[columns] in focused(page)
    page.keyboard.press("ArrowUp")
    assert "p1.png" in focused(page)


def test_the_cards_are_one_stop_of_the_tab_key(page):
    page.locator(".card").nth(2).focus()
    assert page.locator(".card[tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.locator(".card[tabindex='0']").count() == 1
    page.fill("#words", "p12")
    assert page.locator(".card[tabindex='0']").count() == 1
    # A card that has not been drawn yet has no text to the eye.
    until(page, lambda: page.locator(".card[tabindex='0']").inner_text().split()[2:3] == ["p12.png"])


def test_steps_follow_the_order_and_the_filters_and_end(page):
    page.select_option("#sort", "-score")
    page.fill("#score-from", "0.6")
    page.locator(".card").first.click()
    names = []
    while True:
        names.append(page.inner_text("dialog .file"))
        if page.locator("#next").is_disabled():
            break
        page.click("#next")
    assert names == [f"holiday/{name}" for name in named(10, 1, 12, 3)]
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog .file") == "holiday/p3.png"
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("dialog .file") == "holiday/p12.png"


def test_a_click_beside_the_sheet_closes_it(page):
    page.locator(".card").first.click()
    page.mouse.click(5, 5)
    assert page.locator("dialog").is_hidden()


def test_keys_of_a_slider_do_not_turn_the_page(page):
    page.locator(".card").first.click()
    page.focus("#opened-alpha")
    page.keyboard.press("ArrowRight")
    assert (page.inner_text("dialog .file"), page.input_value("#opened-alpha")) == ("holiday/p1.png", "41")
    assert page.input_value("#alpha") == "41"


def test_the_class_is_picked_by_mouse_and_by_keyboard(write_report, open_page):
    ranked = [explain(0, 0.6, 4.0), explain(2, 0.3, 2.5)]
    page = open_page(write_report([("a.png", ranked), ("b.png", [explain(1, 0.8, 7.0), explain(0, 0.1, 1.0)])]))
    page.locator(".card").first.click()
    assert page.locator("#classes > *").all_inner_texts()[0].split() == ["red", "0.600"]
    page.locator("#classes button").nth(1).click()
    assert page.inner_text("#opened").split() == ["blue", "0.300"]
    assert page.locator("dl dd").first.inner_text() == "2.5"
    assert page.locator("[aria-pressed=true]").inner_text().split() == ["blue", "0.300"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.inner_text("#opened").split() == ["red", "0.600"]
    # A class without a heatmap is told, but cannot be picked.
    assert page.locator("#classes > div").all_inner_texts()[0].split()[0] == "green"


def test_the_class_of_all_cards_is_picked(write_report, open_page):
    page = open_page(write_report([("a.png", [explain(0, 0.6, 4.0), explain(2, 0.3, 2.5)]), ("b.png", [explain(1)])]))
    page.select_option("#rank", label="number 2")
    assert page.locator(".caption b:first-child").all_inner_texts() == ["blue", "green"]
    assert page.locator("#label option").all_inner_texts() == ["all", "blue (1)", "green (1)"]
    page.click("#clear")
    until(page, lambda: page.evaluate("document.querySelector('.card').innerText.startsWith('red')"))


def test_one_class_an_image_leaves_nothing_to_pick(page):
    assert page.locator("#ranks").is_hidden()
    page.locator(".card").first.click()
    assert page.locator("#classes button").count() == 0


def test_names_labels_and_messages_are_text(write_report, open_page):
    labels = (HOSTILE, "green", "\u202egnp.exe")
    pictures = [(HOSTILE, [explain(0, labels=labels)]), ("caf\udce9.png", [explain(2, labels=labels)])]
    page = open_page(write_report(pictures, [(HOSTILE, HOSTILE)]))
    page.click("#failures summary")
    page.locator(".card").first.click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.harm") is None
    assert page.inner_text("dialog .file") == HOSTILE
    assert page.inner_text("#opened bdi") == HOSTILE
    assert page.locator("#failures td").all_inner_texts() == [HOSTILE, HOSTILE]
    assert page.locator("script").count() == 2


def test_a_policy_forbids_what_is_not_of_the_page(write_report, open_page, chromium):
    path = write_report([("a.png", [explain()])])
    path.write_text(path.read_text().replace("<main>", "<main><script>window.harm = 1</script>"))
    context = chromium.new_context()
    page, refused = context.new_page(), []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(path.as_uri())
    assert page.evaluate("window.harm") is None
    assert "Content Security Policy" in refused[0]
    context.close()


def test_scores_that_are_no_numbers_go_last_and_pass_no_bound(write_report, open_page):
    neither = [("nan.png", [explain(score=float("nan"))]), ("inf.png", [explain(peak=float("inf"))])]
    page = open_page(write_report([*neither, ("a.png", [explain()])]))
    for order in ("score", "-score"):
        page.select_option("#sort", order)
        assert shown(page)[-1] == "nan.png"
    page.fill("#score-from", "-5")
    assert shown(page) == ["inf.png", "a.png"]
    page.locator(".card").first.click()
    assert page.locator("dl dd").first.inner_text() == "not a number"


def test_a_page_without_pictures_says_so(write_report, open_page):
    page = open_page(write_report([], [("a.png", "the file is empty")]))
    assert page.locator("#nothing").is_visible()
    assert page.inner_text("#failures summary") == "1 image failed"


def test_an_empty_map_is_said_to_be_empty(write_report, open_page):
    page = open_page(write_report([("a.png", [explain(heatmap=((0, 0), (0, 0)), peak=0.0)]), ("b.png", [explain()])]))
    assert "empty" in page.locator(".card").first.inner_text()
    page.locator(".card").first.click()
    assert page.inner_text("dialog .empty") == "Nothing raised this score: the heatmap is empty."
    page.click("#next")
    assert page.locator("dialog .empty").is_hidden()


def test_without_scripts_the_page_says_what_it_needs(write_report, open_page):
    page = open_page(write_report([("a.png", [explain()])]), java_script_enabled=False)
    assert "allow scripts" in page.locator("body").inner_text()
    assert set(LABELS).isdisjoint(page.locator("header").inner_text().split())
