"""The live model of a published version, asked as its manifest says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_export.graph.explain import explain, make_choice
from gradcam_export.graph.fold import fold
from gradcam_export.graph.live import live_rows, live_values
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.options import ExportOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import keras

    from gradcam_export.graph.trace import Classifier

    Values = dict[str, np.ndarray[Any, Any]]


class LiveModel:
    """A model, and how the export of a version of it was asked for.

    Args:
        model: a Keras model, a `.keras` or `.h5` file, or `package.module:factory`.
        manifest: of the version.
        told: options of the export, where the manifest does not hold them, or is not to be believed.

    Raises:
        GradcamExportError: the model cannot be loaded, or not explained like that.
    """

    def __init__(
        self, model: keras.Model | str | Path, manifest: Mapping[str, Any], told: Mapping[str, Any] | None = None
    ) -> None:
        self.options = ExportOptions(**{**options_of(manifest), **(told or {})})
        self._loaded = load_classifier(
            model,
            image_size=self.options.image_size,
            factory_args=self.options.factory_args,
            safe_mode=self.options.safe_mode,
        )

    @property
    def classifier(self) -> Classifier:
        """The model with its preprocessing."""
        return self.with_options(self.options)

    @property
    def model(self) -> Any:
        """The Keras model itself."""
        return self._loaded.model

    def values(self, inputs: Values) -> Values:
        """Return what the version must answer, as `live_values` names it, and the `digest` of the weights."""
        found = live_values(self.classifier, inputs, self.options)
        return {**found, "digest": np.array(self._loaded.digest())}

    def rows(self, inputs: Values) -> Iterator[Values]:
        """Yield what it answers to one row after the other, as `live_rows` names it."""
        return live_rows(self.classifier, inputs, self.options)

    def with_options(self, options: ExportOptions) -> Classifier:
        """Return the model with the preprocessing of other options."""
        return classifier_of(self._loaded, options)

    def folded_weights(self) -> Values:
        """Return the weights that a version holds, as `checks.weights` names them, under the layers' own names."""
        traced = trace(self.classifier)
        explained = explain(traced, make_choice(traced.forward, self.options))
        folded = fold(explained, self.options.weights, self.options.precision)
        paths = {f"weight_{index}": getattr(one, "path", "") for index, one in enumerate(self.model.variables)}
        return {
            f"weights/{number}/{paths.get(name) or name}": np.asarray(value)
            for number, (name, value) in enumerate(folded.weights.items())
        }


def options_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the export that wrote `manifest`, as far as it says."""
    main, explanation = manifest["input"], manifest["explanation"]
    return {
        "preprocessing": main["preprocessing"],
        "image_size": tuple(main["shape"]),
        "layer": explanation["layer"],
        "output": explanation["output"],
        "method": tuple(explanation["methods"]),
        "score": explanation["score"],
        "top_k": explanation["top_k"],
        "weights": manifest["weights"],
        "precision": manifest["precision"],
    }
