"""What the command `gradcam` takes."""

from __future__ import annotations

import argparse
import importlib.metadata
from pathlib import Path
from typing import Final

from gradcam_client.completion import SHELLS
from gradcam_client.options import DEFAULT_TIMEOUT_S
from gradcam_client.overlay import COLORMAPS

DEFAULT_SERVER: Final = "localhost:8500"
DEFAULT_CONCURRENCY: Final = 4
POLARITIES: Final = ("positive", "negative", "both")
OVERLAY_TYPES: Final = ("original", "grayscale", "mask_black", "outlines", "none")
VISUALIZATION: Final = (
    "colormap",
    "alpha",
    "polarity",
    "overlay_type",
    "clip_percent_upperbound",
    "clip_percent_lowerbound",
    "threshold",
)
"""The options of how a heatmap is drawn, by their names in Python."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; the chosen command's name is left in `command`."""
    parser = argparse.ArgumentParser(
        prog="gradcam", description="Ask a served classifier what it sees in an image, and where."
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("gradcam-client"))
    verbs = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    server, pictures = _server_options(), _image_options()

    explain = verbs.add_parser("explain", parents=[pictures, server], help="class, score and heatmap of each image")
    _add_class(explain)
    explain.add_argument("--top-k", action="store_true", help="explain each of the best classes, best first")
    explain.add_argument("--method", metavar="NAME", help="explain by this CAM method; 'describe' lists the model's")
    explain.add_argument(
        "--out", type=Path, metavar="DIR", help="write overlay and heatmap of each result here, and results.jsonl"
    )
    explain.add_argument(
        "--resume", action="store_true", help="leave out the images that results.jsonl in --out has, unless changed"
    )
    explain.add_argument("--report", type=Path, metavar="FILE.html", help="write all of it as one page")
    _add_visualization(explain)
    explain.set_defaults(refuse=explain.error)

    overlay = verbs.add_parser("overlay", parents=[pictures, server], help="overlays that the server draws, as JPEG")
    _add_class(overlay)
    overlay.add_argument("--out", type=Path, required=True, metavar="DIR", help="write the overlays here")
    verbs.add_parser("predict", parents=[pictures, server], help="class and score of each image")
    verbs.add_parser("describe", parents=[server], help="print the model's manifest as JSON")
    verbs.add_parser("status", parents=[server], help="print the model's versions; exit 0 if one is available")
    completion = verbs.add_parser("completion", help="print what lets a shell complete this command")
    completion.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell")
    completion.set_defaults(parser=parser)
    return parser


def seconds(text: str) -> float | None:
    """Named for argparse, which shows it: `invalid seconds value`."""
    return None if text == "none" else float(text)


def opacity(text: str) -> float:
    """Named for argparse, likewise."""
    if not 0 <= float(text) <= 1:
        raise ValueError(text)
    return float(text)


def percent(text: str) -> float:
    """Named for argparse, likewise."""
    if not 0 <= float(text) <= 100:
        raise ValueError(text)
    return float(text)


def count(text: str) -> int:
    """Named for argparse, likewise."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def key_value(text: str) -> tuple[str, str]:
    """Named for argparse, likewise."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(text)
    return key, value


def _add_class(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class", dest="explained", metavar="LABEL|INDEX", help="explain this class, not the predicted one"
    )


def _add_visualization(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how heatmaps are drawn")
    group.add_argument("--colormap", choices=COLORMAPS, metavar="NAME", help="default: the model's own")
    group.add_argument("--alpha", type=opacity, metavar="0..1", help="opacity; default: the model's own")
    group.add_argument("--polarity", choices=POLARITIES, help="evidence for the class, against it, or both")
    group.add_argument("--overlay-type", choices=OVERLAY_TYPES, help="what the heatmap is laid over")
    group.add_argument(
        "--clip-percent-upper",
        dest="clip_percent_upperbound",
        type=percent,
        metavar="0..100",
        help="values above this percentile count as the maximum",
    )
    group.add_argument(
        "--clip-percent-lower",
        dest="clip_percent_lowerbound",
        type=percent,
        metavar="0..100",
        help="values below this percentile count as zero",
    )
    group.add_argument("--threshold", type=opacity, metavar="0..1", help="values below this are not drawn")
    group.add_argument("--strip", action="store_true", help="write image, heatmap and overlay side by side as well")


def _server_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--server", default=DEFAULT_SERVER, metavar="HOST:PORT", help="default: %(default)s")
    options.add_argument("--model", required=True, metavar="NAME", help="name the model is served under")
    which = options.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, metavar="N", help="version to ask; default: the latest")
    which.add_argument("--label", metavar="NAME", help="version label to ask, as the server's configuration gives it")
    options.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="S",
        help="seconds for each call, or 'none'; default: %(default)s",
    )
    group = options.add_argument_group("connection")
    group.add_argument("--tls", action="store_true", help="encrypt, and trust the authorities that gRPC knows")
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="encrypt, and trust these authorities (PEM)")
    group.add_argument("--tls-certificate", type=Path, metavar="FILE", help="show the server this certificate (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="bearer token; read again for each call")
    group.add_argument(
        "--metadata",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="send this with each call; may be repeated",
    )
    group.add_argument("--compression", choices=("gzip", "deflate"), help="compress what is sent")
    return options


def _image_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "images", nargs="+", metavar="PATH", help="image file, folder of them, pattern, or - for a list of paths on stdin"
    )
    options.add_argument("--json", action="store_true", help="print one JSON object a line for each result")
    options.add_argument(
        "--concurrency",
        type=count,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help="calls at the same time; default: %(default)s",
    )
    return options
