"""What became of each image of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcam_client.errors import GradcamError
    from gradcam_client.images import Source
    from gradcam_client.results import Explanation


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What `explain_many` found for one image: a result, or the error that took its place.

    Attributes:
        position: the image's place among those given, from 0 up.
        source: the image as it was given.
        result: the explanation; with `top_k`, T explanations, best class first; `None` where there is an error.
        error: why there is no result; `None` where there is one.
        seconds: how long the server took with the images that it was asked for together with this one, with what it
            took to ask again; 0 where the image was not sent.
    """

    position: int
    source: Source = field(repr=False)
    result: Explanation | list[Explanation] | None
    error: GradcamError | None
    seconds: float
