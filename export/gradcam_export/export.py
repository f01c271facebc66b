"""The whole road from a trained classifier to a published version."""

from __future__ import annotations

import tempfile
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from gradcam_export.checks.precision import FULL_PRECISION, MOST_INPUTS, expected_explanations
from gradcam_export.checks.samples import verification_inputs
from gradcam_export.checks.verify import verify_in_fresh_process
from gradcam_export.errors import OptionError, PublishError
from gradcam_export.facts import describe_export
from gradcam_export.graph.batching import queue_of
from gradcam_export.graph.explain import explain, make_choice
from gradcam_export.graph.fold import fold
from gradcam_export.graph.live import live_rows, live_values
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.labels import labels_of, read_labels
from gradcam_export.module import ExplainableClassifier
from gradcam_export.options import ExportKeywords, ExportOptions
from gradcam_export.savedmodel.canonical import content_digest
from gradcam_export.savedmodel.digest import file_digests, version_digest
from gradcam_export.savedmodel.publish import base_path_at
from gradcam_export.savedmodel.warmup import WARMUP_FILE, write_warmup
from gradcam_export.savedmodel.write import (
    DESCRIPTION_FILE,
    EXTRA_ASSETS,
    write_description,
    write_facts,
    write_saved_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import keras

    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.fold import FoldedClassifier
    from gradcam_export.graph.trace import Classifier
    from gradcam_export.keras_model.load import LoadedClassifier
    from gradcam_export.manifest import Manifest

    OnStep = Callable[[str, float | None], None]


@dataclass(frozen=True, kw_only=True)
class PublishedVersion:
    """A version in place, ready to be served."""

    location: str
    """`base_path/<number>`: a path, or a URL where `base_path` is that of an object store."""
    manifest: Manifest

    @property
    def path(self) -> Path:
        """Its directory.

        Raises:
            PublishError: it lies in an object store.
        """
        if "://" in self.location:
            raise PublishError(f"{self.location} is no directory of this machine: take its location, not its path.")
        return Path(self.location)

    @property
    def number(self) -> int:
        """Its version number."""
        return int(Path(self.location).name)


def export_classifier(
    model: keras.Model | str | Path,
    base_path: str | Path,
    *,
    on_step: OnStep | None = None,
    **options: Unpack[ExportKeywords],
) -> PublishedVersion:
    """Turn a trained classifier into the next version of the model at `base_path`, verified before it is seen.

    Args:
        model: a Keras model, a `.keras` or `.h5` file, or `package.module:factory`. It is left as it was.
        base_path: where the model's versions lie, or its URL in an object store (see `publish_version`); its last
            part is the model's name.
        on_step: called with each step's name and `None` when it begins, and with its seconds when it is done.
        options: the fields of `ExportOptions`.

    Returns:
        The published version.

    Raises:
        GradcamExportError: one of its kinds; nothing was published.
    """
    asked, base, step = ExportOptions(**options), base_path_at(base_path), _steps(on_step)
    base.check(asked.version)
    names = read_labels(asked.labels)
    with step("load"):
        loaded = _load(model, asked)
        classifier = classifier_of(loaded, asked)
    folded, choice, manifest = _fold(base.name, asked, loaded, classifier, names, step)
    with base.unpublished() as directory, tempfile.TemporaryDirectory() as workspace:
        with step("assemble"):
            description = Path(workspace, DESCRIPTION_FILE)
            write_description(manifest, description)
            served = ExplainableClassifier(
                folded,
                choice,
                loaded.inputs,
                labels=manifest.labels,
                description=description,
                options=asked,
                queue=queue_of(asked, manifest, content_digest(folded.graph_def, folded.weights)),
            )
        with step("write"):
            write_saved_model(served, directory)
            write_facts(manifest, directory)
        with step("warm up"):
            write_warmup(directory / EXTRA_ASSETS / WARMUP_FILE, manifest)
        with step("verify"):
            manifest = _verified(directory, manifest, classifier, asked)
        with step("publish"):
            return PublishedVersion(location=base.publish(directory, asked.version), manifest=manifest)


def _load(model: keras.Model | str | Path, asked: ExportOptions) -> LoadedClassifier:
    """Load the model, and refuse what only its images could decide on without them."""
    loaded = load_classifier(
        model, image_size=asked.image_size, factory_args=asked.factory_args, safe_mode=asked.safe_mode
    )
    if asked.precision != FULL_PRECISION and asked.images is None and loaded.inputs.main.is_image:
        raise OptionError(
            f"precision={asked.precision!r} rounds, and only images that the classifier was made for can tell whether "
            f"too much: give a folder of some hundred with images (--images)."
        )
    return loaded


def _fold(
    name: str,
    asked: ExportOptions,
    loaded: LoadedClassifier,
    classifier: Classifier,
    names: tuple[str, ...] | None,
    step: Callable[[str], AbstractContextManager[None]],
) -> tuple[FoldedClassifier, Choice, Manifest]:
    """Trace, choose, explain and fold; the weights of the unfolded graph end with this call."""
    with step("trace"):
        traced = trace(classifier)
    with step("choose"):
        choice = make_choice(traced.forward, asked)
        labels = labels_of(names, choice.head.classes)
    with step("explain"):
        explained = explain(traced, choice)
    with step("fold"):
        folded = fold(explained, asked.weights, asked.precision)
    return folded, choice, describe_export(name, asked, loaded, classifier, choice, labels, folded.ops)


def _verified(directory: Path, manifest: Manifest, classifier: Classifier, asked: ExportOptions) -> Manifest:
    """Return the manifest, written anew, of a version that answers what the live model answers."""
    specs = [manifest.input, *manifest.more_inputs]
    inputs = verification_inputs(specs, asked.images)
    with tempfile.TemporaryDirectory() as workspace:
        expected = Path(workspace, "expected.npz")
        values = live_values(classifier, inputs, asked)
        if asked.precision != FULL_PRECISION:
            many = verification_inputs(specs, asked.images, MOST_INPUTS)
            values |= expected_explanations(many, live_rows(classifier, many, asked), manifest.batching["methods"])
        np.savez(expected, allow_pickle=False, **values)
        report = verify_in_fresh_process(directory, expected)
    files = file_digests(directory)
    verified = replace(manifest, verified=report.to_manifest(), files=files, digest=version_digest(files))
    write_facts(verified, directory)
    return verified


def _steps(on_step: OnStep | None) -> Callable[[str], AbstractContextManager[None]]:
    @contextmanager
    def step(name: str) -> Iterator[None]:
        if on_step is None:
            yield
            return
        on_step(name, None)
        start = time.perf_counter()
        yield
        on_step(name, time.perf_counter() - start)

    return step
