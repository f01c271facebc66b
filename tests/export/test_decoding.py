"""Encoded pictures in the graph against Pillow's decoder and resize."""

import io
import itertools
import struct

import numpy as np
import pytest
import tensorflow as tf
from encoded import (
    LIMITS,
    ORIENTATION,
    SHAPE,
    chunk,
    encode,
    exif,
    interlaced,
    photograph,
    png,
    png_of,
    run,
    saved,
    segment,
    tiff,
    with_segments,
)
from gradcam_export.errors import OptionError
from gradcam_export.graph.decoding import decode_images
from PIL import Image


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    with saved(tmp_path_factory.mktemp("decoding"), "fitted", "grey", "original") as loaded:
        yield loaded


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def resized(picture, height, width):
    """Pillow's bilinear resize, its passes in the order of every version before 13: width, then height."""
    narrow = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 33), (64, 48), (121, 203)])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_decoded_bit_for_bit(version, rng, size, progressive):
    for subsampling, quality in itertools.product(("4:4:4", "4:2:2", "4:2:0"), (25, 75, 98)):
        data = encode(photograph(rng, *size), subsampling=subsampling, quality=quality, progressive=progressive)
        np.testing.assert_array_equal(run(version, "original", data), by_pillow(data), str((subsampling, quality)))
    for data in (
        encode(photograph(rng, *size, "L"), progressive=progressive),
        encode(photograph(rng, *size), progressive=progressive, keep_rgb=True),
        encode(photograph(rng, *size), progressive=progressive, restart_marker_blocks=3),
    ):
        np.testing.assert_array_equal(run(version, "original", data), by_pillow(data))


def test_cmyk_jpeg_is_decoded(version, rng):
    samples = rng.integers(0, 256, (40, 56, 4), dtype=np.uint8)
    data = encode(Image.fromarray(samples, "CMYK").resize((200, 160)), quality=92)
    difference = np.abs(run(version, "original", data).astype(int) - by_pillow(data))
    assert difference.max() <= 1


def test_every_kind_of_png_is_decoded_bit_for_bit(version, rng):
    picture = photograph(rng, 37, 53)
    samples = np.asarray(picture)
    palette = picture.quantize(32)
    deep = rng.integers(0, 65536, (19, 23, 4), dtype=np.uint16)
    translucent = rng.integers(0, 256, (19, 23, 4), dtype=np.uint8)
    colours = np.asarray(palette.convert("RGB"))
    high = (deep >> 8).astype(np.uint8)
    grey = np.repeat(samples[..., :1], 3, 2)
    cases = {
        "RGB": (encode(picture, "PNG"), samples),
        "interlaced": (interlaced(samples), samples),
        "grey": (encode(picture.getchannel(0), "PNG"), grey),
        "palette": (encode(palette, "PNG"), colours),
        "palette with alpha": (encode(palette, "PNG", transparency=bytes([0, 128] + [255] * 30)), colours),
        "palette of 4 bits": (
            encode(picture.quantize(9), "PNG", bits=4),
            np.asarray(picture.quantize(9).convert("RGB")),
        ),
        "RGBA": (png_of(translucent, colour=6), translucent[..., :3]),
        "grey and alpha": (png_of(translucent[..., :2], colour=4), np.repeat(translucent[..., :1], 3, 2)),
        "RGB with a transparent colour": (png_of(samples, colour=2, before=chunk(b"tRNS", b"\0\1\0\2\0\3")), samples),
        "16-bit RGB": (png_of(deep[..., :3], colour=2), high[..., :3]),
        "16-bit RGBA": (png_of(deep, colour=6), high[..., :3]),
        "16-bit grey": (png_of(deep[..., :1], colour=0), np.repeat(high[..., :1], 3, 2)),
        "16-bit grey and alpha": (png_of(deep[..., :2], colour=4), np.repeat(high[..., :1], 3, 2)),
        "gamma": (png_of(samples, colour=2, before=chunk(b"gAMA", struct.pack(">I", 100000))), samples),
        "1-bit grey": (png(b"\0\xb0", 4, 1, depth=1, colour=0), [[[255] * 3, [0] * 3, [255] * 3, [255] * 3]]),
        "2-bit grey": (png(b"\0\x1b", 4, 1, depth=2, colour=0), [[[0] * 3, [85] * 3, [170] * 3, [255] * 3]]),
        "4-bit grey": (png(b"\0\x3f", 2, 1, depth=4, colour=0), [[[51] * 3, [255] * 3]]),
    }
    for name, (data, expected) in cases.items():
        np.testing.assert_array_equal(run(version, "original", data), expected, name)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 90), (3, 2), (48, 56), (96, 112), (97, 40), (30, 300), (480, 640), (1100, 1200)]
)
def test_resizing_is_pillows_within_one_grey_level(version, rng, size):
    picture = photograph(rng, *size)
    found = run(version, "fitted", encode(picture, "PNG"))[0].astype(int)
    difference = np.abs(found - resized(picture, *SHAPE[:2]))
    assert difference.max() <= 1
    # Halves, which occur where sizes have common factors, are rounded by the last bit of a coefficient.
    assert (difference > 0).mean() < 0.02


def test_a_picture_of_the_right_size_is_left_as_it_is(version, rng):
    picture = photograph(rng, *SHAPE[:2])
    np.testing.assert_array_equal(run(version, "fitted", encode(picture, "PNG"))[0], picture)


def test_halving_rounds_halves_up(version):
    picture = Image.fromarray(np.tile(np.array([[10, 11], [10, 11]], np.uint8), SHAPE[:2]))
    expected = resized(picture.convert("RGB"), *SHAPE[:2])
    np.testing.assert_array_equal(run(version, "fitted", encode(picture, "PNG"))[0], expected)
    assert 11 in expected


def test_grey_is_pillows_luma(version, rng):
    picture = photograph(rng, 1000, 1100)
    found = run(version, "grey", encode(picture, "PNG"))[0, :, :, 0].astype(int)
    difference = np.abs(found - resized(picture.convert("L"), *SHAPE[:2]))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02
    every = np.stack(np.meshgrid(*[np.linspace(0, 255, 14)] * 3), axis=-1).reshape(-1, 3)
    exact = Image.fromarray(every[: np.prod(SHAPE[:2])].reshape(SHAPE).astype(np.uint8))
    np.testing.assert_array_equal(run(version, "grey", encode(exact, "PNG"))[0, :, :, 0], exact.convert("L"))


def test_rows_keep_their_order_and_none_gives_none(version, rng):
    pictures = [photograph(rng, *SHAPE[:2]) for _ in range(5)]
    found = run(version, "fitted", *(encode(picture, "PNG") for picture in pictures))
    np.testing.assert_array_equal(found, np.stack([np.asarray(picture) for picture in pictures]))
    assert run(version, "fitted").shape == (0, *SHAPE)
    assert run(version, "grey").shape == (0, *SHAPE[:2], 1)


# Exif 2.32, tag 0x0112: the side of the upright picture that the stored row 0 and column 0 are.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored_as(upright, orientation):
    row0, column0 = SIDES[orientation]
    stored = upright if row0 in {"top", "bottom"} else upright.transpose(1, 0, 2)
    stored = stored[::-1] if row0 in {"bottom", "right"} else stored
    return np.ascontiguousarray(stored[:, ::-1] if column0 in {"bottom", "right"} else stored)


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_orientation_comes_out_upright(version, rng, orientation, order):
    upright = np.asarray(photograph(rng, 70, 100))
    stored = Image.fromarray(stored_as(upright, orientation))
    as_png = png_of(np.asarray(stored), colour=2, before=chunk(b"eXIf", exif(orientation, order)))
    np.testing.assert_array_equal(run(version, "original", as_png), upright)
    difference = np.abs(run(version, "fitted", as_png)[0].astype(int) - resized(Image.fromarray(upright), *SHAPE[:2]))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02

    plain = encode(stored, quality=95)
    as_jpeg = with_segments(plain, segment(0xE1, b"Exif\0\0" + exif(orientation, order)))
    found = run(version, "original", as_jpeg)
    np.testing.assert_array_equal(stored_as(found, orientation), by_pillow(plain))


def entry(kind, count, value, order="<", tag=ORIENTATION):
    width = {3: "HH", 4: "I", 5: "I"}[kind]
    return struct.pack(f"{order}HHI{width}", tag, kind, count, *([value, 0] if width == "HH" else [value]))


APP1 = 0xE1
UPSIDE_DOWN = segment(APP1, b"Exif\0\0" + exif(3))
OTHER = entry(3, 1, 7, tag=0x0100)
XMP = b"http://ns.adobe.com/xap/1.0/\0"
METADATA = {
    "none": (False, []),
    "one": (True, [UPSIDE_DOWN]),
    "behind a colour profile of 150 kB": (True, [segment(0xE2, b"ICC_PROFILE\0" + b"x" * 50_000)] * 3 + [UPSIDE_DOWN]),
    "behind fill bytes": (True, [b"\xff\xff\xff", UPSIDE_DOWN]),
    "among other tags": (True, [segment(APP1, b"Exif\0\0" + tiff([OTHER, entry(3, 1, 3), OTHER]))]),
    "in a directory further on": (True, [segment(APP1, b"Exif\0\0" + tiff([entry(3, 1, 3)], offset=500))]),
    "as LONG": (True, [segment(APP1, b"Exif\0\0" + tiff([entry(4, 1, 3)]))]),
    "as LONG, most significant first": (True, [segment(APP1, b"Exif\0\0" + tiff([entry(4, 1, 3, ">")], ">"))]),
    "twice, the last is read": (True, [segment(APP1, b"Exif\0\0" + tiff([entry(3, 1, 6), entry(3, 1, 3)]))]),
    "in XMP, as attribute": (True, [segment(APP1, XMP + b'<rdf tiff:Orientation="3" x:y="6"/>')]),
    "in XMP, as element": (True, [segment(APP1, XMP + b"<tiff:Orientation>3</tiff:Orientation>")]),
    "in XMP, where EXIF has none": (
        True,
        [segment(APP1, b"Exif\0\0" + tiff([OTHER])), segment(APP1, XMP + b'tiff:Orientation="3"')],
    ),
    "in both, EXIF counts": (
        False,
        [segment(APP1, b"Exif\0\0" + exif(1)), segment(APP1, XMP + b'tiff:Orientation="3"')],
    ),
    "no number in XMP": (False, [segment(APP1, XMP + b'tiff:Orientation="up"')]),
    "two numbers": (False, [segment(APP1, b"Exif\0\0" + tiff([entry(3, 2, 3)]))]),
    "of another type": (False, [segment(APP1, b"Exif\0\0" + tiff([entry(5, 1, 3)]))]),
    "beyond 8": (False, [segment(APP1, b"Exif\0\0" + exif(9))]),
    "zero": (False, [segment(APP1, b"Exif\0\0" + exif(0))]),
    "65539, which is 3 in 16 bits": (
        False,
        [segment(APP1, b"Exif\0\0" + tiff([entry(4, 1, 65539)]))],
    ),
    "directory beyond the file": (False, [segment(APP1, b"Exif\0\0II*\0\xff\xff\xff\xff")]),
    "directory cut off": (False, [segment(APP1, b"Exif\0\0" + exif(3)[:14])]),
    "no TIFF": (False, [segment(APP1, b"Exif\0\0" + b"JJ" + exif(3)[2:])]),
    "nothing in it": (False, [segment(APP1, b"Exif\0\0")]),
}


@pytest.mark.parametrize("name", METADATA)
def test_an_orientation_is_found_wherever_it_may_stand(version, rng, name):
    turned, segments = METADATA[name]
    plain = encode(photograph(rng, 24, 32))
    stored = run(version, "original", plain)
    np.testing.assert_array_equal(
        run(version, "original", with_segments(plain, *segments)), stored[::-1, ::-1] if turned else stored
    )


def test_what_follows_the_first_scan_is_no_metadata(version, rng):
    plain = encode(photograph(rng, 24, 32))
    # A second picture, as phones append one, with an orientation of its own.
    np.testing.assert_array_equal(
        run(version, "original", plain + with_segments(plain, UPSIDE_DOWN)), run(version, "original", plain)
    )


def test_an_orientation_after_the_pixels_of_a_png_counts(version, rng):
    samples = np.asarray(photograph(rng, 24, 32))
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    data = png(rows, 32, 24, after=chunk(b"eXIf", exif(3, ">")))
    np.testing.assert_array_equal(run(version, "original", data), samples[::-1, ::-1])


def test_a_large_picture_is_the_sum_of_its_strips(version, rng):
    # 1.3 million pixels: two strips, the second of them not full.
    picture = photograph(rng, 1100, 1200)
    for signature, mode in (("fitted", "RGB"), ("grey", "L")):
        found = run(version, signature, encode(picture, "PNG"))[0].astype(int)
        expected = resized(picture.convert(mode), *SHAPE[:2]).reshape(found.shape)
        assert np.abs(found - expected).max() <= 1


def test_decoding_is_placed_on_the_cpu(version):
    graph = tf.function(lambda files: decode_images(files, SHAPE, LIMITS), autograph=False).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    functions = graph.graph.as_graph_def().library.function
    decoders = [node for function in functions for node in function.node_def if node.op == "DecodeJpeg"]
    assert decoders
    assert all("CPU:0" in node.device for node in decoders)
    assert all(node.attr["dct_method"].s == b"INTEGER_ACCURATE" for node in decoders)


def test_a_classifier_of_other_channels_takes_no_encoded_images():
    with pytest.raises(OptionError, match="for classifiers of 1 or 3 channels; this one takes 4"):
        decode_images(tf.constant([b""]), (8, 8, 4), LIMITS)
