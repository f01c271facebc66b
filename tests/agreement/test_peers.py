"""The served Grad-CAM beside that of independent libraries, in an environment that has them: `make agreement`.

They are no reference, the paper's formula is; but where their formula is the paper's, the maps must agree. Both are
given the logits, which the exported classifier explains of its own accord: both explain what the model ends in, and
of a softmax the gradients would be others.
"""

import keras
import numpy as np
import pytest
from gradcam_export import export_classifier
from gradcam_export.savedmodel.session import LoadedVersion
from keras import layers
from lean import LEAN

SIZE, CLASSES = (12, 16), 5
TOLERANCE = 1e-5

pytestmark = [
    # The libraries use names that scipy and Keras will drop.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def network() -> tuple[keras.Model, keras.Model]:
    """Return one network twice, ending in its softmax and in its logits.

    No layer strides: xplique resizes its maps to the image, bicubic, and here that leaves them as they are. Most of
    the head's weights are positive: maps that nearly cancel would compare the rounding of float32.
    """
    keras.utils.set_random_seed(3)
    images = keras.Input((*SIZE, 3))
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(8, 5, padding="same", activation="relu", bias_initializer="normal")(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", bias_initializer="normal", name="features")(x)
    weights = keras.initializers.RandomUniform(-0.5, 1)
    logits = layers.Dense(CLASSES, kernel_initializer=weights, name="logits")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, layers.Softmax()(logits)), keras.Model(images, logits)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The logits' model, images, their classes, and the heatmaps of the published version."""
    classifier, logits = network()
    images = np.random.default_rng(7).integers(0, 256, (2 * CLASSES, *SIZE, 3)).astype(np.uint8)
    classes = np.arange(2 * CLASSES, dtype=np.int32) % CLASSES
    published = export_classifier(classifier, tmp_path_factory.mktemp("models") / "peers", layer="features", **LEAN)
    with LoadedVersion.load(published.path) as loaded:
        heatmaps = loaded.run("explain", {"images": images, "class_index": classes})["heatmap"]
    assert heatmaps.shape == (2 * CLASSES, *SIZE)
    assert (heatmaps.max(axis=(1, 2)) == 1).all()
    return logits, images.astype(np.float32), classes, heatmaps


def normalised(maps: np.ndarray) -> np.ndarray:
    """Divide each map by its maximum; zeros stay."""
    peak = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(peak > 0, peak, 1)


def test_xplique_gives_the_same_map(served):
    attributions = pytest.importorskip("xplique.attributions", reason="xplique is not installed: make agreement")
    logits, images, classes, heatmaps = served
    peer = attributions.GradCAM(logits, conv_layer="features")
    maps = np.asarray(peer.explain(images, np.eye(CLASSES, dtype=np.float32)[classes]))
    np.testing.assert_allclose(normalised(maps.reshape(heatmaps.shape)), heatmaps, rtol=0, atol=TOLERANCE)


def test_tf_keras_vis_gives_the_same_map(served):
    library = pytest.importorskip("tf_keras_vis.gradcam", reason="tf-keras-vis is not installed: make agreement")
    scores = pytest.importorskip("tf_keras_vis.utils.scores", reason="tf-keras-vis is not installed: make agreement")
    logits, images, classes, heatmaps = served
    maps = library.Gradcam(logits, clone=True)(
        scores.CategoricalScore(classes.tolist()),
        images,
        penultimate_layer="features",
        expand_cam=False,
        normalize_cam=False,
    )
    np.testing.assert_allclose(normalised(np.asarray(maps)), heatmaps, rtol=0, atol=TOLERANCE)
