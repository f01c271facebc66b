"""Options and labels are checked where they are made."""

import dataclasses

import pytest
from gradcam_export import ExportOptions, LabelsError, OptionError
from gradcam_export.checks.samples import verification_images
from gradcam_export.graph.images import resolve_preprocessing
from gradcam_export.labels import resolve_labels
from gradcam_export.options import ExportKeywords


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"score": "softmax"}, "score must be one of logit, probability; got 'softmax'"),
        ({"weights": "frozen"}, "weights must be one of variables, constants; got 'frozen'"),
        ({"batching": "always"}, "batching must be one of none; got 'always'"),
        ({"image_size": (224,)}, r"image_size must be \(H, W\) or \(H, W, C\), each at least 1; got \(224,\)"),
        ({"image_size": (0, 3)}, r"image_size must be .* got \(0, 3\)"),
        ({"version": -1}, "version must be a number from 0 up; got -1"),
        ({"images": "no/such/folder"}, "images must be a folder of images; no/such/folder is none"),
    ],
)
def test_impossible_values_are_refused(option, message):
    with pytest.raises(OptionError, match=message):
        ExportOptions(**option)


def test_keywords_and_options_are_the_same_names():
    assert set(ExportKeywords.__annotations__) == {field.name for field in dataclasses.fields(ExportOptions)}


def test_labels_are_made_up_where_there_are_none():
    assert resolve_labels(None, 3) == ("class_0", "class_1", "class_2")


def test_labels_are_read_from_a_file_whatever_wrote_it(tmp_path):
    (tmp_path / "labels.txt").write_bytes("\ufeffchat\r\nhibou \nœuf\n\n".encode())
    assert resolve_labels(tmp_path / "labels.txt", 3) == ("chat", "hibou", "œuf")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "labels: 2 labels for a classifier of 3 classes"),
        (["a", "", "c"], "labels: label 2 is ''; each must be one line of text"),
        (["a", "b\nc", "d"], "labels: label 2 is .*; each must be one line of text"),
        (["a", "b", "a"], "labels: repeated: 'a'. Each class needs a name of its own"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(LabelsError, match=message):
        resolve_labels(labels, 3)


def test_unreadable_files_of_labels_are_one_clear_line(tmp_path):
    with pytest.raises(LabelsError, match=r"missing\.txt: cannot be read as a file of labels: No such file"):
        resolve_labels(tmp_path / "missing.txt", 3)
    (tmp_path / "latin.txt").write_bytes("Käfer\n".encode("latin-1"))
    with pytest.raises(LabelsError, match=r"latin.txt: not UTF-8 text \(byte 1\)"):
        resolve_labels(str(tmp_path / "latin.txt"), 1)


@pytest.mark.parametrize(
    ("asked", "channels", "message"),
    [
        ("imagenet", 3, "preprocessing must be one of none, tf, unit, torch, caffe, or package.module:function"),
        ("caffe", 1, "preprocessing 'caffe' is for RGB images; this classifier takes 1 channels"),
    ],
)
def test_preprocessing_that_does_not_exist_or_fit_is_refused(asked, channels, message):
    with pytest.raises(OptionError, match=message):
        resolve_preprocessing(asked, None, channels)


def test_preprocessing_can_be_any_function():
    def halve(images):
        return images / 2

    assert resolve_preprocessing(halve, None, 3).name.endswith("halve")
    assert resolve_preprocessing("keras.activations:relu", None, 3).name == "keras.activations:relu"
    # What a factory prescribes and no mode computes keeps its own name.
    assert resolve_preprocessing(None, halve, 3).function is halve


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(OptionError, match="no readable image among its files"):
        verification_images((8, 8, 3), tmp_path)
    with pytest.raises(OptionError, match="images of 13 channels cannot be read from image files"):
        verification_images((8, 8, 13), tmp_path)
