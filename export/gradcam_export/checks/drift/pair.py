"""Ask two versions the same of the same pictures."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.drift.maps import map_drift
from gradcam_export.checks.drift.statistics import ImageDrift
from gradcam_export.checks.pictures import fit, read_picture
from gradcam_export.checks.version import read_image_classifier
from gradcam_export.errors import VersionError
from gradcam_export.savedmodel.session import LoadedVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from PIL import Image

Array = np.ndarray[Any, Any]

_MAP_AXES: Final = 2
_LONGEST_REASON: Final = 200


class ComparedVersion:
    """One of the two versions; `load` it before asking.

    Raises:
        VersionError: there is no version at `path`, or its heatmaps are no pictures.
        OptionError: the classifier takes no pictures, or something beside them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts = read_image_classifier(path)
        self.labels: tuple[str, ...] = tuple(self.facts["labels"])
        grid = self.facts["explanation"]["grid"]
        if len(grid) != _MAP_AXES:
            raise VersionError(f"{path}: explains on a grid {grid}; only heatmaps [h, w] can be compared.")
        self._loaded: LoadedVersion

    def load(self) -> None:
        """Load it as a server does.

        Raises:
            VersionError: it does not load.
        """
        try:
            self._loaded = LoadedVersion.load(self.path)
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise VersionError(f"{self.path}: does not load: {_reason(error)}") from error

    def ask(
        self, signature: str, pictures: Sequence[Image.Image], outputs: Collection[str], classes: Array | None = None
    ) -> dict[str, Array]:
        """Run one signature.

        Args:
            signature: `explain`, which takes `classes`, or `predict`.
            pictures: in their own sizes; each is brought to the version's.
            outputs: what to compute.
            classes: int32 `[B]`.

        Raises:
            VersionError: the version fails, or answers something that is not finite.
        """
        inputs = {contract.IMAGES: np.stack([fit(picture, self.facts["input"]) for picture in pictures])}
        if classes is not None:
            inputs[contract.CLASS_INDEX] = classes
        try:
            answer = self._loaded.run(signature, inputs, outputs)
        except (KeyError, ValueError, tf.errors.OpError) as error:
            raise VersionError(f"{self.path}: {signature} does not answer: {_reason(error)}") from error
        for name, value in answer.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise VersionError(f"{self.path}: {signature} answers a {name} that is not finite; verify the version.")
        return answer

    def close(self) -> None:
        """Release the session."""
        self._loaded.close()


@dataclass(frozen=True, kw_only=True)
class LabelChange:
    """How the new version's classes differ from the old one's."""

    removed: tuple[str, ...]
    added: tuple[str, ...]
    reordered: bool
    """Whether a class that both have is of another index."""

    @classmethod
    def between(cls, old: Sequence[str], new: Sequence[str]) -> Self:
        """Compare two lists of class names."""
        place = {label: index for index, label in enumerate(new)}
        return cls(
            removed=tuple(label for label in old if label not in place),
            added=tuple(label for label in new if label not in set(old)),
            reordered=any(place.get(label, index) != index for index, label in enumerate(old)),
        )


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What both versions say of one picture; their maps are of the class that the old one predicts."""

    picture: Image.Image
    drift: ImageDrift
    old_map: Array
    """`[h,w]`, 0..1."""
    new_map: Array | None
    """`[h,w]` of the new version's grid, 0..1; `None` where it has no such class."""


class ComparedPair:
    """Both versions, loaded while it is entered.

    Raises:
        VersionError, OptionError: as `ComparedVersion`, or no class has the same name in both.
    """

    def __init__(self, old: Path, new: Path) -> None:
        self.old, self.new = ComparedVersion(old), ComparedVersion(new)
        self.label_change = LabelChange.between(self.old.labels, self.new.labels)
        self._place = {label: index for index, label in enumerate(self.new.labels)}
        if not self._place.keys() & set(self.old.labels):
            raise VersionError(
                f"{old} and {new} have no class in common ({self.old.labels[0]!r} … {self.old.labels[-1]!r} and "
                f"{self.new.labels[0]!r} … {self.new.labels[-1]!r}): build both with the --labels of the same names."
            )

    def explain(self, folder: Path, files: Sequence[Path]) -> list[Explained]:
        """Ask both versions of one batch of image files in `folder`.

        Raises:
            OptionError: a file cannot be read as an image.
            VersionError: a version fails.
        """
        pictures = [read_picture(file) for file in files]
        whichever = np.full(len(files), contract.PREDICTED_CLASS, np.int32)
        asked = (contract.LABEL, contract.SCORE, contract.HEATMAP)
        old = self.old.ask(contract.EXPLAIN, pictures, asked, whichever)
        labels = [label.decode("utf-8") for label in old[contract.LABEL]]
        # Of a class that the new version lacks it explains its own predicted one, which nobody looks at.
        classes = np.array([self._place.get(label, contract.PREDICTED_CLASS) for label in labels], np.int32)
        new = self.new.ask(contract.EXPLAIN, pictures, asked[1:], classes)
        predicted = self.new.ask(contract.PREDICT, pictures, (contract.LABEL,))[contract.LABEL]
        return [
            _explained(
                picture,
                file.relative_to(folder).as_posix(),
                (label, predicted[row].decode("utf-8")),
                {name: value[row] for name, value in old.items()},
                {name: value[row] for name, value in new.items()} if label in self._place else None,
            )
            for row, (picture, file, label) in enumerate(zip(pictures, files, labels, strict=True))
        ]

    def differing_facts(self) -> list[tuple[str, str, str]]:
        """Return what the two manifests say otherwise, by a name, in the order in which they say it."""
        old, new = (dict(_facts_of(version.facts)) for version in (self.old, self.new))
        names = dict.fromkeys([*old, *new])
        return [(name, old.get(name, "–"), new.get(name, "–")) for name in names if old.get(name) != new.get(name)]

    def __enter__(self) -> Self:
        """Load both.

        Raises:
            VersionError: one does not load.
        """
        with ExitStack() as loaded:
            for version in (self.old, self.new):
                version.load()
                loaded.callback(version.close)
            self._loaded = loaded.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loaded.close()


def _explained(
    picture: Image.Image,
    file: str,
    labels: tuple[str, str],
    old: Mapping[str, Array],
    new: Mapping[str, Array] | None,
) -> Explained:
    old_map, new_map = old[contract.HEATMAP], None if new is None else new[contract.HEATMAP]
    drift = None if new_map is None else map_drift(old_map, new_map, (picture.height, picture.width))
    return Explained(
        picture=picture,
        drift=ImageDrift(
            file=file,
            old_label=labels[0],
            new_label=labels[1],
            old_score=float(old[contract.SCORE]),
            new_score=None if new is None else float(new[contract.SCORE]),
            correlation=None if drift is None else drift.correlation,
            iou=None if drift is None else drift.iou,
            shift=None if drift is None else drift.shift,
        ),
        old_map=old_map,
        new_map=new_map,
    )


def _facts_of(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what of a manifest tells a reader why answers differ, as text."""
    rooms = ("model", "input", "explanation", "versions")
    named = [(f"{room} {name}", str(value)) for room in rooms for name, value in manifest.get(room, {}).items()]
    return named + [(name, str(manifest[name])) for name in ("weights", "precision") if name in manifest]


def _reason(error: Exception) -> str:
    """Return the beginning of what TensorFlow says, which may go on for pages."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_LONGEST_REASON]
