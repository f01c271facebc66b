"""The embedded server: TensorFlow Serving's gRPC and REST APIs for laptops and CI."""

from gradcam_export.server.config_files import SslConfig, read_monitoring_config, read_ssl_config
from gradcam_export.server.embedded import EmbeddedServer
from gradcam_export.server.models import ServedModel, read_model_config
from gradcam_export.server.run import serve

__all__ = [
    "EmbeddedServer",
    "ServedModel",
    "SslConfig",
    "read_model_config",
    "read_monitoring_config",
    "read_ssl_config",
    "serve",
]
