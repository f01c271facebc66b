"""What a version does in company: checks held against versions in numpy whose faults are known."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.checks.behaviour import (
    Explained,
    check_batch_sizes,
    check_determinism,
    check_independence,
    check_order,
    check_score,
    check_zero_maps,
    limits_of,
)
from gradcam_export.checks.isolation import check_isolation

CLASSES, SIZE, ROWS = 3, 4, 4
LABELS = ["ant", "bee", "cat"]
MANIFEST = {
    "labels": LABELS,
    "input": {"name": "images", "encoded": True},
    "explanation": {"method": "gradcam"},
    "batching": {"allowed_batch_sizes": [1, 2, 4], "methods": ["gradcam"], "mode": "in-graph"},
}


class Right:
    """A linear classifier of rows, whose heatmap is what each pixel adds to the class score."""

    def __init__(self) -> None:
        self.weights = np.random.default_rng(0).normal(size=(SIZE * SIZE, CLASSES)).astype(np.float32)

    def run(self, signature, inputs):
        if signature == "explain_bytes":
            raise tf.errors.InvalidArgumentError(None, None, "no image")
        images, classes = inputs["images"], inputs["class_index"]
        if images.shape[1:] != (SIZE, SIZE):
            raise ValueError("Cannot feed value")
        if classes.max() >= CLASSES:
            raise tf.errors.InvalidArgumentError(None, None, f"class_index must be -1 .. {CLASSES - 1}")
        return self.explain(images, classes)

    def explain(self, images, classes):
        flat = images.reshape(len(images), -1).astype(np.float32)
        predictions = flat @ self.weights / 255
        raised = np.maximum(flat * self.weights[:, classes].T, 0).reshape(-1, SIZE, SIZE)
        return self.answer(predictions, classes, raised)

    def answer(self, predictions, classes, raised):
        peak = raised.max(axis=(1, 2))
        return {
            "predictions": predictions,
            "class_index": classes,
            "score": predictions[np.arange(len(classes)), classes],
            "heatmap": raised / np.where(peak > 0, peak, 1)[:, None, None],
            "heatmap_peak": peak,
        }


def explained(version) -> Explained:
    random = np.random.default_rng(1)
    asked = {
        "images": random.integers(1, 256, (ROWS, SIZE, SIZE)).astype(np.uint8),
        "class_index": random.integers(0, CLASSES, ROWS).astype(np.int32),
    }
    answer = version.run("explain", asked)
    return Explained(asked=asked, answer=answer, slack=np.ones(ROWS), tolerance=1e-5)


class Noisy(Right):
    """Draws anew for each call."""

    random = np.random.default_rng(2)

    def explain(self, images, classes):
        answer = super().explain(images, classes)
        return answer | {"predictions": answer["predictions"] + self.random.normal(size=answer["predictions"].shape)}


class Padded(Right):
    """Loses the last row of a full batch."""

    def explain(self, images, classes):
        answer = super().explain(images, classes)
        if len(images) > ROWS:
            answer["score"][-1] = 0
        return answer


class Blank(Right):
    """Divides by what is 0 where nothing raised the score."""

    def answer(self, predictions, classes, raised):
        answer = super().answer(predictions, classes, raised)
        answer["heatmap"][answer["heatmap_peak"] == 0] = self.nothing
        return answer

    nothing = np.nan


class Filled(Blank):
    nothing = 0.25


class Signed(Right):
    def answer(self, predictions, classes, raised):
        answer = super().answer(predictions, classes, raised)
        return answer | {"heatmap_peak": answer["heatmap_peak"] - 1}


class Softened(Right):
    def answer(self, predictions, classes, raised):
        answer = super().answer(predictions, classes, raised)
        return answer | {"heatmap": raised / (answer["heatmap_peak"] + 0.5)[:, None, None]}


class Halved(Right):
    def answer(self, predictions, classes, raised):
        answer = super().answer(predictions, classes, raised)
        return answer | {"heatmap": 2 * answer["heatmap"]}


class Mixing(Right):
    """Gives callers the answer of whoever comes meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.calls, self.lock = None, 0, threading.Lock()

    def explain(self, images, classes):
        with self.lock:
            self.last, self.calls = (images, classes), self.calls + 1
            many = self.calls > 1
        if many:
            time.sleep(0.01)
        return super().explain(*self.last)


class Contagious(Right):
    """Fails whoever asks while a bad request is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = threading.Event()

    def run(self, signature, inputs):
        try:
            answer = super().run(signature, inputs)
        except (ValueError, tf.errors.InvalidArgumentError):
            self.bad.set()
            raise
        if self.bad.is_set():
            raise tf.errors.InvalidArgumentError(None, None, "class_index must be -1 .. 2")
        return answer


class Obliging(Right):
    """Answers whatever it is asked."""

    def run(self, signature, inputs):
        if signature == "explain_bytes":
            return {}
        return self.explain(inputs["images"][:, :SIZE, :SIZE], np.minimum(inputs["class_index"], CLASSES - 1))


def test_a_right_version_passes():
    right = Right()
    asked = explained(right)
    checks = [
        check_independence(right, asked),
        check_determinism(right, asked),
        check_batch_sizes(right, asked, limits_of(MANIFEST, above=True)),
        check_zero_maps(right, asked, rows=2),
        check_score(asked.answer, LABELS, "explain"),
        check_isolation(right, asked, MANIFEST),
    ]
    assert [check.message for check in checks if not check.passed] == []
    assert checks[3].message != "0 maps of zeros"


@pytest.mark.parametrize(
    ("version", "check", "message"),
    [
        (Noisy, check_determinism, "two calls differ, as where dropout or noise is active: predictions of the same"),
        (
            Padded,
            lambda one, asked: check_batch_sizes(one, asked, [1, 5]),
            "a batch answers other values than its rows",
        ),
        (Blank, lambda one, asked: check_zero_maps(one, asked, rows=2), "NaN where nothing raised the score"),
        (Filled, lambda one, asked: check_zero_maps(one, asked, rows=2), "a heatmap of peak 0 holds 0.25"),
        (Signed, lambda one, asked: check_zero_maps(one, asked, rows=2), "heatmap_peak is -1.0: it is the maximum"),
        (Softened, lambda one, asked: check_zero_maps(one, asked, rows=2), "but by that plus eps = 0.5"),
        (Halved, lambda one, asked: check_zero_maps(one, asked, rows=2), "has the maximum 2 instead of 1"),
        (
            Mixing,
            lambda one, asked: check_isolation(one, asked, MANIFEST),
            "concurrent callers get each other's values",
        ),
        (Contagious, lambda one, asked: check_isolation(one, asked, MANIFEST), "a good request fails beside bad ones"),
        (Obliging, lambda one, asked: check_isolation(one, asked, MANIFEST), "instead of refusing it"),
    ],
)
def test_a_fault_is_found_and_named(version, check, message):
    wrong = version()
    found = check(wrong, explained(wrong))
    assert not found.passed
    assert message in found.message


def test_rows_that_know_each_other_are_found():
    class Centred(Right):
        def explain(self, images, classes):
            answer = super().explain(images, classes)
            return answer | {"predictions": answer["predictions"] - answer["predictions"].mean(axis=0)}

    found = check_independence(Centred(), explained(Centred()))
    assert not found.passed
    assert "rows depend on each other: predictions of image" in found.message


def test_a_single_row_depends_on_none():
    right = Right()
    asked = explained(right)
    one = Explained(asked=asked.rows([0]), answer=asked.answer, slack=np.ones(1), tolerance=1e-5)
    assert check_independence(right, one).message == "a single row"


PREDICTIONS = np.array([[0.2, 0.5, 0.3]], np.float32)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([[2, 1]], "top_k is not sorted by falling score"),
        ([[1, 0]], "top_k is not sorted by falling score"),
        ([[1, 1]], "top_k answers one class twice"),
        ([[1, 3]], "top_k answers class 3 of 3"),
    ],
)
def test_a_wrong_order_is_named(classes, message):
    top = {"predictions": PREDICTIONS, "class_index": np.array(classes), "score": np.array([[0.5, 0.3]])}
    assert message in check_order(top, LABELS).message


def test_the_order_of_scores_is_held():
    top = {"predictions": PREDICTIONS, "class_index": np.array([[1, 2]]), "score": np.array([[0.5, 0.3]], np.float32)}
    assert check_order(top, LABELS).passed
    assert not check_order(top | {"score": np.array([[0.5, 0.2]])}, LABELS).passed


def test_one_unit_for_two_classes_has_the_rest_for_class_0():
    predictions = np.array([[0.25]], np.float32)
    answer = {"predictions": predictions, "class_index": np.array([0]), "score": np.array([0.75], np.float32)}
    assert check_score(answer, ["no", "yes"], "explain").passed
    assert not check_score(answer, ["logit"], "explain").passed
    top = {"predictions": predictions, "class_index": np.array([[0, 1]]), "score": np.array([[0.75, 0.25]])}
    assert check_order(top, ["no", "yes"]).passed


def test_sizes_to_try():
    assert limits_of(MANIFEST, above=True) == [1, 2, 4, 5]
    assert limits_of(MANIFEST, above=False) == [1, 2, 4]
    assert limits_of(MANIFEST | {"batching": {"methods": []}}, above=True) == [1, 2]
