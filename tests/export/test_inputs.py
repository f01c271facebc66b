"""What a classifier takes, read off every kind of model, and what the signatures take for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from assembled import served
from classifiers import INPUT_SHAPE, Subclassed, photographs
from conditioned import conditioned
from gradcam_export import LoadError
from gradcam_export.keras_model.inputs import ModelInput, find_inputs, is_built, own_shape
from keras import layers


def taking(*inputs, dtype="float32"):
    """Return a model of these inputs; nothing is computed of them but their sum."""
    tensors = [keras.Input(shape, dtype=dtype) if isinstance(shape, tuple) else shape for shape in inputs]
    sums = [keras.ops.sum(keras.ops.cast(one, "float32"), axis=range(1, len(one.shape))) for one in tensors]
    return keras.Model(tensors if len(tensors) > 1 else tensors[0], keras.ops.stack(sums, axis=1), name="flowers")


def channels_first(*shapes):
    images = [keras.Input(shape) for shape in shapes]
    found = [layers.Conv2D(2, 1, data_format="channels_first")(one) for one in images if len(one.shape) == 4]
    found += [layers.Conv1D(2, 1, data_format="channels_first")(one) for one in images if len(one.shape) == 3]
    return keras.Model(images, found, name="flowers")


def one(model, image_size=None):
    (found,) = find_inputs(model, image_size)
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_images_are_bytes(channels):
    found = one(taking((32, 40, channels)))
    assert found == ModelInput(name="images", shape=(32, 40, channels), dtype="uint8", model_dtype="float32")
    assert (found.is_image, found.spatial_rank, found.size) == (True, 2, (32, 40))
    assert own_shape(found) == (32, 40, channels)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
def test_images_are_bytes_whatever_the_model_takes_them_as(dtype):
    found = one(taking((32, 40, 3), dtype=dtype))
    assert (found.name, found.dtype, found.model_dtype) == ("images", "uint8", dtype)


@pytest.mark.parametrize(
    ("shape", "dtype", "served_dtype", "size"),
    [
        ((32, 40, 13), "float32", "float32", (32, 40)),
        ((32, 40, 2), "float64", "float32", (32, 40)),
        ((100, 2), "float32", "float32", (100,)),
        ((8, 9, 10, 1), "bfloat16", "float32", (8, 9, 10)),
        ((12,), "float32", "float32", ()),
        ((12,), "int64", "int32", (12,)),
        ((6, 7), "uint16", "int32", (6, 7)),
    ],
)
def test_what_is_no_image_is_numbers(shape, dtype, served_dtype, size):
    found = one(taking(shape, dtype=dtype))
    assert found == ModelInput(name="inputs", shape=shape, dtype=served_dtype, model_dtype=dtype)
    assert (found.is_image, found.size, found.spatial_rank) == (False, size, len(size))


@pytest.mark.parametrize("dtype", ["string", "bool"])
def test_what_is_not_numbers_is_refused(dtype):
    words = keras.Input((4,), dtype=dtype, name="words")
    model = keras.Model(words, layers.Lambda(lambda x: x)(words))
    with pytest.raises(LoadError, match=f"input 'words' takes {dtype}; a classifier of numbers is needed"):
        find_inputs(model, None)


def test_images_whose_channels_come_first_are_served_with_them_last():
    found = one(channels_first((3, 32, 40)))
    assert (found.name, found.shape, found.dtype, found.channels_first) == ("images", (32, 40, 3), "uint8", True)
    assert (found.size, own_shape(found)) == ((32, 40), (3, 32, 40))


@pytest.mark.parametrize(("shape", "size"), [((13, 32, 40), (32, 40)), ((2, 100), (100,))])
def test_other_inputs_keep_the_models_own_order(shape, size):
    found = one(channels_first(shape))
    assert (found.name, found.shape, found.dtype, found.channels_first) == ("inputs", shape, "float32", True)
    assert (found.size, own_shape(found), found.spatial_rank) == (size, shape, len(size))


@pytest.mark.parametrize(
    ("shape", "asked", "found"),
    [
        ((None, None, 3), (32, 40), (32, 40, 3)),
        ((None, None, 3), (32, 40, 3), (32, 40, 3)),
        ((None, None, None), (32, 40), (32, 40, 3)),
        ((None, None, None), (32, 40, 13), (32, 40, 13)),
        ((32, None, 1), (32, 40), (32, 40, 1)),
        ((32, 40, 3), (32, 40), (32, 40, 3)),
        ((None, 2), (100,), (100, 2)),
        ((None, None, None, 1), (8, 9, 10), (8, 9, 10, 1)),
        ((None,), (100,), (100,)),
    ],
)
def test_open_sizes_are_those_that_are_said(shape, asked, found):
    assert one(taking(shape), asked).shape == found


def test_open_sizes_come_after_the_channels_where_these_come_first():
    assert one(channels_first((3, None, None)), (32, 40)).shape == (32, 40, 3)
    assert one(channels_first((3, None, None)), (3, 32, 40)).shape == (32, 40, 3)
    assert one(channels_first((3, None, None)), (32, 40, 3)).shape == (32, 40, 3)
    with pytest.raises(LoadError, match="takes inputs of 3x\\?x\\?, not 32x40x1"):
        one(channels_first((3, None, None)), (32, 40, 1))
    assert one(channels_first((2, None)), (100,)).shape == (2, 100)


@pytest.mark.parametrize(
    ("shape", "asked", "message"),
    [
        ((None, None, 1), None, r"'flowers' leaves its input size open \(\?x\?x1\): say it with --image-size HxW"),
        ((None, 2), None, r"leaves its input size open \(\?x2\)"),
        ((None, None, None), (None, None), r"leaves its input size open \(\?x\?x\?\)"),
        ((32, 40, 3), (64, 40), "'flowers' takes inputs of 32x40x3, not 64x40"),
        ((None, 40, 3), (32, 40, 1), "'flowers' takes inputs of \\?x40x3, not 32x40x1"),
        ((32, 40, 3), (32,), r"takes inputs of 3 axes beside the batch, 32x40x3; image_size 32 does not fit them"),
        ((None, 2), (8, 9, 10), r"takes inputs of 2 axes beside the batch, \?x2; image_size 8x9x10 does not fit them"),
    ],
)
def test_sizes_that_are_missing_or_do_not_fit_are_refused(shape, asked, message):
    with pytest.raises(LoadError, match=message):
        find_inputs(taking(shape), asked)


def test_a_model_never_called_takes_images_of_the_size_that_is_said():
    assert one(Subclassed(), (24, 30)).shape == (24, 30, 3)
    assert one(Subclassed(), (24, 30, 13)).shape == (24, 30, 13)
    assert one(Subclassed(), (8, 9, 10, 1)).shape == (8, 9, 10, 1)
    with pytest.raises(LoadError, match=r"leaves its input size open \(\?x\?x\?\)"):
        find_inputs(Subclassed(), None)


def test_a_subclassed_model_that_was_called_knows_its_size():
    model = Subclassed()
    assert not is_built(model)
    model(np.zeros((1, *INPUT_SHAPE), np.float32))
    assert is_built(model)
    assert one(model).shape == INPUT_SHAPE
    assert is_built(taking((3,)))


def test_of_several_inputs_the_one_of_most_axes_is_explained():
    found = find_inputs(taking(keras.Input((2,), name="age"), keras.Input((32, 40, 3), name="photo")), None)
    assert [(each.name, each.dtype) for each in found] == [("age", "float32"), ("images", "uint8")]
    assert found.main.name == "images"


def test_of_inputs_alike_the_first_is_explained():
    found = find_inputs(taking(keras.Input((8, 9, 3), name="left"), keras.Input((8, 9, 3), name="right")), None)
    assert [each.name for each in found] == ["left", "right"]
    assert found.main.name == "left"


def test_a_size_is_said_of_the_input_that_is_explained():
    model = taking(keras.Input((2,), name="age"), keras.Input((None, None, 3), name="photo"))
    assert [each.shape for each in find_inputs(model, (32, 40))] == [(2,), (32, 40, 3)]


def test_names_of_the_contract_and_of_others_are_kept_free():
    inputs = [keras.Input((8, 9, 3), name="photo")]
    inputs += [keras.Input((2,), name=name) for name in ("class_index", "inputs", "class_index_input", "images")]
    found = [each.name for each in find_inputs(taking(*inputs), None)]
    assert found == ["images", "class_index_input", "inputs_input", "class_index_input_input", "images_input"]


def test_a_dictionary_of_inputs_goes_by_its_keys():
    inputs = {"scene": {"photo": keras.Input((8, 9, 3), name="photo")}, "age": keras.Input((2,), name="age")}
    sums = [keras.ops.sum(inputs["scene"]["photo"], axis=(1, 2, 3)), keras.ops.sum(inputs["age"], axis=1)]
    found = find_inputs(keras.Model(inputs, keras.ops.stack(sums, axis=1)), None)
    assert {each.name: each.shape for each in found} == {"age": (2,), "images": (8, 9, 3)}
    zeros = found.zeros()
    assert zeros["age"].shape == (1, 2)
    assert zeros["scene"]["photo"].shape == (1, 8, 9, 3)
    packed = found.pack([each.name for each in found])
    assert packed == {"age": "age", "scene": {"photo": "images"}}


@keras.saving.register_keras_serializable("tests")
class SeveralInputs(keras.Model):
    """A subclassed classifier of an image and a vector, in a list or in a dictionary."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.features = layers.Conv2D(6, 3, strides=2, activation="relu", name="features")
        self.ages = layers.Dense(4, activation="relu", name="ages")
        self.scores = layers.Dense(3, name="scores")

    def build(self, shapes):
        photo, age = self.parts(shapes)
        self.features.build(photo)
        self.ages.build(age)
        self.scores.build((None, 10))

    @staticmethod
    def parts(inputs):
        return (inputs["photo"], inputs["age"]) if isinstance(inputs, dict) else tuple(inputs)

    def pooled(self, features, age):
        joined = keras.ops.concatenate([keras.ops.mean(features, axis=(1, 2)), self.ages(age)], axis=-1)
        return self.scores(joined)

    def call(self, inputs):
        photo, age = self.parts(inputs)
        return keras.ops.softmax(self.pooled(self.features(photo / 255.0), age))


@pytest.mark.parametrize("kind", ["list", "dictionary"])
def test_a_subclassed_model_of_several_inputs_is_served(kind, tmp_path):
    keras.utils.set_random_seed(5)
    images, ages = photographs(3), np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    photo = images.astype(np.float32)
    given = {"age": ages, "photo": photo} if kind == "dictionary" else [photo, ages]
    model = SeveralInputs()
    model(given)
    model = conditioned(model, given)
    version = served(model, tmp_path)
    name = "input_age" if kind == "dictionary" else "input_1"
    assert set(version.loaded.signatures["predict"].inputs) == {"images", name}
    live = model(given).numpy()
    features = model.features(photo / 255.0)
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = tf.reduce_max(model.pooled(features, ages), axis=1)
    alpha = tape.gradient(logits, features).numpy().mean(axis=(1, 2))
    maps = np.maximum(np.einsum("bhwk,bk->bhw", features.numpy().astype(float), alpha), 0)
    for rows in ([2], [0, 1, 2]):
        answer = version.run("serving_default", images=images[rows], **{name: ages[rows]})
        np.testing.assert_allclose(answer["predictions"], live[rows], rtol=0, atol=1e-6)
        peak = maps[rows].max(axis=(1, 2))
        assert peak.min() > 0
        np.testing.assert_allclose(answer["heatmap"], maps[rows] / peak[:, None, None], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8"])
def test_the_model_gets_its_own_type(dtype, tmp_path):
    images = keras.Input(INPUT_SHAPE, dtype=dtype)
    x = layers.Conv2D(4, 5, strides=4, activation="relu")(keras.ops.cast(images, "float32") / 255.0)
    model = keras.Model(images, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    pixels = photographs(2)
    live = model(pixels.astype(dtype)).numpy()
    found = served(model, tmp_path).run("predict", images=pixels)["predictions"]
    np.testing.assert_allclose(found, live, rtol=0, atol=1e-6)


def test_a_model_that_cannot_be_called_is_one_clear_line(tmp_path):
    volumes = keras.Input((8, 9, 8, 1), dtype="float64")
    x = layers.MaxPooling3D(dtype="float64")(layers.Conv3D(4, 3, dtype="float64")(volumes))
    model = keras.Model(volumes, layers.Dense(3)(layers.GlobalAveragePooling3D()(x)), name="scans")
    message = r"^'scans' cannot be called on a batch of inputs float32 \[8, 9, 8, 1\]: .*DataType float64"
    with pytest.raises(LoadError, match=message) as refusal:
        served(model, tmp_path)
    assert "\n" not in str(refusal.value)
