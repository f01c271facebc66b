"""How positions and channels lie in a feature map, whatever its rank and order of axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_SPECIAL_TOKENS = 16
"""Tokens before those of the patches that a sequence is searched for, where a map before it tells the grid."""
USUAL_SPECIAL_TOKENS = (0, 1, 2, 5)
"""The same where none does: none, a class, a distillation token too, a class and four registers."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Reads a feature map `[B,*grid,K]`, `[B,K,*grid]` or `[B,tokens,K]` as `[B,P,K]`."""

    grid: tuple[int, ...]
    """`(w,)`, `(h, w)` or `(d, h, w)`; P is their product."""
    channels: int
    """K."""
    channels_first: bool = False
    special_tokens: int = 0
    """Tokens that stand before those of the grid, and belong to no position."""

    @property
    def channel_axis(self) -> int:
        """Which axis of the tensor numbers the channels."""
        return 1 if self.channels_first else -1

    def flatten(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the feature map, or its gradient, as float32 `[B,P,K]`."""
        if self.channels_first:
            axes = range(2, len(self.grid) + 2)
            tensor = tf.transpose(tensor, [0, *axes, 1])
        tensor = tf.cast(tensor, tf.float32)
        rows = tf.reshape(tensor, [-1, math.prod(self.grid) + self.special_tokens, self.channels])
        return rows[:, self.special_tokens :] if self.special_tokens else rows

    def unflatten(self, maps: tf.Tensor) -> tf.Tensor:
        """Return maps `[...,P]` as `[...,*grid]`, their last axis taken apart."""
        return tf.reshape(maps, [*(size or -1 for size in maps.shape[:-1]), *self.grid])


def spatial_layout(shape: Sequence[int | None], *, channels_first: bool) -> Layout | None:
    """Return the layout of a tensor whose axes between batch and channels are positions, or `None`."""
    sizes = _static(shape)
    if sizes is None or not 2 <= len(sizes) <= 4:
        return None
    grid = sizes[1:] if channels_first else sizes[:-1]
    if math.prod(grid) < 2:
        return None
    return Layout(
        grid=grid,
        channels=sizes[0] if channels_first else sizes[-1],
        channels_first=channels_first,
    )


def token_layout(shape: Sequence[int | None], grids: Sequence[tuple[int, ...]], size: tuple[int, ...]) -> Layout | None:
    """Return the layout of a sequence of patches `[B,tokens,K]`, or `None` if it is none.

    Args:
        shape: of the tensor.
        grids: those of the feature maps before it, the nearest first.
        size: the input's `(H, W)`; where no feature map fits, square patches of it are tried.
    """
    sizes = _static(shape)
    if sizes is None or len(sizes) != 2 or len(size) < 2:
        return None
    tokens, channels = sizes
    for special in range(MOST_SPECIAL_TOKENS + 1):
        for grid in grids:
            if len(grid) == len(size) and math.prod(grid) == tokens - special > 1:
                return Layout(grid=grid, channels=channels, special_tokens=special)
    for special in USUAL_SPECIAL_TOKENS:
        patched = _square_patches(tokens - special, size)
        if patched is not None:
            return Layout(grid=patched, channels=channels, special_tokens=special)
    return None


def _square_patches(patches: int, size: tuple[int, ...]) -> tuple[int, ...] | None:
    if patches < 2:
        return None
    edge = round((math.prod(size) / patches) ** (1 / len(size)))
    grid = tuple(side // edge for side in size) if edge else ()
    return grid if grid and math.prod(grid) == patches and all(side % edge == 0 for side in size) else None


def _static(shape: Sequence[int | None]) -> tuple[int, ...] | None:
    """Return all sizes but the batch's, or `None` where one is open."""
    sizes = tuple(size for size in tuple(shape)[1:] if size is not None)
    return sizes if len(sizes) == len(tuple(shape)) - 1 else None
