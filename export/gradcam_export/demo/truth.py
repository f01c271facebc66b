"""What is known of a scene before anyone is asked."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels; `x` and `y` are its left and top pixel, as in COCO."""

    x: int
    y: int
    width: int
    height: int

    def holds(self, x: int, y: int) -> bool:
        """Say whether pixel (`x`, `y`) lies inside."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


@dataclasses.dataclass(frozen=True)
class Truth:
    """One scene: its file name, the label of its class, and the box of the object."""

    file: str
    label: str
    box: Box


def write_truths(path: Path, truths: Sequence[Truth]) -> None:
    """Write the truths as JSON, one a line, each box as COCO writes it: `[x, y, width, height]`."""
    rows = (json.dumps({**vars(truth), "box": dataclasses.astuple(truth.box)}) for truth in truths)
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
