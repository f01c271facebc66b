"""What the comparison with other tools prints, and how it holds their maps against the formula."""

import numpy as np
import pytest
from benchmarks import gpu_xla, peers, peers_tools
from benchmarks.measuring import forget_peak, highest, processor

MAPS = np.random.default_rng(4).random((2, 3, 4))
MAPS /= MAPS.max(axis=(1, 2), keepdims=True)


def test_a_map_is_compared_whatever_its_scale():
    assert peers_tools.difference(7 * MAPS, MAPS) == pytest.approx(0, abs=1e-12)
    other = MAPS.copy()
    place = np.unravel_index(other[0].argmin(), other[0].shape)
    other[0][place] += 0.25
    assert peers_tools.difference(3 * other, MAPS) == pytest.approx(0.25)


def test_an_enlarged_map_is_compared_with_the_formula_s_enlarged():
    import tensorflow as tf

    enlarged = tf.image.resize(MAPS[..., np.newaxis].astype(np.float32), (9, 12), "bicubic").numpy()
    assert peers_tools.difference(5 * enlarged, MAPS) == pytest.approx(0, abs=1e-5)


def test_the_fastest_of_the_others_is_named():
    base = peers.BASES[0]
    rows = {
        base: {f"{base} 1": 1.0, f"{base} 8": 1.0},
        "keras.io recipe": {f"{base} 1": 12.0, f"{base} 8": 30.0},
        "xplique": {f"{base} 1": 4.5, f"{base} 8": 31.0},
    }
    said = peers.fastest(rows, base)
    assert (
        "at B=1 the fastest of the others, xplique, takes 4.5 times as long, and the keras.io recipe 12.0 times" in said
    )
    assert "at B=8 the fastest of the others, keras.io recipe, takes 30.0 times as long" in said


def test_a_tool_that_does_not_run_is_a_row_with_its_error():
    cells = peers.cells({"error": "AttributeError: a | b"})
    assert cells[-1] == "does not run: AttributeError: a ¦ b"
    assert len(cells) == 6


def test_the_peak_is_counted_from_where_it_was_forgotten():
    forget_peak()
    before = highest()
    held = np.ones(8_000_000)
    assert highest() - before > 0.8 * held.nbytes
    del held
    forget_peak()
    assert highest() - before < 40_000_000


def test_the_processor_is_said():
    assert " × " in processor()


def test_no_gpu_is_no_error():
    assert gpu_xla.gpu() is None or isinstance(gpu_xla.gpu(), str)
