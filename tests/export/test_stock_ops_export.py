"""What a stock TensorFlow Serving cannot run is not published; Python code is refused before anything is written."""

import keras
import pytest
import tensorflow as tf
from gradcam_export import UnsupportedOperation, VerificationError, export_classifier, inspect_classifier
from gradcam_export.savedmodel import write
from graph_edits import renamed_operation
from keras import layers
from tensorflow.core.protobuf import saved_model_pb2


def classifier(layer):
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="features")(images)
    x = layers.GlobalAveragePooling2D()(layer(x))
    return keras.Model(images, layers.Dense(3, name="scores")(x), name="flowers")


def test_a_version_that_the_server_cannot_run_is_not_published(tmp_path, monkeypatch):
    def write_renamed(served, directory):
        write.write_saved_model(served, directory)
        saved_model = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
        renamed_operation(saved_model)
        (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString())

    monkeypatch.setattr("gradcam_export.export.write_saved_model", write_renamed)
    with pytest.raises(VerificationError, match=r"cannot run __inference\w+/\w.*: ZeroOut is no operation"):
        export_classifier(classifier(layers.Activation("linear")), tmp_path / "flowers")
    assert list((tmp_path / "flowers").iterdir()) == []


def doubled(function, *, shaped):
    def call(x):
        y = function(lambda values: 2 * values, [x], tf.float32)
        if shaped:
            y.set_shape(x.shape)
        return y

    return layers.Lambda(call, output_shape=(16, 16, 4), name="double")


@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize(("function", "operation"), [(tf.py_function, "EagerPyFunc"), (tf.numpy_function, "PyFunc")])
def test_python_code_in_a_layer_is_refused_before_anything_is_written(tmp_path, function, operation, shaped):
    model = classifier(doubled(function, shaped=shaped))
    message = (
        rf"^TensorFlow Serving 2\.20 cannot run all of 'flowers': layer 'double': {operation} runs Python code, and a "
        r"server has no Python \(write it with keras\.ops or TensorFlow's own\)\.$"
    )
    with pytest.raises(UnsupportedOperation, match=message):
        export_classifier(model, tmp_path / "flowers")
    with pytest.raises(UnsupportedOperation, match=message):
        inspect_classifier(model)
    assert not (tmp_path / "flowers").exists()


def test_python_code_outside_any_layer_is_named_by_its_node():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="flowers")
            self.features = layers.Conv2D(4, 3, name="features")
            self.scores = layers.Dense(3, name="scores")

        def call(self, images):
            values = tf.numpy_function(lambda one: 2 * one, [images], tf.float32)
            values.set_shape(images.shape)
            return self.scores(keras.ops.mean(self.features(values), (1, 2)))

    with pytest.raises(UnsupportedOperation, match=r"'flowers': flowers\w*/PyFunc: PyFunc runs Python code"):
        inspect_classifier(Subclassed(), image_size=(16, 16))


def test_python_code_that_no_prediction_needs_is_left_out():
    def watched(x):
        tf.py_function(lambda values: values, [x], tf.float32)
        return x

    model = classifier(layers.Lambda(watched, output_shape=(16, 16, 4)))
    assert inspect_classifier(model).layer == "features"
