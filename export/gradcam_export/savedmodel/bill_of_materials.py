"""What a version was made with, as a bill of materials: CycloneDX 1.6 (ECMA-424), in JSON."""

from __future__ import annotations

import json
import uuid
from importlib import metadata
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gradcam_export.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gradcam_export.manifest import Manifest

_EXPORTER = "gradcam-export"
_MODEL = "model"
_LONGEST_NAME = 80
"""Some distributions give the whole text of their licence for its name."""


def write_bill_of_materials(manifest: Manifest, path: Path) -> None:
    """Write the bill of materials of a version that this installation exported.

    Args:
        manifest: of the published version.
        path: the file.

    Raises:
        OptionError: `path` cannot be written to.
    """
    try:
        path.write_text(json.dumps(bill_of_materials(manifest), indent=1) + "\n", "ascii")
    except OSError as error:
        raise OptionError(f"{path}: cannot be written to: {error.strerror}.") from error


def bill_of_materials(manifest: Manifest) -> dict[str, Any]:
    """Return the model with its digest, its files with theirs, and every distribution that the exporter needs.

    Equal for equal exports: the serial number is drawn from the digest.
    """
    libraries = [_library(name) for name in sorted(_needed(_EXPORTER))]
    files = [_file(name, digest) for name, digest in manifest.files.items()]
    (exporter,) = (library for library in libraries if library["name"] == _EXPORTER)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, manifest.digest)}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.model["created"],
            "tools": {"components": [{**exporter, "type": "application", "bom-ref": "tool"}]},
            "component": _model(manifest),
        },
        "components": [*files, *libraries],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [exporter["bom-ref"]]},
            *({"ref": library["bom-ref"], "dependsOn": _references(library["name"])} for library in libraries),
        ],
    }


def _model(manifest: Manifest) -> dict[str, Any]:
    facts = {
        "source": manifest.model["source"],
        "source digest": manifest.model["digest"],
        "layer": manifest.explanation["layer"],
        "methods": ", ".join(manifest.explanation["methods"]),
        "precision": manifest.precision,
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": manifest.model["name"],
        "hashes": _hashes(manifest.digest),
        "properties": [{"name": f"gradcam:{name}", "value": value} for name, value in facts.items()],
    }


def _file(name: str, digest: str) -> dict[str, Any]:
    return {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": _hashes(digest)}


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]


def _library(name: str) -> dict[str, Any]:
    version, place = metadata.version(name), _reference(name)
    return {
        "type": "library",
        "bom-ref": place,
        "name": name,
        "version": version,
        "purl": place,
        "licenses": list(_licences(name)),
    }


def _reference(name: str) -> str:
    """Return the package URL (github.com/package-url) of an installed distribution."""
    return f"pkg:pypi/{name}@{metadata.version(name)}"


def _licences(name: str) -> Iterator[dict[str, Any]]:
    told: Any = metadata.metadata(name)
    if told.get("License-Expression"):
        yield {"expression": told["License-Expression"]}
        return
    classifiers = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier", []) if one.startswith("License ::")]
    for licence in classifiers or [(told.get("License") or "").strip().partition("\n")[0]]:
        if licence:
            yield {"license": {"name": licence[:_LONGEST_NAME]}}


def _needed(name: str) -> set[str]:
    """Return a distribution and all that it needs, in turn, without extras."""
    found: set[str] = set()
    waiting: list[str] = [canonicalize_name(name)]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(_requirements(one))
    return found


def _references(name: str) -> list[str]:
    return sorted(_reference(one) for one in _requirements(name))


def _requirements(name: str) -> set[str]:
    """Return what a distribution needs here and has; one taken out by hand is not part of what was run."""
    told = (Requirement(line) for line in metadata.requires(name) or ())
    wanted: set[str] = {
        canonicalize_name(one.name) for one in told if one.marker is None or one.marker.evaluate({"extra": ""})
    }
    return set(filter(_is_installed, wanted))


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
