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


def test_a_map_of_zeros_is_compared_as_it_is():
    zeros = np.zeros_like(MAPS)
    assert peers_tools.difference(zeros, zeros) == 0
    assert peers_tools.difference(zeros, MAPS) == 1
    assert peers_tools.difference(MAPS, zeros) == 1


def test_an_enlarged_map_is_compared_with_the_formula_s_enlarged():
    import tensorflow as tf

    enlarged = tf.image.resize(MAPS[..., np.newaxis].astype(np.float32), (9, 12), "bicubic").numpy()
    assert peers_tools.difference(5 * enlarged, MAPS) == pytest.approx(0, abs=1e-5)


def test_the_fastest_of_the_others_is_named():
    base = peers.BASES[0]

    def row(*ratios):
        return {f"{base} {job} {size}": ratio for (job, size), ratio in zip(peers.WORK, ratios, strict=True)}

    said = peers.fastest(
        {base: row(1.0, 1.0, 1.0, 1.0), "keras.io recipe": row(12, 30, 11, 29), "xplique": row(4.5, 31, 2, 30)}, base
    )
    assert "answer B=1: xplique, the fastest of the others, 4.5; keras.io recipe 12.0" in said
    assert "answer B=8: keras.io recipe, the fastest of the others, 30.0" in said
    assert "explain B=1: xplique, the fastest of the others, 2.0; keras.io recipe 11.0" in said


def test_a_tool_that_does_not_run_is_a_row_with_its_error():
    cells = peers.cells({"error": "AttributeError: a | b"})
    assert cells[-1] == "does not run: AttributeError: a ¦ b"
    assert len(cells) == len(peers.HEADERS)


def test_a_row_has_the_ratios_of_both_jobs():
    base = peers.BASES[0]
    row = {"version": "1", "memory": 2**21, "differences": {"": 0.5}}
    row |= {f"seconds {job} {size}": 0.25 for job, size in peers.WORK}
    row |= {f"{base} {job} {size}": float(place) for place, (job, size) in enumerate(peers.WORK)}
    assert peers.cells(row) == ["1", "250 / 250", "0.0 / 1.0", "–", "2.0 / 3.0", "–", "2", "0.5"]


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
