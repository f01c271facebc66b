"""A version that is asked for probabilities and heatmaps, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.version import read_image_classifier
from gradcam_export.errors import OptionError, VersionError
from gradcam_export.savedmodel.session import LoadedVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Array = np.ndarray[Any, Any]


class ExplainingVersion:
    """A published image classifier.

    Args:
        loaded: the version in a Session.
        facts: its manifest.
        batch_size: the most rows to send at once.
    """

    def __init__(self, loaded: LoadedVersion, facts: dict[str, Any], batch_size: int) -> None:
        self._loaded, self.facts, self._batch_size = loaded, facts, batch_size
        self._squash = False
        height, width, _ = facts["input"]["shape"]
        self.size: tuple[int, int] = (height, width)
        self.labels: tuple[str, ...] = tuple(facts["labels"])
        self.methods: tuple[str, ...] = tuple(facts["explanation"]["methods"])

    @classmethod
    def load(cls, path: Path, batch_size: int, loader: type[LoadedVersion] = LoadedVersion) -> Self:
        """Load the version in directory `path`.

        Raises:
            VersionError: there is no published version.
            OptionError: the classifier takes no images, or other inputs beside them.
        """
        facts = read_image_classifier(path)
        try:
            return cls(loader.load(path), facts, batch_size)
        except (OSError, tf.errors.OpError) as error:
            # TensorFlow's messages go on with its whole graph.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise VersionError(f"{path}: cannot be loaded: {reason}") from error

    def chosen_methods(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Return the methods asked for, or all that the version has.

        Raises:
            OptionError: the version has no such method.
        """
        for method in wanted or ():
            if method not in self.methods:
                raise OptionError(
                    f"--method {method}: this version explains with {', '.join(self.methods)}. "
                    f"Build one that has it: gradcam-export build … --method {self.methods[0]} --method {method}."
                )
        return tuple(dict.fromkeys(wanted)) if wanted else self.methods

    def predict(self, images: Array) -> Array:
        """Return probabilities `[B,N]` of images `[B,H,W,C]` uint8.

        Of a classifier that ends in logits (told by its first answers, which leave 0..1) it is their softmax; of a
        single sigmoid unit, both classes.

        Raises:
            OptionError: the classifier has one output, and that is no probability.
        """
        rows = [self._run(contract.PREDICT, part, contract.PREDICTIONS) for part in self._parts(images)]
        predictions = np.concatenate(rows).astype(np.float64)
        self._squash = self._squash or bool((predictions < 0).any() or (predictions > 1).any())
        if predictions.shape[1] == 1:
            if self._squash:
                raise OptionError("the classifier's only output leaves 0..1: a regression has no classes to evaluate.")
            return np.concatenate([1 - predictions, predictions], axis=1)
        if self._squash:
            raised = np.exp(predictions - predictions.max(axis=1, keepdims=True))
            predictions = raised / raised.sum(axis=1, keepdims=True)
        return predictions

    def explain(self, method: str, images: Array, classes: Array) -> Array:
        """Return heatmaps `[B,h,w]`, 0..1.

        Args:
            method: one of the version's.
            images: `[B,H,W,C]` uint8.
            classes: `[B]`, what each is explained for.
        """
        signature = contract.EXPLAIN if method == self.methods[0] else contract.explain_signature(method)
        indices = self._parts(np.asarray(classes, np.int32))
        maps = [
            self._run(signature, part, contract.HEATMAP, **{contract.CLASS_INDEX: index})
            for part, index in zip(self._parts(images), indices, strict=True)
        ]
        return np.concatenate(maps)

    def close(self) -> None:
        """Release the session."""
        self._loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, signature: str, images: Array, output: str, **inputs: Array) -> Array:
        return self._loaded.run(signature, {contract.IMAGES: images, **inputs}, [output])[output]

    def _parts(self, rows: Array) -> Iterator[Array]:
        for start in range(0, len(rows), self._batch_size):
            yield rows[start : start + self._batch_size]
