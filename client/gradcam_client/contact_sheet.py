"""Many explanations on one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_client import figures
from gradcam_client.errors import OptionError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Unpack

    from PIL import Image

    from gradcam_client.results import Explanation
    from gradcam_client.visualization import Visualization, VisualizationFields


def grid(
    explanations: Iterable[Explanation],
    visualization: Visualization | None = None,
    *,
    negatives: Iterable[Explanation] | None = None,
    columns: int | None = None,
    size: int = figures.TILE_PIXELS,
    font: str | os.PathLike[str] | None = None,
    **fields: Unpack[VisualizationFields],
) -> Image.Image:
    """A contact sheet: the overlays of many pictures, or of several classes of one, each under its label and score.

    Args:
        explanations: what to show, in this order: such as what `explain` answers to a list, or `top_k` to a picture.
        visualization: as for `Explanation.overlay`.
        negatives: one for each explanation, each as `negative` for `Explanation.overlay`.
        columns: pictures in a row; by default about as many as rows.
        size: pixels of each picture's longest side at most.
        font: as for `Explanation.strip`.
        fields: as for `Explanation.overlay`.

    Returns:
        RGB.

    Raises:
        OptionError: as by `Explanation.strip`; there are no explanations, not as many negatives, or no columns.
    """
    explained = list(explanations)
    against = [None] * len(explained) if negatives is None else list(negatives)
    if len(against) != len(explained):
        raise OptionError(f"{len(against)} negatives for {len(explained)} explanations: give one for each")
    tiles = [
        figures.Tile(
            pictures=(explanation.overlay(visualization, negative=negative, size=size, **fields),),
            label=explanation.label,
            class_index=explanation.class_index,
            score=explanation.score,
        )
        for explanation, negative in zip(explained, against, strict=True)
    ]
    return figures.sheet(tiles, columns, font)
