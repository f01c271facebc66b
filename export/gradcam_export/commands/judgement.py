"""What a command that judges answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is printed, and whether the exit code is 0."""

    text: str
    """For stdout."""
    passed: bool
    """Whether all that was asked for holds."""
