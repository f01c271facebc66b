"""Overlays look the same wherever they are made: TensorFlow's bilinear resize, matplotlib's colours."""

import numpy as np
import pytest
import tensorflow as tf
from gradcam_client.overlay import COLORMAPS, colorize, upsample
from make_colormaps import table


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 7), (224, 224), (97, 301), (5, 640)])
@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (7, 7), (10, 4)])
def test_upsampling_is_tensorflows_bilinear_resize(grid, size):
    heatmap = np.random.default_rng(1).random(grid, np.float32)
    theirs = tf.image.resize(heatmap[:, :, None], size, method="bilinear").numpy()[:, :, 0]
    np.testing.assert_allclose(upsample(heatmap, *size), theirs, atol=5e-7)


@pytest.mark.parametrize("name", COLORMAPS)
def test_the_tables_are_matplotlibs(name):
    values = np.arange(256, dtype=np.float32)[None] / 255
    np.testing.assert_array_equal(colorize(values, name)[0], table(name), strict=True)
