"""Pictures as files of a folder."""

from pathlib import Path

import numpy as np
from PIL import Image


def write(folder: Path, pictures) -> Path:
    """Write pictures as files of a folder."""
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:03}.png")
    return folder


def read(folder: Path) -> np.ndarray:
    """Return the pictures of a folder, in the order of their names."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
