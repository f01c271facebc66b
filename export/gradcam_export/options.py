"""What an export can be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from gradcam_export.errors import OptionError

Preprocess = Callable[[Any], Any]
"""float32 images `[B,H,W,C]`, 0..255 → what the classifier was trained on; traced into the graph."""

ScoreKind = Literal["logit", "probability"]
Method = Literal[
    "cam",
    "gradcam",
    "gradcam++",
    "layercam",
    "hirescam",
    "xgradcam",
    "eigencam",
    "scorecam",
    "faster-scorecam",
    "ablationcam",
    "finercam",
    "guided-gradcam-weights",
    "counterfactual",
]
WeightStorage = Literal["variables", "constants"]
Precision = Literal["float32", "bfloat16", "float16"]
Batching = Literal["in-graph", "server", "none"]


def choices(kind: Any) -> tuple[str, ...]:
    """Return the values that an option of type `kind` can have."""
    return get_args(kind)


class ExportKeywords(TypedDict, total=False):
    """The fields of `ExportOptions`, as keywords of `export_classifier`."""

    labels: Sequence[str] | str | Path | None
    preprocessing: str | Preprocess | None
    image_size: tuple[int, ...] | None
    layer: str | None
    output: str | None
    method: str | Sequence[str]
    top_k: int
    chunk: int
    score: ScoreKind
    weights: WeightStorage
    precision: Precision
    batching: Batching
    max_batch_size: int
    batch_timeout_micros: int
    batch_threads: int
    allowed_batch_sizes: Sequence[int] | None
    max_image_bytes: int
    max_image_pixels: int
    images: str | Path | None
    version: int | None
    factory_args: dict[str, Any] | None
    safe_mode: bool


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of one export, checked where they are made.

    Raises:
        OptionError: an option has a value it cannot have.
    """

    labels: Sequence[str] | str | Path | None = None
    """N class names in the order of the classifier's outputs, or a text file of one a line;
    `None` names them `class_0`, `class_1`, …"""

    preprocessing: str | Preprocess | None = None
    """`none tf torch caffe unit`, `package.module:function`, or a function of float32 images 0..255.
    `None` takes what `keras.applications` prescribes for its own factories, and nothing for other models."""

    image_size: tuple[int, ...] | None = None
    """`(H, W)` or `(H, W, C)`, where the classifier leaves its input size open; of other inputs as many sizes as they
    have axes, with or without the channels."""

    layer: str | None = None
    """The layer to explain, nested as `outer/inner`; `None` chooses the last feature map."""

    output: str | None = None
    """Which of several outputs holds the class scores: its name, its key, or its number."""

    method: str | Sequence[str] = ("gradcam",)
    """The CAM method, or several: the first answers `serving_default`, `explain` and `top_k`, each further one
    `explain_<method>`."""

    top_k: int = 5
    """How many classes `top_k` explains, or all where there are fewer."""

    chunk: int = 32
    """How many altered inputs Score-CAM and Ablation-CAM send through the classifier at once: their memory."""

    score: ScoreKind = "logit"
    """What the heatmap explains: the logit, or the probability (which a saturated softmax flattens)."""

    weights: WeightStorage = "variables"
    """`variables` are shared by all signatures in memory; `constants` are faster on CPUs, and copied per signature."""

    precision: Precision = "float32"
    """`bfloat16` and `float16`: the layers of a float32 model compute in it, and their weights take half the space; the
    class scores, the softmax and the map stay float32. `images` decide whether that loses too much. On processors
    without instructions for it, it is slower than float32, or fails."""

    batching: Batching = "in-graph"
    """Who merges the rows of concurrent requests: the graph, the server by `batching_params.pbtxt`, or nobody."""

    max_batch_size: int = 16
    """The most rows that are computed together; larger requests are split."""

    batch_timeout_micros: int = 0
    """How long a request waits for others before it computes, in microseconds."""

    batch_threads: int = 1
    """How many batches are computed at once."""

    allowed_batch_sizes: Sequence[int] | None = None
    """Batches are padded to the next of these; `None` takes the powers of two."""

    max_image_bytes: int = 20_000_000
    """Of an encoded image; a larger one is refused unread. 0 leaves out the signatures that take files."""

    max_image_pixels: int = 40_000_000
    """Of an encoded image, by its header; a larger one is refused undecoded."""

    images: str | Path | None = None
    """A folder of images to verify with; `None` verifies with synthetic ones."""

    version: int | None = None
    """Version number to publish under; `None` takes the next free one."""

    factory_args: dict[str, Any] | None = None
    """Keyword arguments for a `package.module:factory`."""

    safe_mode: bool = True
    """Refuse to run code stored inside a `.keras` file."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The CAM methods, the first of which answers `explain`."""
        return (self.method,) if isinstance(self.method, str) else tuple(self.method)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """How many rows a batch can have."""
        if self.batching == "none":
            return (1,)
        if self.allowed_batch_sizes is not None:
            return tuple(self.allowed_batch_sizes)
        powers = (2**power for power in range(self.max_batch_size.bit_length()))
        return tuple(sorted({*powers, self.max_batch_size}))

    def __post_init__(self) -> None:
        kinds = {"score": ScoreKind, "weights": WeightStorage, "precision": Precision, "batching": Batching}
        for name, kind in kinds.items():
            _check_choice(name, getattr(self, name), kind)
        for method in self.methods:
            _check_choice("method", method, Method)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise OptionError(f"method must name one CAM method, or several, each once; got {self.method!r}.")
        lowest = {"top_k": 1, "chunk": 1, "max_batch_size": 1, "batch_threads": 1, "batch_timeout_micros": 0}
        lowest |= {"max_image_bytes": 0, "max_image_pixels": 1}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise OptionError(f"{name} must be a number from {least} up; got {getattr(self, name)!r}.")
        self._check_batch_sizes()
        if self.image_size is not None and not (self.image_size and min(self.image_size) > 0):
            raise OptionError(f"image_size must be (H, W) or (H, W, C), each at least 1; got {self.image_size!r}.")
        if self.version is not None and self.version < 0:
            raise OptionError(f"version must be a number from 0 up; got {self.version!r}.")
        if self.images is not None and not Path(self.images).is_dir():
            raise OptionError(f"images must be a folder of images; {self.images} is none.")

    def _check_batch_sizes(self) -> None:
        sizes = self.batch_sizes
        fits = bool(sizes) and sizes[0] >= 1 and sizes[-1] == self.max_batch_size and list(sizes) == sorted(set(sizes))
        if self.batching != "none" and not fits:
            raise OptionError(
                f"allowed_batch_sizes must ascend from 1 up to max_batch_size {self.max_batch_size}; got {sizes!r}."
            )


def _check_choice(name: str, value: Any, kind: Any) -> None:
    if value not in choices(kind):
        raise OptionError(f"{name} must be one of {', '.join(choices(kind))}; got {value!r}.")
