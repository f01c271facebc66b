"""The pictures that `gradcam explain --out` writes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradcam_client import png
from gradcam_client.errors import ImageError
from gradcam_client.paths import class_stem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from gradcam_client.results import Explanation
    from gradcam_client.visualization import Visualization

JPEG_QUALITY: Final = 92
"""Of JPEG files: no blocks show where colours lie over a photograph."""

JPEG_PIXELS: Final = 65_500
"""The longest side that libjpeg writes."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Writes what shows an explanation into a folder.

    Attributes:
        folder: where to.
        shown: how.
        jpeg: overlays and strips are JPEG, not PNG; painted maps alone, which are small without loss, are always PNG.
        strip: image, heatmap and overlay side by side are written as well.
        several: an image has several explanations, whose pictures are told apart by rank and label.
    """

    folder: Path
    shown: Visualization
    jpeg: bool = False
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
            ImageError: the picture is larger than a JPEG can be.
            OSError: a file cannot be written.
        """
        overlays = []
        # As many digits as the last rank has: files in the order of their names are then in that of their ranks.
        digits = len(str(len(ranked)))
        for rank, one in enumerate(ranked, 1):
            name = class_stem(stem, f"{rank:0{digits}}", one.label) if self.several else stem
            painted, overlay = self.shown.layers(one.image, one.evidence(self.shown.polarity, against))
            overlays.append(self._save(overlay, f"{name}_overlay", jpeg=self.jpeg))
            self._save(painted, f"{name}_heatmap", jpeg=False)
            if self.strip:
                self._save(one.strip(self.shown, negative=against), f"{name}_strip", jpeg=self.jpeg)
        return overlays

    def _save(self, picture: Image.Image, stem: str, *, jpeg: bool) -> str:
        path = self.folder / f"{stem}{'.jpg' if jpeg else '.png'}"
        if jpeg and max(picture.size) > JPEG_PIXELS:
            raise ImageError(
                f"{path.name}: a JPEG has no side above {JPEG_PIXELS} pixels, and this one would have "
                f"{max(picture.size)}: leave out --format"
            )
        with naming(path):
            if jpeg:
                # With a colour for each pixel: in colours halved, which is the default, a heatmap's edges run.
                picture.save(path, "JPEG", quality=JPEG_QUALITY, subsampling=0)
            else:
                path.write_bytes(png.encode(picture))
        return path.name


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an `OSError` the name of the file, which a full disk leaves out."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
