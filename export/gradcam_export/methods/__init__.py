"""CAM methods, by the name that options and manifests use."""

from typing import Any

from gradcam_export.methods.ablationcam import AblationCam
from gradcam_export.methods.base import CamMethod, Evidence, ScoredEvidence
from gradcam_export.methods.cam import Cam
from gradcam_export.methods.counterfactual import Counterfactual
from gradcam_export.methods.eigencam import EigenCam
from gradcam_export.methods.faster_scorecam import FasterScoreCam
from gradcam_export.methods.finercam import FinerCam
from gradcam_export.methods.gradcam import GradCam
from gradcam_export.methods.gradcam_pp import GradCamPlusPlus
from gradcam_export.methods.guided_gradcam_weights import GuidedGradCamWeights
from gradcam_export.methods.hirescam import HiResCam
from gradcam_export.methods.layercam import LayerCam
from gradcam_export.methods.scorecam import ScoreCam
from gradcam_export.methods.xgradcam import XGradCam

METHODS: dict[str, CamMethod[Any]] = {
    "cam": Cam(),
    "gradcam": GradCam(),
    "gradcam++": GradCamPlusPlus(),
    "layercam": LayerCam(),
    "hirescam": HiResCam(),
    "xgradcam": XGradCam(),
    "eigencam": EigenCam(),
    "scorecam": ScoreCam(),
    "faster-scorecam": FasterScoreCam(),
    "ablationcam": AblationCam(),
    "finercam": FinerCam(),
    "guided-gradcam-weights": GuidedGradCamWeights(),
    "counterfactual": Counterfactual(),
}

__all__ = ["METHODS", "CamMethod", "Evidence", "ScoredEvidence"]
