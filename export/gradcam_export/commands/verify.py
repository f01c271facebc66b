"""The command `gradcam-export verify`: may this version go out, and if not, what is wrong with it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcam_export.cli_arguments import factory_arg, image_size
from gradcam_export.commands.judgement import Judgement
from gradcam_export.errors import OptionError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from gradcam_export.checks.comparison import Check, Report
    from gradcam_export.checks.verify import Scope

_TOLD = ("preprocessing", "image_size", "layer", "output")
"""Options of an export that may be told where the manifest does not hold them, or is not to be believed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("version_dir", type=Path, metavar="VERSION_DIR", help="a published version, like models/flowers/3")
    add("--model", metavar="MODEL", help="what it was built from: a .keras or .h5 file, or package.module:factory")
    add("--images", type=Path, metavar="DIR", help="images to verify with, instead of synthetic ones")
    add("--labels", type=Path, metavar="FILE", help="the class names that it must have, one a line")
    add("--server", metavar="HOST:PORT", help="ask the version that is served there, instead of loading it here")
    add("--model-name", metavar="NAME", help="what that server calls the model; by default its name in the manifest")
    add("--max-bytes", type=int, metavar="N", help="the most bytes that it may have on the disk")
    add("--max-memory", type=int, metavar="N", help="the most bytes of memory that loading and running it may take")
    add("--report", type=Path, metavar="FILE.json", help="write every check as JSON")
    add("--markdown", type=Path, metavar="FILE", help="append a table in Markdown, as for a job's summary")
    told = parser.add_argument_group("how MODEL was exported, where the manifest does not say it")
    add = told.add_argument
    add("--preprocessing", metavar="MODE", help="none, tf, torch, caffe, unit, or package.module:function")
    add("--image-size", type=image_size, metavar="HxW", help="where the model leaves its size open")
    add("--layer", metavar="NAME", help="the layer that is explained, nested as outer/inner")
    add("--output", metavar="NAME", help="which of several outputs holds the class scores")
    add("--factory-arg", type=factory_arg, action="append", default=[], metavar="NAME=VALUE", help="for the factory")
    add("--no-safe-mode", dest="safe_mode", action="store_false", help="run code stored inside a .keras file")


def run(parsed: argparse.Namespace, say: Callable[[str], None]) -> Judgement:
    """Verify a version in a process of its own, and say what is wrong with it.

    Raises:
        VersionError: there is no such version.
        OptionError: an option has a value it cannot have.
        GradcamExportError: the model cannot be loaded, or not explained as the manifest says.
    """
    from gradcam_export.checks.verify import Scope, report_of_fresh_process
    from gradcam_export.checks.version import read_manifest

    if parsed.model_name and not parsed.server:
        raise OptionError("--model-name says what a server calls the model: give --server HOST:PORT with it.")
    manifest = read_manifest(parsed.version_dir)
    scope = Scope(
        thorough=True,
        server=parsed.server,
        model_name=parsed.model_name or manifest["model"]["name"],
        max_bytes=parsed.max_bytes,
        max_memory=parsed.max_memory,
    )
    report = judge(parsed, manifest, scope, report_of_fresh_process, say)
    text = _table(report.checks)
    if parsed.report:
        _write(parsed.report, _as_json(parsed.version_dir, report), mode="w")
    if parsed.markdown:
        _write(parsed.markdown, _as_markdown(parsed.version_dir, report), mode="a")
    return Judgement(text=text, passed=not report.failures)


def judge(
    parsed: argparse.Namespace,
    manifest: Mapping[str, Any],
    scope: Scope,
    report_of: Callable[[Path, Path, Scope], Report],
    say: Callable[[str], None],
) -> Report:
    """Return the report on a version.

    Args:
        parsed: the arguments.
        manifest: of the version.
        scope: how far to go.
        report_of: verifies a version against a file of expected values.
        say: takes a line on what is being done.
    """
    import numpy as np

    from gradcam_export.checks.precision import FULL_PRECISION, MOST_INPUTS, expected_explanations
    from gradcam_export.checks.samples import verification_inputs

    specs = [manifest["input"], *manifest["more_inputs"]]
    inputs = verification_inputs(specs, parsed.images)
    expected = {f"inputs/{name}": value for name, value in inputs.items()}
    live = None
    if parsed.model:
        from gradcam_export.expectation.live_model import LiveModel

        say(f"asking {parsed.model} …")
        live = LiveModel(parsed.model, manifest, _told(parsed))
        expected = live.values(inputs)
        if manifest["precision"] != FULL_PRECISION:
            many = verification_inputs(specs, parsed.images, MOST_INPUTS)
            expected |= expected_explanations(many, live.rows(many), manifest["batching"]["methods"])
    say(f"verifying {parsed.version_dir} …")
    with tempfile.TemporaryDirectory() as workspace:
        file = Path(workspace, "expected.npz")
        np.savez(file, allow_pickle=False, **expected)
        report = report_of(parsed.version_dir, file, scope)
        if live is not None and any(_is_of_values(check) for check in report.failures):
            from gradcam_export.expectation.alternatives import alternative_values

            say("looking for the fault …")
            np.savez(file, allow_pickle=False, **expected, **alternative_values(live, expected))
            report = report_of(parsed.version_dir, file, scope)
    return _with_labels(report, manifest, parsed.labels)


def _told(parsed: argparse.Namespace) -> dict[str, Any]:
    told = {name: getattr(parsed, name) for name in _TOLD if getattr(parsed, name) is not None}
    return told | {"factory_args": dict(parsed.factory_arg), "safe_mode": parsed.safe_mode}


def _is_of_values(check: Check) -> bool:
    return check.name.startswith(("predictions", "heatmap", "score", "top_1"))


def _with_labels(report: Report, manifest: Mapping[str, Any], labels: Path | None) -> Report:
    """Return the report with whether the version has the labels of a file, where there is one."""
    from gradcam_export.checks.comparison import Report, failed, holds
    from gradcam_export.labels import read_labels

    if labels is None:
        return report
    wanted = list(read_labels(labels) or ())
    check = holds("labels of the file")
    if wanted != manifest["labels"]:
        pairs = enumerate(zip(manifest["labels"], wanted, strict=False))
        index = next((index for index, (found, name) in pairs if found != name), None)
        what = f"{len(manifest['labels'])} labels instead of {len(wanted)}"
        if index is not None:
            what = f"label {index} is {manifest['labels'][index]!r} instead of {wanted[index]!r}"
        check = failed("labels of the file", f"{what} as {labels} has it")
    return Report(checks=(*report.checks, check))


def _table(checks: Sequence[Check]) -> str:
    rows = [("check", "difference", "tolerance", "verdict")]
    rows += [(one.name, _number(one.largest_difference), _number(one.tolerance), _verdict(one)) for one in checks]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {difference:>{widths[1]}}  {tolerance:>{widths[2]}}  {verdict}"
        for name, difference, tolerance, verdict in rows
    ]
    failures = [check for check in checks if not check.passed]
    end = f"refused: {len(failures)} of {len(checks)} checks failed" if failures else f"all {len(checks)} checks hold"
    return "\n".join([*lines, "", *(f"{check.name}: {check.message}" for check in failures), end])


def _as_markdown(version: Path, report: Report) -> str:
    failures = report.failures
    lines = [f"### {version}: {'refused' if failures else 'verified'}", ""]
    lines += [f"- **{_escaped(check.name)}**: {_escaped(check.message)}" for check in failures]
    lines += ["", "| check | largest difference | tolerance | verdict |", "| --- | ---: | ---: | --- |"]
    for check in report.checks:
        numbers = f"{_number(check.largest_difference)} | {_number(check.tolerance)}"
        lines.append(f"| {_escaped(check.name)} | {numbers} | {_verdict(check)} |")
    return "\n".join(lines) + "\n"


def _as_json(version: Path, report: Report) -> str:
    import json

    # JSON has no infinity.
    checks = [
        {
            "check": one.name,
            "largest_difference": one.largest_difference if math.isfinite(one.largest_difference) else None,
            "tolerance": one.tolerance if math.isfinite(one.tolerance) else None,
            "passed": one.passed,
            "message": one.message,
        }
        for one in report.checks
    ]
    return json.dumps({"version": str(version), "passed": not report.failures, "checks": checks}, indent=1) + "\n"


def _write(file: Path, text: str, mode: str) -> None:
    try:
        with file.open(mode, encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise OptionError(f"{file}: cannot be written to: {error.strerror}.") from error


def _verdict(check: Check) -> str:
    return "ok" if check.passed else "FAILED"


def _number(value: float) -> str:
    if math.isinf(value):
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in one cell."""
    flat = " ".join(text.split())
    return "".join(f"\\{one}" if one in "\\`*_[]<>|#" else one for one in flat)
