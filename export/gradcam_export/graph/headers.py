"""What an encoded picture says of itself, checked before a decoder allocates anything.

A few kilobytes can claim hundreds of megapixels, repeat a scan over them a thousand times, or hold text that unpacks to
gigabytes; the decoders believe all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

_JPEG: Final = b"\xff\xd8\xff"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
# Name → where in the file which bytes stand; the first that fits is the one.
_OTHERS: Final = (
    ("WebP", 8, b"WEBP"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("HEIC or AVIF", 4, b"ftyp"),
    ("JPEG XL", 4, b"JXL "),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG 2000", 4, b"jP  "),
    ("base64 text", 0, b"/9j/"),
    ("base64 text", 0, b"iVBORw0KGgo"),
)

# ITU-T T.81, table B.1: what a JPEG's marker begins. Fill bytes and entropy-coded data are no markers.
_NONE, _ALONE, _SEGMENT, _SEQUENTIAL_FRAME, _OTHER_FRAME, _SCAN = range(6)
_MARKERS: Final = (
    [_NONE, _ALONE]
    + [_SEGMENT] * 0xBE
    + [_SEQUENTIAL_FRAME] * 2
    + [_OTHER_FRAME] * 2
    + [_SEGMENT, _OTHER_FRAME, _OTHER_FRAME, _OTHER_FRAME] * 3
    + [_ALONE] * 9
    + [_SEGMENT, _SCAN]
    + [_SEGMENT] * 0x24
    + [_NONE]
)
_MOST_SEGMENTS: Final = 200
# Encoders write 6 to 12 scans; each costs the decoder the whole picture again.
_FULL_PICTURES_OF_SCANS: Final = 16
# Deflate packs at most 1032 bytes into one (RFC 1951), and libpng keeps at most 8 MB of a text.
_DEFLATE_RATIO: Final = 1032
_LONGEST_TEXT: Final = 8_000_000
_MOST_TEXT: Final = 8 * _LONGEST_TEXT
_MOST_PIECES: Final = 1000


@dataclass(frozen=True)
class ImageLimits:
    """The largest encoded pictures that are decoded."""

    max_bytes: int
    """Bytes of the file."""

    max_pixels: int
    """Height times width."""


class CheckedImage(NamedTuple):
    """A file whose header keeps the limits."""

    data: tf.Tensor
    """The whole file, ordered after every check."""

    metadata: tf.Tensor
    """The part of it in which EXIF and XMP stand."""


def check(data: tf.Tensor, index: tf.Tensor, limits: ImageLimits) -> CheckedImage:
    """Refuse what is no JPEG or PNG, or claims more than `limits` allow; the graph answers INVALID_ARGUMENT.

    Args:
        data: scalar string, a file.
        index: scalar int32, the picture's place in its request, for the message.
        limits: of its bytes and of its pixels.

    Returns:
        The file. Whoever decodes `data` of it waits for the checks: decoders are not stateful, so nothing else
        orders them.
    """
    length = tf.strings.length(data)
    head = tf.strings.substr(tf.strings.join([_bytes(data, 0, 16), b"\0" * 16]), 0, 16)
    jpeg = tf.strings.substr(head, 0, len(_JPEG)) == _JPEG
    png = (tf.strings.substr(head, 0, len(_PNG)) == _PNG) & (tf.strings.substr(head, 12, 4) == b"IHDR")
    checks = [
        require(
            length <= limits.max_bytes,
            lambda: refusal("has {} bytes; at most {} are taken", index, length, limits.max_bytes),
        ),
        require(
            jpeg | png,
            lambda: refusal(
                "is {}: send a JPEG or PNG file, to which gradcam-client converts others", index, _format(head, length)
            ),
        ),
    ]
    with tf.control_dependencies(checks):
        data = tf.identity(data)
    return CheckedImage(
        *tf.cond(jpeg, lambda: _checked_jpeg(data, index, limits), lambda: _checked_png(data, index, limits))
    )


def split(data: tf.Tensor, separator: bytes, most: int = 1) -> tf.Tensor:
    """Cut a scalar string at the first `most` places where `separator` stands: `[1..most + 1]` strings."""
    return tf.raw_ops.StringSplitV2(input=data[tf.newaxis], sep=separator, maxsplit=most).values


def integers(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    """Return `count` bytes of a scalar string as int32 `[count]`; zeros beyond its end."""
    return tf.cast(_decoded(_bytes(data, start, count), tf.uint8, count), tf.int32)


def _bytes(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    return tf.strings.substr(data, tf.minimum(start, tf.strings.length(data)), count)


def _decoded(data: tf.Tensor, kind: tf.DType, count: int) -> tf.Tensor:
    numbers = tf.io.decode_raw(data, kind, little_endian=False, fixed_length=count * kind.size)
    return tf.ensure_shape(numbers, [count])


def _checked_jpeg(data: tf.Tensor, index: tf.Tensor, limits: ImageLimits) -> tuple[tf.Tensor, tf.Tensor]:
    size = tf.cast(tf.image.extract_jpeg_shape(data)[:2], tf.int64)
    data = _within_pixels(data, size, index, limits)
    scan, one_scan = _first_scan(data)
    scans = tf.cond(
        one_scan, lambda: 1, lambda: tf.size(split(tf.strings.substr(data, scan, -1), b"\xff\xda", _MOST_PIECES)) - 1
    )
    most = tf.minimum(_FULL_PICTURES_OF_SCANS * limits.max_pixels // tf.reduce_prod(size), _MOST_PIECES - 1)
    few = require(
        tf.cast(scans, tf.int64) <= most,
        lambda: refusal("has {} scans or more; at most {} are taken at its size", index, scans, most),
    )
    with tf.control_dependencies([few]):
        return tf.identity(data), tf.strings.substr(data, 0, scan)


def _first_scan(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where a JPEG's first scan starts, and whether it is known to be the only one that is decoded."""
    length = tf.strings.length(data)
    kinds = tf.constant(_MARKERS)

    def segment(position: tf.Tensor, *found: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # A frame's segment: marker, length, precision, height, width, number of components.
        here = integers(data, position, 10)
        kind = tf.gather(kinds, tf.where(here[0] == 0xFF, here[1], 0))
        _, components, number = found
        components = tf.where(kind == _SEQUENTIAL_FRAME, here[9], tf.where(kind == _OTHER_FRAME, -1, components))
        step = tf.gather([1, 2, 0, 0, 0, 0], kind) + tf.where(kind >= _SEGMENT, 2 + 256 * here[2] + here[3], 0)
        return tf.where(kind == _SCAN, position, position + step), kind, components, number + 1

    def searching(position: tf.Tensor, kind: tf.Tensor, _: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        return (kind != _SCAN) & (position < length) & (number < _MOST_SEGMENTS)

    position, kind, components, _ = tf.while_loop(searching, segment, (2, _NONE, 0, 0))
    # A scan's segment: marker, length, number of components.
    interleaved = integers(data, position, 5)[4] == components
    return tf.minimum(position, length), (kind == _SCAN) & interleaved


def _checked_png(data: tf.Tensor, index: tf.Tensor, limits: ImageLimits) -> tuple[tf.Tensor, tf.Tensor]:
    stated = _decoded(_bytes(data, 16, 8), tf.int32, 2)
    data = _within_pixels(data, tf.cast(tf.reverse(stated, [0]), tf.int64), index, limits)
    texts = tf.concat([split(data, kind, _MOST_PIECES)[1:] for kind in (b"zTXt", b"iTXt")], axis=0)
    unpacked = tf.minimum(tf.cast(tf.strings.length(texts), tf.int64) * _DEFLATE_RATIO, _LONGEST_TEXT)
    short = require(
        (tf.size(texts) < _MOST_PIECES) & (tf.reduce_sum(unpacked) <= _MOST_TEXT),
        lambda: refusal("holds {} texts, too long together: save it without them", index, tf.size(texts)),
    )
    with tf.control_dependencies([short]):
        return tf.identity(data), data


def _within_pixels(data: tf.Tensor, size: tf.Tensor, index: tf.Tensor, limits: ImageLimits) -> tf.Tensor:
    fits = tf.reduce_all(size > 0) & (tf.reduce_prod(size) <= limits.max_pixels)
    known = require(
        fits,
        lambda: refusal(
            "is {}×{} by its header; at most {} pixels are taken, at least 1",
            index,
            size[1],
            size[0],
            limits.max_pixels,
        ),
    )
    with tf.control_dependencies([known]):
        return tf.identity(data)


def _one_of(value: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(value == tf.constant(values))


def _format(head: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    name = tf.where(length == 0, b"empty", b"of no known format")
    for other, start, signature in reversed(_OTHERS):
        name = tf.where(tf.strings.substr(head, start, len(signature)) == signature, other.encode(), name)
    return name


def refusal(text: str, index: tf.Tensor, *values: tf.Tensor | int) -> tf.Tensor:
    """Say of the picture at `index` what is wrong with it; `text` has a `{}` for each of the values."""
    parts = [
        value if isinstance(value, bytes) or value.dtype == tf.string else tf.strings.as_string(value)
        for value in map(tf.convert_to_tensor, (index, *values))
    ]
    before, *after = f"image_bytes: image {{}} {text}.".split("{}")
    return tf.strings.join([before, *(piece for pair in zip(parts, after, strict=True) for piece in pair)])


def require(condition: tf.Tensor, message: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Return what to wait for, where the graph answers INVALID_ARGUMENT with `message` unless `condition` holds."""

    def refuse() -> tf.Tensor:
        with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=[message()])]):
            return tf.identity(condition)

    return tf.cond(condition, lambda: condition, refuse)
