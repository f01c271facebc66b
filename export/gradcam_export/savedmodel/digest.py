"""What a version's files hold, in few characters."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gradcam_export.savedmodel.base_path import files_of
from gradcam_export.savedmodel.write import DESCRIPTION_FILE, EXTRA_ASSETS, MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOLDING_THE_MANIFEST = (f"assets/{DESCRIPTION_FILE}", f"{EXTRA_ASSETS}/{MANIFEST_FILE}")
"""The two files that the digests are written into."""


def file_digests(directory: Path) -> dict[str, str]:
    """Return `sha256:…` of each file of the version in `directory`, by its name under it, but for the manifest's own.

    Raises:
        OSError: a file cannot be read.
    """
    names = sorted(set(files_of(directory)) - set(HOLDING_THE_MANIFEST))
    return {name: f"sha256:{_sha256(directory / name)}" for name in names}


def version_digest(files: Mapping[str, str]) -> str:
    """Return one `sha256:…` over those of all files: that of the text `sha256sum` writes of them, sorted by name."""
    lines = (f"{digest.removeprefix('sha256:')}  {name}\n" for name, digest in sorted(files.items()))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
