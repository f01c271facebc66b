"""Where the objects are: boxes in COCO's JSON or in CSV, or masks; as regions of a classifier's input."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from gradcam_export.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = np.ndarray[Any, Any]

CSV_COLUMNS: Final = ("file", "x", "y", "width", "height")
"""What the first line of a CSV file names, in any order; `label` too where boxes have classes."""
# Annotators round: COCO's own boxes leave their pictures by less than this.
_SLACK_PIXELS: Final = 1.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the picture as it is seen, upright; `x` and `y` are its left and top edge."""

    label: str | None
    x: float
    y: float
    width: float
    height: float


Regions = dict[str | None, Array]
"""Label → bool `[H,W]`; `None` is the object of the predicted class, whichever that is."""


class Objects(Protocol):
    """Says where the objects of a picture are."""

    def regions(self, file: str, original: tuple[int, int], size: tuple[int, int]) -> Regions | None:
        """Return the regions of one picture; `None` where nothing is known of it.

        Args:
            file: its path below the folder of pictures.
            original: its own height and width, upright, pixels.
            size: `(H, W)` of the classifier's input.

        Raises:
            OptionError: what is known does not fit the picture.
        """


class Boxes:
    """Boxes of one file.

    Args:
        path: `.json`, COCO's instances; or `.csv`, whose first line names `CSV_COLUMNS`.
        labels: the classifier's.

    Raises:
        OptionError: the file cannot be read, or is of another form.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._path, self._labels = path, frozenset(labels)
        self._shown = ", ".join(list(labels)[:5]) + (", …" if len(labels) > 5 else "")
        readers = {".json": _read_coco, ".csv": _read_csv}
        if path.suffix.lower() not in readers:
            raise OptionError(f"{path}: boxes come as COCO's .json or as .csv ({','.join(CSV_COLUMNS)}[,label]).")
        try:
            # Spreadsheets begin their files with a mark.
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"{path}: cannot be read as a file of boxes: {error}.") from error
        self._boxes = readers[path.suffix.lower()](path, text)

    def regions(self, file: str, original: tuple[int, int], size: tuple[int, int]) -> Regions | None:
        """Return the union of the boxes of each label; see `Objects`."""
        found = self._boxes.get(file) or self._boxes.get(Path(file).name)
        if not found:
            return None
        regions: Regions = {}
        for box in found:
            if box.label is not None and box.label not in self._labels:
                raise OptionError(
                    f"{self._path}: {file}: {box.label!r} is none of the version's labels ({self._shown})."
                )
            inside = self._inside(file, box, original, size)
            regions[box.label] = regions[box.label] | inside if box.label in regions else inside
        return regions

    def _inside(self, file: str, box: Box, original: tuple[int, int], size: tuple[int, int]) -> Array:
        height, width = original
        low, right, bottom = -_SLACK_PIXELS, width + _SLACK_PIXELS, height + _SLACK_PIXELS
        fits = low <= box.x and low <= box.y and box.x + box.width <= right and box.y + box.height <= bottom
        if not (fits and box.width > 0 and box.height > 0):
            raise OptionError(
                f"{self._path}: {file}: the box x={box.x:g} y={box.y:g} width={box.width:g} height={box.height:g} "
                f"is not inside the picture of {width}×{height} pixels."
            )
        rows = _covered(box.y, box.height, height, size[0])
        columns = _covered(box.x, box.width, width, size[1])
        return rows[:, np.newaxis] & columns


class Masks:
    """Masks in a folder: PNG files with the paths of the pictures; whatever is not 0 is the object.

    Args:
        folder: holds them.

    Raises:
        OptionError: it is none.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise OptionError(f"{folder}: is no folder of masks.")
        self._folder = folder

    def regions(self, file: str, original: tuple[int, int], size: tuple[int, int]) -> Regions | None:
        """Return the mask of a picture, of no label; see `Objects`."""
        path = (self._folder / file).with_suffix(".png")
        if not path.is_file():
            return None
        try:
            with Image.open(path) as image:
                values = np.asarray(image)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise OptionError(f"{path}: cannot be read as a mask: {error}") from error
        if values.shape[:2] != original:
            raise OptionError(
                f"{path}: is {values.shape[1]}×{values.shape[0]} pixels; its picture is {original[1]}×{original[0]}."
            )
        drawn = values if values.ndim == 2 else np.max(values[:, :, :3], axis=2)
        rows, columns = (_centres(count, of).astype(np.intp) for count, of in zip(size, original, strict=True))
        inside = drawn[rows][:, columns].astype(bool)
        if not inside.any():
            raise OptionError(f"{path}: is empty: no pixel of the object is left at {size[1]}×{size[0]}.")
        return {None: inside}


def _covered(start: float, length: float, of: int, count: int) -> Array:
    """Say which of `count` pixels have their centres in a stretch of an original of `of` pixels; at least one has."""
    centres = _centres(count, of)
    covered = (centres >= start) & (centres < start + length)
    if not covered.any():
        covered[int(np.abs(centres - (start + length / 2)).argmin())] = True
    return covered


def _centres(count: int, of: int) -> Array:
    """Return where the centres of `count` pixels lie on an original of `of` pixels."""
    return (np.arange(count) + 0.5) * (of / count)


def _read_coco(path: Path, text: str) -> Mapping[str, Sequence[Box]]:
    """Return COCO's boxes by file name; those of crowds are left out, as COCO's own evaluation does."""
    try:
        content = json.loads(text)
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        boxes: dict[str, list[Box]] = defaultdict(list)
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                x, y, width, height = map(float, annotation["bbox"])
                category = names[annotation["category_id"]]
                boxes[files[annotation["image_id"]]].append(Box(category, x, y, width, height))
    except KeyError as error:
        raise OptionError(f"{path}: is not COCO's JSON: {error.args[0]!r} is missing or unknown.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise OptionError(f"{path}: is not COCO's JSON: {error}.") from error
    return boxes


def _read_csv(path: Path, text: str) -> Mapping[str, Sequence[Box]]:
    rows = csv.DictReader(text.splitlines())
    missing = [name for name in CSV_COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise OptionError(
            f"{path}: the first line must name the columns {','.join(CSV_COLUMNS)}[,label]; "
            f"{', '.join(missing)} missing."
        )
    boxes: dict[str, list[Box]] = defaultdict(list)
    for row in rows:
        try:
            x, y, width, height = (float(row[name]) for name in CSV_COLUMNS[1:])
        except (ValueError, TypeError) as error:
            raise OptionError(f"{path}, line {rows.line_num}: not four numbers for x, y, width, height.") from error
        boxes[row["file"]].append(Box(row.get("label") or None, x, y, width, height))
    return boxes
