"""The embedded server: TensorFlow Serving's gRPC API for laptops and CI."""

from gradcam_export.server.embedded import EmbeddedServer
from gradcam_export.server.models import ServedModel, read_model_config
from gradcam_export.server.run import serve

__all__ = ["EmbeddedServer", "ServedModel", "read_model_config", "serve"]
