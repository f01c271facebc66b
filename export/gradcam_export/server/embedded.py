"""The embedded server: a SavedModel behind TensorFlow Serving's gRPC and REST APIs, on a laptop or in CI.

Production is TensorFlow Serving. Here, unlike there, start-up does not wait for a version to appear, a failed
version is not tried again, and labels are read at start-up once the versions they name are loaded.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from gradcam_export.errors import ServeError
from gradcam_export.server.call_threads import CallThreads
from gradcam_export.server.calls import Calls
from gradcam_export.server.catalogue import Catalogue
from gradcam_export.server.http_server import HttpServer
from gradcam_export.server.metrics import Metrics
from gradcam_export.server.rest import RestApi
from gradcam_export.server.servicer import RUNS, ModelServicer, PredictionServicer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradcam_export.server.config_files import SslConfig
    from gradcam_export.server.models import ServedModel

DEFAULT_HOST = "127.0.0.1"
GRACE_SECONDS = 30.0
"""How long in-flight requests may take to finish once the server is told to stop."""

MAX_CALLS = 2000
"""Calls that may be begun at once; one more is RESOURCE_EXHAUSTED."""

HEALTH_SERVICES = ("", "PredictionService", "ModelService")

_OPTIONS = (
    # With gRPC's default two servers share one port, and each answers some of the requests.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", -1),
)


class EmbeddedServer:
    """Serves `models` from `start` to `stop`; a context manager does both.

    Args:
        models: what to serve.
        port: 0 takes a free one; `port` then says which.
        host: the address to listen on; by default this machine alone, for nobody is asked who they are.
        poll_seconds: how often the base paths are looked at.
        rest_port: where REST is answered, and the metrics; 0 takes a free port, None: nowhere.
        ssl: makes the gRPC port speak TLS; the REST port never does, here as in the stock server.
        metrics_path: where the REST port shows the metrics; None: nowhere.
        model_config_file: what `models` was read from, to be read again.
        config_poll_seconds: how often; 0: never, as in the stock server.
        unavailable_labels: whether a label that is not in use may name a version that is not loaded.

    Raises:
        ServeError: two models have one name, metrics are to be shown without a REST port, or a configuration is to
            be read again without a file.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        *,
        port: int = 0,
        host: str = DEFAULT_HOST,
        poll_seconds: float = 1.0,
        rest_port: int | None = None,
        ssl: SslConfig | None = None,
        metrics_path: str | None = None,
        model_config_file: Path | None = None,
        config_poll_seconds: float = 0,
        unavailable_labels: bool = False,
    ) -> None:
        if metrics_path is not None and rest_port is None:
            raise ServeError("Metrics are read on the REST port, and there is none: give one (--rest-port).")
        self.host = host
        self.port = port
        self.rest_port = rest_port
        self._ssl = ssl
        self._catalogue = Catalogue(
            models,
            poll_seconds=poll_seconds,
            config_file=model_config_file,
            config_poll_seconds=config_poll_seconds,
            unavailable_labels=unavailable_labels,
        )
        self._calls = Calls(self._catalogue, Metrics(self._catalogue.names))
        self._health = health.HealthServicer()
        self._rest_api = RestApi(self._calls, metrics_path)
        self._rest: HttpServer | None = None
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Load every model, then open the ports: whoever can connect finds them all available.

        Raises:
            ServeError: a port cannot be had, a base path holds no version, or none that can be loaded.
        """
        for port in (self.port, self.rest_port):
            if port is not None:
                _check_port(self.host, port)
        self._catalogue.start()
        try:
            self._open_ports()
        except ServeError:
            self._catalogue.close()
            raise

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Accept no more calls, give those in flight `grace` seconds, and unload everything."""
        self._catalogue.stop()
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(grace) if self._server is not None else None
        if self._rest is not None:
            self._rest.stop(grace)
        if stopped is not None:
            stopped.wait()
        self._catalogue.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _open_ports(self) -> None:
        """REST first: its port is one that can be given back."""
        listener = None if self.rest_port is None else _listen(self.host, self.rest_port)
        try:
            self._open_grpc_port()
        except ServeError:
            if listener is not None:
                listener.close()
            raise
        if listener is not None:
            self.rest_port = int(listener.getsockname()[1])
            self._rest = HttpServer(self._rest_api.answer)
            self._rest.start(listener)

    def _open_grpc_port(self) -> None:
        server = grpc.server(CallThreads(RUNS), options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        _add_services(server, self._calls, self._health)
        address = f"{self.host}:{self.port}"
        try:
            if self._ssl is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, _credentials(self._ssl))
        except RuntimeError as error:
            hint = " (or the key, certificate and CA of the SSL configuration do not fit)" if self._ssl else ""
            raise ServeError(f"Cannot listen on {address}: {error}{hint}") from error
        server.start()
        self._server, self.port = server, port


def _add_services(server: grpc.Server, calls: Calls, health_servicer: health.HealthServicer) -> None:
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionServicer(calls), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(calls), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    for service in HEALTH_SERVICES:
        health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)


def _credentials(ssl: SslConfig) -> grpc.ServerCredentials:
    # Without a CA of its own gRPC cannot ask callers who they are; read_ssl_config sees to that.
    return grpc.ssl_server_credentials([(ssl.server_key, ssl.server_cert)], ssl.custom_ca, ssl.client_verify)


def _check_port(host: str, port: int) -> None:
    """Ask for the port before the models are loaded."""
    _listen(host, port).close()


def _listen(host: str, port: int) -> socket.socket:
    """Take a port, in a way that says why it cannot be had."""
    try:
        return socket.create_server((host, port), backlog=1024)
    except (OSError, OverflowError) as error:
        raise ServeError(f"Cannot listen on {host}:{port}: {error}") from error
