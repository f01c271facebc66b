"""The pictures that `gradcam explain --out` writes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcam_client.paths import class_stem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from PIL import Image

    from gradcam_client.results import Explanation


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Writes what shows an explanation into a folder.

    Attributes:
        folder: where to.
        fields: those of `Visualization` that were chosen, by name; the model's own defaults hold for the others.
        strip: image, heatmap and overlay side by side are written as well.
        several: an image has several explanations, whose pictures are told apart by rank and label.
    """

    folder: Path
    fields: Mapping[str, Any]
    strip: bool = False
    several: bool = False

    def write(self, stem: str, ranked: Sequence[Explanation], against: Explanation | None = None) -> list[str]:
        """Write overlay and painted heatmap of each explanation, in the picture's own size.

        Args:
            stem: what the image's files are called.
            ranked: its explanations, best class first.
            against: the counterfactual explanation, where evidence against the class is drawn too.

        Returns:
            The file names of the overlays.

        Raises:
            OSError: a file cannot be written.
        """
        overlays = []
        # As many digits as the last rank has: files in the order of their names are then in that of their ranks.
        digits = len(str(len(ranked)))
        fields = {**self.fields} if against is None else {**self.fields, "negative": against}
        for rank, one in enumerate(ranked, 1):
            name = class_stem(stem, f"{rank:0{digits}}", one.label) if self.several else stem
            overlays.append(self._save(one.overlay(**fields), f"{name}_overlay.png"))
            self._save(one.overlay(**fields | {"overlay_type": "none"}), f"{name}_heatmap.png")
            if self.strip:
                self._save(one.strip(**fields), f"{name}_strip.png")
        return overlays

    def _save(self, picture: Image.Image, name: str) -> str:
        path = self.folder / name
        with naming(path):
            # The lightest compression takes a third of the time, and a third more space.
            picture.save(path, "PNG", compress_level=1)
        return name


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an `OSError` the name of the file, which a full disk leaves out."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
