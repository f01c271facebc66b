"""Ask a served classifier what it sees, and which regions of the image made it say so.

```python
from gradcam_client import Client

with Client("localhost:8500", model="flowers") as client:
    client.explain("rose.jpg").save("rose_cam.png")
```
"""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from gradcam_client.aio import AsyncClient

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


def __getattr__(name: str) -> object:
    # asyncio would be a part of the time that importing this package takes.
    if name == "AsyncClient":
        from gradcam_client.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
