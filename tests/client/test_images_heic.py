"""HEIC pictures are read where their library is, and refused with the reason where it is not."""

import copy
import sys

import numpy as np
import pillow_heif
import pytest
from gradcam_client import images
from gradcam_client.errors import ImageError
from PIL import Image


@pytest.fixture
def heic(tmp_path, monkeypatch):
    """A HEIC picture, red on its left and blue on its right, that Pillow does not know yet."""
    for registry in ("ID", "OPEN", "SAVE", "EXTENSION", "MIME"):
        monkeypatch.setattr(Image, registry, copy.copy(getattr(Image, registry)))
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, :24], pixels[:, 24:] = (250, 10, 10), (10, 10, 250)
    file = tmp_path / "picture.heic"
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=95)
    return file


def test_heic_is_read_where_its_library_is(heic):
    for source in (heic, heic.read_bytes()):
        found = np.asarray(images.read(source)).astype(int)
        for part, colour in ((slice(16), (250, 10, 10)), (slice(32, 48), (10, 10, 250))):
            assert np.abs(found[:, part] - colour).max() < 12


def test_heic_says_what_to_install_where_its_library_is_not(heic, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for source in (heic, heic.read_bytes()):
        with pytest.raises(ImageError, match=r"is HEIC, which needs one more library: install gradcam-client\[heic\]"):
            images.read(source)


def test_what_only_begins_like_heic_is_no_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"avif", b"isom"):
        with pytest.raises(ImageError, match="is not an image that Pillow can read"):
            images.read(b"\x00\x00\x00\x1cftyp" + brand + bytes(16))


def test_heic_that_is_cut_off_or_altered_is_refused(heic):
    whole = heic.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:8], whole[:40] + bytes(len(whole) - 40)):
        with pytest.raises(ImageError, match=r"the image of .* bytes: (cannot be read|is not an image)"):
            images.read(broken)
