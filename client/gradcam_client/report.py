"""One self-contained HTML page: pictures, their heatmaps, and what the model said, to sort, filter and open."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gradcam_client.report_layers import Layers

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from PIL import Image

    from gradcam_client.manifest import Manifest
    from gradcam_client.results import Explanation
    from gradcam_client.visualization import Visualization

SCENE_PIXELS: Final = 480
"""The longest side of a picture in the page."""
JPEG_QUALITY: Final = 82
TOP: Final = 5
SCRIPTS: Final = ("report_heat.js", "report_plots.js", "report_open.js", "report.js")


class Report:
    """Collects explanations, keeping only their small pictures, and writes them as one page.

    Args:
        manifest: the model that answers.
        visualization: how heatmaps are painted; its opacity is where the page's slider stands at first.
        method: the CAM method of the heatmaps; by default the model's own.
    """

    def __init__(self, manifest: Manifest, *, visualization: Visualization, method: str | None = None) -> None:
        self._manifest = manifest
        self._layers = Layers(visualization)
        self._method = method or manifest.method
        self._pictures: list[str] = []
        self._failures: list[str] = []
        self._heatmaps = 0

    def add(self, name: str, ranked: Sequence[Explanation], against: Explanation | None = None) -> None:
        """Add one picture under the name of its file.

        Args:
            name: what the page calls the picture.
            ranked: its explanations: one, or those of its best classes, best first.
            against: the counterfactual explanation of the same class, for the polarities `negative` and `both`.

        Raises:
            OptionError: `against` is missing or does not fit.
            ValueError: there is no explanation.
        """
        if not ranked:
            raise ValueError(f"{name}: no explanation to show; give at least one, or add_failure(name, message)")
        best = ranked[0]
        scene = best.image.convert("RGB")
        scene.thumbnail((SCENE_PIXELS, SCENE_PIXELS))
        picture = {
            "name": name,
            "size": best.image.size,
            "scene": _base64(_jpeg(scene)),
            "top": [(label, _number(score)) for label, score in best.top(TOP)],
            "maps": [self._map(explanation, against) for explanation in ranked],
        }
        self._pictures.append(_json(picture))
        self._heatmaps += len(ranked)

    def add_failure(self, name: str, message: str) -> None:
        """Add a picture that has no explanation.

        Args:
            name: what the page calls the picture.
            message: why there is none.
        """
        self._failures.append(_json({"name": name, "message": message}))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page.

        Raises:
            OSError: the file cannot be written.
        """
        style, script = _asset("report.css"), "\n".join(map(_asset, SCRIPTS))
        model = self._manifest
        words = {
            "title": html.escape(f"{model.name}, version {model.version}"),
            "subtitle": html.escape(self._subtitle()),
            # Whatever markup slipped through, the browser runs and loads nothing but what is hashed here.
            "policy": f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"style-src {_source_hash(style)}; script-src {_source_hash(script)}",
            "style": style,
            "script": script,
        }
        before, after = (string.Template(part).substitute(words) for part in _asset("report.html").split("$data"))
        with Path(path).open("w", encoding="utf-8", errors="replace") as page:
            page.write(before)
            page.writelines(self._data())
            page.write(after)

    def _subtitle(self) -> str:
        model = self._manifest
        counts = f"{_count(len(self._pictures), 'image')} · {_count(self._heatmaps, 'heatmap')}"
        return f"{counts} · {self._method} on {model.layer}, grid {' × '.join(map(str, model.grid))}"

    def _map(self, explanation: Explanation, against: Explanation | None) -> dict[str, Any]:
        return {
            "label": explanation.label,
            "index": explanation.class_index,
            "score": _number(explanation.score),
            "peak": _number(explanation.heatmap_peak),
            **self._layers.cells(explanation, against),
        }

    def _data(self) -> list[str]:
        """The page's data in pieces: the pictures are not copied into one text."""
        height, width = self._manifest.input_shape[:2]
        head = {"aspect": width / height, **self._layers.style()}
        pictures = [piece for picture in self._pictures for piece in (",\n", picture)][1:]
        return [
            _json(head)[:-1],
            ', "failures": [',
            ",\n".join(self._failures),
            '], "pictures": [\n',
            *pictures,
            "\n]}",
        ]


def _number(value: float) -> float | None:
    """`value` in the six digits that float32 holds; JSON has no word for what is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _json(value: object) -> str:
    """JSON that is inert inside a script element: ASCII, without a character that could end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
