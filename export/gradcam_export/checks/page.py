"""One self-contained HTML page of tables, pictures and plots: works offline, in dark and light, and on a phone."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from gradcam_export.checks.charts import bars_svg, lines_svg

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Array = np.ndarray[Any, Any]
Cell = str | int | float | None
"""What a table shows: `None` is a dash."""

PICTURE_SIDE: Final = 320
"""The longest side of a picture in the page, pixels; larger ones are reduced."""
_CHARTS: Final = '<div class="charts">'
# Longer cells than a name break into lines.
_LONG_CELL: Final = 30
_NUMBER: Final = re.compile(r"[-+]?[\d.,]*\d[\d.,]*(e[-+]?\d+)?( ?%)?|–")


class Page:
    """Collects what is said and shown, in the order in which it comes; all text is escaped.

    Args:
        title: the page's heading, and its name in the browser.
        subtitle: one line below it.
    """

    def __init__(self, title: str, *, subtitle: str = "") -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if subtitle:
            self._parts.append(f'<p class="subtitle">{escape(subtitle)}</p>')

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Say something."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, failing: Collection[tuple[int, int]] = ()
    ) -> None:
        """Show rows of cells, numbers to the right.

        Args:
            headers: one a column.
            rows: as many cells each.
            failing: `(row, column)` of the cells to mark, from 0.

        Raises:
            ValueError: a row has another number of cells than there are headers.
        """
        texts = [[_text(cell) for cell in row] for row in rows]
        if any(len(row) != len(headers) for row in texts):
            raise ValueError(f"a table of {len(headers)} columns has a row of {', '.join(map(str, map(len, texts)))}")
        numeric = [
            bool(texts) and all(_NUMBER.fullmatch(row[column]) for row in texts) for column in range(len(headers))
        ]
        head = "".join(_cell("th", text, numeric[column]) for column, text in enumerate(headers))
        body = "".join(
            "<tr>"
            + "".join(
                _cell("td", text, numeric[column], failing=(row, column) in failing)
                for column, text in enumerate(cells)
            )
            + "</tr>"
            for row, cells in enumerate(texts)
        )
        self._parts.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def pictures(self, groups: Sequence[tuple[str, Sequence[Array]]]) -> None:
        """Show groups of pictures, those of a group side by side below its caption.

        Args:
            groups: each a caption, and its pictures, uint8 `[H,W,3]`.
        """
        figures = [
            f'<figure><figcaption>{escape(caption)}</figcaption><div class="side">'
            + "".join(_picture(picture) for picture in pictures)
            + "</div></figure>"
            for caption, pictures in groups
        ]
        self._parts.append(f'<div class="groups">{"".join(figures)}</div>')

    def lines(self, title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> None:
        """Show curves over one another.

        Args:
            title: above the plot.
            series: the points `(x, y)` of each curve, by its name in the legend.
            x: what the horizontal axis shows.
            y: what the vertical axis shows.
        """
        self._parts.append(_chart(title, lines_svg(series, x=x, y=y)))

    def bars(self, title: str, values: Mapping[str, float]) -> None:
        """Show one bar a name, from 0; bars that follow one another stand side by side where there is room."""
        if not self._parts[-1].startswith(_CHARTS):
            self._parts.append(f"{_CHARTS}</div>")
        self._parts[-1] = self._parts[-1].removesuffix("</div>") + _chart(title, bars_svg(values)) + "</div>"

    def write(self, path: Path) -> None:
        """Write the page.

        Raises:
            OSError: the file cannot be written.
        """
        style = Path(__file__).with_name("page.css").read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        # Whatever markup slipped through, the browser runs and loads nothing but the style that is hashed here.
        policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        head = (
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self._title)}</title>\n<style>{style}</style>\n"
        )
        # A file's name may hold bytes that are no UTF-8.
        path.write_text(head + "\n".join(self._parts) + "\n</html>\n", encoding="utf-8", errors="replace")


def _chart(title: str, svg: str) -> str:
    return f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{svg}</figure>'


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _cell(tag: str, text: str, number: bool, *, failing: bool = False) -> str:  # noqa: FBT001
    named = (("number", number), ("bad", failing), ("words", tag == "td" and len(text) > _LONG_CELL))
    classes = " ".join(name for name, applies in named if applies)
    return f"<{tag}" + (f' class="{classes}"' if classes else "") + f">{escape(text)}</{tag}>"


def _picture(pixels: Array) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'
