"""Classifiers as SavedModels in a Session, without the verification of a publication: here the tests judge."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from gradcam_export import ExplainableClassifier, ExportOptions
from gradcam_export.facts import describe_export
from gradcam_export.graph.batching import queue_of
from gradcam_export.graph.explain import explain, make_choice
from gradcam_export.graph.fold import fold
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.labels import labels_of
from gradcam_export.manifest import Manifest
from gradcam_export.savedmodel.canonical import content_digest
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.savedmodel.write import write_saved_model
from lean import LEAN


class Folded:
    """A classifier, folded once, from which SavedModels are written."""

    def __init__(self, model: Any, **options: Any) -> None:
        self.options = ExportOptions(**{**LEAN, **options})
        self.loaded = load_classifier(model, image_size=self.options.image_size)
        self.classifier = classifier_of(self.loaded, self.options)
        traced = trace(self.classifier)
        self.choice = make_choice(traced.forward, self.options)
        self.folded = fold(explain(traced, self.choice), self.options.weights)

    def served(self, directory: Path, chunk: int | None = None) -> "Served":
        """Write it, and load what was written."""
        options = dataclasses.replace(self.options, chunk=chunk or self.options.chunk)
        labels = labels_of(None, self.choice.head.classes)
        description = directory / "describe.tsv"
        description.write_text(f"manifest\t{json.dumps({})}\nlabels\t[]\n")
        classifier = ExplainableClassifier(
            self.folded,
            self.choice,
            inputs=self.loaded.inputs,
            labels=labels,
            description=description,
            options=options,
            queue=queue_of(options, self.manifest(labels), content_digest(self.folded.graph_def, self.folded.weights)),
        )
        write_saved_model(classifier, directory / "1")
        return Served(directory / "1")

    def manifest(self, labels: tuple[str, ...]) -> Manifest:
        """What an export of it would say of itself."""
        ops = self.folded.ops
        return describe_export("model", self.options, self.loaded, self.classifier, self.choice, labels, ops)


class Served:
    """A written SavedModel in a Session of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded = LoadedVersion.load(path)

    def run(self, signature: str, *outputs: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Run a signature; classes are given as a list."""
        if "class_index" in inputs:
            inputs["class_index"] = np.array(inputs["class_index"], np.int32)
        return self.loaded.run(signature, inputs, outputs)


def served(model: Any, directory: Path, **options: Any) -> Served:
    """Fold, write and load `model`."""
    return Folded(model, **options).served(directory)
