"""The gate passes what is right, for every kind of classifier that exports, with its model and without."""

import pytest
from gradcam_export import export_classifier
from gradcam_export.checks.samples import verification_inputs
from gradcam_export.checks.verify import Scope, verify
from gradcam_export.checks.version import read_manifest
from gradcam_export.expectation.live_model import LiveModel
from lean import LEAN
from zoo import all_cases

ALWAYS = ("image and numbers", "channels first")
"""The others take minutes together."""


def cases() -> list:
    """Return the small members of every family, or its first one, where all are large."""
    families = {}
    for case in all_cases().values():
        families.setdefault(case.family, []).append(case)
    chosen = [
        case for members in families.values() for case in [one for one in members if not one.large] or members[:1]
    ]
    large = (pytest.mark.large, pytest.mark.timeout(3600))
    return [pytest.param(case, id=case.name, marks=() if case.name in ALWAYS else large) for case in chosen]


@pytest.mark.parametrize("case", cases())
def test_a_right_version_of_every_family_passes(case, tmp_path):
    model = case.model()
    version = export_classifier(model, tmp_path / "model", **{**LEAN, **case.options}).path
    manifest = read_manifest(version)
    inputs = verification_inputs([manifest["input"], *manifest["more_inputs"]], None)
    told = {name: value for name, value in case.options.items() if name in ("preprocessing", "output", "image_size")}
    with_model = verify(version, LiveModel(model, manifest, told).values(inputs), Scope(thorough=True))
    alone = verify(version, {f"inputs/{name}": value for name, value in inputs.items()}, Scope(thorough=True))
    assert [check.message for check in (*with_model.failures, *alone.failures)] == []
