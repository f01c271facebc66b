"""What the command `gradcam` takes."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any, Final

from gradcam_client.completion import SHELLS
from gradcam_client.errors import OptionError
from gradcam_client.options import COMPRESSIONS, DEFAULT_TIMEOUT_S, Tls
from gradcam_client.overlay import COLORMAPS
from gradcam_client.visualization import OVERLAY_TYPES, POLARITIES, Visualization

DEFAULT_SERVER: Final = "localhost:8500"
DEFAULT_CONCURRENCY: Final = 4
FORMATS: Final = ("png", "jpeg")


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


def connection(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Client` beside server and model.

    Raises:
        OptionError: a key of the metadata is given twice.
        OSError: a file of a certificate cannot be read.
    """
    asked = {name: getattr(options, name) for name in ("version", "label", "timeout", "compression")}
    files = {"ca": options.tls_ca, "certificate": options.tls_certificate, "key": options.tls_key}
    if options.tls or any(files.values()):
        asked["tls"] = Tls.read(**files)
    if options.token_file:
        asked["token"] = lambda: options.token_file.read_text().strip()
    keys = [key for key, _ in options.metadata]
    if len(set(keys)) < len(keys):
        raise OptionError(f"--metadata {', '.join(keys)}: a key is given twice; give each once")
    return asked | {"metadata": dict(options.metadata)}


def asked_of_each(options: argparse.Namespace) -> dict[str, Any]:
    """What decides the answers and how they are drawn: all of it that was given."""
    names = ("model", "version", "label", "explained", "top_k", "method", "strip", "format")
    given = {name: getattr(options, name) for name in names} | visualization_fields(options)
    return {name: value for name, value in given.items() if value is not None and value is not False}


def visualization_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `Visualization` that were given."""
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Visualization)}
    return {name: value for name, value in given.items() if value is not None}


def check_together(options: argparse.Namespace) -> None:
    """Refuse options that have no meaning together."""
    if options.top_k and (options.explained is not None or options.method is not None):
        options.refuse("--top-k explains the best classes by the model's own method: leave out --class and --method")
    if options.top_k and against_too(options):
        options.refuse("--polarity negative or both explains one class: leave out --top-k")
    if options.report and against_too(options):
        options.refuse("a report shows the evidence for a class: leave out --report, or --polarity negative or both")
    if options.strip and not options.out:
        options.refuse("--strip writes files: say where with --out")
    if options.format and not options.out:
        options.refuse("--format is that of files: say where with --out")
    if options.resume and not options.out:
        options.refuse("--resume reads results.jsonl: say where it is with --out")
    if options.resume and options.report:
        options.refuse("a report shows the images of one run: leave out --resume or --report")


def against_too(options: argparse.Namespace) -> bool:
    """Whether evidence against the class is drawn, which is a second question for each image."""
    return options.polarity in ("negative", "both")


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
    group.add_argument("--level", type=opacity, metavar="0..1", help="where 'outlines' draws; default: 0.5")
    group.add_argument("--strip", action="store_true", help="write image, heatmap and overlay side by side as well")
    group.add_argument("--format", choices=FORMATS, help="of overlays and strips; default: png, without loss")


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
    group.add_argument("--compression", choices=COMPRESSIONS, help="compress what is sent")
    return options


def _image_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "images",
        nargs="+",
        metavar="PATH",
        help="image file, folder or archive (ZIP, TAR) of them, one in an archive (photos.zip/a.jpg), pattern, or - "
        "for a list of paths on stdin",
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
