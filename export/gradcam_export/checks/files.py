"""Hold a version against the files beside its graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.comparison import Array, Check, compare, failed
from gradcam_export.savedmodel.warmup import WARMUP_FILE, read_warmup
from gradcam_export.savedmodel.write import EXTRA_ASSETS, LABELS_FILE, MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradcam_export.savedmodel.session import LoadedVersion


def check_description(loaded: LoadedVersion, version: Path) -> Check:
    """Compare what `describe` answers with the files beside the graph."""
    keys = np.array([contract.DESCRIBE_MANIFEST.encode(), contract.DESCRIBE_LABELS.encode()], object)
    manifest, labels = (
        json.loads(value) for value in loaded.run(contract.DESCRIBE, {contract.KEY: keys})[contract.VALUE]
    )
    if manifest != json.loads((version / EXTRA_ASSETS / MANIFEST_FILE).read_text()):
        return failed("describe", "describe answers another manifest than assets.extra holds")
    if labels != (version / "assets" / LABELS_FILE).read_text("utf-8").splitlines():
        return failed("describe", "describe answers other labels than assets/labels.txt holds")
    return Check(name="describe", tolerance=0.0, largest_difference=0.0, message="describe")


def check_labels(answer: Mapping[str, Array], version: Path) -> Check:
    """Compare the label of each row with the name of its class."""
    names = (version / "assets" / LABELS_FILE).read_text("utf-8").splitlines()
    wanted = np.array([names[index].encode() for index in answer[contract.CLASS_INDEX]], object)
    return compare(contract.LABEL, answer[contract.LABEL], wanted, 0)


def check_warmup(loaded: LoadedVersion, version: Path) -> Check:
    """Replay of each signature the smallest and the largest request: a server refuses a version whose warm-up fails."""
    requests: dict[str, list[dict[str, Array]]] = {}
    for signature, inputs in read_warmup(version / EXTRA_ASSETS / WARMUP_FILE):
        requests.setdefault(signature, []).append(inputs)
    for signature, given in requests.items():
        try:
            for inputs in given[:1] + given[1:][-1:]:
                loaded.run(signature, inputs)
        except (KeyError, ValueError, tf.errors.OpError) as error:
            return failed("warmup", f"the warm-up request of {signature!r} fails: {error}")
    missing = set(loaded.signatures) - set(requests)
    if missing:
        return failed("warmup", f"the warm-up file has no request for {', '.join(sorted(missing))}")
    return Check(name="warmup", tolerance=0.0, largest_difference=0.0, message="warmup")
