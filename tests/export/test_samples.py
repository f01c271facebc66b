"""What versions are verified with."""

import numpy as np
import pytest
from gradcam_export import OptionError
from gradcam_export.checks.samples import COUNT, verification_inputs
from PIL import Image


def spec(*shape, dtype="uint8", name="images"):
    return {"name": name, "shape": list(shape), "dtype": dtype}


@pytest.fixture
def folder(tmp_path):
    """Six readable images and two files that are none."""
    random = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(random.integers(0, 256, (30 + index, 40, 3), np.uint8)).save(tmp_path / f"{index}.png")
    (tmp_path / "0_notes.txt").write_text("none")
    (tmp_path / "1_broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
def test_synthetic_images_have_structure_and_differ(channels):
    images = verification_inputs([spec(24, 32, channels)], None)["images"]
    assert (images.shape, images.dtype) == ((COUNT, 24, 32, channels), np.uint8)
    again = verification_inputs([spec(24, 32, channels)], None)["images"]
    np.testing.assert_array_equal(images, again)
    assert images.std(axis=(1, 2, 3)).min() > 20
    # Each has finer structure than the one before: neighbours are less alike.
    roughness = np.abs(np.diff(images.astype(int), axis=2)).mean(axis=(1, 2, 3))
    assert (np.diff(roughness) > 0).all()


def test_other_inputs_are_noise_or_the_two_tokens_that_there_are():
    wave, tokens = spec(50, 2, dtype="float32", name="inputs"), spec(12, dtype="int32", name="words")
    values = verification_inputs([wave, tokens], None)
    assert (values["inputs"].shape, values["inputs"].dtype) == ((COUNT, 50, 2), np.float32)
    assert abs(values["inputs"].mean()) < 0.2
    assert 0.8 < values["inputs"].std() < 1.2
    assert (values["words"].shape, values["words"].dtype) == ((COUNT, 12), np.int32)
    assert set(np.unique(values["words"])) == {0, 1}


def test_the_first_images_of_a_folder_are_taken_resized_as_the_client_does(folder):
    images = verification_inputs([spec(8, 10, 3)], folder)["images"]
    assert (images.shape, images.dtype) == ((COUNT, 8, 10, 3), np.uint8)
    for index, image in enumerate(images):
        with Image.open(folder / f"{index}.png") as picture:
            np.testing.assert_array_equal(image, picture.resize((10, 8), Image.Resampling.BILINEAR))


def test_a_grey_classifier_gets_grey_images(folder):
    images = verification_inputs([spec(8, 10, 1)], folder)["images"]
    with Image.open(folder / "0.png") as picture:
        grey = np.asarray(picture.convert("L").resize((10, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images[0, :, :, 0], grey)


def test_images_lie_upright(tmp_path):
    picture = Image.fromarray(np.repeat(np.arange(60, dtype=np.uint8), 40).reshape(60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    images = verification_inputs([spec(60, 40, 1)], tmp_path)["images"]
    np.testing.assert_array_equal(images[0, :, :, 0], picture)


def test_inputs_beside_images_of_a_folder_have_as_many_rows(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "only.png")
    values = verification_inputs([spec(8, 8, 3), spec(2, dtype="float32", name="age")], tmp_path)
    assert values["images"].shape == (1, 8, 8, 3)
    assert values["age"].shape == (1, 2)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(OptionError, match=r"no image among its files \(.*\.png"):
        verification_inputs([spec(8, 8, 3)], tmp_path)
    (tmp_path / "notes.png").write_text("none")
    with pytest.raises(OptionError, match="no readable image among its files"):
        verification_inputs([spec(8, 8, 3)], tmp_path)


def test_files_do_not_hold_what_is_no_image(tmp_path):
    with pytest.raises(OptionError, match=r"this classifier takes float32 \[8, 8, 13\], which no image file holds"):
        verification_inputs([spec(8, 8, 13, dtype="float32", name="inputs")], tmp_path)
