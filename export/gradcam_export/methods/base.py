"""What every CAM method does, and what it may ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import tensorflow as tf


class Evidence(Protocol):
    """What is known of each image's class score `y`.

    Positions are in one axis, `P`, whatever grid they form: `h*w`, or `w`, or `d*h*w`. Everything is float32, and
    row i of everything depends on image i alone. What a method does not ask for is not computed.
    """

    @property
    def features(self) -> tf.Tensor:
        """The feature map A, `[B,P,K]`."""

    @property
    def gradients(self) -> tf.Tensor:
        """The gradient of the method's own direction (`y`, unless it says otherwise) by A, `[B,P,K]`."""


class ScoredEvidence(Protocol):
    """What is known of each image's class score `y` by asking for that of altered inputs; otherwise as `Evidence`."""

    @property
    def features(self) -> tf.Tensor:
        """The feature map A, `[B,P,K]`."""

    @property
    def score(self) -> tf.Tensor:
        """`y`, `[B]`: the explained score of each image's class."""

    def masked_scores(self, channels: tf.Tensor) -> tf.Tensor:
        """Return `y` of the input times a mask: each channel, upsampled to the input and scaled to 0..1.

        Args:
            channels: int32 `[B,n]`, which channels of each image are the masks; chosen by its features alone.

        Returns:
            `[B,n]`.
        """

    def ablated_scores(self) -> tf.Tensor:
        """Return `y` with each channel of the feature map set to zero in turn, `[B,K]`."""


E = TypeVar("E", contravariant=True)


class CamMethod(ABC, Generic[E]):
    """Turns the evidence, `Evidence` or `ScoredEvidence`, into one map per image."""

    alters: ClassVar[Literal["", "input", "features"]] = ""
    """What it alters to ask for scores again, in many forward passes; its evidence is `ScoredEvidence` then."""

    needs_pooled_head: ClassVar[bool] = False
    """Whether it exists only where one linear layer follows global average pooling."""

    def direction(self, scores: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:  # noqa: ARG002 - for those that compare
        """Return the weights `[B,N]` of the scores whose sum the gradient is taken of.

        Args:
            scores: the explained scores, `[B,N]`.
            chosen: one-hot rows `[B,N]` of each image's class; a single unit for two classes has 1 or -1, `[B,1]`.
        """
        return chosen

    @abstractmethod
    def combine(self, evidence: E) -> tf.Tensor:
        """Return the signed map, before ReLU: `[B,P]`; row i depends on row i of the evidence alone."""
