"""Cluttered colour scenes that hide one real handwritten digit each, at a place, size and brightness we know.

Digits are 8x8 grey images of scikit-learn's `load_digits` (UCI, 1797 digits). Around the digit lie strokes,
noise and fragments of other digits, so that only a classifier which looks at the digit gets it right.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gradcam_export.demo.truth import Box
from gradcam_export.errors import DemoError

SIZE = 128
"""Height and width of a scene, pixels."""
LABELS = tuple("0123456789")
DIGIT_SIDES = (34, 60)
"""Smallest and largest side that the 8x8 digit is drawn at, pixels."""

_MARGIN = 2
_TEST_EVERY = 8
# Rec. 601 luma: what makes two colours differ to the eye is mostly their brightness.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_CHROMA = 90
# Ink fainter than this is not seen, and not in the box.
_VISIBLE = 0.1

Pixels = npt.NDArray[np.float32]
Random = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Digits:
    """Handwritten digits.

    Attributes:
        ink: `[n, 8, 8]` float32, 0 paper to 1 ink.
        labels: `[n]`, the digits' classes.
        sources: `[n]`, their rows in `load_digits`.
    """

    ink: Pixels
    labels: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene: `pixels` `[SIZE, SIZE, 3]` uint8, the digit's `label`, the tight `box` around its ink, its `source`."""

    pixels: npt.NDArray[np.uint8]
    label: int
    box: Box
    source: int


def load_digits() -> tuple[Digits, Digits]:
    """Load the digits, split by digit into those to train on and those to test on (one in eight of each class).

    Raises:
        DemoError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise DemoError(
            "The demo draws scikit-learn's handwritten digits, and scikit-learn is not installed: "
            "pip install 'gradcam-export[demo]'."
        ) from error
    bunch = datasets.load_digits()
    ink, labels = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
    held_out = np.zeros(len(labels), bool)
    for label in range(len(LABELS)):
        held_out[np.flatnonzero(labels == label)[::_TEST_EVERY]] = True
    train, test = (
        Digits(ink[rows], labels[rows], rows) for rows in (np.flatnonzero(~held_out), np.flatnonzero(held_out))
    )
    return train, test


def draw_scenes(digits: Digits, count: int, seed: int) -> list[Scene]:
    """Draw scenes whose labels take turns; a digit appears again only when all of its class have appeared.

    Scene i depends on `digits`, `seed` and i alone, not on `count`.
    """
    turns = np.random.default_rng(seed)
    rows = [turns.permutation(np.flatnonzero(digits.labels == label)) for label in range(len(LABELS))]
    scenes = []
    for i in range(count):
        turn, label = divmod(i, len(LABELS))
        scenes.append(_draw_scene(digits, int(rows[label][turn % len(rows[label])]), np.random.default_rng((seed, i))))
    return scenes


def _draw_scene(digits: Digits, row: int, random: Random) -> Scene:
    canvas = _background(random)
    for _ in range(random.integers(4, 9)):
        _paint(canvas, _fragment(digits, random), random, contrast=random.uniform(-60, 45))
    box = _paint(canvas, _crop(_pen(digits.ink[row], random)), random, contrast=random.uniform(100, 150))
    canvas += random.uniform(6, 20) * (2 * random.random(canvas.shape, np.float32) - 1)
    pixels = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(pixels, int(digits.labels[row]), box, int(digits.sources[row]))


def _background(random: Random) -> Pixels:
    """Draw a soft colour field crossed by strokes: `[SIZE, SIZE, 3]`, 0..255."""
    grey = random.integers(40, 110, (4, 4, 1))
    field = Image.fromarray((grey + random.integers(-40, 41, (4, 4, 3))).astype(np.uint8))
    # Drawn at twice the size and reduced, because Pillow's lines have no anti-aliasing.
    image = field.resize((2 * SIZE, 2 * SIZE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(random.integers(5, 11)):
        colour = tuple(int(value) for value in random.integers(0, 150, 3))
        left, top = (int(value) for value in random.integers(-SIZE // 2, 2 * SIZE, 2))
        width, height = (int(value) for value in random.integers(SIZE // 4, 3 * SIZE // 2, 2))
        start = int(random.integers(0, 360))
        end = start + int(random.integers(40, 200))
        pen.arc((left, top, left + width, top + height), start, end, fill=colour, width=int(random.integers(3, 11)))
    return np.asarray(image.reduce(2), np.float32).copy()


def _fragment(digits: Digits, random: Random) -> Pixels:
    """Cut a strip out of some digit, shorter than any digit is high, and turn it by quarters: its mask `[h, w]`."""
    mask = _pen(digits.ink[random.integers(len(digits.ink))], random)
    strip = int(len(mask) * random.uniform(0.25, 0.4))
    start = int(random.integers(0, len(mask) - strip + 1))
    return np.rot90(mask[start : start + strip], int(random.integers(0, 4)))


def _pen(ink: Pixels, random: Random) -> Pixels:
    """Draw an 8x8 digit at some size and width, with the crisp edge of a pen: its mask `[h, w]`, 0..1."""
    height = int(random.integers(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1))
    width = int(height * random.uniform(1.0, 1.3))
    soft = Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip((np.asarray(soft) - 0.3) / 0.5, 0, 1)


def _crop(mask: Pixels) -> Pixels:
    """Cut a mask down to its ink, so that its frame is the tight box."""
    rows, columns = (np.flatnonzero((mask > _VISIBLE).any(axis)) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paint(canvas: Pixels, mask: Pixels, random: Random, *, contrast: float) -> Box:
    """Paint a mask somewhere in one colour, `contrast` levels of luma above what lies there."""
    height, width = mask.shape
    x, y = (int(random.integers(_MARGIN, SIZE - _MARGIN - side + 1)) for side in (width, height))
    below = canvas[y : y + height, x : x + width]
    luma = float(below.mean((0, 1)) @ _LUMA)
    hue = random.uniform(-_CHROMA, _CHROMA, 3)
    colour = luma + contrast + hue - hue @ _LUMA
    below += mask[..., None] * (np.clip(colour, 0, 255) - below)
    return Box(x, y, width, height)
