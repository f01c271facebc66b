"""Every suspect is recognised by its own values, and nothing is accused that did not do it."""

import numpy as np
import pytest
from gradcam_export.checks import oracle, suspects
from gradcam_export.checks.diagnosis import Diagnosis, of_classes

ROWS, GRID, CHANNELS, CLASSES = 4, (3, 4), 5, 6
TOLERANCE = 1e-4


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True)


def evidence(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shape = (ROWS, GRID[0] * GRID[1], CHANNELS)
    return {"features": random.normal(size=shape), "gradients": random.normal(size=shape)}


@pytest.fixture
def expected():
    random = np.random.default_rng(1)
    return {
        **evidence(0),
        "predictions": softmax(random.normal(size=(ROWS, CLASSES))),
        "alternatives/it is the map of layer 'other'/features": evidence(5)["features"],
        "alternatives/it is the map of layer 'other'/gradients": evidence(5)["gradients"],
        "alternatives/the preprocessing is 'tf'/predictions": softmax(random.normal(size=(ROWS, CLASSES))),
    }


@pytest.fixture
def diagnosis(expected, tmp_path):
    return Diagnosis(tmp_path, expected, TOLERANCE)


def normalised(signed: np.ndarray) -> np.ndarray:
    raised = np.maximum(signed, 0)
    return raised / raised.max(axis=1, keepdims=True)


def of_heatmap(diagnosis, flat: np.ndarray, method: str = "gradcam") -> str | None:
    return diagnosis.of_heatmap(method, flat.reshape(ROWS, *GRID), TOLERANCE, np.ones(ROWS))


def gradcam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Selvaraju et al., equations 1 and 2, before ReLU."""
    return np.einsum("bpk,bk->bp", features, gradients.mean(axis=1))


def maps(signed: np.ndarray) -> np.ndarray:
    return normalised(signed).reshape(ROWS, *GRID)


WRONG_MAPS = {
    "ReLU is missing": lambda signed: signed / np.abs(signed).max(axis=1, keepdims=True),
    "normalised by the maximum of the batch": lambda signed: np.maximum(signed, 0) / signed.max(),
    "brought to 0..1 by its minimum and maximum": lambda signed: (
        (signed - signed.min(1, keepdims=True)) / np.ptp(signed, axis=1, keepdims=True)
    ),
    "its absolute value": lambda signed: np.abs(signed) / np.abs(signed).max(axis=1, keepdims=True),
    "its sign is turned": lambda signed: normalised(-signed),
    "not divided by its maximum": lambda signed: np.maximum(signed, 0),
    "plus eps = 0.001": lambda signed: np.maximum(signed, 0) / (signed.max(axis=1, keepdims=True) + 1e-3),
    "upside down": lambda signed: maps(signed)[:, ::-1].reshape(ROWS, -1),
    "mirrored": lambda signed: maps(signed)[:, :, ::-1].reshape(ROWS, -1),
    "transposed": lambda signed: maps(signed).transpose(0, 2, 1).reshape(ROWS, -1),
    "the heatmap of row 0 in all rows": lambda signed: np.repeat(normalised(signed)[:1], ROWS, axis=0),
    "belong to other rows of the batch": lambda signed: normalised(signed)[[1, 2, 3, 0]],
}


@pytest.mark.parametrize("name", WRONG_MAPS)
def test_a_map_that_is_finished_wrongly_is_named(diagnosis, expected, name):
    signed = gradcam(expected["features"], expected["gradients"])
    found = of_heatmap(diagnosis, WRONG_MAPS[name](signed))
    assert found is not None
    assert name in found


def test_a_gradient_of_the_batch_is_named(diagnosis, expected):
    gradients = np.broadcast_to(expected["gradients"].mean(axis=0), expected["gradients"].shape)
    found = of_heatmap(diagnosis, normalised(gradcam(expected["features"], gradients)))
    assert found == "the gradient is averaged over the batch"


def test_what_the_live_model_answers_otherwise_is_named(diagnosis):
    found = of_heatmap(diagnosis, normalised(gradcam(**evidence(5))))
    assert found == "it is the map of layer 'other'"
    values = diagnosis._expected["alternatives/the preprocessing is 'tf'/predictions"]
    assert diagnosis.of_predictions(values) == "the preprocessing is 'tf'"


@pytest.mark.parametrize("method", [name for name in oracle.OF_GRADIENTS if name != "gradcam"])
def test_the_map_of_another_method_is_named(diagnosis, expected, method):
    assert of_heatmap(diagnosis, normalised(oracle.signed_map(method, expected))) == f"it is the map of {method}"


def test_maps_of_nobody_accuse_nobody(diagnosis, expected):
    random = np.random.default_rng(9)
    assert of_heatmap(diagnosis, random.uniform(size=(ROWS, GRID[0] * GRID[1]))) is None
    assert of_heatmap(diagnosis, np.full((ROWS, GRID[0] * GRID[1]), np.nan)) is None
    assert diagnosis.of_predictions(softmax(random.normal(size=(ROWS, CLASSES)))) is None
    assert diagnosis.of_predictions(expected["predictions"][:, :3]) is None
    assert diagnosis.of_predictions(np.full((ROWS, CLASSES), np.nan)) is None


def test_nan_in_some_maps_is_the_quotient_of_zeros(diagnosis, expected):
    heatmap = normalised(gradcam(expected["features"], expected["gradients"]))
    heatmap[2] = np.nan
    assert "0 is divided by 0" in of_heatmap(diagnosis, heatmap)


def test_another_grid_is_that_of_the_layer_that_has_it(expected, tmp_path):
    finer = {"alternatives/it is the map of layer 'finer'/features": np.zeros((ROWS, 48, CHANNELS))}
    found = Diagnosis(tmp_path, expected | finer, TOLERANCE).of_heatmap(
        "gradcam", np.zeros((ROWS, 6, 8)), TOLERANCE, np.ones(ROWS)
    )
    assert found == "it is the map of layer 'finer'"


WRONG_PREDICTIONS = {
    "shifted by one class": lambda right: np.roll(right, 1, axis=1),
    "in reverse order": lambda right: right[:, ::-1],
    "rows of the batch are mixed up": lambda right: right[::-1],
    "those of all rows": lambda right: np.repeat(right[:1], ROWS, axis=0),
    "log-probabilities": np.log,
    "softmax is applied twice": softmax,
    "multiplied by 3 (a temperature)": lambda right: softmax(3 * np.log(right)),
}


@pytest.mark.parametrize("name", WRONG_PREDICTIONS)
def test_wrong_predictions_are_named(diagnosis, expected, name):
    found = diagnosis.of_predictions(WRONG_PREDICTIONS[name](expected["predictions"]))
    assert found is not None
    assert name in found


def test_right_predictions_have_no_temperature(expected):
    assert suspects.temperature(expected["predictions"], expected) is None
    assert suspects.temperature(expected["predictions"] - 1, expected) is None
    assert suspects.temperature(expected["predictions"][:, :1], {"predictions": np.ones((ROWS, 1))}) is None


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        ([1, 2, 0], [0, 1, 2], "class index off by one"),
        ([2, 0, 1], [0, 1, 2], "class index off by one"),
        ([1, 1, 2], [0, 1, 2], "class index off by one for some rows"),
        ([2, 2, 2], [2, 0, 1], "the class of row 0 is that of all rows"),
        ([0, 1, 2], [0, 1, 2], None),
        ([4, 1, 2], [0, 3, 2], None),
    ],
)
def test_wrong_classes_are_named(found, wanted, said):
    assert of_classes(np.array(found, np.int32), np.array(wanted, np.int32), 3 if max(found) < 3 else 9) == said
