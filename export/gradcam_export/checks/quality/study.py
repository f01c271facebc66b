"""Measure every method of a version on pictures, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradcam_export.checks.heat_colours import upsample
from gradcam_export.checks.pictures import batches, read_picture
from gradcam_export.checks.quality import faithfulness, perturbation
from gradcam_export.checks.quality.explaining import ExplainingVersion
from gradcam_export.checks.quality.localisation import energy_inside, points_at, tolerance_for
from gradcam_export.checks.quality.measures import Faithful, Located
from gradcam_export.checks.quality.progress import Progress
from gradcam_export.checks.quality.randomised import RandomisableVersion, map_correlations, stages
from gradcam_export.checks.quality.results import EXAMPLES, RANDOM_MAP, Example, Study

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gradcam_export.checks.boxes import Objects, Regions

Array = np.ndarray[Any, Any]

SANITY_IMAGES: Final = 16
_SEED: Final = 0


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Pictures with all that is known of them before any map is asked for."""

    files: Sequence[str]
    pixels: Array
    classes: Array
    scores: Array
    regions: Sequence[Mapping[int, tuple[str | None, Array]]]
    """Of each picture: class index → label, and where the object is."""


class Evaluation:
    """Asks one version, batch by batch.

    Args:
        version: the version.
        methods: those to measure.
        steps: of deletion and insertion.
        objects: where the pictures' objects are; `None` where that is not known.
    """

    def __init__(
        self, version: ExplainingVersion, methods: Sequence[str], steps: int, objects: Objects | None = None
    ) -> None:
        self._version, self._methods, self._steps, self._objects = version, methods, steps, objects
        self._random = np.random.default_rng(_SEED)
        height, width, channels = version.facts["input"]["shape"]
        self._noise = self._random.standard_normal((height, width, channels)).astype(np.float32)
        self.study = Study.of((*methods, RANDOM_MAP), tolerance_for(version.size))

    def run(self, paths: Sequence[Path], folder: Path, batch_size: int, say: Callable[[str], None]) -> None:
        """Measure all methods on the pictures.

        Args:
            paths: the pictures' files.
            folder: what their names begin below.
            batch_size: pictures at once.
            say: shows how far it is.

        Raises:
            OptionError: a picture cannot be read, or an object does not fit it.
        """
        progress = Progress("evaluating", len(paths) * len(self.study.methods), "maps", say)
        for files, pixels in batches(paths, self._version.facts["input"], batch_size):
            probabilities = self._version.predict(pixels)
            classes = probabilities.argmax(axis=1)
            names = [file.relative_to(folder).as_posix() for file in files]
            found = [self._regions(path, name) for path, name in zip(files, names, strict=True)]
            self._count(classes, found)
            batch = _Batch(
                files=names,
                pixels=pixels,
                classes=classes,
                scores=probabilities[np.arange(len(classes)), classes],
                regions=[self._by_class(regions, int(index)) for regions, index in zip(found, classes, strict=True)],
            )
            for method in self.study.methods:
                self._measure(method, batch, progress)

    def check_sanity(self, path: Path, paths: Sequence[Path], batch_size: int, say: Callable[[str], None]) -> None:
        """Randomise the weights of the version in directory `path`, stage by stage, and look whether maps change."""
        _, pixels = next(batches(paths[:SANITY_IMAGES], self._version.facts["input"], SANITY_IMAGES))
        classes = self._version.predict(pixels).argmax(axis=1)
        maps = {method: self._version.explain(method, pixels, classes) for method in self._methods}
        loaded = RandomisableVersion.load(path)
        with ExplainingVersion(loaded, self._version.facts, batch_size) as randomised:
            self.study.sanity_stages = stages(loaded.layers)
            progress = Progress("randomising", max(1, len(self.study.sanity_stages)), "stages", say)
            for count in self.study.sanity_stages:
                loaded.randomise(count)
                for method, correlation in map_correlations(randomised, pixels, classes, maps).items():
                    self.study.methods[method].sanity[count] = correlation
                progress.advance()

    def _regions(self, path: Path, name: str) -> Regions | None:
        if self._objects is None:
            return None
        picture = read_picture(path)
        return self._objects.regions(name, (picture.height, picture.width), self._version.size)

    def _count(self, classes: Array, found: Sequence[Regions | None]) -> None:
        self.study.images += len(classes)
        for index, regions in zip(classes, found, strict=True):
            if regions is not None:
                self.study.located_images += 1
                self.study.object_shares += [float(inside.mean()) for inside in regions.values()]
                if None not in regions:
                    self.study.right.append(self._version.labels[index] in regions)

    def _by_class(self, regions: Regions | None, predicted: int) -> dict[int, tuple[str | None, Array]]:
        labels = self._version.labels
        return {
            predicted if label is None else labels.index(label): (label, inside)
            for label, inside in (regions or {}).items()
        }

    def _maps(self, method: str, pixels: Array, classes: Array) -> Array:
        """Return heatmaps at the input's size, `[B,H,W]`."""
        if method == RANDOM_MAP:
            grid = self._version.facts["explanation"]["grid"]
            maps = self._random.random((len(pixels), *grid), np.float32)
        else:
            maps = self._version.explain(method, pixels, classes)
        return upsample(maps, self._version.size)

    def _measure(self, method: str, batch: _Batch, progress: Progress) -> None:
        saliency = self._maps(method, batch.pixels, batch.classes)
        masked = perturbation.masked(batch.pixels, saliency)
        again = self._maps(method, masked, batch.classes)
        masked_scores = self._version.predict(masked)
        located = self._located(method, batch, saliency)
        for row, file in enumerate(batch.files):
            explained = int(batch.classes[row])
            deletion, insertion, road = self._altered_scores(batch.pixels[row], saliency[row], explained)
            faithful = Faithful(
                score=float(batch.scores[row]),
                masked_score=float(masked_scores[row, explained]),
                deletion=deletion,
                insertion=insertion,
                road=road,
                coherency=faithfulness.coherency(saliency[row], again[row]),
                complexity=faithfulness.complexity(saliency[row]),
            )
            self.study.methods[method].add(file, faithful, located[row])
            self._keep(method, batch, row, saliency[row])
            progress.advance()

    def _altered_scores(self, pixels: Array, saliency: Array, explained: int) -> tuple[Array, Array, Array]:
        places = perturbation.ranking(saliency, np.random.default_rng(_SEED))
        altered = (
            perturbation.exchanged(places, pixels, np.zeros_like(pixels), self._steps),
            perturbation.exchanged(places, perturbation.blurred(pixels), pixels, self._steps),
            *perturbation.road_images(places, pixels, self._noise),
        )
        scores = self._version.predict(np.concatenate(altered))[:, explained]
        parts = np.split(scores, [self._steps + 1, 2 * (self._steps + 1)])
        return parts[0], parts[1], parts[2].reshape(2, -1)

    def _located(self, method: str, batch: _Batch, saliency: Array) -> list[list[Located]]:
        """Hold the map of each object's class against the object."""
        pairs = [(row, index) for row, regions in enumerate(batch.regions) for index in regions]
        others = [(row, index) for row, index in pairs if index != batch.classes[row]]
        further: dict[tuple[int, int], Array] = {}
        if others:
            rows, classes = (np.array(part) for part in zip(*others, strict=True))
            further = dict(zip(others, self._maps(method, batch.pixels[rows], classes), strict=True))
        located: list[list[Located]] = [[] for _ in batch.files]
        for row, index in pairs:
            label, inside = batch.regions[row][index]
            values = further.get((row, index), saliency[row])
            located[row].append(
                Located(
                    label=label,
                    pointed=points_at(values, inside, self.study.tolerance),
                    pointed_strictly=points_at(values, inside, 0),
                    energy=energy_inside(values, inside),
                )
            )
        return located

    def _keep(self, method: str, batch: _Batch, row: int, saliency: Array) -> None:
        """Keep the picture among the best and the worst: by energy in the object, or by gain where none is known."""
        known = batch.regions[row].get(int(batch.classes[row]))
        if known is None and self._objects is not None:
            return
        inside = None if known is None else known[1]
        gain = self.study.methods[method].faithful[-1].gain
        kept = self.study.examples[method]
        kept.append(
            Example(
                file=batch.files[row],
                pixels=batch.pixels[row],
                saliency=saliency,
                inside=inside,
                label=self._version.labels[int(batch.classes[row])],
                score=float(batch.scores[row]),
                goodness=gain if inside is None else energy_inside(saliency, inside),
            )
        )
        kept.sort(key=lambda one: -one.goodness)
        del kept[EXAMPLES:-EXAMPLES]
