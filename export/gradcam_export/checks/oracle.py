"""The formulas of the papers in float64 numpy: the reference for every heatmap.

None of this shares code with the graph that it judges.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def gradcam(features: Array, gradients: Array) -> Array:
    """Return ReLU(sum_k alpha_k A_k) of Grad-CAM, float64 `[B,h,w]` (arXiv 1610.02391, equations 1 and 2).

    Args:
        features: A, `[B,h,w,K]`.
        gradients: dy/dA of the explained class score, `[B,h,w,K]`.
    """
    alpha = gradients.astype(np.float64).mean(axis=(1, 2))
    return np.maximum(np.einsum("bhwk,bk->bhw", features.astype(np.float64), alpha), 0)


def gradcam_magnitude(features: Array, gradients: Array) -> Array:
    """Return max over positions of sum_k |alpha_k A_k|, float64 `[B]`.

    The terms that cancel in a map: float32 knows the map to about this times its relative precision, however small
    the map itself is.
    """
    alpha = gradients.astype(np.float64).mean(axis=(1, 2))
    return np.einsum("bhwk,bk->bhw", np.abs(features.astype(np.float64)), np.abs(alpha)).max(axis=(1, 2))
