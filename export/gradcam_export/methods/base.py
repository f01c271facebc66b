"""What every CAM method does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


class CamMethod(ABC):
    """Turns a feature map and the gradients of the class score into one map per image."""

    @abstractmethod
    def combine(self, features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        """Return the signed map, before ReLU.

        Args:
            features: `[B,h,w,K]`, the feature map A.
            gradients: `[B,h,w,K]`, the gradient of each image's class score with respect to A.

        Returns:
            `[B,h,w]`; row i depends on row i of the arguments alone.
        """
