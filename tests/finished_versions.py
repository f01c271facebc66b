"""Made-up versions to publish, and publishers that start together."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gradcam_export import PublishError

MANIFEST = "assets.extra/manifest.json"
VERSION_FILES = ("saved_model.pb", "assets/labels.txt", "variables/variables.index", "batching_params.pbtxt", MANIFEST)


def finished(directory: Path, content: str = "graph") -> Path:
    """A version as far as publishing looks into it: some files, each saying whose they are."""
    for name in VERSION_FILES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    (directory / MANIFEST).write_text(json.dumps({"schema": 1, "verified": {"images": 2}, "content": content}))
    return directory


def at_once(work, things) -> list:
    """Run `work(thing)` for all things in threads that start together; return what it returned or raised."""
    barrier = threading.Barrier(len(things))

    def run(thing):
        barrier.wait()
        try:
            return work(thing)
        except PublishError as error:
            return error

    with ThreadPoolExecutor(len(things)) as pool:
        return list(pool.map(run, things))
