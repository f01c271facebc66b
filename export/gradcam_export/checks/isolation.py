"""Whether what one caller sends can reach another's answer: good and bad requests at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.comparison import Check, failed, holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcam_export.checks.behaviour import Explained
    from gradcam_export.checks.comparison import Array
    from gradcam_export.checks.served import Version

NAME = "batching_isolation"
CALLERS, REQUESTS = 8, 48

REFUSED = (ValueError, tf.errors.InvalidArgumentError)
"""A Session refuses a value that does not fit its placeholder before the graph sees it."""


def check_isolation(loaded: Version, explained: Explained, manifest: Mapping[str, Any]) -> Check:
    """Ask from several threads at once; every third request is bad, and must fail alone."""
    bad = _bad_requests(explained, manifest)
    rows = len(explained.slack)
    start = threading.Barrier(CALLERS)

    def call(caller: int) -> str | None:
        start.wait()
        for number in range(caller, REQUESTS, CALLERS):
            what, signature, inputs = bad[number // 3 % len(bad)]
            wrong = (
                _answered(loaded, what, signature, inputs)
                if number % 3 == 2
                else _changed(loaded, explained, [number % rows])
            )
            if wrong:
                return wrong
        return None

    with ThreadPoolExecutor(CALLERS) as threads:
        found = [wrong for wrong in threads.map(call, range(CALLERS)) if wrong]
    return failed(NAME, found[0]) if found else holds(NAME)


def _bad_requests(explained: Explained, manifest: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Array]]]:
    one, classes = explained.rows([0]), len(manifest["labels"])
    wide = dict(one)
    main = manifest["input"]["name"]
    wide[main] = np.concatenate([one[main], one[main]], axis=1)
    outside = one | {contract.CLASS_INDEX: np.array([classes], np.int32)}
    found = [
        (f"class_index {classes} of {classes} classes", contract.EXPLAIN, outside),
        (f"{main} of shape {list(wide[main].shape)}", contract.EXPLAIN, wide),
    ]
    if manifest["input"].get("encoded"):
        text = {contract.IMAGE_BYTES: np.array([b"no image"], object)} | {
            contract.CLASS_INDEX: one[contract.CLASS_INDEX]
        }
        found.append(("bytes that are no image", contract.EXPLAIN_BYTES, text))
    return found


def _answered(loaded: Version, what: str, signature: str, inputs: Mapping[str, Array]) -> str | None:
    try:
        loaded.run(signature, inputs)
    except REFUSED:
        return None
    return f"{signature} answers a request with {what} instead of refusing it"


def _changed(loaded: Version, explained: Explained, row: list[int]) -> str | None:
    try:
        answer = loaded.run(contract.EXPLAIN, explained.rows(row))
    except (ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0]
        return f"a good request fails beside bad ones, which must fail alone: {reason}"
    for check in explained.compare("a request among others", answer, row):
        if not check.passed:
            return f"concurrent callers get each other's values: {check.message}"
    return None
