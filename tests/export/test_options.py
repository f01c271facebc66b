"""Options are checked where they are made."""

import dataclasses

import pytest
from gradcam_export import ExportOptions, OptionError
from gradcam_export.graph.images import resolve_preprocessing
from gradcam_export.methods import METHODS
from gradcam_export.options import ExportKeywords, Method, choices


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"score": "softmax"}, "score must be one of logit, probability; got 'softmax'"),
        ({"weights": "frozen"}, "weights must be one of variables, constants; got 'frozen'"),
        ({"batching": "always"}, "batching must be one of in-graph, server, none; got 'always'"),
        ({"image_size": ()}, r"image_size must be \(H, W\) or \(H, W, C\), each at least 1; got \(\)"),
        ({"image_size": (0, 3)}, r"image_size must be .* got \(0, 3\)"),
        ({"method": "smoothgrad"}, r"method must be one of cam, gradcam, .*, counterfactual; got 'smoothgrad'"),
        ({"method": ("gradcam", "smoothgrad")}, "method must be one of .*; got 'smoothgrad'"),
        ({"method": ()}, r"method must name one CAM method, or several, each once; got \(\)"),
        ({"method": ["cam", "cam"]}, r"method must name one CAM method, or several, each once; got \['cam', 'cam'\]"),
        ({"top_k": 0}, "top_k must be a number from 1 up; got 0"),
        ({"chunk": -1}, "chunk must be a number from 1 up; got -1"),
        ({"allowed_batch_sizes": (1, 4, 2)}, r"allowed_batch_sizes must ascend from 1 up to max_batch_size 16"),
        ({"allowed_batch_sizes": (1, 2), "max_batch_size": 4}, r"up to max_batch_size 4; got \(1, 2\)"),
        ({"allowed_batch_sizes": ()}, r"got \(\)"),
        ({"max_batch_size": 0}, "max_batch_size must be a number from 1 up; got 0"),
        ({"batch_threads": 0}, "batch_threads must be a number from 1 up; got 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be a number from 0 up; got -1"),
        ({"version": -1}, "version must be a number from 0 up; got -1"),
        ({"images": "no/such/folder"}, "images must be a folder of images; no/such/folder is none"),
    ],
)
def test_impossible_values_are_refused(option, message):
    with pytest.raises(OptionError, match=message):
        ExportOptions(**option)


def test_the_methods_are_those_that_are_registered():
    assert list(choices(Method)) == list(METHODS)


def test_one_method_is_a_sequence_of_one():
    assert ExportOptions(method="cam").methods == ("cam",)
    assert ExportOptions(method=["cam", "gradcam++"]).methods == ("cam", "gradcam++")
    assert ExportOptions().methods == ("gradcam",)


def test_keywords_and_options_are_the_same_names():
    assert set(ExportKeywords.__annotations__) == {field.name for field in dataclasses.fields(ExportOptions)}


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


def test_batches_are_padded_to_the_next_power_of_two():
    assert ExportOptions().batch_sizes == (1, 2, 4, 8, 16)
    assert ExportOptions(max_batch_size=5).batch_sizes == (1, 2, 4, 5)
    assert ExportOptions(max_batch_size=1).batch_sizes == (1,)
