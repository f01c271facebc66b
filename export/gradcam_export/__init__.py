"""Turn a trained Keras classifier into a SavedModel that answers with predictions and their Grad-CAM heatmap."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradcam_export.errors import (
    ExplanationError,
    GradcamExportError,
    LabelsError,
    LayerNotFound,
    LoadError,
    NoFeatureMap,
    OptionError,
    PublishError,
    ServeError,
    UnsupportedHead,
    UnsupportedOperation,
    VerificationError,
    VersionError,
)
from gradcam_export.options import ExportOptions

if TYPE_CHECKING:
    from gradcam_export.callback import ExportBest
    from gradcam_export.export import PublishedVersion, export_classifier
    from gradcam_export.inspection import Inspection, inspect_classifier
    from gradcam_export.module import ExplainableClassifier
    from gradcam_export.savedmodel.publish import publish_version

__all__ = [
    "ExplainableClassifier",
    "ExplanationError",
    "ExportBest",
    "ExportOptions",
    "GradcamExportError",
    "Inspection",
    "LabelsError",
    "LayerNotFound",
    "LoadError",
    "NoFeatureMap",
    "OptionError",
    "PublishError",
    "PublishedVersion",
    "ServeError",
    "UnsupportedHead",
    "UnsupportedOperation",
    "VerificationError",
    "VersionError",
    "export_classifier",
    "inspect_classifier",
    "publish_version",
]

_ON_DEMAND = {
    "ExplainableClassifier": "module",
    "ExportBest": "callback",
    "Inspection": "inspection",
    "PublishedVersion": "export",
    "export_classifier": "export",
    "inspect_classifier": "inspection",
    "publish_version": "savedmodel.publish",
}


def __getattr__(name: str) -> Any:
    """Import TensorFlow when something needs it: `--help` and a misspelt option do not wait seconds for it."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
