"""One picture of many answers: each scene, its heatmap and its overlay, with label, score and true box."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from gradcam_export.demo.answers import Answer, judge
from gradcam_export.demo.truth import Box, Truth

PANEL = 160
"""Side of one picture on the sheet, pixels."""
COLUMNS = 3
BANNER = 26
GAP = 4
MARGIN = 20
TITLE = 34

PAPER, TEXT = (24, 24, 28), (235, 235, 235)
RIGHT, WRONG, MISSED = (38, 92, 62), (168, 34, 34), (150, 92, 16)
NEUTRAL = (62, 62, 72)
BOX_COLOUR = (255, 255, 255)

ENTRY_WIDTH = 3 * PANEL + 2 * GAP
ENTRY_HEIGHT = BANNER + PANEL


def draw_contact_sheet(title: str, answers: Sequence[Answer], truths: Sequence[Truth | None]) -> Image.Image:
    """Draw the answers in rows of `COLUMNS`.

    Args:
        title: one line for the top.
        answers: what was answered; their files are read.
        truths: what is known of each, in the same order; None where nothing is.
    """
    rows = -(-len(answers) // COLUMNS)
    width = MARGIN + COLUMNS * (ENTRY_WIDTH + MARGIN)
    sheet = Image.new("RGB", (width, MARGIN + TITLE + rows * (ENTRY_HEIGHT + MARGIN)), PAPER)
    ImageDraw.Draw(sheet).text((MARGIN, MARGIN), title, TEXT, ImageFont.load_default(18))
    for index, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
        sheet.paste(_draw_entry(answer, truth), entry_corner(index))
    return sheet


def entry_corner(index: int) -> tuple[int, int]:
    """Left and top pixel of an entry on the sheet."""
    row, column = divmod(index, COLUMNS)
    return MARGIN + column * (ENTRY_WIDTH + MARGIN), MARGIN + TITLE + row * (ENTRY_HEIGHT + MARGIN)


def _draw_entry(answer: Answer, truth: Truth | None) -> Image.Image:
    entry = Image.new("RGB", (ENTRY_WIDTH, ENTRY_HEIGHT), PAPER)
    words, colour = _banner(answer, truth)
    pen = ImageDraw.Draw(entry)
    pen.rectangle((0, 0, ENTRY_WIDTH, BANNER - 1), colour)
    pen.text((8, BANNER // 2), words, TEXT, ImageFont.load_default(14), anchor="lm")
    for index, file in enumerate((answer.image, answer.painted_heatmap, answer.overlay)):
        with Image.open(file) as picture:
            panel = _draw_panel(ImageOps.exif_transpose(picture), None if truth is None else truth.box)
        entry.paste(panel, (index * (PANEL + GAP), BANNER))
    return entry


def _banner(answer: Answer, truth: Truth | None) -> tuple[str, tuple[int, int, int]]:
    predicted = f"{answer.label}   score {answer.score:.3f}"
    if truth is None:
        return f"{answer.image.name}   predicted {predicted}", NEUTRAL
    words, verdict = f"{answer.image.stem}   true {truth.label}   predicted {predicted}", judge(truth, answer)
    if not verdict.correct:
        return f"{words}   WRONG", WRONG
    return (words, RIGHT) if verdict.pointed else (f"{words}   POINTS BESIDE", MISSED)


def _draw_panel(picture: Image.Image, box: Box | None) -> Image.Image:
    panel = ImageOps.pad(picture.convert("RGB"), (PANEL, PANEL), Image.Resampling.BICUBIC, PAPER)
    if box is not None:
        across, down = PANEL / picture.width, PANEL / picture.height
        left, top = round(box.x * across), round(box.y * down)
        right, bottom = round((box.x + box.width) * across) - 1, round((box.y + box.height) * down) - 1
        ImageDraw.Draw(panel).rectangle((left, top, right, bottom), outline=BOX_COLOUR)
    return panel
