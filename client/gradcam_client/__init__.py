"""Ask a served classifier what it sees, and which regions of the image made it say so.

```python
from gradcam_client import Client

with Client("localhost:8500", model="flowers") as client:
    client.explain("rose.jpg").save("rose_cam.png")
```
"""

from gradcam_client.aio import AsyncClient
from gradcam_client.client import Client
from gradcam_client.contact_sheet import grid
from gradcam_client.errors import (
    DeadlineExceeded,
    GradcamError,
    ImageError,
    IncompatibleModel,
    InvalidRequest,
    MalformedAnswer,
    ModelNotFound,
    OptionError,
    ServerError,
    ServerOverloaded,
    ServerUnavailable,
    SignatureNotFound,
    UnknownClass,
)
from gradcam_client.manifest import Manifest, ModelInput
from gradcam_client.options import UNSET, Tls
from gradcam_client.outcomes import Outcome
from gradcam_client.results import Explanation, Prediction, VersionStatus
from gradcam_client.visualization import Visualization

__all__ = [
    "UNSET",
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Explanation",
    "GradcamError",
    "ImageError",
    "IncompatibleModel",
    "InvalidRequest",
    "MalformedAnswer",
    "Manifest",
    "ModelInput",
    "ModelNotFound",
    "OptionError",
    "Outcome",
    "Prediction",
    "ServerError",
    "ServerOverloaded",
    "ServerUnavailable",
    "SignatureNotFound",
    "Tls",
    "UnknownClass",
    "VersionStatus",
    "Visualization",
    "grid",
]
