"""Small files that claim to be large pictures, and what they cost."""

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from encoded import encode, png, run, saved, with_size
from gradcam_export.graph.headers import ImageLimits
from PIL import Image


def peak_growths(directory: Path) -> tuple[int, int]:
    """Return by how many bytes peak memory grows where the files are refused, and where one is decoded."""
    small = encode(Image.new("RGB", (16, 16)))
    pixels = zlib.compress(b"\0" * 2**20)[:2000]
    jpeg = with_size(small, 8000, 8000).ljust(2500, b"\0")
    bombs = [jpeg, png(pixels, 8000, 8000), with_size(small, 13000, 13000), png(pixels, 13000, 13000)]

    with saved(directory / "checked", "original") as checked:

        def refuse() -> None:
            for bomb in bombs:
                with pytest.raises(tf.errors.InvalidArgumentError, match="by its header; at most 4000000 pixels"):
                    run(checked, "original", bomb)

        refuse()
        refused = _peak_growth(refuse)
    with saved(directory / "believing", "original", limits=ImageLimits(10_000, 100_000_000)) as believing:
        return refused, _peak_growth(lambda: run(believing, "original", jpeg))


def _peak_growth(call: Callable[[], object]) -> int:
    def status(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    before = status("VmRSS")
    call()
    return status("VmHWM") - before
