"""What an evaluation finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from gradcam_export.checks.quality.measures import MEASURES, MethodMeasures

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, Any]

RANDOM_MAP: Final = "(random map)"
"""What is measured beside the methods: noise of the maps' grid, so that a figure can be told from chance."""
EXAMPLES: Final = 3
"""How many of the best pictures of each method are kept, and of the worst."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One picture with its map, kept to be shown.

    Attributes:
        file: its path below the folder.
        pixels: uint8 `[H,W,C]`.
        saliency: its map, `[H,W]`.
        inside: where the object is, `[H,W]`; `None` where that is not known.
        label: what was predicted, and explained.
        score: of that.
        goodness: what the best and the worst are told by: energy in the object, or insertion less deletion.
    """

    file: str
    pixels: Array
    saliency: Array
    inside: Array | None
    label: str
    score: float
    goodness: float


@dataclass(kw_only=True)
class Study:
    """All that was found.

    Attributes:
        methods: method → its measures; `RANDOM_MAP` is the last.
        tolerance: of the pointing game, pixels of the input.
        examples: method → some pictures, the best first.
        images: how many pictures.
        located_images: for how many of them an object is known.
        right: for each picture whose label is known, whether the predicted class is it.
        object_shares: share of the pixels that lie in each object: the energy of a flat map.
        sanity_stages: how many layers were randomised in turn; empty where the weights are constants.
    """

    methods: dict[str, MethodMeasures]
    tolerance: int
    examples: dict[str, list[Example]]
    images: int = 0
    located_images: int = 0
    right: list[bool] = field(default_factory=list)
    object_shares: list[float] = field(default_factory=list)
    sanity_stages: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, methods: Sequence[str], tolerance: int) -> Self:
        """Return a study of methods that has found nothing yet."""
        return cls(
            methods={name: MethodMeasures() for name in methods},
            tolerance=tolerance,
            examples={name: [] for name in methods},
        )

    @property
    def accuracy(self) -> float | None:
        """Share of the pictures whose predicted class is a known label of theirs, 0..1."""
        return float(np.mean(self.right)) if self.right else None

    def summaries(self) -> dict[str, dict[str, float | None]]:
        """Return method → figure → value, the figures being those of `MEASURES` that were measured at all."""
        found = {method: measured.summary() for method, measured in self.methods.items()}
        kept = [name for name in MEASURES if any(one[name] is not None for one in found.values())]
        return {method: {name: one[name] for name in kept} for method, one in found.items()}
