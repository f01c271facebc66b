"""Versions that a training publishes by itself."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export import OptionError, VerificationError
from gradcam_export.callback import ExportBest
from gradcam_export.savedmodel.session import LoadedVersion
from keras import layers
from lean import LEAN

SIZE = (10, 10, 3)


def classifier():
    keras.utils.set_random_seed(0)
    network = [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.2),
        layers.Dense(2, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input(SIZE), *network])
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def bright_or_dark(count=64, seed=0):
    random = np.random.default_rng(seed)
    classes = random.integers(0, 2, count)
    images = random.integers(0, 100, (count, *SIZE)) + 120 * classes[:, None, None, None]
    return images.astype(np.uint8).astype(np.float32), classes


class Told(keras.callbacks.Callback):
    """Stands before the exporter, and tells it other values than were measured."""

    def __init__(self, values):
        super().__init__()
        self._values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self._values[epoch]


def fit(*callbacks, epochs, model=None):
    model = model or classifier()
    return model.fit(
        *bright_or_dark(), validation_data=bright_or_dark(32, 1), epochs=epochs, verbose=0, callbacks=callbacks
    )


def test_each_better_epoch_is_published_as_it_was_then_and_no_other(tmp_path):
    images = bright_or_dark(4, 2)[0]
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, _epoch, _logs=None):
            seen.append(self.model.predict(images, verbose=0))

    best = ExportBest(tmp_path / "light", labels=["dark", "bright"], **LEAN)
    fit(Told([0.7, 0.9, 0.5, 0.5]), Watch(), best, epochs=4)
    assert [version.location for version in best.published] == [str(tmp_path / f"light/{n}") for n in (1, 2)]
    assert sorted(path.name for path in (tmp_path / "light").iterdir()) == ["1", "2"]
    assert best.best == 0.5
    assert len(seen) == 4
    for version, epoch in zip(best.published, (0, 2), strict=True):
        assert version.manifest.labels == ["dark", "bright"]
        assert version.manifest.verified
        with LoadedVersion.load(version.path) as loaded:
            answer = loaded.run("predict", {"images": images.astype(np.uint8)})
        np.testing.assert_allclose(answer["predictions"], seen[epoch], atol=1e-5)
    assert np.abs(seen[0] - seen[2]).max() > 0.01


def test_a_training_goes_its_way_as_if_nothing_was_exported(tmp_path):
    alone, beside = classifier(), classifier()
    keras.utils.set_random_seed(1)
    plain = fit(epochs=2, model=alone).history
    keras.utils.set_random_seed(1)
    watched = fit(ExportBest(tmp_path / "light", **LEAN), epochs=2, model=beside).history
    assert (tmp_path / "light/1/saved_model.pb").is_file()
    assert watched.keys() == plain.keys()
    np.testing.assert_allclose(watched["val_loss"], plain["val_loss"], rtol=1e-4)
    for ours, theirs in zip(beside.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("monitor", "mode", "upwards"),
    [
        ("val_loss", "auto", False),
        ("val_accuracy", "auto", True),
        ("val_sparse_categorical_accuracy", "auto", True),
        ("val_AUC", "auto", True),
        ("val_mean_absolute_error", "auto", False),
        ("val_loss", "max", True),
        ("val_accuracy", "min", False),
    ],
)
def test_what_is_better(monkeypatch, tmp_path, monitor, mode, upwards):
    exported = []
    monkeypatch.setattr("gradcam_export.callback.export_classifier", lambda *_, **__: exported.append(1) or Published())
    best = ExportBest(tmp_path, monitor=monitor, mode=mode)
    best.set_model(classifier())
    values = [float("nan"), 0.5, 0.6, 0.4, 0.6, 0.4, float("nan")]
    better = []
    for epoch, value in enumerate(values):
        before = len(exported)
        best.on_epoch_end(epoch, {monitor: value})
        better.append(len(exported) > before)
    assert better == [False, True, upwards, not upwards, False, False, False]


class Published:
    location = "models/light/1"


class Wrong(layers.Layer):
    """Answers otherwise in each call: no export of it can be right."""

    def call(self, x):
        return x + tf.random.uniform(tf.shape(x), -3.0, 3.0)


def unstable():
    network = [layers.Rescaling(1 / 255), layers.Conv2D(2, 3), Wrong(), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(SIZE), *network, layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def test_a_version_that_is_wrong_ends_the_training_and_is_not_published(tmp_path):
    with pytest.raises(VerificationError, match="predictions"):
        fit(ExportBest(tmp_path / "light", **LEAN), epochs=3, model=unstable())
    assert list((tmp_path / "light").iterdir()) == []


def test_or_warns_and_goes_on(tmp_path, caplog):
    best = ExportBest(tmp_path / "light", on_error="warn", **LEAN)
    with caplog.at_level(logging.WARNING, "gradcam_export.callback"):
        history = fit(best, epochs=2, model=unstable())
    assert len(history.history["loss"]) == 2
    assert "epoch 1 was not exported: " in caplog.text
    assert (best.published, best.best) == ([], None)


def test_a_value_that_no_epoch_reports_is_named(tmp_path):
    with pytest.raises(OptionError, match=r"monitor is 'val_auc', but an epoch of this training reports .*val_loss"):
        fit(ExportBest(tmp_path / "light", monitor="val_auc", **LEAN), epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "best"}, "mode must be one of auto, min, max; got 'best'"),
        ({"on_error": "ignore"}, "on_error must be one of raise, warn; got 'ignore'"),
        ({"version": 3}, "version cannot be told"),
        ({"top_k": 0}, "top_k must be a number from 1 up"),
    ],
)
def test_options_are_refused_before_the_training(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        ExportBest(tmp_path, **options)
