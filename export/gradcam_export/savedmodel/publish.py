"""Put a finished version in place: all of it or nothing, and never over another."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.registry import known_implementations  # type: ignore[import-untyped]

from gradcam_export.errors import PublishError
from gradcam_export.savedmodel.base_path import SAVED_MODEL_FILE, BasePath, reason
from gradcam_export.savedmodel.local_base_path import LocalBasePath
from gradcam_export.savedmodel.object_store import ObjectStoreBasePath

_MANIFEST = "assets.extra/manifest.json"
_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?!.*::).*")
_LIKE_A_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|.*://")


def publish_version(version_dir: str | Path, target: str | Path, *, version: int | None = None) -> str:
    """Copy a finished version to another base path, on a disk or in an object store.

    Whoever serves `target` sees all of it or nothing. On a disk it appears by a rename. In an object store, which has
    none, `saved_model.pb` appears last. The copy keeps its manifest, with the name of the model that it was built as.

    Args:
        version_dir: a version that `export_classifier` or `gradcam-export build` published.
        target: a base path, or its URL, like `gs://bucket/models/flowers`, `s3://…`, `file://…` or `memory://…`. For
            most, `fsspec` needs a driver: `pip install gcsfs` for Google Storage, `s3fs` for S3, `adlfs` for Azure.
        version: its number; `None` takes the next one after the highest there is.

    Returns:
        The published copy: its path, or its URL where `target` is one of an object store.

    Raises:
        OptionError: `version` is no version number.
        PublishError: `version_dir` holds no finished version, or `target` has that version already, cannot be reached
            or cannot be written to; nothing was published.
    """
    directory, base = Path(version_dir), base_path_at(target)
    _check_finished(directory)
    if base.name.isdigit():
        raise PublishError(f"{target} ends in a number: give the base path of the versions, and the number as version.")
    base.check(version)
    return base.publish_copy(directory, version)


def base_path_at(place: str | Path) -> BasePath:
    """Return the base path that a path, or the URL of an object store, means.

    Raises:
        PublishError: it is no proper URL, or the driver that it needs is not installed or does not work.
    """
    text = str(place)
    url = _URL.fullmatch(text)
    if url is None:
        if _LIKE_A_URL.match(text):
            raise PublishError(f"{text} is no URL of a base path: those look like gs://bucket/models/flowers, as text.")
        return LocalBasePath(Path(text), LocalFileSystem())
    files, path = _driver(text, url["protocol"])
    if isinstance(files, LocalFileSystem):
        return LocalBasePath(Path(path), files)
    if not path.strip("/"):
        raise PublishError(f"{text} names no base path: those look like gs://bucket/models/flowers.")
    return ObjectStoreBasePath(text.rstrip("/"), path.rstrip("/"), files)


def _driver(url: str, protocol: str) -> tuple[Any, str]:
    """Return the file system for `url`, and what that calls it."""
    try:
        return fsspec.url_to_fs(url)
    except ImportError as error:
        library = known_implementations.get(protocol, {}).get("class", "fsspec").partition(".")[0]
        remedy = str(error) if library == "fsspec" else f"pip install {library}"
        raise PublishError(f"{url}: the driver for {protocol}:// is not installed: {remedy}") from error
    except Exception as error:
        raise PublishError(f"{url}: cannot be reached: {reason(error)}.") from error


def _check_finished(directory: Path) -> None:
    for name in (SAVED_MODEL_FILE, _MANIFEST):
        if not (directory / name).is_file():
            raise PublishError(f"{directory} is no version that gradcam-export published: it has no {name}.")
    try:
        manifest = json.loads((directory / _MANIFEST).read_text("ascii"))
    except (OSError, ValueError) as error:
        raise PublishError(f"{directory}: {_MANIFEST} cannot be read: {reason(error)}.") from error
    if not (isinstance(manifest, dict) and manifest.get("verified")):
        raise PublishError(f"{directory} was never verified: build it again; what build publishes is.")
