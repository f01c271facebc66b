"""Export a classifier while it trains, each time that it got better."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Literal, Unpack

import keras

from gradcam_export.errors import GradcamExportError, OptionError
from gradcam_export.export import PublishedVersion, export_classifier
from gradcam_export.options import ExportKeywords, ExportOptions, choices

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("gradcam_export.callback")

Mode = Literal["auto", "min", "max"]
OnError = Literal["raise", "warn"]

_UPWARDS = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "r2", "cosine", "true_", "sensitivity")
"""What metrics are called of which more is better; of all others, losses and errors among them, it is less."""


class ExportBest(keras.callbacks.Callback):
    """Publishes a verified version at the end of each epoch in which the monitored value is the best so far.

    An epoch without improvement publishes nothing; neither does a version that does not answer what the model answers.
    The model is left as it is, and goes on training.
    """

    def __init__(
        self,
        base_path: str | Path,
        monitor: str = "val_loss",
        mode: Mode = "auto",
        *,
        on_error: OnError = "raise",
        **options: Unpack[ExportKeywords],
    ) -> None:
        """Take where and when.

        Args:
            base_path: where the model's versions lie, as for `export_classifier`.
            monitor: the value that decides, by its name in the epoch's logs: `val_loss`, `val_accuracy`.
            mode: whether less (`min`) or more (`max`) of it is better; `auto` takes more for accuracies, AUC,
                precision, recall and their like, and less for the rest.
            on_error: `raise` ends the training where an export fails or the value is missing; `warn` logs why, and
                goes on: the next better epoch is tried again.
            options: of `export_classifier`. `version` is not among them: each export takes the next free number.

        Raises:
            OptionError: an option has a value it cannot have.
        """
        super().__init__()
        for name, value, kind in (("mode", mode, Mode), ("on_error", on_error, OnError)):
            if value not in choices(kind):
                raise OptionError(f"{name} must be one of {', '.join(choices(kind))}; got {value!r}.")
        if options.get("version") is not None:
            raise OptionError("version cannot be told: each better epoch is published under the next free number.")
        ExportOptions(**options)
        self._base_path, self._monitor, self._on_error, self._options = base_path, monitor, on_error, options
        self._upwards = mode == "max" or (mode == "auto" and any(part in monitor.lower() for part in _UPWARDS))
        self.best: float | None = None
        """The monitored value of the newest published version."""
        self.published: list[PublishedVersion] = []
        """The versions, the best last."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Export the model, if it got better.

        Raises:
            OptionError: the epoch has no value of that name (with `on_error="raise"`).
            GradcamExportError: the export failed; nothing was published (with `on_error="raise"`).
        """
        try:
            value = self._value(logs or {})
            if not self._is_better(value):
                return
            version = export_classifier(self.model, self._base_path, **self._options)
        except GradcamExportError as error:
            if self._on_error == "raise":
                raise
            logger.warning("epoch %d was not exported: %s", epoch + 1, error)
            return
        self.best = value
        self.published.append(version)
        logger.info("epoch %d: %s %.4g, published as %s", epoch + 1, self._monitor, value, version.location)

    def _value(self, logs: dict[str, Any]) -> float:
        if self._monitor not in logs:
            known = ", ".join(sorted(logs)) or "nothing"
            raise OptionError(f"monitor is {self._monitor!r}, but an epoch of this training reports {known}.")
        return float(logs[self._monitor])

    def _is_better(self, value: float) -> bool:
        """Tell whether a value is better than the best; what is no number never is."""
        if math.isnan(value) or self.best is None:
            return not math.isnan(value)
        return value > self.best if self._upwards else value < self.best
