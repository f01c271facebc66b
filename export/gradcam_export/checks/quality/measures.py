"""What is measured of one method, picture by picture, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gradcam_export.checks.quality import faithfulness, perturbation

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        name: what tables call it.
        better: `high` or `low`.
        percent: whether tables show it in per cent.
    """

    name: str
    better: str
    percent: bool = False


MEASURES: Final = {
    "pointing_game": Measure("pointing game", "high", percent=True),
    "pointing_game_strict": Measure("pointing, 0 px", "high", percent=True),
    "energy": Measure("energy in object", "high", percent=True),
    "deletion": Measure("deletion", "low"),
    "insertion": Measure("insertion", "high"),
    "average_drop": Measure("average drop", "low", percent=True),
    "increase": Measure("increase", "high", percent=True),
    "coherency": Measure("coherency", "high"),
    "complexity": Measure("complexity", "low"),
    "adcc": Measure("ADCC", "high"),
    "road": Measure("ROAD", "high"),
    "sanity_head": Measure("sanity, head", "low"),
    "sanity_all": Measure("sanity, all", "low"),
}
"""All figures by the names that JSON uses, in the tables' order."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """How a map lies on one object.

    Attributes:
        label: the object's; `None` where none was given.
        pointed: the pointing game, with tolerance.
        pointed_strictly: the pointing game without.
        energy: the share of the map inside, 0..1.
    """

    label: str | None
    pointed: bool
    pointed_strictly: bool
    energy: float


@dataclass(frozen=True, kw_only=True)
class Faithful:
    """What the classifier answers about one picture, altered by its map.

    Attributes:
        score: of the explained class, for the picture itself.
        masked_score: for the picture times its map.
        deletion: while pixels are deleted, `[steps+1]`.
        insertion: while pixels are inserted, `[steps+1]`.
        road: `[2,9]`, most relevant first and least relevant first.
        coherency: 0..1.
        complexity: 0..1.
    """

    score: float
    masked_score: float
    deletion: Array
    insertion: Array
    road: Array
    coherency: float
    complexity: float

    @property
    def gain(self) -> float:
        """Insertion less deletion: one figure to tell a good map from a bad one by."""
        return perturbation.area_under(self.insertion) - perturbation.area_under(self.deletion)


@dataclass
class MethodMeasures:
    """All that was measured of one method.

    Attributes:
        files: the pictures, in the order of `faithful`.
        faithful: one for each picture.
        located: those of each picture; empty where no object is known.
        sanity: Spearman's correlation after randomising, by how many of the layers; empty where it was not done.
    """

    files: list[str] = field(default_factory=list)
    faithful: list[Faithful] = field(default_factory=list)
    located: list[list[Located]] = field(default_factory=list)
    sanity: dict[int, float] = field(default_factory=dict)

    def add(self, file: str, faithful: Faithful, located: list[Located]) -> None:
        """Add one picture."""
        self.files.append(file)
        self.faithful.append(faithful)
        self.located.append(located)

    def curve(self, name: str) -> Array:
        """Return the mean curve `deletion` or `insertion`, `[steps+1]`."""
        return np.mean([getattr(one, name) for one in self.faithful], axis=0)

    def summary(self) -> dict[str, float | None]:
        """Return the figures of `MEASURES`, `None` where they were not measured; shares 0..1."""
        before = np.array([one.score for one in self.faithful])
        after = np.array([one.masked_score for one in self.faithful])
        road = np.array([one.road for one in self.faithful])
        drop = faithfulness.average_drop(before, after)
        coherency = float(np.mean([one.coherency for one in self.faithful]))
        complexity = float(np.mean([one.complexity for one in self.faithful]))
        return self._located() | {
            "deletion": perturbation.area_under(self.curve("deletion")),
            "insertion": perturbation.area_under(self.curve("insertion")),
            "average_drop": drop,
            "increase": faithfulness.increase_in_confidence(before, after),
            "coherency": coherency,
            "complexity": complexity,
            "adcc": faithfulness.adcc(coherency, complexity, drop),
            "road": faithfulness.road(road[:, 0], road[:, 1]),
            "sanity_head": self.sanity.get(1),
            "sanity_all": self.sanity[max(self.sanity)] if self.sanity else None,
        }

    def _located(self) -> dict[str, float | None]:
        """Return the pointing games' accuracy, the mean of all labels', and the mean energy of all objects."""
        all_of_them = [one for several in self.located for one in several]
        if not all_of_them:
            return dict.fromkeys(("pointing_game", "pointing_game_strict", "energy"))
        labels = {one.label for one in all_of_them}

        def accuracy(name: str) -> float:
            hits = [np.mean([getattr(one, name) for one in all_of_them if one.label == label]) for label in labels]
            return float(np.mean(hits))

        return {
            "pointing_game": accuracy("pointed"),
            "pointing_game_strict": accuracy("pointed_strictly"),
            "energy": float(np.mean([one.energy for one in all_of_them])),
        }
