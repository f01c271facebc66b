"""Classifiers from objects, files and factories; what cannot be loaded is one clear line."""

import sys

import keras
import numpy as np
import pytest
from classifiers import FAMILIES, INPUT_SHAPE, Subclassed, functional, nested, photographs
from gradcam_export import LoadError
from gradcam_export.graph.images import MODES, resolve_preprocessing
from gradcam_export.keras_model.load import import_object, load_classifier

MODULE = """
import keras

def factory(classes=3, activation="softmax"):
    return keras.Sequential([
        keras.Input((8, 9, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(classes, activation=activation),
    ])

def number():
    return 7

def offline():
    raise Exception("URL fetch failure on https://example.invalid/w.h5: None -- unreachable")

constant = 1
"""


def shape_of(loaded):
    return loaded.inputs.main.shape


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_models"
    sys.modules.pop("own_models", None)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("family", ["functional", "twice_nested", "sequential"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_give_the_model_that_was_saved(tmp_path, family, suffix):
    model = FAMILIES[family].model()
    model.save(tmp_path / f"model{suffix}")
    loaded = load_classifier(str(tmp_path / f"model{suffix}"))
    assert shape_of(loaded) == INPUT_SHAPE
    assert loaded.source == f"model{suffix}"
    images = photographs(2).astype(np.float32)
    np.testing.assert_array_equal(loaded.model(images), model(images))


def test_a_subclassed_model_comes_back_from_its_file_with_its_input_size(tmp_path):
    model = FAMILIES["subclassed"].model()
    model.save(tmp_path / "model.keras")
    assert shape_of(load_classifier(tmp_path / "model.keras")) == INPUT_SHAPE


def test_a_subclassed_model_never_called_is_built_for_the_size_that_is_said():
    loaded = load_classifier(Subclassed(), image_size=(24, 30))
    assert shape_of(loaded) == (24, 30, 3)
    assert len(loaded.model.weights) > 0
    assert shape_of(load_classifier(Subclassed(), image_size=(24, 30, 1))) == (24, 30, 1)


def test_free_dimensions_need_the_image_size():
    images = keras.Input((None, None, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(images))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    with pytest.raises(LoadError, match=r"leaves its input size open \(\?x\?x1\): say it with --image-size HxW"):
        load_classifier(model)
    assert shape_of(load_classifier(model, image_size=(10, 20))) == (10, 20, 1)


def test_a_size_that_contradicts_the_model_is_refused():
    with pytest.raises(LoadError, match="takes inputs of 32x40x3, not 64x64"):
        load_classifier(functional(), image_size=(64, 64))


def test_a_factory_is_called_with_its_arguments(module):
    loaded = load_classifier(f"{module}:factory", factory_args={"classes": 4})
    assert loaded.model.output_shape == (None, 4)
    assert loaded.source == "own_models:factory"
    assert loaded.preprocess_input is None


@pytest.mark.parametrize(
    ("name", "mode"),
    [("MobileNetV2", "tf"), ("ResNet50", "caffe"), ("DenseNet121", "torch"), ("EfficientNetB0", "none")],
)
def test_applications_bring_their_own_preprocessing(name, mode):
    module = sys.modules[getattr(keras.applications, name).__module__]
    assert resolve_preprocessing(None, module.preprocess_input, 3).name == mode


def test_an_application_is_loaded_without_internet():
    loaded = load_classifier(
        "keras.applications:MobileNetV2", factory_args={"weights": None, "input_shape": (64, 64, 3), "classes": 7}
    )
    assert shape_of(loaded) == (64, 64, 3)
    assert resolve_preprocessing(None, loaded.preprocess_input, 3).name == "tf"


def test_preprocessing_modes_are_those_of_keras():
    from keras.applications import imagenet_utils

    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 6, 3)).astype(np.float32)
    for mode in ("tf", "torch", "caffe"):
        wanted = imagenet_utils.preprocess_input(images.copy(), mode=mode)
        np.testing.assert_allclose(MODES[mode](images), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(MODES["unit"](images) * 255, images, rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.keras", r"missing\.keras: no such file"),
        ("model.onnx", r"model\.onnx: neither a \.keras or \.h5 file nor package\.module:factory"),
        ("no_such_module:f", "no_such_module:f: there is no module 'no_such_module'"),
        ("own_models:nothing", "own_models:nothing: module 'own_models' has no 'nothing'"),
        ("own_models:constant", "own_models:constant is a int, not something to call"),
        ("own_models:number", "own_models:number gave a int, not a keras.Model"),
        ("own_models:offline", "weights are not on this machine and could not be fetched .*--factory-arg weights=none"),
    ],
)
def test_what_is_no_classifier_is_one_clear_line(module, source, message):
    with pytest.raises(LoadError, match=message) as refusal:
        load_classifier(source)
    assert "\n" not in str(refusal.value)


def test_wrong_factory_arguments_are_named(module):
    with pytest.raises(LoadError, match=r"own_models:factory: .*unexpected keyword argument 'wrong'"):
        load_classifier("own_models:factory", factory_args={"wrong": 1})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"no zip at all"])
def test_a_damaged_file_is_one_clear_line(tmp_path, content):
    (tmp_path / "broken.keras").write_bytes(content)
    with pytest.raises(LoadError, match=r"broken\.keras: Keras .* cannot load it: .") as refusal:
        load_classifier(tmp_path / "broken.keras")
    assert "\n" not in str(refusal.value)


def test_code_inside_a_file_runs_only_when_asked(tmp_path):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda image: image / 2)(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(x))
    keras.Model(images, keras.layers.Dense(2)(x)).save(tmp_path / "lambda.keras")
    with pytest.raises(LoadError, match="cannot load it"):
        load_classifier(tmp_path / "lambda.keras")
    assert shape_of(load_classifier(tmp_path / "lambda.keras", safe_mode=False)) == (8, 8, 3)


def test_the_digest_tells_weights_apart():
    model = nested()
    before = load_classifier(model).digest()
    assert before == load_classifier(model).digest()
    model.get_layer("scores").bias.assign(np.arange(5))
    assert load_classifier(model).digest() != before


def test_import_object_finds_attributes():
    assert import_object("math:pi") == 3.141592653589793
