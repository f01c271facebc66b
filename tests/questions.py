"""A tiny classifier, and questions about it whose answers are known: good ones, and bad ones of every kind."""

from __future__ import annotations

import functools
import importlib
import io
import shutil
from typing import TYPE_CHECKING
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from doors import session_door
from encoded import photograph
from gradcam_export import export_classifier
from gradcam_export.savedmodel.session import LoadedVersion
from keras import layers
from load import Question

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from load import Door

SIZE = 24
CLASSES = 4
PICTURES = 8
MOST_ROWS = 3

IMAGES, FILES, CHOSEN, KEY = "images", "image_bytes", "class_index", "key"
SIGNATURES = {
    "serving_default": (IMAGES,),
    "explain": (IMAGES, CHOSEN),
    "explain_bytes": (FILES, CHOSEN),
    "overlay": (FILES, CHOSEN),
    "top_k": (IMAGES,),
    "predict": (IMAGES,),
    "describe": (KEY,),
}
QUICK = ("explain", "explain_bytes", "predict", "describe")
"""Of every kind one: a graph takes a second before its first answer."""

ROWS_TOLD = "class_index|0th-dimension|Shape mismatch"


def tiny_version(base_path: Path, **options: object) -> Path:
    """Export the classifier as version 1; it merges up to 8 rows, and is not verified, which other tests see to."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=3)),
        ]
    )
    batching = {"batching": "in-graph", "max_batch_size": 8, "batch_timeout_micros": 1000}
    unverified = mock.Mock(return_value=mock.Mock(to_manifest=dict))
    with mock.patch.object(importlib.import_module("gradcam_export.export"), "verify_in_fresh_process", unverified):
        return export_classifier(model, base_path, allowed_batch_sizes=(1, 2, 4, 8), **batching | options).path


@functools.cache
def two_versions(directory: Path) -> tuple[Path, Path]:
    """Write an even and an odd version, which answer differently, once; no server takes their names for versions."""
    odd = tiny_version(directory / "tiny").rename(directory / "tiny" / "odd")
    keep_warmup(odd, 1)
    even = shutil.copytree(odd, directory / "tiny" / "even")
    with_other_weights(even)
    return even, odd


@functools.cache
def two_doors(directory: Path) -> tuple[Door, Door]:
    """Load both in Sessions, once: nobody asks them but the tests."""
    even, odd = map(LoadedVersion.load, two_versions(directory))
    return session_door(even, 2), session_door(odd, 1)


def with_other_weights(version: Path) -> None:
    """Turn every kernel of a written version around, so that its answers tell it from the one it is a copy of."""
    prefix = str(version / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    names = sorted(reader.get_variable_to_dtype_map())
    values = [reader.get_tensor(name) for name in names]
    turned = [np.flip(value, -1).copy() if getattr(value, "ndim", 0) > 1 else value for value in values]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=turned)


def keep_warmup(version: Path, count: int) -> None:
    """Leave the first `count` of the requests that a version is warmed up with; all would take seconds."""
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    kept = list(tf.data.TFRecordDataset(str(path)).take(count).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in kept:
            writer.write(record)


class Pictures:
    """Pictures as they are sent, and what each is answered alone."""

    def __init__(self, doors: Sequence[Door], signatures: Collection[str] = SIGNATURES) -> None:
        """Ask at doors that nobody else goes through meanwhile; version v is to answer as at `doors[v % …]`."""
        random = np.random.default_rng(0)
        photographs = [photograph(random, 40, 44) for _ in range(PICTURES)]
        self.inputs = {
            IMAGES: np.stack([np.asarray(picture.resize((SIZE, SIZE))) for picture in photographs]),
            FILES: np.array([_jpeg(picture) for picture in photographs], object),
            CHOSEN: np.arange(PICTURES, dtype=np.int32) % (CLASSES + 1) - 1,
            KEY: np.array([b"manifest", b"labels"] * (PICTURES // 2), object),
        }
        self._signatures = signatures
        self._alone = [
            {
                signature: [
                    door(Question(kind="alone", signature=signature, inputs=self.rows(signature, [row]))).values
                    for row in range(PICTURES)
                ]
                for signature in signatures
            }
            for door in doors
        ]
        answers = np.array([one["predictions"][0] for each in self._alone for one in each["predict"]])
        apart = np.abs(answers[:, None] - answers[None]).max(-1) + np.eye(len(answers))
        assert apart.min() > 1e-3, "pictures that are answered alike cannot tell whose answer came"

    def rows(self, signature: str, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """The inputs of a signature for these pictures."""
        return {name: self.inputs[name][list(rows)] for name in SIGNATURES[signature]}

    def question(self, signature: str, rows: Sequence[int]) -> Question:
        """Ask for these pictures at once; each must be answered as it is alone."""
        wanted = [
            {name: np.concatenate([alone[signature][row][name] for row in rows]) for name in alone[signature][0]}
            for alone in self._alone
        ]
        return Question(kind=signature, signature=signature, inputs=self.rows(signature, rows), wanted=wanted)

    def good(self, *signatures: str) -> list[Question]:
        """Questions of one to three rows to these signatures, each as often as the others."""
        starts = [(first, count) for first in range(PICTURES) for count in range(1, MOST_ROWS + 1)]
        return [
            self.question(signature, [(first + step) % PICTURES for step in range(count)])
            for signature in signatures or self._signatures
            for first, count in starts
        ]

    def meet(self, door: Door) -> None:
        """Ask each signature once: what many meet first, each of them prepares."""
        for signature in self._signatures:
            assert not (fault := (question := self.question(signature, [0])).fault(door(question))), fault

    def bad(self) -> list[Question]:
        """Questions that no server could answer, in every way in which they can be wrong."""
        image, file = self.inputs[IMAGES][:1], self.inputs[FILES][0]
        questions = []
        for number in range(SIZE - 1):
            channels = number % 3 or 4
            beyond = CLASSES + number if number % 2 else -2 - number
            range_told = rf"class_index must be 0\.\.{CLASSES - 1}, or -1 .*\[{beyond}\]"
            for kind, name, value, refusal in (
                ("wrong height", IMAGES, image[:, : number + 1], rf"\[1, ?{number + 1}, ?{SIZE}, ?3\]"),
                ("wrong channels", IMAGES, image.repeat(2, 3)[..., :channels], rf"\[1, ?24, ?24, ?{channels}\]"),
                ("wrong type", IMAGES, image.astype(np.float32), "uint8"),
                ("garbage", FILES, np.array([b"\x89" * (number + 1)], object), "image 0 is of no known format"),
                ("truncated", FILES, np.array([file[: len(file) * (number + 5) // (SIZE + 8)]], object), "JPEG"),
                ("empty", FILES, np.array([b""], object), "image 0 is empty"),
                ("class out of range", CHOSEN, np.int32([beyond]), range_told),
                ("rows that differ", CHOSEN, np.zeros(2 + number, np.int32), ROWS_TOLD),
                ("unknown key", KEY, np.array([b"?"], object), "key must be manifest or labels"),
            ):
                questions += self._to_all(kind, name, value, refusal)
        return questions

    def _to_all(self, kind: str, name: str, value: np.ndarray, refusal: str) -> Iterator[Question]:
        """Ask `value` of all signatures that take an input of that name; the others' inputs are in order."""
        for signature in self._signatures:
            if name in SIGNATURES[signature]:
                inputs = self.rows(signature, [0]) | {name: value}
                yield Question(kind=f"{kind} to {signature}", signature=signature, inputs=inputs, refusal=refusal)


def _jpeg(picture: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
