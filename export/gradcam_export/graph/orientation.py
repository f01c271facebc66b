"""Which way up a picture was taken, and turning it upright."""

from __future__ import annotations

from typing import Final

import tensorflow as tf

from gradcam_export.graph.headers import integers, split

_TAG: Final = 0x0112
_SHORT, _LONG = 3, 4
_ENTRY_BYTES: Final = 12
_UPRIGHT: Final = 1


def find_orientation(metadata: tf.Tensor) -> tf.Tensor:
    """Read the orientation, as Pillow does: from EXIF, else from XMP.

    Exif 2.32, tag 0x0112 of the first directory, in either byte order, one SHORT or LONG; XMP's `tiff:Orientation`
    where it is not compressed.

    Args:
        metadata: scalar string, the part of a JPEG or PNG file in which they stand.

    Returns:
        Scalar int32 1..8; 1, upright, where there is none or it has another value.
    """
    found = _in_exif(metadata)
    found = tf.cond(found < 0, lambda: _in_xmp(metadata), lambda: found)
    return tf.where((found >= 1) & (found <= 8), found, _UPRIGHT)


def turn_upright(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn or mirror `picture` `[H,W,C]` so that it stands as it was seen."""
    picture = tf.cond(is_transposed(orientation), lambda: tf.transpose(picture, [1, 0, 2]), lambda: picture)
    return mirror(picture, orientation)


def is_transposed(orientation: tf.Tensor) -> tf.Tensor:
    """Tell whether the file's rows are the upright picture's columns."""
    return orientation >= 5


def mirror(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Mirror `picture` `[H,W,C]`, whose rows are the upright picture's."""

    def mirrored(picture: tf.Tensor, axis: int, orientations: tuple[int, ...]) -> tf.Tensor:
        asked = tf.reduce_any(orientation == tf.constant(orientations))
        return tf.cond(asked, lambda: tf.reverse(picture, [axis]), lambda: picture)

    return mirrored(mirrored(picture, 1, (2, 3, 6, 7)), 0, (3, 4, 7, 8))


def _in_exif(metadata: tf.Tensor) -> tf.Tensor:
    """Return the tag's value, -1 where there is no tag."""
    png = tf.strings.substr(metadata, 1, 3) == b"PNG"
    pieces = tf.cond(png, lambda: split(metadata, b"eXIf"), lambda: split(metadata, b"Exif\0\0"))
    return tf.cond(tf.size(pieces) > 1, lambda: _in_tiff(pieces[1]), lambda: -1)


def _in_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """TIFF 6.0, section 2: header, then a directory of 12-byte entries (tag, type, count, value)."""
    header = integers(tiff, 0, 8)
    little = tf.reduce_all(header[:4] == [0x49, 0x49, 0x2A, 0])
    known = little | tf.reduce_all(header[:4] == [0x4D, 0x4D, 0, 0x2A])

    def number(data: tf.Tensor) -> tf.Tensor:
        """Of bytes `[..., 2]` or `[..., 4]`."""
        ordered = tf.cast(tf.where(little, data, tf.reverse(data, [-1])), tf.int64)
        return tf.reduce_sum(ordered * [256**place for place in range(data.shape[-1])], axis=-1)

    def look_up() -> tf.Tensor:
        length = tf.strings.length(tiff)
        # A segment has 64 kB: what points further points nowhere.
        directory = tf.minimum(tf.cast(tf.minimum(number(header[4:]), 2**16), tf.int32), length)
        listed = tf.cast(number(integers(tiff, directory, 2)), tf.int32)
        start = tf.minimum(directory + 2, length)
        entries = tf.minimum(listed, (length - start) // _ENTRY_BYTES)
        raw = tf.strings.substr(tiff, start, entries * _ENTRY_BYTES)
        table = tf.reshape(tf.cast(tf.io.decode_raw(raw, tf.uint8), tf.int32), [-1, _ENTRY_BYTES])
        kind = number(table[:, 2:4])
        value = tf.where(kind == _LONG, number(table[:, 8:12]), number(table[:, 8:10]))
        usable = ((kind == _SHORT) | (kind == _LONG)) & (number(table[:, 4:8]) == 1) & (value <= 8)
        # Of several, readers take the last.
        values = tf.boolean_mask(tf.where(usable, value, 0), number(table[:, :2]) == _TAG)
        return tf.cast(tf.concat([[-1], values], axis=0)[-1], tf.int32)

    return tf.cond(known, look_up, lambda: -1)


def _in_xmp(metadata: tf.Tensor) -> tf.Tensor:
    pieces = split(metadata, b"tiff:Orientation")

    def read() -> tf.Tensor:
        # Either an attribute, ="6", or an element, >6<.
        digit = tf.strings.regex_replace(pieces[1], r'(?s)^(?:="|>)([0-9])\C*$', r"\1")
        return tf.where(tf.strings.length(digit) == 1, integers(digit, 0, 1)[0] - ord("0"), _UPRIGHT)

    return tf.cond(tf.size(pieces) > 1, read, lambda: _UPRIGHT)
