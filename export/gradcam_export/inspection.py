"""What would be explained, and why, before anything is exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from gradcam_export.graph.explain import make_choice
from gradcam_export.graph.images import resolve_preprocessing
from gradcam_export.graph.target import candidates
from gradcam_export.graph.trace import trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.options import ExportKeywords, ExportOptions

if TYPE_CHECKING:
    from pathlib import Path

    import keras


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A feature map that could be explained."""

    name: str
    operation: str
    grid: tuple[int, int]
    channels: int
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found in a classifier, and what was chosen."""

    source: str
    input_shape: tuple[int, int, int]
    preprocessing: str
    activation: str
    classes: int
    candidates: tuple[Candidate, ...]
    layer: str
    reason: str

    def __str__(self) -> str:
        """Return the inspection as a page of text."""
        height, width, channels = self.input_shape
        size = max((len(candidate.name) for candidate in self.candidates), default=0)
        rows = [
            f"{'→' if candidate.chosen else ' '} {candidate.name:<{size}}  "
            f"{candidate.grid[0]:>4}×{candidate.grid[1]:<4} {candidate.channels:>5} channels  {candidate.operation}"
            for candidate in self.candidates
        ]
        return "\n".join(
            (
                f"classifier     {self.source}",
                f"input          uint8 {height}×{width}×{channels}, preprocessing {self.preprocessing!r}",
                f"output         {self.classes} classes, {self.activation}",
                "candidates     feature maps that every path from the image to the class score crosses",
                *rows,
                f"chosen         {self.layer}",
                f"because        {self.reason}",
            )
        )


def inspect_classifier(model: keras.Model | str | Path, **options: Unpack[ExportKeywords]) -> Inspection:
    """Load and trace `model`, and say what an export with these options would explain.

    Args:
        model: as for `export_classifier`.
        options: the fields of `ExportOptions`; those that concern writing are ignored.

    Raises:
        GradcamExportError: the classifier cannot be loaded or explained.
    """
    asked = ExportOptions(**options)
    loaded = load_classifier(
        model, image_size=asked.image_size, factory_args=asked.factory_args, safe_mode=asked.safe_mode
    )
    preprocessing = resolve_preprocessing(asked.preprocessing, loaded.preprocess_input, loaded.input_shape[2])
    forward = trace(loaded.model, loaded.input_shape, preprocessing).forward
    choice = make_choice(forward, asked.layer, asked.score)
    chosen = choice.target.feature_map
    return Inspection(
        source=loaded.source,
        input_shape=loaded.input_shape,
        preprocessing=preprocessing.name,
        activation=choice.head.activation,
        classes=choice.head.classes,
        candidates=tuple(
            Candidate(
                name=feature_map.name,
                operation=feature_map.tensor.op.type,
                grid=feature_map.grid,
                channels=feature_map.channels,
                chosen=feature_map.tensor is chosen.tensor,
            )
            for feature_map in candidates(forward)
            if feature_map.from_layer or feature_map.tensor is chosen.tensor
        ),
        layer=chosen.name,
        reason=choice.target.reason,
    )
