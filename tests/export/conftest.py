"""Published versions of each family, written once a run."""

import numpy as np
import pytest
from classifiers import FAMILIES, INPUT_SHAPE, Family
from gradcam_export import PublishedVersion, export_classifier
from gradcam_export.savedmodel.session import LoadedVersion
from lean import LEAN

LABELS = ["ant", "bee", "cat", "dog", "eel"]


class Exported:
    """A classifier, the version made of it, and that version in a Session."""

    def __init__(self, family: Family, version: PublishedVersion, model) -> None:
        self.family, self.version, self.model = family, version, model
        self.loaded = LoadedVersion.load(version.path)

    def run(self, signature: str, images: np.ndarray, **inputs: np.ndarray) -> dict:
        """Run one signature."""
        return self.loaded.run(signature, {"images": images, **inputs})


@pytest.fixture(scope="session", params=FAMILIES)
def exported(request, tmp_path_factory):
    """Every family in turn, as a published version."""
    family = FAMILIES[request.param]
    model = family.model()
    size = INPUT_SHAPE[:2] if request.param == "subclassed" else None
    base = tmp_path_factory.mktemp("models") / request.param
    exported = Exported(family, export_classifier(model, base, labels=LABELS, image_size=size, **LEAN), model)
    yield exported
    exported.loaded.close()
