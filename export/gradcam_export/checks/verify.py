"""Load a written version in a fresh process, the way the server does, and compare its values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.behaviour import (
    Explained,
    check_batch_sizes,
    check_determinism,
    check_finite,
    check_independence,
    check_order,
    check_score,
    check_zero_maps,
    limits_of,
)
from gradcam_export.checks.comparison import Array, Check, Report, failed, holds
from gradcam_export.checks.digest import check_digest
from gradcam_export.checks.files import check_description, check_labels, check_warmup
from gradcam_export.checks.footprint import check_memory, check_size, memory
from gradcam_export.checks.isolation import check_isolation
from gradcam_export.checks.optimiser import LOG_LEVEL, check_optimiser
from gradcam_export.checks.packaging import check_packaging
from gradcam_export.checks.served import ServedVersion
from gradcam_export.checks.signatures import check_signatures
from gradcam_export.checks.values import OWN, Comparison, own_values
from gradcam_export.checks.version import read_manifest
from gradcam_export.errors import VerificationError, VersionError
from gradcam_export.savedmodel.session import LoadedVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcam_export.checks.served import Version

_UNLOADABLE = "does not run in a Session, so no server can serve it"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """How far a verification goes."""

    thorough: bool = False
    """Also what a build can do without: every batch size, concurrent callers, all of the warm-up, size and memory."""
    server: str | None = None
    """`HOST:PORT`: ask the version that is served there, instead of loading it."""
    model_name: str = ""
    """What that server calls the model."""
    max_bytes: int | None = None
    """The most bytes that the version may have on the disk."""
    max_memory: int | None = None
    """The most bytes of memory that loading and running it may take."""


BUILD = Scope()
"""What every build verifies before it publishes."""


def verify_in_fresh_process(version: Path, expected: Path) -> Report:
    """Verify the version in directory `version` against the values in `expected`, in another Python process.

    Raises:
        VerificationError: a check failed, or the version does not load at all.
    """
    return passed(report_of_fresh_process(version, expected, BUILD))


def report_of_fresh_process(version: Path, expected: Path, scope: Scope) -> Report:
    """Return what `verify` finds in another Python process; one that dies is a check that failed."""
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "report.json"
        arguments = [str(version), str(expected), json.dumps(asdict(scope)), str(answer)]
        environment = {**os.environ, **LOG_LEVEL}
        command = [sys.executable, "-m", "gradcam_export.checks.verify", *arguments]
        process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if process.returncode != 0:
            last = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            return Report(checks=(failed("load", f"{version.name} {_UNLOADABLE}: {last}"),))
        checks = tuple(Check(**check) for check in json.loads(answer.read_text()))
        # A build publishes it all the same: what it answers is right.
        here = scope.thorough and scope.server is None
        return Report(checks=(*checks, check_optimiser(process.stderr)) if here else checks)


def passed(report: Report) -> Report:
    """Return `report` of a version that may be published.

    Raises:
        VerificationError: a check failed.
    """
    if report.failures:
        raise VerificationError("; ".join(check.message for check in report.failures))
    return report


def verify(version: Path, expected: Mapping[str, Array], scope: Scope = BUILD) -> Report:
    """Compare every value that the version in `version` answers with what is expected.

    Args:
        version: directory of a SavedModel.
        expected: values of the live model, as `gradcam_export.graph.live.live_values` names them; of `inputs/NAME`
            alone the version is held against itself.
        scope: how far to go.

    Raises:
        VersionError: `version` is no published version, or the server has it not.
    """
    manifest = read_manifest(version)
    # What contradicts itself in the files may not run here, and would say less if it did.
    checks = check_packaging(version, manifest)
    if not all(check.passed for check in checks):
        return Report(checks=checks)
    before = memory()
    try:
        loaded = _opened(version, scope)
    except (OSError, ValueError, tf.errors.OpError) as error:
        return Report(checks=(*checks, failed("load", f"{version.name} {_UNLOADABLE}: {_reason(error)}")))
    with loaded:
        found = _found(loaded, version, manifest, expected, scope)
        checks = (*checks, *_guarded(found))
    if scope.thorough:
        # A build writes the digests when it has verified what they are of.
        checks = (*checks, check_digest(version, manifest), check_size(version, scope.max_bytes))
    if scope.thorough and scope.server is None:
        checks = (*checks, check_memory(before, scope.max_memory))
    return Report(checks=checks)


def _opened(version: Path, scope: Scope) -> LoadedVersion | ServedVersion:
    if scope.server is None:
        return LoadedVersion.load(version)
    number = int(version.name) if version.name.isdigit() else None
    return ServedVersion(scope.server, scope.model_name, number)


def _found(
    loaded: Version, version: Path, manifest: Mapping[str, Any], expected: Mapping[str, Array], scope: Scope
) -> Iterator[Check]:
    """Yield what running the version shows."""
    if scope.server is not None:
        yield check_signatures(loaded.signatures, manifest)
    if "predictions" not in expected:
        inputs = {name.removeprefix("inputs/"): expected[name] for name in expected if name.startswith("inputs/")}
        expected = own_values(loaded, inputs, manifest)
    comparison = Comparison(loaded, version, manifest, expected)
    explained = comparison.explained()
    yield from comparison.checks(explained)
    yield check_independence(loaded, explained)
    yield check_finite(explained.answer)
    yield check_score(explained.answer, manifest["labels"], contract.EXPLAIN)
    # Methods that ask again take a forward pass a channel: a build would wait for minutes.
    costly = manifest["explanation"]["method"] not in manifest["batching"]["methods"]
    yield check_zero_maps(loaded, explained, rows=0 if costly else 2)
    if scope.thorough or not costly:
        yield check_determinism(loaded, explained)
        yield _check_order(loaded, explained, manifest)
    yield check_labels(explained.answer, version)
    yield check_description(loaded, version)
    yield check_warmup(loaded, version, manifest, whole=scope.thorough)
    if scope.thorough:
        yield from _thorough(loaded, explained, manifest, scope)
    if OWN in expected:
        return
    if "digest" in expected:
        yield _check_model(str(expected["digest"]), manifest)


def _check_order(loaded: Version, explained: Explained, manifest: Mapping[str, Any]) -> Check:
    one = {name: value[:1] for name, value in explained.asked.items() if name != contract.CLASS_INDEX}
    return check_order(loaded.run(contract.TOP_K, one), manifest["labels"])


def _thorough(loaded: Version, explained: Explained, manifest: Mapping[str, Any], scope: Scope) -> Iterator[Check]:
    batches = scope.server is not None and manifest["batching"]["mode"] == "server"
    yield check_batch_sizes(loaded, explained, limits_of(manifest, above=not batches))
    yield check_isolation(loaded, explained, manifest)


def _check_model(digest: str, manifest: Mapping[str, Any]) -> Check:
    said = manifest["model"]["digest"]
    if said == digest:
        return holds("model digest")
    return failed(
        "model digest",
        f"the manifest is of another model: it names the weights {said[:19]}…, and those of the model given are "
        f"{digest[:19]}…",
    )


def _guarded(checks: Iterator[Check]) -> Iterator[Check]:
    """Yield checks up to the first that the version cannot even answer, and that as one that failed."""
    try:
        yield from checks
    except (KeyError, ValueError, tf.errors.OpError) as error:
        yield failed("run", f"the version refuses a good request: {_reason(error)}")


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _main() -> None:
    version, expected, scope, answer = sys.argv[1:]
    try:
        with np.load(expected) as values:
            report = verify(Path(version), values, Scope(**json.loads(scope)))
    except VersionError as error:
        report = Report(checks=(failed("version", str(error)),))
    Path(answer).write_text(json.dumps([asdict(check) for check in report.checks]))


if __name__ == "__main__":
    _main()
