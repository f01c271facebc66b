"""Turn a trained Keras classifier into a SavedModel that answers with predictions and their Grad-CAM heatmap."""

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
    VerificationError,
)
from gradcam_export.export import PublishedVersion, export_classifier
from gradcam_export.module import ExplainableClassifier
from gradcam_export.options import ExportOptions

__all__ = [
    "ExplainableClassifier",
    "ExplanationError",
    "ExportOptions",
    "GradcamExportError",
    "LabelsError",
    "LayerNotFound",
    "LoadError",
    "NoFeatureMap",
    "OptionError",
    "PublishError",
    "PublishedVersion",
    "ServeError",
    "UnsupportedHead",
    "VerificationError",
    "export_classifier",
]
