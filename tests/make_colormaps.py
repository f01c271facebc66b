"""Write the client's colour maps down from matplotlib's published tables: python tests/make_colormaps.py

One array for each name, RGB `[256,3]` uint8, from the lowest value to the highest. The exporter's own file holds the
maps it draws overlays with, row by row the same.
"""

from pathlib import Path

import gradcam_client
import matplotlib as mpl
import numpy as np

COLORMAPS = Path(gradcam_client.__file__).with_name("colormaps.npz")

MATPLOTLIB = {
    "green": "Greens",
    "grey": "gray",
    "inferno": "inferno",
    "jet": "jet",
    "magma": "magma",
    "pink_green": "vanimo",
    "pink_white_green": "PiYG",
    "red": "Reds",
    "red_green": "RdYlGn",
    "turbo": "turbo",
    "viridis": "viridis",
}
"""Our names, those of Vertex Explainable AI among them, and matplotlib's."""


def table(name: str) -> np.ndarray:
    """Return a colour map of ours by matplotlib's table, RGB `[256,3]` uint8."""
    colors = mpl.colormaps[MATPLOTLIB[name]](np.arange(256))
    return np.rint(colors[:, :3] * 255).astype(np.uint8)


if __name__ == "__main__":
    np.savez_compressed(COLORMAPS, **{name: table(name) for name in MATPLOTLIB})
