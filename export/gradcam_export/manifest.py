"""What an exported version says of itself; the client needs no other configuration."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gradcam_export import contract

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest's fields, in the order in which they are written (DESIGN: contract, manifest)."""

    model: dict[str, str]
    """`name source digest created`."""
    input: dict[str, Any]
    """`name`, `shape` [H, W, C], `dtype`, `color_order`, `resize`, `preprocessing`: of the input that is explained."""
    more_inputs: list[dict[str, Any]]
    """`name`, `shape`, `dtype` of the inputs beside it."""
    labels: list[str]
    explanation: dict[str, Any]
    """`method`, `layer`, `grid` [h, w], `score`, `methods`, `top_k`, and the `output` that was named, or null."""
    weights: str
    precision: str
    processor: str
    """What the precision asks of the processor that serves the version; empty where any does."""
    batching: dict[str, Any]
    """`mode`, `max_batch_size`, `allowed_batch_sizes`, `timeout_micros`, `threads`, and the `methods` it concerns."""
    versions: dict[str, str]
    ops: list[str]
    verified: dict[str, Any]
    """What was compared, its tolerance and the largest difference; empty before verification."""
    overlay: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    """`sha256:…` of each file, but for the two that hold this manifest; empty before verification."""
    digest: str = ""
    """One `sha256:…` over those: the same for the same model, options and versions, whenever and wherever exported."""
    schema: int = contract.SCHEMA

    def to_json(self) -> str:
        """Return the manifest as one line of ASCII JSON."""
        # A server's answers come in any order, and so do the checks of them.
        return json.dumps({"schema": self.schema, **asdict(self), "verified": dict(sorted(self.verified.items()))})


def file_signatures(*, encoded: bool, size: Sequence[int], grid: Sequence[int]) -> tuple[str, ...]:
    """Return the signatures that take encoded pictures.

    Args:
        encoded: whether the classifier takes any.
        size: (H, W) of its pictures.
        grid: (h, w) of its heatmaps; one of fewer axes does not lie over a picture.
    """
    if not encoded:
        return ()
    return (contract.EXPLAIN_BYTES, contract.OVERLAY) if len(grid) == len(size) else (contract.EXPLAIN_BYTES,)
