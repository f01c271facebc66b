"""Fill in missing pixels from their neighbours, so that what is gone cannot be told from the filling (ROAD)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gradcam_export.checks.heat_colours import upsample

Array = np.ndarray[Any, Any]

NOISE: Final = 0.01 * 255
"""Standard deviation of what is added to each filled-in value, grey levels: the paper's 0.01 of the range."""
# Leaves a mean error far below the noise, where plain relaxation would still be smooth.
_TOLERANCE: Final = 3e-3
_MOST_STEPS: Final = 2000
_COARSEST: Final = 4


def impute(pixels: Array, missing: Array, noise: Array | None = None) -> Array:
    """Fill in missing pixels by noisy linear imputation (Rong et al., arXiv 2202.00449, section 4).

    Each missing pixel is the mean of its neighbours, those beside it weighed 1/6 and those across a corner 1/12,
    neighbours outside the picture left out and the rest weighed up; all missing pixels are solved for together.

    Args:
        pixels: uint8 `[H,W,C]`.
        missing: bool `[H,W]`; not all of it.
        noise: float32 `[H,W,C]`, standard normal: `NOISE` times that is added to what is filled in; `None` adds none.

    Returns:
        uint8 `[H,W,C]`, the same where nothing is missing.

    Raises:
        ValueError: everything is missing.
    """
    if missing.all():
        raise ValueError("every pixel is missing: there is nothing to fill in from")
    if not missing.any():
        return pixels
    around = tuple(_around(np.flatnonzero(missing.any(axis))) for axis in (1, 0))
    filled: Array = pixels.astype(np.float32)
    planes = np.ascontiguousarray(np.moveaxis(filled[around], -1, 0))
    filled[around] = np.moveaxis(_solve(planes, missing[around]), 0, -1)
    if noise is not None:
        filled = filled + np.float32(NOISE) * noise
    whole = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
    return np.where(missing[:, :, np.newaxis], whole, pixels)


def _around(missing: Array) -> slice:
    """Return the rows or columns that hold missing pixels and their neighbours."""
    return slice(max(0, int(missing[0]) - 1), int(missing[-1]) + 2)


def _solve(planes: Array, missing: Array) -> Array:
    """Solve for the missing pixels of `[C,H,W]` by conjugate gradients, preconditioned with the diagonal.

    The system is a graph's Laplacian with known values at its border: symmetric and positive definite.
    """
    unknown = missing.astype(np.float32)
    weights = _neighbours(np.ones(missing.shape, np.float32)[np.newaxis])[0]
    inverse = unknown / weights
    solution = _guess(planes, missing)
    residual = (_neighbours(solution) - weights * solution) * unknown
    scaled = residual * inverse
    direction = scaled.copy()
    energy = _dot(residual, scaled)
    enough = _TOLERANCE**2 * max(1, int(missing.sum()))
    for _ in range(_MOST_STEPS):
        if float(energy.max()) <= enough:
            break
        image = (weights * direction - _neighbours(direction)) * unknown
        step = energy / np.maximum(_dot(direction, image), 1e-30)
        solution += step * direction
        residual -= step * image
        np.multiply(residual, inverse, out=scaled)
        before, energy = energy, _dot(residual, scaled)
        direction *= energy / np.maximum(before, 1e-30)
        direction += scaled
    return solution


def _neighbours(planes: Array) -> Array:
    """Return the weighted sum of each pixel's neighbours, none beyond the border: `[C,H,W]`.

    The eight weights are those of [1,2,1] down times [1,2,1] across, over 12, without the centre's 4/12.
    """
    across = 2 * planes
    across[:, :, 1:] += planes[:, :, :-1]
    across[:, :, :-1] += planes[:, :, 1:]
    down = 2 * across
    down[:, 1:] += across[:, :-1]
    down[:, :-1] += across[:, 1:]
    down -= 4 * planes
    down *= np.float32(1 / 12)
    return down


def _dot(one: Array, other: Array) -> Array:
    return np.einsum("chw,chw->c", one, other)[:, np.newaxis, np.newaxis]


def _guess(planes: Array, missing: Array) -> Array:
    """Guess the missing pixels of `[C,H,W]` from a solution at half the size, where what is smooth is cheap."""
    _, height, width = planes.shape
    if min(height, width) < _COARSEST:
        return np.where(missing, planes[:, ~missing].mean(axis=1)[:, np.newaxis, np.newaxis], planes)
    padding = ((0, 0), (0, height % 2), (0, width % 2))
    known = np.pad(~missing[np.newaxis], padding).astype(np.float32)
    counts, sums = _blocks(known), _blocks(np.pad(planes, padding) * known)
    coarse = _solve(sums / np.maximum(counts, 1), counts[0] == 0)
    finer = upsample(coarse, (height + height % 2, width + width % 2))[:, :height, :width]
    return np.where(missing, finer, planes)


def _blocks(planes: Array) -> Array:
    channels, height, width = planes.shape
    return planes.reshape(channels, height // 2, 2, width // 2, 2).sum(axis=(2, 4))
