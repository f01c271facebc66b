"""`top_k`: each column is what `explain` answers for that class, and all come from one forward pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from assembled import Folded, served
from classifiers import FAMILIES, INPUT_SHAPE, photographs
from conditioned import conditioned
from gradcam_export.graph.explain import output_of
from gradcam_export.graph.logits import Head
from keras import layers

IMAGES = photographs(3)


def small(units, activation, **dense):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input(INPUT_SHAPE),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 5, strides=4, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(units, activation=activation, name="scores", **dense),
        ]
    )
    return conditioned(model, IMAGES.astype(np.float32))


def check_columns(version, count, **tolerance):
    """Hold `top_k` against `explain`, column by column; return its answer."""
    best = version.run("top_k", images=IMAGES)
    assert best["class_index"].shape == (3, count)
    for column in range(count):
        one = version.run("explain", images=IMAGES, class_index=best["class_index"][:, column])
        for name in ("class_index", "label"):
            assert best[name][:, column].tolist() == one[name].tolist()
        for name in ("score", "heatmap", "heatmap_peak"):
            np.testing.assert_allclose(best[name][:, column], one[name], rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(best["predictions"], version.run("predict", images=IMAGES)["predictions"])
    return best


@pytest.mark.parametrize("method", ["gradcam", "finercam", "scorecam"])
def test_each_column_is_explain_of_that_class(method, tmp_path):
    best = check_columns(served(FAMILIES["sequential"].model(), tmp_path, method=method, top_k=3, chunk=7), 3)
    wanted = np.argsort(-best["predictions"], axis=1, kind="stable")[:, :3]
    assert best["class_index"].tolist() == wanted.tolist()
    assert np.abs(best["heatmap"][:, 0] - best["heatmap"][:, 1]).max() > 0.01 or method == "scorecam"


@pytest.mark.parametrize(
    ("units", "activation", "asked", "count"), [(4, "softmax", 9, 4), (3, "sigmoid", 2, 2), (1, "linear", 5, 1)]
)
def test_no_more_classes_are_explained_than_there_are(units, activation, asked, count, tmp_path):
    folded = Folded(small(units, activation), top_k=asked)
    assert folded.choice.top_k == count
    check_columns(folded.served(tmp_path), count)


@pytest.mark.parametrize("asked", [1, 2, 5])
def test_of_two_classes_the_predicted_one_comes_first(asked, tmp_path):
    model = small(1, "sigmoid")
    # So that both classes are predicted for some image.
    pooled = np.asarray(keras.Sequential(model.layers[:-1])(IMAGES.astype(np.float32)))
    kernel, _ = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, -np.median(pooled @ kernel, axis=0)])
    best = check_columns(served(model, tmp_path, top_k=asked), min(asked, 2))
    predicted = (best["predictions"][:, 0] > 0.5).astype(int)
    assert set(predicted) == {0, 1}
    assert best["class_index"].tolist() == np.stack([predicted, 1 - predicted], axis=1)[:, :asked].tolist()
    np.testing.assert_allclose(best["score"][:, :2].sum(axis=1), 1.0 if asked > 1 else best["score"][:, 0], rtol=1e-6)


def test_of_equal_scores_the_lower_index_comes_first(tmp_path):
    model = small(6, "softmax")
    kernel, _ = model.layers[-1].get_weights()
    kernel[:] = kernel[:, :1]
    model.layers[-1].set_weights([kernel, np.array([0, 1, 0, 1, 1, 0], np.float32)])
    best = served(model, tmp_path, top_k=5).run("top_k", images=IMAGES)
    assert best["class_index"].tolist() == [[1, 3, 4, 0, 2]] * 3


def test_ten_thousand_classes(tmp_path):
    best = check_columns(served(small(10_000, "softmax"), tmp_path, top_k=5), 5)
    wanted = np.argsort(-best["predictions"], axis=1, kind="stable")[:, :5]
    assert best["class_index"].tolist() == wanted.tolist()
    assert best["label"][0, 0] == f"class_{wanted[0, 0]}".encode()


@pytest.mark.parametrize("family", ["functional", "sequential"])
def test_all_classes_are_explained_from_one_forward_pass(family):
    folded = Folded(FAMILIES[family].model(), top_k=4).folded

    def convolutions(*names):
        nodes = [folded.outputs[name].split(":")[0] for name in names]
        graph = tf.compat.v1.graph_util.extract_sub_graph(folded.graph_def, nodes)
        return {node.name for node in graph.node if node.op in ("Conv2D", "DepthwiseConv2dNative", "_FusedConv2D")}

    explained = convolutions(output_of("heatmap", "top_k"), output_of("score", "top_k"), "predictions")
    assert explained == convolutions("predictions")
    assert len(explained) >= 2


def test_best_classes_of_scores_by_hand():
    predictions = tf.constant([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
    head = Head(predictions=predictions, explained=predictions, activation="softmax")
    assert head.best_classes(2).numpy().tolist() == [[1, 2], [0, 2]]
    assert head.best_classes(3).numpy().tolist() == [[1, 2, 0], [0, 2, 1]]
    unit = tf.constant([[0.5], [0.6]])
    head = Head(predictions=unit, explained=unit, activation="sigmoid")
    # At exactly one half the negative class is predicted.
    assert head.best_classes(2).numpy().tolist() == [[0, 1], [1, 0]]
    assert head.best_classes(1).numpy().tolist() == [[0], [1]]
