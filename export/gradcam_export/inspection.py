"""What would be explained, and why, before anything is exported."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Unpack

from gradcam_export import contract
from gradcam_export.graph.explain import explain, make_choice
from gradcam_export.graph.target import candidates
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.labels import labels_of, read_labels
from gradcam_export.manifest import file_signatures
from gradcam_export.methods import METHODS
from gradcam_export.options import ExportKeywords, ExportOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import keras

    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.trace import Classifier

SHOWN_CANDIDATES = 12
"""On one screen there is room for so many."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A feature map that could be explained."""

    name: str
    operation: str
    grid: tuple[int, ...]
    channels: int
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found in a classifier, and what was chosen."""

    source: str
    inputs: dict[str, str]
    """Name in the signatures → dtype and shape."""
    preprocessing: str
    activation: str
    classes: int
    candidates: tuple[Candidate, ...]
    layer: str
    reason: str
    grid: tuple[int, ...]
    methods: tuple[str, ...]
    signatures: dict[str, str]
    """Name → inputs and outputs."""
    remarks: tuple[str, ...]
    """What can go wrong, or surprise."""

    def to_json(self) -> str:
        """Return the inspection as one JSON object."""
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        """Return the inspection as one screen of text."""
        shown = self.candidates[-SHOWN_CANDIDATES:]
        size = max((len(candidate.name) for candidate in shown), default=0)
        rows = [
            f"{'→' if candidate.chosen else ' '} {candidate.name:<{size}}  {_times(candidate.grid):>9} "
            f"{candidate.channels:>5} channels  {candidate.operation}"
            for candidate in shown
        ]
        left_out = len(self.candidates) - len(shown)
        return "\n".join(
            (
                f"classifier     {self.source}",
                *_column("input", (f"{name} {kind}" for name, kind in self.inputs.items())),
                f"preprocessing  {self.preprocessing}",
                f"output         {'1 value' if self.classes == 1 else f'{self.classes} classes'}, {self.activation}",
                "candidates     feature maps that every path from the input to the class score crosses"
                + (f" (the last {len(shown)} of {len(self.candidates)})" if left_out else ""),
                *rows,
                f"chosen         {self.layer} ({_times(self.grid)})",
                f"because        {self.reason}",
                f"methods        {', '.join(self.methods)}",
                *_column("signatures", (f"{name}: {kind}" for name, kind in self.signatures.items())),
                *_column("remarks", self.remarks or ("none",)),
            )
        )


def inspect_classifier(model: keras.Model | str | Path, **options: Unpack[ExportKeywords]) -> Inspection:
    """Load and trace `model`, and say what an export with these options would explain.

    Args:
        model: as for `export_classifier`.
        options: the fields of `ExportOptions`; those that concern writing are ignored.

    Raises:
        GradcamExportError: the classifier cannot be loaded or explained, or its labels do not fit.
    """
    asked = ExportOptions(**options)
    names = read_labels(asked.labels)
    loaded = load_classifier(
        model, image_size=asked.image_size, factory_args=asked.factory_args, safe_mode=asked.safe_mode
    )
    classifier = classifier_of(loaded, asked)
    traced = trace(classifier)
    found = candidates(traced.forward)
    choice = make_choice(traced.forward, asked)
    labels_of(names, choice.head.classes)
    explain(traced, choice)
    chosen = choice.target.feature_map
    return Inspection(
        source=loaded.source,
        inputs={one.name: f"{one.dtype} [B,{','.join(map(str, one.shape))}]" for one in loaded.inputs},
        preprocessing=classifier.preprocessing.name,
        activation=choice.head.activation,
        classes=choice.head.classes,
        candidates=tuple(
            Candidate(
                name=feature_map.name,
                operation=feature_map.tensor.op.type,
                grid=feature_map.layout.grid,
                channels=feature_map.layout.channels,
                chosen=feature_map.tensor is chosen.tensor,
            )
            for feature_map in found
            if feature_map.from_layer or feature_map.tensor is chosen.tensor
        ),
        layer=chosen.name,
        reason=choice.target.reason,
        grid=chosen.layout.grid,
        methods=choice.methods,
        signatures=dict(_signatures(classifier, choice, files=asked.max_image_bytes > 0)),
        remarks=tuple(
            _remarks(classifier, choice, labelled=names is not None, prescribed=loaded.preprocess_input is not None)
        ),
    )


def _signatures(classifier: Classifier, choice: Choice, *, files: bool) -> Iterator[tuple[str, str]]:
    given = ", ".join(one.name for one in classifier.inputs)
    grid = ",".join(map(str, choice.layout.grid))
    answer = f"predictions [B,{choice.head.predictions.shape[-1]}], class_index, label, score"
    maps = f"heatmap [B,{grid}], heatmap_peak"
    yield contract.SERVING_DEFAULT, f"{given} → {answer}, {maps}"
    yield contract.EXPLAIN, f"the same of a class that is asked for: {given}, {contract.CLASS_INDEX} [B]"
    for method in choice.methods[1:]:
        yield contract.explain_signature(method), f"likewise, by {method}"
    yield contract.TOP_K, f"the same of the best {choice.top_k} classes: heatmap [B,{choice.top_k},{grid}]"
    yield contract.PREDICT, f"{given} → {answer}"
    of_files = {
        contract.EXPLAIN_BYTES: f"as {contract.EXPLAIN}, of JPEG or PNG files: {contract.IMAGE_BYTES} [B]",
        contract.OVERLAY: f"{contract.IMAGE_BYTES} → {contract.OVERLAY_BYTES}, finished JPEGs",
    }
    encoded = files and classifier.inputs.takes_pictures
    for name in file_signatures(encoded=encoded, size=classifier.inputs.main.size, grid=choice.layout.grid):
        yield name, of_files[name]
    yield contract.DESCRIBE, "key → value, JSON"


def _remarks(classifier: Classifier, choice: Choice, *, labelled: bool, prescribed: bool) -> Iterator[str]:
    layout, main = choice.layout, classifier.inputs.main
    if not labelled:
        yield "no labels: classes will be named class_0, class_1, …; give them with --labels"
    own = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in classifier.model._flatten_layers())
    if main.is_image and classifier.preprocessing.name == "none" and not own and not prescribed:
        yield "no preprocessing: the model gets pixels 0..255; if it was trained on others, say so with --preprocessing"
    if max(layout.grid) < 4:
        yield f"the grid is coarse ({_times(layout.grid)}): an earlier --layer shows smaller parts"
    if choice.head.activation == "linear" and choice.head.classes > 1:
        yield "the model ends in logits: scores are no probabilities"
    if choice.head.activation == "linear" and choice.head.classes == 1:
        yield "one linear unit is a regression: the map shows what raised the value"
    if choice.target.feature_map.tensor.dtype.name in ("float16", "bfloat16"):
        yield f"features are {choice.target.feature_map.tensor.dtype.name}: maps are known to about 0.02"
    for name in choice.methods:
        if METHODS[name].alters:
            passes = min(getattr(METHODS[name], "channels", layout.channels), layout.channels)
            yield f"{name} asks the model again for {passes} altered inputs of each image"


def _times(grid: tuple[int, ...]) -> str:
    return "×".join(map(str, grid))


def _column(title: str, lines: Iterator[str] | tuple[str, ...]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"{title if index == 0 else '':<15}{line}"
