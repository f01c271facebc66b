"""Hold a version's files against the digests in its manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcam_export.checks.comparison import Check, failed
from gradcam_export.savedmodel.digest import file_digests, version_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def check_digest(version: Path, manifest: Mapping[str, Any]) -> Check:
    """Compare every file of `version` with what was verified and published; manifests before 0.2 hold no digests."""
    wanted = manifest.get("files", {})
    if not wanted:
        return Check(name="digest", tolerance=0.0, largest_difference=0.0, message="the manifest holds no digests")
    found = file_digests(version)
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} was added" for name in found if name not in wanted]
    faults += [f"{name} was changed" for name in wanted if found.get(name, wanted[name]) != wanted[name]]
    if faults:
        return failed("digest", f"not the files that were verified and published: {', '.join(faults)}")
    if manifest.get("digest") != version_digest(wanted):
        return failed("digest", "the manifest's digest is not that of the files it lists")
    return Check(name="digest", tolerance=0.0, largest_difference=0.0, message="digest")
