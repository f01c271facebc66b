"""Hold a version against the files beside its graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from gradcam_export import contract
from gradcam_export.checks.comparison import Array, Check, compare, failed, holds
from gradcam_export.savedmodel.warmup import WARMUP_FILE, read_warmup
from gradcam_export.savedmodel.write import EXTRA_ASSETS, LABELS_FILE, MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gradcam_export.checks.served import Version


def check_description(loaded: Version, version: Path) -> Check:
    """Compare what `describe` answers with the files beside the graph."""
    keys = np.array([contract.DESCRIBE_MANIFEST.encode(), contract.DESCRIBE_LABELS.encode()], object)
    manifest, labels = (
        json.loads(value) for value in loaded.run(contract.DESCRIBE, {contract.KEY: keys})[contract.VALUE]
    )
    if manifest != json.loads((version / EXTRA_ASSETS / MANIFEST_FILE).read_text()):
        return failed("describe", "describe answers another manifest than assets.extra holds")
    if labels != (version / "assets" / LABELS_FILE).read_text("utf-8").splitlines():
        return failed("describe", "describe answers other labels than assets/labels.txt holds")
    return holds("describe")


def check_labels(answer: Mapping[str, Array], version: Path) -> Check:
    """Compare the label of each row with the name of its class."""
    names = (version / "assets" / LABELS_FILE).read_text("utf-8").splitlines()
    wanted = np.array([names[index].encode() for index in answer[contract.CLASS_INDEX]], object)
    return compare(contract.LABEL, answer[contract.LABEL], wanted, 0)


def check_warmup(loaded: Version, version: Path, manifest: Mapping[str, Any], *, whole: bool) -> Check:
    """Replay what a server replays before it serves: one that refuses its warm-up is never available.

    Args:
        loaded: the version.
        version: its directory.
        manifest: what it says of itself.
        whole: replay every request, instead of the smallest and the largest of each signature.
    """
    requests: dict[str, list[dict[str, Array]]] = {}
    try:
        for signature, inputs in read_warmup(version / EXTRA_ASSETS / WARMUP_FILE):
            requests.setdefault(signature, []).append(inputs)
    except (tf.errors.OpError, DecodeError) as error:
        return failed("warmup", f"the warm-up file cannot be read: {_first_line(error)}")
    strangers = set(requests) - set(loaded.signatures)
    if strangers:
        return failed("warmup", f"the warm-up asks for {', '.join(sorted(strangers))}, which the version has not")
    for signature, given in requests.items():
        try:
            for inputs in given if whole else given[:1] + given[1:][-1:]:
                loaded.run(signature, inputs)
        except (KeyError, ValueError, tf.errors.OpError) as error:
            return failed("warmup", f"the warm-up request of {signature!r} fails: {error}")
    missing = set(loaded.signatures) - set(requests)
    if missing:
        return failed("warmup", f"the warm-up file has no request for {', '.join(sorted(missing))}")
    return _check_sizes(requests[contract.PREDICT], manifest)


def _check_sizes(requests: Sequence[Mapping[str, Array]], manifest: Mapping[str, Any]) -> Check:
    found = {len(inputs[manifest["input"]["name"]]) for inputs in requests}
    wanted = set(manifest["batching"]["allowed_batch_sizes"])
    if found != wanted:
        said = [", ".join(map(str, sorted(sizes))) for sizes in (found, wanted)]
        return failed(
            "warmup", f"the warm-up is stale: it has batches of {said[0]}, but the allowed sizes are {said[1]}"
        )
    return holds("warmup")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
