"""Files made to hurt: refused by their headers, before anything is allocated, each by itself."""

import multiprocessing
import re
import struct
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from encoded import (
    LIMITS,
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
    with_segments,
    with_size,
)
from gradcam_export.graph.headers import ImageLimits
from header_bombs import peak_growths
from PIL import Image


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    with saved(tmp_path_factory.mktemp("hostile"), "fitted", "original") as loaded:
        yield loaded


@pytest.fixture
def rng():
    return np.random.default_rng(21)


@pytest.fixture(scope="module")
def whole():
    """One small file of every kind."""
    rng = np.random.default_rng(22)
    picture = photograph(rng, 24, 32)
    cmyk = Image.fromarray(rng.integers(0, 256, (24, 32, 4), dtype=np.uint8), "CMYK")
    return [
        encode(picture),
        encode(picture, progressive=True),
        with_segments(encode(picture), segment(0xE1, b"Exif\0\0" + exif(6))),
        encode(picture.convert("L"), restart_marker_blocks=2),
        encode(cmyk),
        encode(picture, "PNG"),
        interlaced(np.asarray(picture)),
        encode(picture.quantize(16), "PNG", transparency=bytes(range(16))),
        png_of(np.asarray(picture).astype(np.uint16) * 257, colour=2, before=chunk(b"eXIf", exif(8, ">"))),
        png_of(np.asarray(picture), colour=2, before=chunk(b"zTXt", b"key\0\0" + zlib.compress(b"text"))),
    ]


OTHER_FORMATS = {
    "WebP": b"RIFF\x24\0\0\0WEBPVP8 ",
    "GIF": b"GIF89a\1\0\1\0",
    "BMP": b"BM\x46\0\0\0",
    "TIFF": b"II*\0\x08\0\0\0",
    "HEIC or AVIF": b"\0\0\0\x18ftypheic",
    "JPEG XL": b"\xff\x0a\xfa\x1f",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "base64 text": b"/9j/4AAQSkZJRg==",
    "empty": b"",
    "of no known format": b"\xfe\x80\xff secret",
}


@pytest.mark.parametrize("signature", ["fitted", "original"])
@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_other_formats_are_refused_by_name(version, signature, name):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"image 0 is {name}: send a JPEG or PNG") as refused:
        run(version, signature, OTHER_FORMATS[name])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "start", [b"MM\0*", b"\0\0\0\x0cJXL \r\n\x87\n", b"iVBORw0KGgo", b"GIF87a", b"\x89PNG\r\n\x1a\n"]
)
def test_further_beginnings_are_no_pictures(version, start):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 0 is .*: send a JPEG or PNG"):
        run(version, "fitted", start)


def test_the_refused_image_is_told_by_its_place(version, whole):
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes: image 2 is GIF"):
        run(version, "fitted", whole[0], whole[5], b"GIF89a", whole[1])


def test_a_file_beyond_the_limit_of_bytes_is_refused(version, whole):
    most = LIMITS.max_bytes
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"image 0 has {most + 1} bytes; at most {most} are taken"):
        run(version, "fitted", whole[0].ljust(most + 1, b"\0"))
    assert run(version, "fitted", whole[0].ljust(most, b"\0")).shape == (1, *SHAPE)


@pytest.mark.parametrize(
    "size", [(2000, 2001), (65500, 65500), (1, 2**31 - 1), (0, 5), (5, 2**31 + 5), (2**32 - 1, 2**32 - 1)]
)
def test_a_header_beyond_the_limit_of_pixels_is_refused(version, size):
    files = [png(b"", size[1], size[0])]
    if max(size) < 2**16 and min(size):
        files.append(with_size(encode(Image.new("RGB", (16, 16))), *size))
    for file in files:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"by its header; at most 4000000 pixels are taken"):
            run(version, "fitted", file)


def test_the_most_pixels_allowed_are_taken(tmp_path, whole):
    picture = Image.fromarray(np.zeros((24, 32, 3), np.uint8))
    with saved(tmp_path, "fitted", limits=ImageLimits(10_000, 24 * 32)) as version:
        for file in (encode(picture), encode(picture, "PNG")):
            assert run(version, "fitted", file).shape == (1, *SHAPE)
        for file in (encode(picture.resize((32, 25))), encode(picture.resize((33, 24)), "PNG")):
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"32×25 by its header|33×24 by its header"):
                run(version, "fitted", file)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads peak memory from Linux's /proc")
def test_a_header_bomb_costs_no_memory(tmp_path):
    # In a process of its own: one that has done much has memory at hand that it need not ask for.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        refused, believed = process.submit(peak_growths, tmp_path).result()
    assert refused < 8e6
    # What the limit is there for: the same file, believed.
    assert believed > 150e6


def test_scans_that_repeat_the_picture_are_counted(version):
    grey = encode(Image.new("L", (1024, 1024), 90), progressive=True)
    last = grey[grey.rindex(b"\xff\xda") : -2]
    scans = grey.count(b"\xff\xda")
    most = 16 * LIMITS.max_pixels // 1024**2
    for extra in (0, 1, most - scans):
        assert run(version, "fitted", grey[:-2] + last * extra + grey[-2:]).shape == (1, *SHAPE)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"has {most + 1} scans or more; at most {most} are taken"):
        run(version, "fitted", grey[:-2] + last * (most - scans + 1) + grey[-2:])
    # The decoder stops at the only scan there is: what follows, such as a video, is no picture.
    baseline = encode(Image.new("RGB", (1024, 1024), (9, 90, 190)))
    assert run(version, "fitted", baseline + b"\xff\xda" * 500).shape == (1, *SHAPE)


def test_scans_of_one_component_each_are_counted(version):
    """A baseline JPEG may send its components one after the other, and again."""
    grey = encode(Image.new("L", (1024, 1024), 90))
    frame, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    two = segment(0xC0, struct.pack(">BHHB", 8, 1024, 1024, 2) + b"\1\x11\0\2\x11\0")
    header = grey[:frame] + two + grey[frame + 13 : scan]
    with pytest.raises(tf.errors.InvalidArgumentError, match="has 99 scans or more"):
        run(version, "fitted", header + grey[scan:-2] * 99 + grey[-2:])


def test_a_scan_beyond_a_thousand_segments_is_not_believed_to_be_the_only_one(version):
    filled = with_segments(encode(Image.new("RGB", (1024, 1024))), *[segment(0xFE, b"")] * 1000)
    assert run(version, "fitted", filled).shape == (1, *SHAPE)
    with pytest.raises(tf.errors.InvalidArgumentError, match="has 66 scans or more; at most 61"):
        run(version, "fitted", filled + b"\xff\xda" * 65)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_texts_that_unpack_to_gigabytes_are_refused(version, kind, place):
    head = b"key\0\0" if kind == b"zTXt" else b"key\0\1\0\0\0"
    bomb = chunk(kind, head + zlib.compress(b"a" * 7_900_000, 9))
    rows = (b"\0" + bytes(12)) * 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="image 0 holds 9 texts, too long together"):
        run(version, "fitted", png(rows, 4, 4, **{place: bomb * 9}))
    assert (
        run(version, "fitted", png(rows, 4, 4, **{place: chunk(kind, head + zlib.compress(b"short")) * 300})).any() == 0
    )


def mutated(file, others, rng):
    """Alter a file: bits, bytes, length, order, sizes, or its tail for another's."""
    data = bytearray(file)
    for _ in range(rng.integers(1, 4)):
        at, count = int(rng.integers(len(data))), int(rng.integers(1, 9))
        kind = rng.integers(7)
        if kind == 0:
            data[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            data[at : at + count] = rng.bytes(count)
        elif kind == 2:
            del data[at : at + count]
        elif kind == 3:
            data[at:at] = data[at // 2 : at // 2 + 4 * count]
        elif kind == 4:
            del data[max(at, 2) :]
        elif kind == 5:
            data[at : at + 2] = [0xFF, int(rng.integers(0xC0, 0x100))]
        else:
            data[at:] = others[rng.integers(len(others))][at:]
        if not data:
            return b""
    return bytes(data)


# What the decoders say, and we: never a byte of the file.
KNOWN = re.compile(
    r"image_bytes: image 0 (is|has|holds) |Invalid PNG data, size \d+|Invalid JPEG data, size \d+"
    r"|Invalid PNG\. Failed to initialize decoder|jpeg::Uncompress failed\. Invalid JPEG data or crop window"
)


def answer_or_refuse(version, files):
    refused = []
    for file in files:
        start = time.perf_counter()
        try:
            answer = run(version, "fitted", file)
        except tf.errors.InvalidArgumentError as error:
            refused.append(error.message)
        else:
            assert answer.shape == (1, *SHAPE)
            assert answer.dtype == np.uint8
        # Of milliseconds of work: a stall, on whatever machine.
        assert time.perf_counter() - start < 20
    assert [message for message in refused if not KNOWN.search(message)] == []
    return len(refused)


def answer_mutated(version, whole, count):
    """Send altered files from four threads; each thread has its own share."""

    def some(seed):
        rng = np.random.default_rng(seed)
        files = (mutated(whole[rng.integers(len(whole))], whole, rng) for _ in range(count // 4))
        return answer_or_refuse(version, files)

    with ThreadPoolExecutor(4) as threads:
        return sum(threads.map(some, range(4)))


def test_thousands_of_altered_files_are_answered_or_refused(version, whole):
    refused = answer_mutated(version, whole, 4000)
    assert 400 < refused < 3600


@pytest.mark.large
def test_a_hundred_thousand_altered_files_are_answered_or_refused(version, whole):
    refused = answer_mutated(version, whole, 100_000)
    assert 10_000 < refused < 90_000


def test_every_truncation_is_answered_or_refused(version, whole):
    for file in whole[2], whole[8]:
        answer_or_refuse(version, (file[:length] for length in range(0, len(file), 7)))


def test_bad_files_fail_no_other_request(version, whole):
    expected = [run(version, "fitted", file) for file in whole]

    def good(number):
        np.testing.assert_array_equal(run(version, "fitted", whole[number % 10]), expected[number % 10])

    def bad(number):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(version, "fitted", whole[number % 10][: 20 + number % 7])

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: (bad if number % 3 == 0 else good)(number), range(600)))
