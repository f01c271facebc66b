"""The command `gradcam-export evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from gradcam_export.commands.judgement import Judgement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""


def run(parsed: argparse.Namespace, say: Callable[[str], None]) -> Judgement:
    """Judge."""
    raise NotImplementedError
