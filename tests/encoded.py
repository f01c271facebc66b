"""Encoded pictures, whole and hostile, and the graph that takes them, saved and loaded as a server does."""

import io
import struct
import zlib

import numpy as np
import tensorflow as tf
from gradcam_export.graph.decoding import decode_images, decode_original
from gradcam_export.graph.headers import ImageLimits
from gradcam_export.graph.overlay import colour_table, overlay_jpeg
from gradcam_export.savedmodel.session import LoadedVersion
from PIL import Image

LIMITS = ImageLimits(max_bytes=5_000_000, max_pixels=4_000_000)
SHAPE = (48, 56, 3)
ALPHA = 0.4
ORIENTATION = 0x0112


def saved(directory, *names, limits=LIMITS, shape=SHAPE):
    """What module.py puts in front of a classifier, without one: the signatures of these names."""
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    heatmaps = tf.TensorSpec([None, None, None], tf.float32, name="heatmap")

    def fitted(image_bytes):
        return {"images": decode_images(image_bytes, shape, limits)}

    def grey(image_bytes):
        return {"images": decode_images(image_bytes, (*shape[:2], 1), limits)}

    def original(image_bytes):
        return {"images": decode_original(image_bytes[0], tf.constant(0), limits)}

    def overlay(image_bytes, heatmap):
        return {"overlay_bytes": overlay_jpeg(image_bytes, heatmap, colour_table("jet"), ALPHA, limits)}

    bodies = {fitted: [files], grey: [files], original: [files], overlay: [files, heatmaps]}
    signatures = {
        body.__name__: tf.function(body, autograph=False).get_concrete_function(*specs)
        for body, specs in bodies.items()
        if body.__name__ in names
    }
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)
    return LoadedVersion.load(directory)


def run(version, signature, *files, **inputs):
    answer = version.run(signature, {"image_bytes": np.array(files, object), **inputs})
    return next(iter(answer.values()))


def photograph(rng, height, width, mode="RGB"):
    """Smooth, with detail: what JPEG is for."""
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = smooth + rng.integers(-12, 13, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def encode(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation, order="<"):
    """TIFF with one entry."""
    entry = struct.pack(f"{order}HHIHH", ORIENTATION, 3, 1, orientation, 0)
    return tiff([entry], order)


def tiff(entries, order="<", offset=8):
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", offset)
    return start.ljust(offset, b"\0") + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0" * 4


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(jpeg, *segments):
    """Insert segments after the start of the image."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def with_size(jpeg, height, width):
    """Let a baseline JPEG claim another size."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows, width, height, *, depth=8, colour=2, interlace=0, before=b"", after=b""):
    """Write a PNG of any kind: `rows` are its filtered rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    content = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def png_of(samples, *, colour, before=b""):
    """Write uint8 or uint16 samples `[H,W,C]`, unfiltered."""
    height, width, _ = samples.shape
    raw = samples.astype(samples.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in raw)
    return png(rows, width, height, depth=8 * samples.itemsize, colour=colour, before=before)


def interlaced(samples):
    """Write uint8 RGB `[H,W,3]` in the seven passes of Adam7."""
    height, width, _ = samples.shape
    rows = b""
    for top, left, down, right in [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]:
        rows += b"".join(b"\0" + row.tobytes() for row in samples[top::down, left::right] if row.size)
    return png(rows, width, height, interlace=1)
