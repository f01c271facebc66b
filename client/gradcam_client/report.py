"""One self-contained HTML page: each picture, its heatmap over it, and what the model said."""

from __future__ import annotations

import base64
import html
import io
import string
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from gradcam_client.overlay import colorize, coverage, upsample

if TYPE_CHECKING:
    import os

    from gradcam_client.manifest import Manifest
    from gradcam_client.results import Explanation

SCENE_PIXELS: Final = 480
HEAT_PIXELS: Final = 128
"""The longest side of the heat layer; the browser stretches it, and so interpolates bilinearly once more."""
TOP: Final = 5


class Report:
    """Collects explanations, keeping only their small pictures, and writes them as one page.

    Args:
        manifest: the model that answers.
        colormap: colour map of the heatmaps.
        alpha: where the opacity slider stands at first, 0..1.
        method: the CAM method of the heatmaps; by default the model's own.
    """

    def __init__(self, manifest: Manifest, *, colormap: str, alpha: float, method: str | None = None) -> None:
        self._manifest = manifest
        self._colormap = colormap
        self._alpha = alpha
        self._method = method or manifest.method
        self._cards: list[str] = []

    def add(self, name: str, explanation: Explanation) -> None:
        """Add one heatmap of a picture under the name of its file."""
        width, height = explanation.image.size
        empty = '<p class="empty">Nothing raised this score: the heatmap is empty.</p>'
        self._cards.append(
            _CARD.substitute(
                name=html.escape(name),
                label=html.escape(explanation.label),
                score=f"{explanation.score:.3f}",
                scene=_uri(_scene(explanation.image), "JPEG"),
                heat=_uri(_heat_layer(explanation, self._colormap), "PNG"),
                aspect=f"{width} / {height}",
                rows="\n".join(_row(label, score, explanation.label) for label, score in explanation.top(TOP)),
                empty="" if explanation.heatmap.any() else empty,
            )
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page.

        Raises:
            OSError: the file cannot be written.
        """
        model = self._manifest
        count = f"{len(self._cards)} heatmap{'' if len(self._cards) == 1 else 's'}"
        grid = " × ".join(map(str, model.grid))
        stops = colorize(np.linspace(0, 1, 17), self._colormap)
        page = string.Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8")).substitute(
            title=html.escape(f"{model.name}, version {model.version}"),
            subtitle=html.escape(f"{count} · {self._method} on {model.layer}, grid {grid}"),
            alpha=f"{self._alpha:g}",
            percent=round(100 * self._alpha),
            scale=", ".join("rgb({} {} {})".format(*stop) for stop in stops),
            cards="\n".join(self._cards),
            footer=html.escape("Predictions and heatmaps were computed in the served model, in one call."),
        )
        # A file name need not be valid Unicode; the page has to be.
        Path(path).write_text(page, encoding="utf-8", errors="replace")


_CARD: Final = string.Template("""\
<article style="--scene: url($scene)">
<div class="views">
<div class="view" role="img" aria-label="$name" style="aspect-ratio: $aspect"></div>
<div class="view" style="aspect-ratio: $aspect"><img alt="heatmap of $label" src="$heat"></div>
</div>
<div class="text">
<h2><span>$label</span><span>$score</span></h2>
<p class="file">$name</p>
<table>
$rows
</table>
$empty
</div>
</article>""")


def _row(label: str, score: float, explained: str) -> str:
    chosen = ' class="chosen"' if label == explained else ""
    share = 100 * min(max(score, 0.0), 1.0)
    return (
        f"<tr{chosen}><td>{html.escape(label)}</td>"
        f'<td><div class="track"><i style="width: {share:.1f}%"></i></div></td><td>{score:.3f}</td></tr>'
    )


def _scene(image: Image.Image) -> Image.Image:
    scene = image.copy()
    scene.thumbnail((SCENE_PIXELS, SCENE_PIXELS))
    return scene


def _heat_layer(explanation: Explanation, colormap: str) -> Image.Image:
    """The painted map, opaque where it is strongest and clear where it is zero: the page only sets the opacity."""
    width, height = explanation.image.size
    scale = HEAT_PIXELS / max(width, height)
    strength = upsample(explanation.heatmap, max(1, round(height * scale)), max(1, round(width * scale)))
    opacity = np.rint(255 * coverage(strength)).astype(np.uint8)
    return Image.fromarray(np.dstack([colorize(strength, colormap), opacity]))


def _uri(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
