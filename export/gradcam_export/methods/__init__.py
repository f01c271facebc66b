"""CAM methods, by the name that options and manifests use."""

from gradcam_export.methods.base import CamMethod
from gradcam_export.methods.gradcam import GradCam

METHODS: dict[str, CamMethod] = {"gradcam": GradCam()}

__all__ = ["METHODS", "CamMethod"]
