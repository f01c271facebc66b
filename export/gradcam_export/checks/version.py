"""Whether a directory is a published version, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from gradcam_export.checks.pictures import check_takes_pictures
from gradcam_export.contract import SCHEMA
from gradcam_export.errors import OptionError, VersionError
from gradcam_export.savedmodel.base_path import SAVED_MODEL_FILE, numbers_among
from gradcam_export.savedmodel.write import EXTRA_ASSETS, MANIFEST_FILE

_FIELDS: Final = ("input", "more_inputs", "labels", "explanation")


def read_manifest(version: str | Path) -> dict[str, Any]:
    """Return the manifest of the version in directory `version`, as `Manifest` writes it.

    Raises:
        VersionError: `version` is no directory that `gradcam-export build` published.
    """
    directory = Path(version)
    if not directory.is_dir():
        raise VersionError(f"{directory}: there is no such directory; a version is one like models/flowers/3.")
    manifest = Path(EXTRA_ASSETS, MANIFEST_FILE)
    for name in (Path(SAVED_MODEL_FILE), manifest):
        if not (directory / name).is_file():
            raise VersionError(f"{directory}: is no published version, it has no {name}.{_remedy(directory)}")
    try:
        facts = json.loads((directory / manifest).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise VersionError(f"{directory}: {manifest} cannot be read: {error}.") from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        found = facts.get("schema") if isinstance(facts, dict) else None
        raise VersionError(f"{directory}: {manifest} is of schema {found!r}; this gradcam-export reads {SCHEMA}.")
    missing = [name for name in _FIELDS if name not in facts]
    if missing:
        raise VersionError(f"{directory}: {manifest} says nothing of {', '.join(missing)}.")
    return facts


def read_image_classifier(version: str | Path) -> dict[str, Any]:
    """Return the manifest of a version that takes pictures and nothing else.

    Raises:
        VersionError: `version` is no directory that `gradcam-export build` published.
        OptionError: it takes no pictures, or something beside them.
    """
    facts = read_manifest(version)
    try:
        check_takes_pictures(facts["input"])
    except OptionError as error:
        raise OptionError(f"{version}: {error}") from error
    if facts["more_inputs"]:
        names = ", ".join(one["name"] for one in facts["more_inputs"])
        raise OptionError(f"{version}: this classifier takes {names} beside the image, which no image file holds.")
    return facts


def _remedy(directory: Path) -> str:
    """Help whoever named the base path of a model instead of one of its versions."""
    numbers = numbers_among(child.name for child in directory.iterdir())
    return f" Name one of the versions in it, like {directory / str(max(numbers))}." if numbers else ""
