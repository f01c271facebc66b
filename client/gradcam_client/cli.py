"""The command `gradcam`: data to stdout, messages to stderr; the only file of the client that prints."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Self

from gradcam_client.cli_arguments import asked_of_each, build_parser, check_together, connection, visualization_fields
from gradcam_client.client import Client
from gradcam_client.completion import completion
from gradcam_client.core import CHUNK
from gradcam_client.drawing import Drawing, naming
from gradcam_client.errors import GradcamError, ImageError, MalformedAnswer, ServerError
from gradcam_client.explaining import Explained, File, chosen_class, explained, files_to_ask, keep, question
from gradcam_client.in_order import in_order
from gradcam_client.paths import check_writable, expand, one_line
from gradcam_client.progress import Progress
from gradcam_client.records import Results
from gradcam_client.report import Report
from gradcam_client.visualization import Visualization

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gradcam_client.results import Prediction


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit code: 0 when all that was asked is done, 1 when something failed, 2 for a wrong command line, 130 when it
        was interrupted.
    """
    if sys.stderr is None:
        # Nobody is left to be told; open to the end, so that no file takes its number.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    options = build_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names are bytes to the system; those that are not UTF-8 go out as they came in.
            stream.reconfigure(errors="surrogateescape")
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
        if options.command == "completion":
            _say(completion(options.parser, options.shell))
            return 0
        with Client(options.server, model=options.model, **connection(options)) as client:
            return _COMMANDS[options.command](client, options)
    except (GradcamError, OSError) as error:
        _complain(_told(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _explain(client: Client, options: argparse.Namespace) -> int:
    check_together(options)
    paths = _named(options)
    manifest = client.describe()
    asked = question(options, manifest)
    defaults: dict[str, Any] = {"colormap": manifest.colormap, "alpha": manifest.alpha}
    shown = Visualization(**defaults | visualization_fields(options))
    with contextlib.ExitStack() as stack:
        results = drawing = None
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            earlier = paths if options.resume else None
            results = stack.enter_context(Results(options.out, asked_of_each(options), resume=earlier))
            jpeg, strip, several = options.format == "jpeg", options.strip, options.top_k
            drawing = Drawing(folder=options.out, shown=shown, jpeg=jpeg, strip=strip, several=several)
        report = None
        if options.report:
            check_writable(options.report)
            report = Report(manifest, visualization=shown, method=options.method)
            # Also of a run that ends early: what was answered by then was paid for.
            stack.callback(report.write, options.report)
        files = files_to_ask(paths, results.kept if results else {})
        run = stack.enter_context(_Run(len(files), kept=len(paths) - len(files)))
        for one in stack.enter_context(contextlib.closing(explained(client, files, options, asked, drawing))):
            keep(one, options, results, report)
            run.advance(one.file.path, one.error, () if one.error else _lines(one, options))
    return run.exit_code


def _named(options: argparse.Namespace) -> list[Path]:
    """The images of the command line; Python has no standard input where it was closed."""
    return expand(options.images, sys.stdin.buffer if sys.stdin else None)


def _lines(one: Explained, options: argparse.Namespace) -> Iterator[str]:
    """What is printed of one image."""
    for rank, (explanation, overlay) in enumerate(zip(one.ranked, one.overlays, strict=True), 1):
        more = {"rank": rank} if options.top_k else {}
        written = {"overlay": overlay and str(options.out / overlay)}
        yield _line(one.file.path, explanation, more | written, as_json=options.json)


def _predict(client: Client, options: argparse.Namespace) -> int:
    paths = _named(options)
    client.describe().picture_shape()
    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]

    def ask(part: list[Path]) -> list[tuple[Path, Prediction | GradcamError]]:
        try:
            return list(zip(part, client.predict(part, strict=False), strict=True))
        except (MalformedAnswer, ServerError) as error:
            return [(path, error) for path in part]

    with contextlib.closing(in_order(ask, parts, threads=options.concurrency)) as answers, _Run(len(paths)) as run:
        for path, one in itertools.chain.from_iterable(answers):
            if isinstance(one, GradcamError):
                run.advance(path, one, ())
            else:
                run.advance(path, None, [_line(path, one, {}, as_json=options.json)])
    return run.exit_code


def _overlay(client: Client, options: argparse.Namespace) -> int:
    paths = _named(options)
    manifest = client.describe()
    manifest.picture_shape()
    chosen = chosen_class(options.explained, manifest)
    options.out.mkdir(parents=True, exist_ok=True)

    def ask(file: File) -> tuple[File, Path, GradcamError | None]:
        drawn = options.out / f"{file.stem}_overlay.jpg"
        try:
            data = client.overlay(file.path, **chosen)
        except (ImageError, MalformedAnswer, ServerError) as error:
            return file, drawn, error
        with naming(drawn):
            drawn.write_bytes(data)
        return file, drawn, None

    files = in_order(ask, files_to_ask(paths, {}), threads=options.concurrency)
    with contextlib.closing(files) as answers, _Run(len(paths)) as run:
        for file, drawn, error in answers:
            told = {"image": str(file.path), "overlay": str(drawn)}
            line = json.dumps(told) if options.json else "\t".join(map(one_line, told.values()))
            run.advance(file.path, error, [] if error else [line])
    return run.exit_code


def _describe(client: Client, options: argparse.Namespace) -> int:  # noqa: ARG001 - each verb takes both
    manifest = client.describe()
    _say(json.dumps({"model_version": manifest.version, **manifest.raw}, indent=2))
    return 0


def _status(client: Client, options: argparse.Namespace) -> int:  # noqa: ARG001
    versions = client.status()
    for one in versions:
        _say(f"{one.version}\t{one.state}\t{one_line(one.error)}".rstrip())
    return 0 if any(one.state == "AVAILABLE" for one in versions) else 1


_COMMANDS: Final[Mapping[str, Callable[[Client, argparse.Namespace], int]]] = {
    "explain": _explain,
    "overlay": _overlay,
    "predict": _predict,
    "describe": _describe,
    "status": _status,
}


class _Run:
    """Prints what becomes of each image, and at the end, however it comes, which ones failed."""

    def __init__(self, total: int, kept: int = 0) -> None:
        self._progress = Progress(total, sys.stderr)
        self._total = total
        self._kept = kept
        self._failed: list[str] = []
        self._shares_a_terminal = sys.stdout.isatty()

    @property
    def exit_code(self) -> int:
        return 1 if self._failed else 0

    def advance(self, path: Path, error: GradcamError | None, lines: Iterable[str]) -> None:
        if error is not None:
            message, name = _told(error), str(path)
            self._failed.append(message if message.startswith(f"{name}: ") else f"{name}: {message}")
        if self._shares_a_terminal:
            self._progress.clear()
        for line in lines:
            _say(line)
        self._progress.advance(failed=error is not None)

    def __enter__(self) -> Self:
        if self._kept:
            _complain(f"{self._kept} images have their results already, {self._total} are left")
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._progress.clear()
        for message in self._failed:
            _complain(message)
        if kind is KeyboardInterrupt:
            _complain(f"interrupted after {self._progress.done} of {self._total} images")


def _line(path: Path, result: Prediction, more: dict[str, Any], *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"image": str(path), **result.to_json(), **more}, allow_nan=False)
    return f"{one_line(str(path))}\t{one_line(result.label)}\t{result.score:.4f}"


def _say(line: str) -> None:
    """Print a line to standard output, now: whoever reads it need not wait for the next.

    Raises:
        OSError: it is closed, or a file on a full disk.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        # What is left in the buffer would fail once more, with a traceback, when Python ends.
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "standard output") from error


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _complain(message: str) -> None:
    # Where standard error is closed, nobody is left to be told.
    with contextlib.suppress(BrokenPipeError):
        print(f"gradcam: {one_line(' '.join(message.split()))}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
