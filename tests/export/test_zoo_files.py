"""Classifiers exported from files: the version answers what float64 says of the network that was saved."""

import keras
import numpy as np
import pytest
import tf_keras
from data.make_foreign import CLASSES as FOREIGN_CLASSES
from gradcam_export import export_classifier
from gradcam_export.savedmodel.session import LoadedVersion
from lean import LEAN
from zoo import foreign, structure
from zoo.case import BATCH, gradcam_in_float64, textured


def named(cases, name):
    """Return the case of that name."""
    return next(case for case in cases if case.name == name)


def held_against_float64(case, model, path, directory):
    """Export the file at `path` and hold predictions and heatmaps against `model`, which was saved there."""
    published = export_classifier(path, directory / "model", **LEAN, **case.options)
    assert published.manifest.model["source"] == path.name
    assert published.manifest.explanation["layer"] == case.layer
    inputs = case.inputs(BATCH)
    with LoadedVersion.load(published.path) as loaded:
        answer = loaded.run("serving_default", inputs)
    live = np.asarray(model(case.to_model_input(inputs), training=False))
    np.testing.assert_allclose(answer["predictions"], live, rtol=0, atol=1e-5)
    wanted = gradcam_in_float64(case, model, inputs, live.argmax(axis=-1))
    np.testing.assert_allclose(answer["heatmap"], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["augmentation nested", "custom layer"])
def test_a_file_of_keras(name, suffix, tmp_path):
    case = named(structure.CASES, name)
    model = case.model()
    model.save(tmp_path / f"saved{suffix}")
    held_against_float64(case, model, tmp_path / f"saved{suffix}", tmp_path)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["tf_keras Functional", "tf_keras nested in Sequential"])
def test_a_file_of_keras_2(name, suffix, tmp_path):
    case = named(foreign.CASES, name)
    model = case.model()
    model.save(tmp_path / f"saved{suffix}")
    held_against_float64(case, model, tmp_path / f"saved{suffix}", tmp_path)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_file_that_another_backend_saved(backend, tmp_path):
    case = named(foreign.CASES, f"trained with {backend}")
    held_against_float64(case, case.model(), foreign.DATA / f"{backend}.keras", tmp_path)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_predictions_are_those_of_the_backend_that_trained(backend, tmp_path):
    published = export_classifier(foreign.DATA / f"{backend}.keras", tmp_path / "model", **LEAN)
    with np.load(foreign.DATA / f"{backend}.npz") as noted, LoadedVersion.load(published.path) as loaded:
        answer = loaded.run("predict", {"images": noted["images"]})
        np.testing.assert_allclose(answer["predictions"], noted["predictions"], rtol=0, atol=1e-5)
    assert len(published.manifest.labels) == FOREIGN_CLASSES
    assert np.ptp(answer["predictions"], axis=0).max() > 0.1


def test_both_kinds_of_keras_stay_apart():
    """A model of Keras 2 is none of Keras 3: what is exported above is not converted on the way."""
    case = named(foreign.CASES, "tf_keras Functional")
    assert isinstance(case.build(), tf_keras.Model)
    assert not isinstance(case.build(), keras.Model)


@pytest.mark.large
@pytest.mark.timeout(3600)
def test_a_model_of_more_than_two_gigabytes(tmp_path):
    """A protocol buffer ends at 2 GB: weights are variables, and no copy of them lies in a graph."""
    images = keras.Input((96, 96, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="features")(x)
    # 36 864 x 15 000 x 4 bytes = 2.2 GB; its initial value is made in place, not drawn in float64.
    x = keras.layers.Dense(15_000, activation="relu", kernel_initializer=_sparse, name="wide")(
        keras.layers.Flatten()(x)
    )
    model = keras.Model(images, keras.layers.Dense(3, name="scores")(x))
    published = export_classifier(model, tmp_path / "model", **LEAN)
    assert published.manifest.weights == "variables"
    stored = sum(file.stat().st_size for file in (published.path / "variables").iterdir())
    assert 2**31 < stored < 2.4e9
    assert (published.path / "saved_model.pb").stat().st_size < 2e6
    pictures = textured(2, (96, 96, 3))
    with LoadedVersion.load(published.path) as loaded:
        answer = loaded.run("serving_default", {"images": pictures})
    live = np.asarray(model(pictures.astype(np.float32), training=False))
    np.testing.assert_allclose(answer["predictions"], live, rtol=0, atol=1e-5 * np.abs(live).max())
    features = np.asarray(keras.Model(images, model.get_layer("features").output)(pictures.astype(np.float32)), float)
    raw = np.maximum((features * _channel_weights(model, features, live.argmax(axis=-1))).sum(axis=-1), 0)
    peak = raw.max(axis=(1, 2), keepdims=True)
    assert (peak > 0).any()
    np.testing.assert_allclose(answer["heatmap"], raw / np.where(peak > 0, peak, 1), rtol=0, atol=1e-4)


def _sparse(shape, dtype=None):
    """Return random weights in one row of a hundred."""
    random = np.random.default_rng(0)
    kernel = np.zeros(shape, np.float32)
    kernel[::100] = random.normal(0, 0.05, (len(kernel[::100]), shape[1]))
    return kernel


def _channel_weights(model, features, classes):
    """Return Grad-CAM's weight of each channel, `[B,1,1,K]`, in float64 where the kernel is not zero."""
    kernel, bias = (np.asarray(weight) for weight in model.get_layer("wide").get_weights())
    used = np.arange(0, len(kernel), 100)
    flat = features.reshape(len(features), -1)
    open_units = flat[:, used] @ kernel[used].astype(float) + bias > 0
    scores = model.get_layer("scores").get_weights()[0].astype(float)
    by_unit = open_units * scores[:, classes].T
    gradient = np.zeros_like(flat)
    gradient[:, used] = by_unit @ kernel[used].astype(float).T
    return gradient.reshape(features.shape).mean(axis=(1, 2), keepdims=True)
