"""What `gradcam explain` asks for a list of files, and what became of each."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gradcam_client.cli_arguments import against_too
from gradcam_client.errors import DeadlineExceeded, GradcamError, ImageError, ServerUnavailable
from gradcam_client.in_order import in_order
from gradcam_client.paths import unique_stems
from gradcam_client.records import Results, fingerprint, record

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gradcam_client.client import Client
    from gradcam_client.drawing import Drawing
    from gradcam_client.manifest import Manifest
    from gradcam_client.outcomes import Outcome
    from gradcam_client.report import Report
    from gradcam_client.results import Explanation

COUNTERFACTUAL: Final = "counterfactual"
"""The method whose map is the evidence against a class."""

GIVE_UP: Final = 64
"""After so many images in a row that no server answered for, the rest is not asked."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One image of a command line.

    Attributes:
        path: as it was named.
        stem: what the files of its results are called.
    """

    path: Path
    stem: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """What became of one image.

    Attributes:
        file: the image.
        ranked: its explanations, best class first; none where there is an error.
        overlays: the file name of each one's overlay; `None` where none is written.
        error: why there is no explanation.
        seconds: of the call that answered.
        fingerprint: what the file was like before it was read.
    """

    file: File
    ranked: Sequence[Explanation] = ()
    overlays: Sequence[str | None] = ()
    error: GradcamError | None = None
    seconds: float = 0.0
    fingerprint: Mapping[str, int] = field(default_factory=dict)


def question(options: argparse.Namespace, manifest: Manifest) -> dict[str, Any]:
    """What to ask for each image, as arguments of `Client.explain_many`.

    Raises:
        OptionError: the model has no such class or method.
        IncompatibleModel: it takes no pictures, or does not explain its best classes in one call.
    """
    manifest.picture_shape()
    if options.top_k:
        manifest.check_top_k()
        return {"top_k": True}
    manifest.explain_signature(options.method)
    asked = {"method": options.method, **chosen_class(options.explained, manifest)}
    if against_too(options):
        manifest.explain_signature(COUNTERFACTUAL)
    return {name: value for name, value in asked.items() if value is not None}


def chosen_class(asked: str | None, manifest: Manifest) -> dict[str, Any]:
    """The class as an index or a label; a label goes before an index, since labels may be numbers.

    Raises:
        UnknownClass: the model has no such class.
    """
    if asked is None:
        return {}
    if asked not in manifest.labels and asked.lstrip("-").isdecimal():
        manifest.check_class_index(int(asked))
        return {"class_index": int(asked)}
    manifest.class_index(asked)
    return {"label": asked}


def files_to_ask(paths: Sequence[Path], kept: Mapping[str, str]) -> list[File]:
    """What is left to do of `paths`, with names that no file of an earlier run has."""
    pairs = zip(paths, unique_stems(paths, kept), strict=True)
    return [File(path=path, stem=stem) for path, stem in pairs if str(path) not in kept]


def explained(
    client: Client,
    files: Sequence[File],
    options: argparse.Namespace,
    asked: Mapping[str, Any],
    drawing: Drawing | None,
) -> Generator[Explained, None, None]:
    """Explain and draw the files, in their order; one that fails does not stop the others.

    Raises:
        ServerUnavailable: for `GIVE_UP` images in a row nobody answered.
        DeadlineExceeded: likewise.
        OSError: a picture cannot be written.
    """
    seen: dict[int, Mapping[str, int]] = {}
    outcomes = client.explain_many(_sources(files, seen), concurrency=options.concurrency, **asked)
    pairs: Iterable[tuple[Outcome, Outcome | None]]
    if against_too(options):
        paths = (file.path for file in files)
        other = client.explain_many(paths, concurrency=options.concurrency, **{**asked, "method": COUNTERFACTUAL})
        pairs = zip(outcomes, other, strict=True)
    else:
        pairs = ((outcome, None) for outcome in outcomes)

    def finished(pair: tuple[Outcome, Outcome | None]) -> Explained:
        outcome = pair[0]
        file, found = files[outcome.position], seen.pop(outcome.position)
        error = outcome.error or (pair[1].error if pair[1] else None)
        if error is not None:
            return Explained(file=file, error=error)
        ranked, against = _ranked(outcome), _ranked(pair[1])[0] if pair[1] else None
        try:
            overlays = drawing.write(file.stem, ranked, against) if drawing else [None] * len(ranked)
        except ImageError as error:
            return Explained(file=file, error=error)
        return Explained(file=file, ranked=ranked, overlays=overlays, seconds=outcome.seconds, fingerprint=found)

    answered = _Answered(pairs)
    # Drawing is the larger part of the work here, and waits for no server.
    yield from in_order(finished, answered, threads=os.cpu_count() or 1) if drawing else map(finished, answered)
    if answered.given_up:
        raise answered.given_up


def _sources(files: Iterable[File], seen: dict[int, Mapping[str, int]]) -> Iterator[Path]:
    """The paths; what each file is like is left in `seen` before it is read."""
    for position, file in enumerate(files):
        try:
            seen[position] = fingerprint(file.path)
        except (OSError, ValueError):
            seen[position] = {}  # reading it says what is wrong with it
        yield file.path


def _ranked(outcome: Outcome) -> list[Explanation]:
    result = outcome.result
    if result is None:
        return []
    return result if isinstance(result, list) else [result]


class _Answered:
    """The same pairs, until nobody has answered for long: what was drawn by then is handed out before the error."""

    def __init__(self, pairs: Iterable[tuple[Outcome, Outcome | None]]) -> None:
        self._pairs = pairs
        self.given_up: ServerUnavailable | DeadlineExceeded | None = None

    def __iter__(self) -> Iterator[tuple[Outcome, Outcome | None]]:
        silent = 0
        for pair in self._pairs:
            error = pair[0].error
            if not isinstance(error, ServerUnavailable | DeadlineExceeded):
                silent = 0
            elif (silent := silent + 1) >= GIVE_UP:
                self.given_up = error
                return
            yield pair


def keep(one: Explained, options: argparse.Namespace, results: Results | None, report: Report | None) -> None:
    """Write what became of an image into the files that are written.

    Raises:
        OSError: `results.jsonl` cannot be written.
    """
    name = str(one.file.path)
    if one.error:
        if report:
            report.add_failure(name, str(one.error))
        return
    if results:
        line = record(one.file.path, one.file.stem, one.ranked, one.overlays, several=options.top_k)
        results.append(line, seconds=one.seconds, file=one.fingerprint)
    if report:
        report.add(name, one.ranked)
