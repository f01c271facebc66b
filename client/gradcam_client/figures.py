"""Pictures under their titles: strips and contact sheets."""

from __future__ import annotations

import bisect
import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from PIL import Image, ImageDraw, ImageFont

from gradcam_client.errors import OptionError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

TILE_PIXELS: Final = 240
"""The longest side of a picture in a contact sheet."""
# A strip shows no picture smaller.
_SMALLEST: Final = 224

_BANNER: Final = (17, 17, 17)
_TEXT: Final = (255, 255, 255)
# Neither a black nor a white picture runs into it.
_PAGE: Final = (128, 128, 128)
_GAP: Final = 4
_GAP_SHARE: Final = 1 / 8

_TEXT_PIXELS: Final = 12
_TEXT_SHARE: Final = 1 / 16
# In sizes of the text: room for about twenty letters, however narrow the pictures.
_TITLE_WIDTH: Final = 12
_BANNER_HEIGHT: Final = 1.8
_ABSENT: Final = "\U0010ffff"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Pictures of one height side by side, and what their banner says.

    Attributes:
        pictures: RGB.
        label: the class's name; shortened where it is too long.
        class_index: stands for a label of letters that the font lacks.
        score: the model's output for the class; never shortened.
    """

    pictures: tuple[Image.Image, ...]
    label: str
    class_index: int
    score: float


def scaled(image: Image.Image, size: int | None = None) -> Image.Image:
    """Bring a picture to the size it is shown in.

    Args:
        image: the picture.
        size: pixels of its longest side at most; by default its own size, but a small picture is enlarged. Enlarged by
            a whole factor, each pixel stays a square.

    Raises:
        OptionError: `size` is less than 1.
    """
    if size is not None and size < 1:
        raise OptionError(f"size {size}: give at least one pixel")
    longest = max(image.size)
    wanted = max(_SMALLEST, longest) if size is None else size
    if wanted < longest:
        width, height = (max(1, round(side * wanted / longest)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)
    factor = wanted // longest
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def sheet(tiles: Sequence[Tile], columns: int | None = None, font: str | os.PathLike[str] | None = None) -> Image.Image:
    """Lay tiles out in rows, each under its banner.

    Args:
        tiles: one at least.
        columns: tiles in a row; by default as many as rows.
        font: a TrueType or OpenType file; by default Pillow's own, which has the letters of English alone.

    Returns:
        RGB.

    Raises:
        OptionError: there are no tiles, `columns` is less than 1, or `font` cannot be read.
    """
    if not tiles:
        raise OptionError("a contact sheet of no explanations: give one at least")
    columns = min(len(tiles), math.ceil(math.sqrt(len(tiles))) if columns is None else columns)
    if columns < 1:
        raise OptionError(f"columns {columns}: give at least one")
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    width = max(sum(picture.width for picture in tile.pictures) for tile in tiles)
    height = max(picture.height for tile in tiles for picture in tile.pictures)
    text = max(_TEXT_PIXELS, round(min(width, height) * _TEXT_SHARE))
    gap = max(_GAP, round(text * _GAP_SHARE))
    width = max(width + gap * (max(len(tile.pictures) for tile in tiles) - 1), _TITLE_WIDTH * text)
    letters = _read_font(font, text)
    drawn = [[_draw_tile(tile, letters, width, gap) for tile in row] for row in rows]
    heights = [max(tile.height for tile in row) for row in drawn]
    page = Image.new("RGB", (columns * (width + gap) + gap, sum(heights) + gap * (len(rows) + 1)), _PAGE)
    top = gap
    for row, row_height in zip(drawn, heights, strict=True):
        for column, tile in enumerate(row):
            page.paste(tile, (gap + column * (width + gap), top))
        top += row_height + gap
    return page


def _draw_tile(tile: Tile, font: ImageFont.FreeTypeFont, width: int, gap: int) -> Image.Image:
    banner = round(_BANNER_HEIGHT * font.size)
    drawn = Image.new("RGB", (width, banner + tile.pictures[0].height), _PAGE)
    drawn.paste(_draw_banner(tile, font, width, banner), (0, 0))
    left = (width - sum(picture.width for picture in tile.pictures) - gap * (len(tile.pictures) - 1)) // 2
    for picture in tile.pictures:
        drawn.paste(picture, (left, banner))
        left += picture.width + gap
    return drawn


def _read_font(font: str | os.PathLike[str] | None, size: int) -> ImageFont.FreeTypeFont:
    if font is None:
        # With a size, it is never the font of bitmaps that its type allows for.
        return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))
    try:
        return ImageFont.truetype(font, size)
    except OSError as error:
        raise OptionError(f"font {str(font)!r}: {error}; give a TrueType or OpenType file") from error


def _draw_banner(tile: Tile, font: ImageFont.FreeTypeFont, width: int, height: int) -> Image.Image:
    banner = Image.new("RGB", (width, height), _BANNER)
    margin = font.size / 2
    title = _title(tile, font, width - 2 * margin)
    ImageDraw.Draw(banner).text((margin, height / 2), title, fill=_TEXT, font=font, anchor="lm")
    return banner


def _title(tile: Tile, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Return the label and the score, the label cut to what there is room for."""
    score = f"{tile.score:.3f}" if abs(tile.score) < 1e6 else f"{tile.score:.3e}"
    label = _legible(tile.label, f"class {tile.class_index}", font)
    if font.getlength(f"{label} {score}") <= room:
        return f"{label} {score}"
    kept = bisect.bisect_right(
        range(1, len(label)), room, key=lambda count: font.getlength(f"{label[:count]}... {score}")
    )
    return f"{label[:kept].rstrip()}... {score}"


def _legible(label: str, substitute: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the label in letters that the font has: as it is, else without accents, else the substitute."""
    plain = " ".join(label.split())
    if _has_letters(plain, font):
        return plain
    parts = unicodedata.normalize("NFKD", plain)
    bare = "".join(
        "-" if unicodedata.category(letter) == "Pd" else letter for letter in parts if not unicodedata.combining(letter)
    )
    return bare if _has_letters(bare, font) else substitute


def _has_letters(text: str, font: ImageFont.FreeTypeFont) -> bool:
    """Whether the font has a glyph of its own for each letter: what it lacks, it draws all alike."""
    absent = bytes(font.getmask(_ABSENT))
    return text.isprintable() and bool(text) and all(bytes(font.getmask(letter)) != absent for letter in set(text))
