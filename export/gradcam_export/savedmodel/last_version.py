"""Fetch the version that is published now, to hold the next one against it.

A pipeline calls `python -m gradcam_export.savedmodel.last_version BASE_PATH DIRECTORY`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gradcam_export.errors import PublishError
from gradcam_export.savedmodel.publish import base_path_at


def fetch_last_version(base_path: str | Path, directory: Path) -> int | None:
    """Copy the highest finished version at `base_path` to `directory`, which must not exist yet.

    Args:
        base_path: where the versions lie, or its URL in an object store.
        directory: where the copy goes.

    Returns:
        The number of the version; `None`, and no directory, where nothing is published yet.

    Raises:
        PublishError: `base_path` cannot be read, or `directory` exists or cannot be written.
    """
    base = base_path_at(base_path)
    number = base.last_number()
    if number is None:
        return None
    if directory.exists():
        raise PublishError(f"{directory} exists: name a directory that version {number} of {base_path} can be put at.")
    base.fetch(number, directory)
    return number


if __name__ == "__main__":
    try:
        fetch_last_version(sys.argv[1], Path(sys.argv[2]))
    except PublishError as error:
        sys.exit(f"error: {error}")
