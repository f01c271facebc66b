"""Which feature map is explained, which logits, and what is said where neither can be told."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifiers import FAMILIES, INPUT_SHAPE, nested, sequential
from gradcam_export import ExplanationError, ExportOptions, LayerNotFound, NoFeatureMap, UnsupportedHead
from gradcam_export.graph.explain import make_choice
from gradcam_export.graph.target import candidates, choose
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.methods import METHODS
from keras import layers


def traced(model, **options):
    asked = ExportOptions(**options)
    return trace(classifier_of(load_classifier(model, image_size=asked.image_size), asked)).forward


def choice_of(forward, **options):
    return make_choice(forward, ExportOptions(**options))


def classifier(*tail, shape=INPUT_SHAPE):
    return keras.Sequential([keras.Input(shape), layers.Conv2D(6, 3, activation="relu", name="conv"), *tail])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_map_before_pooling_is_chosen(family):
    target = choose(traced(FAMILIES[family].model()))
    assert target.feature_map.name == FAMILIES[family].layer
    assert target.feature_map.layout.grid == FAMILIES[family].grid
    assert "before pooling" in target.reason


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [
        ("MobileNetV2", "out_relu", (3, 4)),
        pytest.param("ResNet50", "conv5_block3_out", (3, 4), marks=pytest.mark.large),
        ("VGG16", "block5_conv3", (6, 8)),
        pytest.param("EfficientNetB0", "top_activation", (3, 4), marks=pytest.mark.large),
        pytest.param("Xception", "block14_sepconv2_act", (3, 4), marks=pytest.mark.large),
        pytest.param("DenseNet121", "relu", (3, 4), marks=pytest.mark.large),
        pytest.param("MobileNetV3Small", "activation_17", (3, 4), marks=pytest.mark.large),
    ],
)
def test_applications_are_explained_at_the_layer_the_literature_uses(name, layer, grid):
    keras.utils.clear_session()
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 128, 3))
    feature_map = choose(traced(model)).feature_map
    assert (feature_map.name, feature_map.layout.grid) == (layer, grid)


def test_a_sum_made_by_an_operator_is_chosen_though_no_layer_returns_it():
    images = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="shortcut")(images)

    @keras.saving.register_keras_serializable("tests")
    class Residual(layers.Layer):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.branch = layers.Conv2D(6, 3, padding="same", name="branch")

        def call(self, x):
            return layers.GlobalAveragePooling2D()(x + self.branch(x))

    model = keras.Model(images, layers.Dense(3)(Residual(name="residual")(x)))
    feature_map = choose(traced(model)).feature_map
    assert feature_map.tensor.op.type == "AddV2"
    assert not feature_map.from_layer
    assert feature_map.layout.grid == (32, 40)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("base/stem_relu", "base/stem_relu"), ("stem_relu", "base/stem_relu"), ("base/features", "base/features")],
)
def test_a_layer_can_be_asked_for_by_path_or_by_its_unique_name(asked, found):
    target = choose(traced(nested()), asked)
    assert target.feature_map.name == found
    assert target.reason == "asked for by name"


def test_a_misspelt_layer_gets_close_names():
    with pytest.raises(LayerNotFound, match=r"called no layer named 'base/featurs'\. Close names: base/features"):
        choose(traced(nested()), "base/featurs")


def test_a_layer_of_no_similar_name_gets_the_spatial_ones():
    with pytest.raises(LayerNotFound, match=r"Layers that return one: conv"):
        choose(traced(classifier(layers.GlobalAveragePooling2D(), layers.Dense(2))), "zzzz")


def test_a_name_that_several_layers_bear_must_be_given_in_full():
    def base(name):
        images = keras.Input((None, None, 3))
        return keras.Model(images, layers.Conv2D(3, 3, padding="same", name="conv")(images), name=name)

    model = keras.Sequential(
        [keras.Input(INPUT_SHAPE), base("a"), base("b"), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    with pytest.raises(ExplanationError, match="Several layers are named 'conv': a/conv, b/conv"):
        choose(traced(model), "conv")
    assert choose(traced(model), "a/conv").feature_map.name == "a/conv"


def test_a_layer_that_is_called_twice_is_refused():
    images = keras.Input(INPUT_SHAPE)
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    x = layers.ReLU(name="last")(shared(layers.ReLU(name="between")(shared(images))))
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ExplanationError, match=r"'shared' is called 2 times.*Layers that return one: .*between, last"):
        choose(traced(model), "shared")


def test_a_layer_without_positions_is_refused():
    with pytest.raises(ExplanationError, match=r"Layer 'scores' returns \(None, 5\), not a feature map"):
        choose(traced(sequential()), "scores")


def test_a_layer_with_no_path_to_the_class_score_is_refused():
    images = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(4, 3, name="seen")(images)

    @keras.saving.register_keras_serializable("tests")
    class Stop(layers.Layer):
        def call(self, x):
            return keras.ops.stop_gradient(x)

    x = layers.Conv2D(4, 3, name="after")(Stop()(x))
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    forward = traced(model)
    choice = choice_of(forward, layer="seen")
    refused = pytest.raises(ExplanationError, match=r"'seen' returns has no gradient of the class score")
    with forward.predictions.graph.as_default(), refused:
        choice.evidence(tf.zeros([1], tf.int32)).gradients(METHODS["gradcam"])


def test_a_classifier_without_positions_says_so():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(4), layers.Dense(2)])
    with pytest.raises(NoFeatureMap, match="No layer of this model returns one: Grad-CAM needs convolutional features"):
        choose(traced(model))


def test_candidates_are_in_order_and_on_every_path():
    images = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(4, 3, padding="same", name="first")(images)
    left, right = layers.ReLU(name="left")(x), layers.Conv2D(4, 1, name="right")(x)
    x = layers.Add(name="sum")([left, right])
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    names = [feature_map.name for feature_map in candidates(traced(model)) if feature_map.from_layer]
    assert names == ["first", "sum"]


@pytest.mark.parametrize(
    ("tail", "activation", "classes"),
    [
        ([layers.Dense(3, activation="softmax")], "softmax", 3),
        ([layers.Dense(3), layers.Softmax()], "softmax", 3),
        ([layers.Dense(3, activation="log_softmax")], "log_softmax", 3),
        ([layers.Dense(3)], "linear", 3),
        ([layers.Dense(1, activation="sigmoid")], "sigmoid", 2),
        ([layers.Dense(4, activation="sigmoid")], "sigmoid", 4),
        ([layers.Dense(1)], "linear", 1),
        ([layers.Dense(3, activation="softmax", dtype="float64")], "softmax", 3),
    ],
)
def test_the_head_is_read_off_the_graph(tail, activation, classes):
    head = choice_of(traced(classifier(layers.GlobalAveragePooling2D(), *tail))).head
    assert (head.activation, head.classes) == (activation, classes)


def test_a_convolutional_head_is_read_through_its_reshape():
    tail = [
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Conv2D(3, 1),
        layers.Flatten(),
        layers.Activation("softmax"),
    ]
    head = choice_of(traced(classifier(*tail))).head
    assert head.explained.shape.as_list() == [None, 3]
    after = [layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(3, 1, activation="softmax")]
    forward = traced(classifier(*after))
    assert choice_of(forward).head.activation == "softmax"
    assert forward.predictions.shape.as_list() == [None, 3]


def test_a_softmax_that_is_not_the_end_is_refused_unless_the_probability_is_asked_for():
    images = keras.Input(INPUT_SHAPE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
    members = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    forward = traced(keras.Model(images, layers.Average()(members)))
    with pytest.raises(UnsupportedHead, match=r"A softmax over the 3 classes .* comes after it.*--score probability"):
        choice_of(forward)
    assert choice_of(forward, score="probability").head.activation == "linear"


def two_heads(x):
    pooled = layers.GlobalAveragePooling2D()(x)
    return [layers.Dense(2, name="colour")(pooled), layers.Dense(3, name="shape")(pooled)]


@pytest.mark.parametrize(
    ("outputs", "asked", "message"),
    [
        (lambda x: layers.Conv2D(2, 1)(x), None, r"returns \(None, 30, 38, 2\) per batch; .*segmentation model"),
        (two_heads, None, r"has several outputs: say which to explain with --output: colour, shape\."),
        (two_heads, "size", r"has no output 'size': say which to explain with --output: colour, shape\."),
        (lambda x: two_heads(x)[0], "size", "has a single output; leave out --output size"),
        (lambda x: {"a": two_heads(x), "b": x}, "a", "returns a list there; one score vector is needed"),
    ],
)
def test_answers_that_are_no_score_vectors_are_refused(outputs, asked, message):
    images = keras.Input(INPUT_SHAPE)
    model = keras.Model(images, outputs(layers.Conv2D(4, 3)(images)))
    with pytest.raises(UnsupportedHead, match=message):
        traced(model, output=asked)


@pytest.mark.parametrize(
    ("outputs", "asked", "classes"),
    [
        (two_heads, "shape", 3),
        (lambda x: dict(zip("ab", two_heads(x), strict=True)), "b", 3),
        (lambda x: [layers.GlobalAveragePooling2D()(x)] * 2, "1", 4),
        (lambda x: {"only": two_heads(x)[0]}, None, 2),
        (lambda x: two_heads(x)[:1], None, 2),
    ],
)
def test_one_of_several_outputs_is_explained(outputs, asked, classes):
    images = keras.Input(INPUT_SHAPE)
    model = keras.Model(images, outputs(layers.Conv2D(4, 3)(images)))
    assert traced(model, output=asked).predictions.shape.as_list() == [None, classes]


def test_binary_classes_explain_either_side():
    model = classifier(layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid"))
    forward = traced(model)
    head = choice_of(forward).head
    with forward.predictions.graph.as_default():
        evidence = tf.reduce_sum(head.direction(tf.constant([0, 1])) * head.explained, axis=-1)
        score = head.score(tf.constant([0, 1]))
    with tf.compat.v1.Session(graph=forward.predictions.graph) as session:
        logits, probabilities = np.array([[0.5], [0.5]]), np.array([[0.6], [0.6]], np.float32)
        feeds = {head.explained.name: logits, head.predictions.name: probabilities}
        assert session.run(evidence, feeds).tolist() == [-0.5, 0.5]
        np.testing.assert_allclose(session.run(score, feeds), [0.4, 0.6], rtol=1e-6)
