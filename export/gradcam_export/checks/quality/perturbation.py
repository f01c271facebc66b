"""Inputs with pixels taken away or brought in by their order in a heatmap, as the model takes them: uint8."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gradcam_export.checks.quality.imputation import impute

Array = np.ndarray[Any, Any]

BLUR_WINDOW, BLUR_SIGMA = 11, 5.0
"""Of the Gaussian that insertion begins from, pixels (RISE)."""
ROAD_SHARES: Final = tuple(share / 10 for share in range(1, 10))
"""Shares of the pixels that ROAD removes."""


def ranking(saliency: Array, random: np.random.Generator) -> Array:
    """Return each pixel's place in the order of a map, `[H,W]`: 0 for the hottest; equal pixels in random order.

    After ReLU much of a map is 0: in reading order, those pixels would fall from the top of the picture.

    Args:
        saliency: `[H,W]`.
        random: what decides between equal pixels.
    """
    flat = saliency.ravel()
    order = np.lexsort((random.permutation(flat.size), -flat))
    places = np.empty(flat.size, np.intp)
    places[order] = np.arange(flat.size)
    return places.reshape(saliency.shape)


def exchanged(places: Array, before: Array, after: Array, steps: int) -> Array:
    """Exchange pixels from the hottest on, in equal steps: uint8 `[steps+1,H,W,C]`, from `before` to `after`.

    Deletion is from the picture to zeros; insertion from the blurred picture to the picture
    (Petsiuk et al., RISE, arXiv 1806.07421, section 3.3).

    Args:
        places: each pixel's place, as `ranking` returns it, `[H,W]`.
        before: uint8 `[H,W,C]`.
        after: uint8 `[H,W,C]`.
        steps: how many; all pixels are exchanged in the last.
    """
    counts = np.rint(np.linspace(0, places.size, steps + 1)).astype(np.intp)
    gone = places[np.newaxis] < counts[:, np.newaxis, np.newaxis]
    return np.where(gone[..., np.newaxis], after, before)


def area_under(curve: Array) -> float:
    """Return the area under scores at equal steps by the trapezoid rule, the whole width being 1.

    Args:
        curve: `[steps+1]`.
    """
    return float((curve.sum() - (curve[0] + curve[-1]) / 2) / (len(curve) - 1))


def blurred(pixels: Array) -> Array:
    """Blur a picture with a Gaussian of 11 pixels and sigma 5, the picture mirrored at its border.

    Args:
        pixels: uint8 `[H,W,C]`.

    Returns:
        uint8 `[H,W,C]`.
    """
    offsets = np.arange(BLUR_WINDOW) - BLUR_WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * BLUR_SIGMA**2))
    weights /= weights.sum()
    values = pixels.astype(np.float64)
    for axis in (0, 1):
        length = values.shape[axis]
        padding = [(0, 0)] * 3
        padding[axis] = (BLUR_WINDOW // 2, BLUR_WINDOW // 2)
        padded = np.pad(values, padding, "symmetric")
        slices = (padded.take(np.arange(start, start + length), axis) for start in range(BLUR_WINDOW))
        values = sum((weight * part for weight, part in zip(weights, slices, strict=True)), np.zeros(()))
    return np.rint(values).astype(np.uint8)


def masked(pixels: Array, saliency: Array) -> Array:
    """Return pictures times their maps, as Average Drop and ADCC want them.

    Args:
        pixels: uint8 `[...,H,W,C]`.
        saliency: `[...,H,W]`, 0..1.

    Returns:
        uint8 `[...,H,W,C]`.
    """
    return np.rint(pixels * saliency[..., np.newaxis]).astype(np.uint8)


def road_images(places: Array, pixels: Array, noise: Array) -> Array:
    """Remove the hottest pixels, and the coldest, by noisy linear imputation (ROAD).

    Args:
        places: each pixel's place, as `ranking` returns it, `[H,W]`.
        pixels: uint8 `[H,W,C]`.
        noise: standard normal `[H,W,C]`.

    Returns:
        uint8 `[2,9,H,W,C]`: first most relevant first, then least relevant first; one for each of `ROAD_SHARES`.
    """
    counts = [round(share * places.size) for share in ROAD_SHARES]
    hottest = [impute(pixels, places < count, noise) for count in counts]
    coldest = [impute(pixels, places >= places.size - count, noise) for count in counts]
    return np.stack([hottest, coldest])
