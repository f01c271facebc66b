"""Several CAM methods in one SavedModel: each is its paper's formula, and all share the weights."""

import numpy as np
import pytest
import tensorflow as tf
from assembled import Folded
from cam_reference import Reference, heatmaps
from classifiers import CLASSES, FAMILIES, photographs
from gradcam_export.contract import explain_signature
from gradcam_export.methods import METHODS

FIRST = "gradcam"
OTHERS = tuple(name for name in METHODS if name != FIRST)
ASKING = ("scorecam", "faster-scorecam", "ablationcam")
IMAGES, CHOSEN = photographs(3), [3, 0, 4]
CHUNK = 5
"""Neither divides the number of channels nor that of all rows."""


def inverted(images):
    """Preprocess so that it matters what is masked: pixels, or what the network gets."""
    return 255.0 - images


def signature_of(method):
    return "explain" if method == FIRST else explain_signature(method)


@pytest.fixture(scope="module")
def family():
    return FAMILIES["functional"]


@pytest.fixture(scope="module")
def model(family):
    return family.model()


@pytest.fixture(scope="module")
def folded(model):
    return Folded(model, method=(FIRST, *OTHERS), preprocessing=inverted, top_k=3, max_image_bytes=10_000)


@pytest.fixture(scope="module")
def served(folded, tmp_path_factory):
    return folded.served(tmp_path_factory.mktemp("methods"), chunk=CHUNK)


@pytest.fixture(scope="module")
def wanted(family, model):
    """Each method's maps of `IMAGES` for `CHOSEN`, `[B,P]`."""
    reference = Reference.of(family, model)
    return {name: reference.maps(name, inverted(IMAGES.astype(float)), CHOSEN) for name in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_its_formula(served, wanted, method):
    for rows in ([1], [0, 1, 2]):
        answer = served.run(signature_of(method), images=IMAGES[rows], class_index=np.array(CHOSEN)[rows])
        maps = wanted[method][rows]
        np.testing.assert_allclose(answer["heatmap"].reshape(len(rows), -1), heatmaps(maps), rtol=0, atol=1e-4)
        np.testing.assert_allclose(answer["heatmap_peak"], maps.max(axis=1), rtol=1e-4)
        assert answer["class_index"].tolist() == np.array(CHOSEN)[rows].tolist()
        np.testing.assert_array_equal(answer["score"], answer["predictions"][range(len(rows)), answer["class_index"]])


def test_the_methods_differ(wanted):
    maps = {name: heatmaps(wanted[name]) for name in METHODS if name not in ("cam", "hirescam", "xgradcam")}
    for name, one in maps.items():
        for other in maps.keys() - {name}:
            assert np.abs(one - maps[other]).max() > 1e-3, (name, other)


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.large), 1000])
def test_the_size_of_a_chunk_changes_nothing(folded, served, tmp_path, chunk):
    other = folded.served(tmp_path, chunk=chunk)
    for method in ASKING:
        found = other.run(signature_of(method), images=IMAGES, class_index=CHOSEN)
        before = served.run(signature_of(method), images=IMAGES, class_index=CHOSEN)
        for name in ("heatmap", "heatmap_peak"):
            np.testing.assert_allclose(found[name], before[name], rtol=1e-4, atol=1e-5)


def test_no_rows_are_answered_by_no_rows(served):
    given = {
        "images": np.zeros((0, 32, 40, 3), np.uint8),
        "image_bytes": np.zeros(0, object),
        "class_index": np.zeros(0, np.int32),
    }
    names = served.loaded.signatures.keys() - {"describe"}
    assert len(names) == 6 + len(OTHERS)
    predicted = {"predictions": (0, CLASSES), "class_index": (0,), "label": (0,), "score": (0,)}
    best = {name: (*shape, 3) if len(shape) == 1 else shape for name, shape in predicted.items()}
    shapes = {
        "predict": predicted,
        "top_k": {**best, "heatmap": (0, 3, 16, 20), "heatmap_peak": (0, 3)},
        "overlay": {"class_index": (0,), "label": (0,), "score": (0,), "overlay_bytes": (0,)},
    }
    for name in names:
        answer = served.loaded.run(name, {key: given[key] for key in served.loaded.signatures[name].inputs})
        wanted = shapes.get(name, {**predicted, "heatmap": (0, 16, 20), "heatmap_peak": (0,)})
        assert {key: value.shape for key, value in answer.items()} == wanted, name


@pytest.mark.parametrize("method", METHODS)
def test_a_subset_of_the_outputs_is_the_same(served, method):
    whole = served.run(signature_of(method), images=IMAGES, class_index=CHOSEN)
    for name in ("heatmap", "heatmap_peak", "score"):
        alone = served.run(signature_of(method), name, images=IMAGES, class_index=CHOSEN)
        assert set(alone) == {name}
        np.testing.assert_allclose(alone[name], whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_out_of_range_is_refused_by_every_method(served, method):
    for wrong in (-2, CLASSES):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"class_index must be 0\.\.4, or -1 for the predicted"
        ):
            served.run(signature_of(method), images=IMAGES[:2], class_index=[0, wrong])


@pytest.mark.parametrize("method", METHODS)
def test_minus_one_is_the_predicted_class(served, method):
    predicted = served.run("predict", images=IMAGES)["class_index"]
    asked = served.run(signature_of(method), images=IMAGES, class_index=[-1, *predicted[1:]])
    named = served.run(signature_of(method), images=IMAGES, class_index=predicted)
    assert asked["class_index"].tolist() == predicted.tolist()
    np.testing.assert_array_equal(asked["heatmap"], named["heatmap"])


def test_all_methods_share_the_weights(model, served, tmp_path):
    one = Folded(model, preprocessing=inverted).served(tmp_path)

    def variables(path):
        shapes = tf.train.load_checkpoint(path / "variables" / "variables").get_variable_to_shape_map()
        return sorted(shape for name, shape in shapes.items() if name != "_CHECKPOINTABLE_OBJECT_GRAPH")

    assert variables(served.path) == variables(one.path)
    assert sum(np.prod(shape) for shape in variables(one.path)) > 2000
