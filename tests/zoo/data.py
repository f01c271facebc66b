"""What a classifier sees: images of any number of channels, waves, volumes and sequences."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from classifiers import CLASSES
from keras import layers

from zoo.case import Case, Inputs, bare_logits, photographs, pixels
from zoo.parts import as_numbers, classifier, numbers, pooled_softmax, scaled, trunk

WAVE, VOLUME, CLIP = (400, 2), (8, 20, 24, 1), (4, 24, 32, 3)


def channels_first(data_format: str, shape: tuple[int, ...]) -> Callable[[], keras.Model]:
    """Return what builds the same network in either order: kernels have one layout in both."""

    def build() -> keras.Model:
        keywords = {"padding": "same", "data_format": data_format}
        axis = 1 if data_format == "channels_first" else -1
        images = keras.Input(shape)
        x = layers.Rescaling(1 / 127.5, offset=-1)(images)
        x = layers.Conv2D(8, 3, strides=2, name="stem", **keywords)(x)
        x = layers.BatchNormalization(axis=axis, name="stem_norm")(x)
        x = layers.ReLU(name="stem_relu")(x)
        x = layers.MaxPooling2D(data_format=data_format)(x)
        x = layers.Conv2D(12, 3, name="conv", **keywords)(x)
        x = layers.BatchNormalization(axis=axis, name="norm")(x)
        x = layers.ReLU(name="features")(x)
        x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
        return keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x))

    return build


def _pixels_first(inputs: Inputs) -> Any:
    """Return `[B,C,H,W]` in float32, and `[B,H,W,C]` for the float64 twin, which has its channels last."""
    images = pixels(inputs)
    return images if keras.config.floatx() == "float64" else images.transpose(0, 3, 1, 2)


def wave() -> keras.Model:
    """Two leads of a heart, or two microphones."""
    samples = keras.Input(WAVE)
    x = layers.Conv1D(8, 7, strides=4, padding="same", use_bias=False, name="stem")(samples)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.MaxPooling1D()(layers.ReLU()(x))
    x = layers.SeparableConv1D(12, 5, padding="same", name="separable")(x)
    x = layers.ReLU(name="features")(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(samples, layers.Dense(CLASSES, activation="softmax", name="scores")(x))


def wave_flattened() -> keras.Model:
    """One lead of open length, dilated convolutions, flattened into dense layers."""
    samples = keras.Input((None, 1))
    x = layers.Conv1D(6, 5, strides=4, padding="same", activation="relu", name="stem")(samples)
    x = layers.Conv1D(10, 3, dilation_rate=4, padding="causal", activation="tanh", name="dilated")(x)
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(samples, layers.Dense(1, activation="sigmoid", name="scores")(x))


def slice_pool(x: Any) -> Any:
    """Maxima of 2x2x2 voxels, axis by axis: TensorFlow has no MaxPooling3D in float64 on CPUs."""
    x = keras.ops.maximum(x[:, ::2], x[:, 1::2])
    x = keras.ops.maximum(x[:, :, ::2], x[:, :, 1::2])
    return keras.ops.maximum(x[:, :, :, ::2], x[:, :, :, 1::2])


def volume(pool: Callable[[Any], Any]) -> Callable[[], keras.Model]:
    """Return what builds a classifier of volumes with one channel, pooled before and after the feature map."""

    def build() -> keras.Model:
        voxels = keras.Input(VOLUME)
        x = layers.Conv3D(6, 3, padding="same", name="stem")(voxels)
        x = pool(layers.ReLU()(layers.BatchNormalization(name="stem_norm")(x)))
        x = layers.Conv3D(8, 3, padding="same", use_bias=False, name="conv")(x)
        x = layers.ReLU(name="features")(layers.BatchNormalization(name="norm")(x))
        return keras.Model(voxels, layers.Dense(CLASSES, name="scores")(layers.GlobalAveragePooling3D()(pool(x))))

    return build


def rows_read_by(recurrent: Callable[[], list[layers.Layer]]) -> Callable[[], keras.Model]:
    """Return what builds a classifier whose feature map is read row by row by recurrent layers."""

    def end(x: Any) -> Any:
        x = layers.Reshape((16, -1), name="rows")(x)
        for layer in recurrent():
            x = layer(x)
        return layers.Dense(CLASSES, activation="softmax", name="scores")(x)

    return classifier(end)


def frames_read_by(pool: Callable[[Any], Any]) -> Callable[[], keras.Model]:
    """Return what builds a classifier of clips: the same convolutions on every frame."""

    def build() -> keras.Model:
        frames = keras.Input(CLIP)
        x = layers.TimeDistributed(layers.Conv2D(6, 3, strides=2, padding="same", name="stem"), name="stems")(frames)
        x = layers.TimeDistributed(layers.BatchNormalization(name="norm"), name="norms")(x)
        x = layers.TimeDistributed(layers.ReLU(), name="relus")(x)
        convolution = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")
        x = layers.TimeDistributed(convolution, name="features")(x)
        return keras.Model(frames, layers.Dense(CLASSES, activation="softmax", name="scores")(pool(x)))

    return build


def pooled_frames(x: Any) -> Any:
    """Pool each frame, read the frames one after the other."""
    return layers.LSTM(7, name="read")(layers.TimeDistributed(layers.GlobalAveragePooling2D(), name="pools")(x))


def frames_seen_by(base_end: Callable[[Any], Any], end: Callable[[Any], Any]) -> Callable[[], keras.Model]:
    """Return what builds a classifier of clips around a base of its own for every frame."""

    def build() -> keras.Model:
        image = keras.Input(CLIP[1:])
        x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(image)
        base = keras.Model(image, base_end(x), name="base")
        frames = keras.Input(CLIP)
        x = end(layers.TimeDistributed(base, name="features")(frames))
        return keras.Model(frames, layers.Dense(CLASSES, name="scores")(layers.GRU(7, name="read")(x)))

    return build


def uint8_input() -> keras.Model:
    """Return a classifier that takes pixels as they are stored."""
    images = keras.Input((32, 40, 3), dtype="uint8")
    return keras.Model(images, pooled_softmax(trunk(scaled(images))))


def without_channel_axis() -> keras.Model:
    """Return a classifier of digits as tutorials write it: `[B,H,W]`, the channel added inside."""
    digits = keras.Input((28, 28))
    x = layers.Reshape((28, 28, 1), name="add_channel")(digits)
    return keras.Model(digits, pooled_softmax(trunk(x)))


class Spectrum(layers.Layer):
    """Power of each frequency in each window of time: the road leads through complex numbers."""

    def call(self, sound: Any) -> Any:
        real, imaginary = keras.ops.stft(sound, sequence_length=64, sequence_stride=32, fft_length=64)
        return keras.ops.log1p(real**2 + imaginary**2)[..., None]


def spectrogram() -> keras.Model:
    """Return a classifier of sound that sees it as a picture of times and frequencies."""
    sound = keras.Input((None,))
    return keras.Model(sound, pooled_softmax(trunk(Spectrum(name="spectrum")(sound))))


def words() -> keras.Model:
    """Return a classifier of sequences of word numbers."""
    numbers_of_words = keras.Input((24,), dtype="int32")
    x = layers.Embedding(50, 8, name="embedding")(numbers_of_words)
    x = layers.Conv1D(12, 3, padding="same", activation="relu", name="features")(x)
    return keras.Model(numbers_of_words, layers.Dense(CLASSES, name="scores")(layers.GlobalMaxPooling1D()(x)))


def word_numbers(count: int) -> Inputs:
    """Return what the signatures of `words` take."""
    return {"inputs": np.random.default_rng(4).integers(0, 50, (count, 24)).astype(np.int32)}


def _case(name: str, build: Callable[[], keras.Model], **more: Any) -> Case:
    more = {"layer": "features", "grid": (16, 20), "inputs": photographs(32, 40, 3), **more}
    return Case(family="data", name=name, build=build, **more)


def _numbers(name: str, build: Callable[[], keras.Model], shape: tuple[int, ...], **more: Any) -> Case:
    return _case(name, build, inputs=numbers(*shape), to_model_input=as_numbers, **more)


CASES = (
    _case("grey", classifier(pooled_softmax, (32, 40, 1)), inputs=photographs(32, 40, 1)),
    _numbers("multispectral", classifier(pooled_softmax, (32, 40, 13)), (32, 40, 13)),
    _case(
        "channels first",
        channels_first("channels_first", (3, 32, 40)),
        double=channels_first("channels_last", (32, 40, 3)),
        to_model_input=_pixels_first,
        grid=(8, 10),
    ),
    _case("uint8 pixels", uint8_input, to_model_input=lambda inputs: inputs["images"]),
    _numbers("no channel axis", without_channel_axis, (28, 28), grid=(14, 14)),
    _numbers("wave", wave, WAVE, grid=(50,)),
    _numbers(
        "wave of open length",
        wave_flattened,
        (320, 1),
        layer="dilated",
        grid=(80,),
        binary=True,
        options={"image_size": (320,)},
    ),
    _numbers("sound as a picture", spectrogram, (1024,), grid=(17, 17), options={"image_size": (1024,)}),
    _case(
        "words",
        words,
        inputs=word_numbers,
        to_model_input=lambda inputs: inputs["inputs"],
        grid=(24,),
        logits=bare_logits,
    ),
    _numbers(
        "volume",
        volume(lambda x: layers.MaxPooling3D(2)(x)),
        VOLUME,
        grid=(4, 10, 12),
        double=volume(slice_pool),
        logits=bare_logits,
    ),
    _case("LSTM after the features", rows_read_by(lambda: [layers.LSTM(9, name="read")])),
    _case("GRU after the features", rows_read_by(lambda: [layers.GRU(9, name="read")]), large=True),
    _case(
        "bidirectional LSTM, GRU",
        rows_read_by(lambda: [layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="both"), layers.GRU(6)]),
        large=True,
    ),
    _numbers("TimeDistributed, LSTM", frames_read_by(pooled_frames), CLIP, grid=(4, 12, 16), large=True),
    _numbers(
        "TimeDistributed, pooled",
        frames_read_by(lambda x: layers.GlobalAveragePooling3D()(x)),
        CLIP,
        grid=(4, 12, 16),
    ),
    _numbers(
        "TimeDistributed base, GRU",
        frames_seen_by(lambda x: x, lambda x: layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)),
        CLIP,
        grid=(4, 12, 16),
        logits=bare_logits,
        large=True,
    ),
    # A base that pools leaves one vector a frame: the map says which frames.
    _numbers(
        "TimeDistributed pooled base, GRU",
        frames_seen_by(lambda x: layers.GlobalAveragePooling2D()(x), lambda x: x),
        CLIP,
        grid=(4,),
        logits=bare_logits,
        large=True,
    ),
)
