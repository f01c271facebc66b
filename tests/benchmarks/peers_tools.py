"""The tools that are compared: each explains the same images, the way its documentation says.

Two jobs are timed. ANSWER is what one call of the served version does: it says what the images show, and why. Tools
that want to be told the class are preceded by Keras' own `predict`, as on the page of keras.io. EXPLAIN is the heatmap
alone, of a class that is known; the served version predicts all the same.

What a tool asks for beforehand is not counted: it is given the network that ends in its logits, its layer and the
preprocessed images, and called before it is timed. The served version gets pixels.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from benchmarks.measuring import forget_peak, highest, resident

SERVED = "served"
ANSWER, EXPLAIN = JOBS = "answer", "explain"


@dataclass(frozen=True)
class Given:
    """What a tool explains: the folder of `peers_networks`, the layer, and the published version, if it is ours."""

    folder: str
    layer: str
    version: str


class Served:
    """The published version in the server's runtime."""

    distribution = "gradcam-export"

    def __init__(self, given: Given) -> None:
        from gradcam_export.savedmodel.session import LoadedVersion

        self._loaded = LoadedVersion.load(given.version)
        self._pixels = np.load(f"{given.folder}/images.npz")["pixels"]

    def answer(self, inputs: np.ndarray) -> np.ndarray:
        """Predict and explain the pixels that `inputs` were made from, all in one request."""
        return self._loaded.run("serving_default", {"images": self._pixels[: len(inputs)]})["heatmap"]

    def explain(self, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Explain the pixels that `inputs` were made from, for those classes."""
        request = {"images": self._pixels[: len(inputs)], "class_index": classes}
        return self._loaded.run("explain", request)["heatmap"]

    def maps(self, inputs: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
        return {"": self.explain(inputs, classes)}


class _Library:
    """What explains a Keras model in the process that holds it."""

    def __init__(self, given: Given) -> None:
        import keras

        self.layer = given.layer
        self.model = keras.saving.load_model(f"{given.folder}/logits.keras", compile=False)

    def answer(self, inputs: np.ndarray) -> object:
        """Predict, and explain the best class of each image."""
        return self.explain(inputs, self.model.predict(inputs, verbose=0).argmax(axis=1))

    def maps(self, inputs: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
        return {"": np.asarray(self.explain(inputs, classes))}


class Recipe(_Library):
    """Grad-CAM as keras.io teaches it: one image a call, in eager mode, through a model of two outputs made anew."""

    distribution = "keras"

    def explain(self, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return np.stack([self._map(image[np.newaxis], index) for image, index in zip(inputs, classes, strict=True)])

    def _map(self, image: np.ndarray, index: int) -> np.ndarray:
        import keras
        import tensorflow as tf

        both = keras.Model(self.model.inputs, [self.model.get_layer(self.layer).output, self.model.output])
        with tf.GradientTape() as tape:
            features, logits = both(image)
            score = logits[:, int(index)]
        weights = tf.reduce_mean(tape.gradient(score, features), axis=(0, 1, 2))
        heatmap = tf.nn.relu(tf.reduce_sum(features[0] * weights, axis=-1))
        return (heatmap / tf.reduce_max(heatmap)).numpy()


class TfExplain(_Library):
    """tf-explain takes one class a call, and answers with a picture."""

    distribution = "tf-explain"

    def explain(self, inputs: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
        from tf_explain.core.grad_cam import GradCAM

        return [
            GradCAM().explain((image[np.newaxis], None), self.model, int(index), layer_name=self.layer)
            for image, index in zip(inputs, classes, strict=True)
        ]

    def maps(self, inputs: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Return what it colours, with its default and with the gradients that the paper takes; it knows no ReLU."""
        from tf_explain.core.grad_cam import GradCAM

        found = {}
        for name, guided in (("", True), ("use_guided_grads=False", False)):
            maps = []
            for image, index in zip(inputs, classes, strict=True):
                values = GradCAM.get_gradients_and_filters(
                    self.model, image[np.newaxis], self.layer, int(index), guided
                )
                maps += [np.asarray(cam) for cam in GradCAM.generate_ponderated_output(*values)]
            found[name] = np.stack(maps)
        return found


class TfKerasVis(_Library):
    """tf-keras-vis takes a batch; spared are the enlarging and stretching of its maps."""

    distribution = "tf-keras-vis"

    def __init__(self, given: Given) -> None:
        from tf_keras_vis.gradcam import Gradcam

        super().__init__(given)
        self._gradcam = Gradcam(self.model, clone=True)

    def explain(self, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
        from tf_keras_vis.utils.scores import CategoricalScore

        score = CategoricalScore(classes.tolist())
        return self._gradcam(
            score,
            inputs,
            penultimate_layer=self.layer,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
        )


class Xplique(_Library):
    """xplique takes a batch, in a function that is traced once; it enlarges its maps to the image, bicubic."""

    distribution = "xplique"

    def __init__(self, given: Given) -> None:
        from xplique.attributions import GradCAM

        super().__init__(given)
        self._gradcam = GradCAM(self.model, conv_layer=given.layer)

    def explain(self, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return self._gradcam.explain(inputs, np.eye(self.model.output_shape[-1], dtype=np.float32)[classes])


TOOLS = {
    SERVED: Served,
    "keras.io recipe": Recipe,
    "tf-explain": TfExplain,
    "tf-keras-vis": TfKerasVis,
    "xplique": Xplique,
}


def difference(maps: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference between maps, each divided by its maximum, and those of the formula `[B,h,w]`.

    The formula's are enlarged where the tool's are.
    """
    import tensorflow as tf
    from classifiers import normalised

    found = maps.reshape(maps.shape[:3])
    if found.shape != expected.shape:
        enlarged = tf.image.resize(expected[..., np.newaxis].astype(np.float32), found.shape[1:], "bicubic")
        expected = normalised(enlarged[..., 0].numpy())
    return float(np.abs(normalised(found) - expected).max())


def answer_rounds(tool: str, given: Given) -> None:
    """Do the job of each line of the standard input for so many images, and say the seconds; at its end, the rest."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    import tensorflow as tf

    tf.constant(0.0)
    forget_peak()
    before = resident()
    explainer = TOOLS[tool](given)
    images = np.load(f"{given.folder}/images.npz")

    def say(**facts: object) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    say(version=version(explainer.distribution))
    for line in sys.stdin:
        job, size = line.split()
        say(seconds=_seconds(explainer, job, images, int(size)))
    memory = highest() - before
    found = explainer.maps(images["inputs"], images["classes"])
    say(memory=memory, differences={name: difference(maps, images["maps"]) for name, maps in found.items()})


def _seconds(explainer, job: str, images, size: int) -> float:
    inputs, classes = images["inputs"][:size], images["classes"][:size]
    given = (inputs,) if job == ANSWER else (inputs, classes)
    start = time.perf_counter()
    getattr(explainer, job)(*given)
    return time.perf_counter() - start


if __name__ == "__main__":
    answer_rounds(sys.argv[1], Given(*sys.argv[2:]))
