"""One classifier of the zoo, and the proof that what was exported of it answers what float64 says.

The reference shares nothing with the exporter: the network is built a second time in float64, run eagerly, and its
feature map is caught where the layer returns it; Grad-CAM is then numpy (Selvaraju et al., arXiv 1610.02391, eq. 1, 2).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifiers import floatx
from conditioned import conditioned
from gradcam_export import export_classifier
from gradcam_export.savedmodel.session import LoadedVersion
from lean import LEAN

BATCH = 3
CALIBRATION = 8
"""Inputs on which the normalisation statistics of random weights are measured."""

Inputs = dict[str, np.ndarray]


def textured(count: int, shape: Sequence[int], seed: int = 2) -> np.ndarray:
    """Return uint8 values `[count, *shape]` with structure at three scales over all axes but the last."""
    random = np.random.default_rng(seed)
    *extent, channels = shape
    total = np.zeros((count, *shape))
    for cell, weight in ((1, 1), (8, 3), (32, 4)):
        values = random.integers(0, 256, (count, *(-(-n // cell) for n in extent), channels))
        for axis, n in enumerate(extent, start=1):
            values = values.repeat(cell, axis=axis).take(range(n), axis=axis)
        total += weight * values
    return (total / 8).astype(np.uint8)


@contextmanager
def eagerly() -> Iterator[None]:
    """Run functions inside layers op by op: Keras has XLA compile grouped convolutions, anew for each batch size."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def photographs(*shape: int) -> Callable[[int], Inputs]:
    """Return what gives `images` uint8 `[count, *shape]`."""
    return lambda count: {"images": textured(count, shape)}


def pixels(inputs: Inputs) -> Any:
    """Return the images as they are, in Keras's float type."""
    return inputs["images"].astype(keras.config.floatx())


def named_layer(model: keras.Model, path: str) -> Any:
    """Return the layer at `outer/inner`."""
    found: Any = model
    for name in path.split("/"):
        (found,) = {id(layer): layer for layer in found._layers if layer.name == name}.values()
    return found


def linear_end(twin: keras.Model, x: Any) -> Any:
    """Run `twin` with the activation of its last softmax or sigmoid layer taken off."""
    squashing = (keras.activations.softmax, keras.activations.sigmoid)
    layers = [layer for layer in twin._flatten_layers() if getattr(layer, "activation", None) in squashing]
    layers[-1].activation = keras.activations.linear
    return twin(x, training=False)


def bare_logits(twin: keras.Model, x: Any) -> Any:
    """Run `twin`, which returns logits."""
    return twin(x, training=False)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A classifier, how to export it, and how to cut it by hand."""

    family: str
    """The row of the table it belongs to."""
    name: str
    """Unique in the zoo."""
    build: Callable[[], keras.Model]
    """Called twice: as it is, and in float64 (unless there is `double`), each time with fresh layer names."""
    layer: str
    """The layer that the exporter must choose, or the operation where no layer returns the feature map."""
    grid: tuple[int, ...]
    inputs: Callable[[int], Inputs]
    """count → what the signatures take."""
    to_model_input: Callable[[Inputs], Any] = pixels
    """What the signatures take → what the model is called with, in the float type of the moment."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of `export_classifier`."""
    condition: Callable[[keras.Model, Any], keras.Model] = conditioned
    double: Callable[[], keras.Model] | None = None
    """Builds the float64 network where `build` under floatx float64 does not."""
    catch: Callable[[keras.Model, str], Any] = named_layer
    """float64 network, `layer` → the Keras layer or operation that returns the feature map."""
    logits: Callable[[keras.Model, Any], Any] = linear_end
    """Runs the float64 network and returns its logits `[B,N]`."""
    arrange: Callable[[np.ndarray], np.ndarray] = np.asarray
    """Feature map (and its gradient) as the layer returns it → `[B,*grid,K]`."""
    answer: Callable[[Any], Any] = lambda output: output
    """What the model returns → its predictions `[B,N]`."""
    binary: bool = False
    """One sigmoid unit stands for two classes."""
    tolerance: float = 1e-4
    """Of heatmaps."""
    prediction_tolerance: float = 1e-5
    """Of predictions; of those beyond 1, relative to the largest."""
    large: bool = False
    """Left to `make test-all`."""

    def model(self) -> keras.Model:
        """Return the classifier with conditioned random weights."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model, x = self.build(), self.to_model_input(self.inputs(CALIBRATION))
        with eagerly():
            if not model.built:
                model(x, training=False)
            return self.condition(model, x)

    def twin(self, model: keras.Model) -> keras.Model:
        """Return the same network in float64, under the same layer names."""
        keras.backend.clear_session()
        twin = (self.double or self.build)()
        if not twin.built:
            twin(self.to_model_input(self.inputs(1)), training=False)
        twin.set_weights(model.get_weights())
        return twin


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What was chosen, and the largest differences found."""

    layer: str
    grid: tuple[int, ...]
    predictions: float
    heatmap: float


def gradcam_in_float64(case: Case, model: keras.Model, inputs: Inputs, classes: np.ndarray) -> np.ndarray:
    """Return ReLU(sum_k alpha_k A_k) divided by its maximum, in float64, `[B,*grid]`."""
    with floatx("float64"), eagerly(), tf.GradientTape(watch_accessed_variables=False) as tape:
        twin = case.twin(model)
        source, caught = case.catch(twin, case.layer), []
        call = source.call

        def listening(*args: Any, **keywords: Any) -> Any:
            caught.append(call(*args, **keywords))
            tape.watch(caught[-1])
            return caught[-1]

        # Plain assignment would be tracked by Keras.
        object.__setattr__(source, "call", listening)
        logits = case.answer(case.logits(twin, case.to_model_input(inputs)))
        assert logits.dtype == tf.float64, f"the twin of {case.name} computes in {logits.dtype}"
        sign, unit = (2.0 * classes - 1.0, 0 * classes) if case.binary else (np.ones(len(classes)), classes)
        score = tf.gather(logits, unit, axis=1, batch_dims=1) * sign
    (feature_map,) = caught
    gradient = case.arrange(tape.gradient(score, feature_map).numpy())
    features = case.arrange(feature_map.numpy())
    assert features.shape[1:-1] == case.grid
    positions = tuple(range(1, features.ndim - 1))
    alpha = gradient.mean(axis=positions, keepdims=True)
    raised = np.maximum((features * alpha).sum(axis=-1), 0)
    peak = raised.max(axis=positions, keepdims=True)
    return raised / np.where(peak > 0, peak, 1)


def predicted_class(case: Case, predictions: np.ndarray) -> np.ndarray:
    """Return the class of the highest score, int32 `[B]`."""
    return ((predictions[:, 0] > 0.5) if case.binary else predictions.argmax(axis=-1)).astype(np.int32)


def check(case: Case, directory: Path) -> Difference:
    """Export `case`, run what was written in a Session, and hold its values against the live model and float64.

    Raises:
        AssertionError: another layer was chosen, or a value differs by more than the case's tolerance.
    """
    model, inputs = case.model(), case.inputs(BATCH)
    with eagerly():
        live = np.asarray(case.answer(model(case.to_model_input(inputs), training=False)), np.float64)
    published = export_classifier(model, directory / "model", **{**LEAN, **case.options})
    explanation = published.manifest.explanation
    assert (explanation["layer"], tuple(explanation["grid"])) == (case.layer, case.grid)

    predicted = predicted_class(case, live)
    other = (predicted + 1 + np.arange(BATCH)) % (2 if case.binary else live.shape[-1])
    with LoadedVersion.load(published.path) as loaded:
        together = loaded.run("serving_default", inputs)
        rows = [{name: value[[row]] for name, value in inputs.items()} for row in range(BATCH)]
        alone = [loaded.run("serving_default", row) for row in rows]
        asked = loaded.run("explain", {**inputs, "class_index": other.astype(np.int32)})
    answer = {
        name: np.concatenate([together[name], *(row[name] for row in alone), asked[name]])
        for name in ("predictions", "class_index", "heatmap")
    }
    assert answer["class_index"].tolist() == [*predicted, *predicted, *other]

    twice = {name: np.concatenate([value, value]) for name, value in inputs.items()}
    of_predicted, of_other = np.split(gradcam_in_float64(case, model, twice, np.concatenate([predicted, other])), 2)
    wanted = np.concatenate([of_predicted, of_predicted, of_other])
    assert np.ptp(wanted, axis=tuple(range(1, wanted.ndim))).max() > 0.1, "all maps are flat: nothing is compared"
    difference = Difference(
        layer=case.layer,
        grid=case.grid,
        predictions=float(np.abs(answer["predictions"] - np.tile(live, (3, 1))).max() / max(1, np.abs(live).max())),
        heatmap=float(np.abs(answer["heatmap"] - wanted).max()),
    )
    assert difference.predictions <= case.prediction_tolerance, difference
    assert difference.heatmap <= case.tolerance, difference
    return difference


def parameters(cases: Sequence[Case], always: Collection[str] | None = None) -> list[Any]:
    """Return `cases` as parameters of a test.

    Args:
        cases: of the zoo.
        always: names of those that every run of the tests takes; by default all that are not large.
    """
    unknown = set(always or ()) - {case.name for case in cases}
    assert not unknown, unknown

    def marks(case: Case) -> Sequence[pytest.MarkDecorator]:
        seldom = case.large if always is None else case.name not in always
        return (pytest.mark.large, pytest.mark.timeout(3600)) if seldom else ()

    return [pytest.param(case, id=case.name, marks=marks(case)) for case in cases]
