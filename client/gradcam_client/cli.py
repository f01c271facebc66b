"""The command `gradcam`: data to stdout, messages to stderr; the only file of the client that prints."""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from gradcam_client import images
from gradcam_client.client import Client
from gradcam_client.core import CHUNK
from gradcam_client.errors import GradcamError, ImageError
from gradcam_client.options import DEFAULT_TIMEOUT_S
from gradcam_client.overlay import COLORMAPS, colorize, upsample
from gradcam_client.paths import class_stem, expand, one_line, unique_stems
from gradcam_client.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcam_client.manifest import Manifest
    from gradcam_client.results import Explanation, Prediction

DEFAULT_SERVER: Final = "localhost:8500"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit code: 0 when all that was asked is done, 1 when something failed, 2 for a wrong command line.
    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names are bytes to the system; those that are not UTF-8 go out as they came in.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        asked = {"version": options.version, "label": options.label}
        with Client(options.server, model=options.model, **asked, timeout=options.timeout) as client:
            return options.run(client, options)  # type: ignore[no-any-return]
    except (GradcamError, OSError) as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        return 130


def _explain(client: Client, options: argparse.Namespace) -> int:
    if options.top_k and (options.explained is not None or options.method is not None):
        options.refuse("--top-k explains the best classes by the model's own method: leave out --class and --method")
    pictures = _Pictures(options.images)
    manifest = client.describe()
    colormap = options.colormap or manifest.colormap
    alpha = manifest.alpha if options.alpha is None else options.alpha
    report = Report(manifest, colormap=colormap, alpha=alpha, method=options.method)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    for part in pictures.parts():
        explained = _explained(client, options, manifest, [picture for _, _, picture in part])
        for (path, stem, _), ranked in zip(part, explained, strict=True):
            for name, rank, explanation in _named(stem, ranked, several=options.top_k):
                saved = _save(explanation, options.out, name, colormap, alpha) if options.out else None
                if options.report:
                    report.add(str(path), explanation)
                _print_result(path, explanation, {**rank, "overlay": saved and str(saved)}, as_json=options.json)
    if options.report:
        report.write(options.report)
    return pictures.exit_code


def _predict(client: Client, options: argparse.Namespace) -> int:
    pictures = _Pictures(options.images)
    for part in pictures.parts():
        predicted = client.predict([picture for _, _, picture in part])
        for (path, _, _), prediction in zip(part, predicted, strict=True):
            _print_result(path, prediction, {}, as_json=options.json)
    return pictures.exit_code


def _describe(client: Client, options: argparse.Namespace) -> int:  # noqa: ARG001 - each verb takes both
    manifest = client.describe()
    print(json.dumps({"model_version": manifest.version, **manifest.raw}, indent=2))
    return 0


def _status(client: Client, options: argparse.Namespace) -> int:  # noqa: ARG001
    versions = client.status()
    for one in versions:
        print(f"{one.version}\t{one.state}\t{one_line(one.error)}".rstrip())
    return 0 if any(one.state == "AVAILABLE" for one in versions) else 1


class _Pictures:
    """Reads the files of a command line in parts; a file that cannot be read is named, counted and left out."""

    def __init__(self, names: Sequence[str]) -> None:
        self._paths = expand(names)
        self._failed = 0

    @property
    def exit_code(self) -> int:
        return 1 if self._failed else 0

    def parts(self) -> Iterator[list[tuple[Path, str, Image.Image]]]:
        """At most `CHUNK` pictures at a time: path, name for its results, picture."""
        files = list(zip(self._paths, unique_stems(self._paths), strict=True))
        for start in range(0, len(files), CHUNK):
            part = []
            for path, stem in files[start : start + CHUNK]:
                try:
                    part.append((path, stem, images.read(path)))
                except ImageError as error:
                    self._failed += 1
                    _complain(error)
            if part:
                yield part
            _progress(min(start + CHUNK, len(files)), len(files))


def _explained(
    client: Client, options: argparse.Namespace, manifest: Manifest, pictures: list[images.Source]
) -> list[list[Explanation]]:
    """Each picture's explanations: one, or those of its best classes."""
    if options.top_k:
        return client.top_k(pictures)
    chosen = _class(options.explained, manifest)
    return [[one] for one in client.explain(pictures, method=options.method, **chosen)]


def _named(
    stem: str, ranked: Sequence[Explanation], *, several: bool
) -> Iterator[tuple[str, dict[str, int], Explanation]]:
    """Each explanation with a name for its files; where there may be several, with its rank from 1 up as well."""
    for rank, explanation in enumerate(ranked, 1):
        if several:
            # As many digits as the last rank has: files in the order of their names are then in that of their ranks.
            name = class_stem(stem, f"{rank:0{len(str(len(ranked)))}}", explanation.label)
            yield name, {"rank": rank}, explanation
        else:
            yield stem, {}, explanation


def _class(asked: str | None, manifest: Manifest) -> dict[str, Any]:
    """A label goes before an index: labels may be numbers."""
    if asked is not None and asked not in manifest.labels and asked.lstrip("-").isdecimal():
        return {"class_index": int(asked)}
    return {"label": asked}


def _save(explanation: Explanation, folder: Path, stem: str, colormap: str, alpha: float) -> Path:
    """Write overlay and painted heatmap in the picture's own size; return the overlay's path."""
    overlay = folder / f"{stem}_overlay.png"
    explanation.save(overlay, colormap=colormap, alpha=alpha)
    strength = upsample(explanation.heatmap, explanation.image.height, explanation.image.width)
    Image.fromarray(colorize(strength, colormap)).save(folder / f"{stem}_heatmap.png")
    return overlay


def _print_result(path: Path, result: Prediction, more: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        record = {"image": str(path), **result.to_json(), **more}
        print(json.dumps(record, allow_nan=False))
    else:
        print(f"{one_line(str(path))}\t{one_line(result.label)}\t{result.score:.4f}")


def _complain(error: Exception) -> None:
    print(f"gradcam: {one_line(' '.join(str(error).split()))}", file=sys.stderr)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total > CHUNK:
        print(f"\r{done}/{total} images", end="" if done < total else "\n", file=sys.stderr, flush=True)


def seconds(text: str) -> float | None:
    """Named for argparse, which shows it: `invalid seconds value`."""
    return None if text == "none" else float(text)


def opacity(text: str) -> float:
    """Named for argparse, likewise."""
    if not 0 <= float(text) <= 1:
        raise ValueError(text)
    return float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradcam", description="Ask a served classifier what it sees in an image, and where."
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("gradcam-client"))
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    server, pictures = _server_options(), _image_options()

    explain = verbs.add_parser("explain", parents=[pictures, server], help="class, score and heatmap of each image")
    explain.add_argument(
        "--class", dest="explained", metavar="LABEL|INDEX", help="explain this class, not the predicted one"
    )
    explain.add_argument("--top-k", action="store_true", help="explain each of the best classes, best first")
    explain.add_argument("--method", metavar="NAME", help="explain by this CAM method; 'describe' lists the model's")
    explain.add_argument("--out", type=Path, metavar="DIR", help="write overlay and heatmap of each result here")
    explain.add_argument("--colormap", choices=COLORMAPS, help="default: the model's own")
    explain.add_argument("--alpha", type=opacity, metavar="0..1", help="opacity; default: the model's own")
    explain.add_argument("--report", type=Path, metavar="FILE.html", help="write all of it as one page")
    explain.set_defaults(run=_explain, refuse=explain.error)

    predict = verbs.add_parser("predict", parents=[pictures, server], help="class and score of each image")
    predict.set_defaults(run=_predict)
    describe = verbs.add_parser("describe", parents=[server], help="print the model's manifest as JSON")
    describe.set_defaults(run=_describe)
    status = verbs.add_parser("status", parents=[server], help="print the model's versions; exit 0 if one is available")
    status.set_defaults(run=_status)
    return parser


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
    return options


def _image_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("images", nargs="+", metavar="IMAGE", help="image file, or a folder of them")
    options.add_argument("--json", action="store_true", help="print one JSON object a line for each result")
    return options


if __name__ == "__main__":
    sys.exit(main())
