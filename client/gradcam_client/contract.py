"""The names an exported version is addressed by.

The exporter holds a copy of its own, because an old client may meet a new model; a test holds the two equal.
Axis letters: `B` batch, `H W C` input image, `h w` feature grid, `N` classes, `T` top-k.
"""

from typing import Final

SCHEMA: Final = 1
"""Version of the contract, written into every manifest; raised when an older client would misread an answer."""

SERVING_DEFAULT: Final = "serving_default"
EXPLAIN: Final = "explain"
TOP_K: Final = "top_k"
EXPLAIN_BYTES: Final = "explain_bytes"
OVERLAY: Final = "overlay"
PREDICT: Final = "predict"
DESCRIBE: Final = "describe"

IMAGES: Final = "images"
INPUTS: Final = "inputs"
"""What classifiers take whose input is no image of one or three channels: waves, volumes, spectral bands, tokens."""
IMAGE_BYTES: Final = "image_bytes"
OVERLAY_BYTES: Final = "overlay_bytes"
CLASS_INDEX: Final = "class_index"
PREDICTIONS: Final = "predictions"
LABEL: Final = "label"
SCORE: Final = "score"
HEATMAP: Final = "heatmap"
HEATMAP_PEAK: Final = "heatmap_peak"
KEY: Final = "key"
VALUE: Final = "value"

PREDICTED_CLASS: Final = -1
"""The `class_index` that asks for the class the model predicts."""

DESCRIBE_MANIFEST: Final = "manifest"
DESCRIBE_LABELS: Final = "labels"


def explain_signature(method: str) -> str:
    """Return the signature that explains with a further CAM method."""
    return f"explain_{method.replace('++', '_pp').replace('-', '_')}"
