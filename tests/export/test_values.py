"""Values that a published version answers in a Session, against float64 and against the live model."""

import numpy as np
import pytest
from classifiers import CLASSES, FAMILIES, gradcam_in_float64, normalised, photographs
from gradcam_export import export_classifier
from gradcam_export.savedmodel.session import LoadedVersion
from lean import LEAN

LABELS = np.array([b"ant", b"bee", b"cat", b"dog", b"eel"], object)


@pytest.mark.parametrize("count", [1, 3])
def test_predictions_and_heatmaps_are_those_of_float64(exported, count):
    images = photographs(count)
    live = np.asarray(exported.model(images.astype(np.float32), training=False))
    answer = exported.run("serving_default", images)
    np.testing.assert_allclose(answer["predictions"], live, rtol=0, atol=1e-6)
    assert answer["class_index"].tolist() == live.argmax(axis=-1).tolist()
    raw = gradcam_in_float64(exported.family, exported.model, images, live.argmax(axis=-1))
    np.testing.assert_allclose(answer["heatmap"], normalised(raw), rtol=0, atol=1e-4)
    np.testing.assert_allclose(answer["heatmap_peak"], raw.max(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(answer["score"], live.max(axis=-1), rtol=0, atol=1e-6)
    assert answer["label"].tolist() == LABELS[live.argmax(axis=-1)].tolist()


def test_each_row_is_explained_for_its_own_class(exported):
    images = np.concatenate([photographs(1)] * CLASSES + [photographs(2, seed=9)])
    classes = np.array([*range(CLASSES), 4, 0], np.int32)
    answer = exported.run("explain", images, class_index=classes)
    raw = gradcam_in_float64(exported.family, exported.model, images, classes)
    np.testing.assert_allclose(answer["heatmap"], normalised(raw), rtol=0, atol=1e-4)
    assert answer["class_index"].tolist() == classes.tolist()
    assert answer["label"].tolist() == LABELS[classes].tolist()
    np.testing.assert_array_equal(answer["score"], answer["predictions"][np.arange(7), classes])


def test_minus_one_asks_for_the_predicted_class_row_by_row(exported):
    images = photographs(3)
    default = exported.run("serving_default", images)
    mixed = exported.run("explain", images, class_index=np.array([-1, 2, -1], np.int32))
    assert mixed["class_index"].tolist() == [default["class_index"][0], 2, default["class_index"][2]]
    np.testing.assert_allclose(mixed["heatmap"][[0, 2]], default["heatmap"][[0, 2]], rtol=0, atol=1e-6)


def test_rows_do_not_know_each_other(exported):
    images = photographs(4)
    together = exported.run("serving_default", images)
    for row in range(4):
        alone = exported.run("serving_default", images[[row]])
        for name in ("predictions", "heatmap", "heatmap_peak", "score"):
            np.testing.assert_allclose(alone[name][0], together[name][row], rtol=1e-5, atol=1e-5)
    order = [2, 0, 3, 1]
    permuted = exported.run("serving_default", images[order])
    np.testing.assert_allclose(permuted["heatmap"], together["heatmap"][order], rtol=0, atol=1e-5)


def test_predict_answers_the_same_without_heatmaps(exported):
    images = photographs(2)
    default, predict = exported.run("serving_default", images), exported.run("predict", images)
    assert set(predict) == {"predictions", "class_index", "label", "score"}
    for name, value in predict.items():
        np.testing.assert_array_equal(value, default[name])


def test_weights_as_constants_answer_the_same(tmp_path):
    family = FAMILIES["functional"]
    model = family.model()
    published = export_classifier(model, tmp_path / "constants", weights="constants", **LEAN)
    assert published.manifest.weights == "constants"
    images = photographs(2)
    with LoadedVersion.load(published.path) as constants:
        answer = constants.run("serving_default", {"images": images})
    raw = gradcam_in_float64(family, model, images, answer["class_index"])
    np.testing.assert_allclose(answer["heatmap"], normalised(raw), rtol=0, atol=1e-4)
    assert not list((published.path / "variables").glob("*.data*")) or (
        sum(file.stat().st_size for file in (published.path / "variables").iterdir()) < 1000
    )


def test_the_layer_is_chosen_before_pooling(exported):
    explanation = exported.version.manifest.explanation
    assert explanation["layer"] == exported.family.layer
    assert tuple(explanation["grid"]) == exported.family.grid


def test_a_class_out_of_range_is_refused_and_the_range_named(exported):
    import tensorflow as tf

    for wrong in (-2, CLASSES):
        classes = np.array([0, wrong], np.int32)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"class_index must be 0\.\.4, or -1"):
            exported.run("explain", photographs(2), class_index=classes)


def test_describe_answers_manifest_and_labels(exported):
    import json

    import tensorflow as tf

    keys = np.array([b"labels", b"manifest"], object)
    labels, manifest = exported.loaded.run("describe", {"key": keys})["value"]
    assert json.loads(labels) == ["ant", "bee", "cat", "dog", "eel"]
    beside = json.loads((exported.version.path / "assets.extra/manifest.json").read_text())
    assert json.loads(manifest) == beside == json.loads(exported.version.manifest.to_json())
    assert beside["verified"]["heatmap of gradcam"]["largest_difference"] <= 1e-4
    with pytest.raises(tf.errors.InvalidArgumentError, match="key must be manifest or labels"):
        exported.loaded.run("describe", {"key": np.array([b"labels", b"nonsense"], object)})
