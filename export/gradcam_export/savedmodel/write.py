"""Write a version: the SavedModel and the files beside it."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.savedmodel.canonical import make_reproducible
from gradcam_export.savedmodel.outputs import separate_outputs
from gradcam_export.savedmodel.variable_shapes import tell_variable_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gradcam_export.manifest import Manifest

DESCRIPTION_FILE = "describe.tsv"
MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
EXTRA_ASSETS = "assets.extra"
BATCHING_FILE = "batching_params.pbtxt"

ENQUEUED_BATCHES = 1000
"""Batches that may wait in a queue; beyond them a server answers UNAVAILABLE."""


def write_description(manifest: Manifest, path: Path) -> None:
    """Write the table that `describe` answers from: JSON has neither tabs nor line breaks."""
    facts = {
        contract.DESCRIBE_MANIFEST: manifest.to_json(),
        contract.DESCRIBE_LABELS: json.dumps(manifest.labels),
    }
    path.write_text("".join(f"{key}\t{value}\n" for key, value in facts.items()), "ascii")


def write_facts(manifest: Manifest, directory: Path) -> None:
    """Write, or write anew, all that a version in `directory` says of itself."""
    write_description(manifest, directory / "assets" / DESCRIPTION_FILE)
    (directory / "assets" / LABELS_FILE).write_text("\n".join(manifest.labels) + "\n", "utf-8")
    extra = directory / EXTRA_ASSETS
    extra.mkdir(exist_ok=True)
    if manifest.batching["mode"] == "server":
        (directory / BATCHING_FILE).write_text(_batching_parameters(manifest.batching), "ascii")
    (extra / MANIFEST_FILE).write_text(json.dumps(json.loads(manifest.to_json()), indent=1) + "\n", "ascii")


def _batching_parameters(batching: Mapping[str, Any]) -> str:
    """Return what a server started with --enable_batching --enable_per_model_batching_parameters reads."""
    values = {
        "max_batch_size": batching["max_batch_size"],
        "batch_timeout_micros": batching["timeout_micros"],
        "num_batch_threads": batching["threads"],
        "max_enqueued_batches": ENQUEUED_BATCHES,
    }
    lines = [f"{name} {{ value: {value} }}" for name, value in values.items()]
    sizes = [f"allowed_batch_sizes: {size}" for size in batching["allowed_batch_sizes"]]
    return "\n".join([*lines, *sizes]) + "\n"


def write_saved_model(classifier: tf.Module, directory: Path) -> None:
    """Write `classifier`, with its `signatures()` and `costly()` ones among them, into the empty `directory`."""
    # Gradients are taken and folded: what custom ones there were would only make saving fail (2.20).
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with _quiet():
        tf.saved_model.save(classifier, str(directory), signatures=classifier.signatures(), options=options)
    separate_outputs(directory, classifier.costly())
    tell_variable_shapes(directory)
    make_reproducible(directory)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow from announcing each asset and each renamed input: a library prints nothing."""
    loggers = [tf.get_logger(), logging.getLogger("absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
