"""Serve in the foreground until a signal says stop."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import time
from typing import TYPE_CHECKING

from gradcam_export.server.embedded import DEFAULT_HOST, GRACE_SECONDS, EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType

    from gradcam_export.server.config_files import SslConfig
    from gradcam_export.server.models import ServedModel

logger = logging.getLogger("gradcam_export.server")

DEFAULT_PORT = 8500
"""The stock server's gRPC port."""

WAKE_SECONDS = 0.1


def serve(
    models: Sequence[ServedModel],
    *,
    port: int = DEFAULT_PORT,
    host: str = DEFAULT_HOST,
    rest_port: int | None = None,
    ssl: SslConfig | None = None,
    metrics_path: str | None = None,
    model_config_file: Path | None = None,
    config_poll_seconds: float = 0,
    unavailable_labels: bool = False,
    grace: float = GRACE_SECONDS,
    on_ready: Callable[[int, int | None], None] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish the requests in flight and return.

    A second signal ends the process at once. To be called from the main thread, which alone receives signals.

    Args:
        models: what to serve.
        port: where; 0 takes a free one.
        host: the address to listen on; "0.0.0.0" for other machines.
        rest_port: where REST is answered; 0 takes a free port, None: nowhere.
        ssl: makes the gRPC port speak TLS.
        metrics_path: where the REST port shows the metrics; None: nowhere.
        model_config_file: what `models` was read from, to be read again.
        config_poll_seconds: how often; 0: never.
        unavailable_labels: whether a label that is not in use may name a version that is not loaded.
        grace: seconds that the requests in flight have to finish.
        on_ready: called with the ports of gRPC and REST once every model is available.

    Raises:
        ServeError: the server cannot start.
    """
    logger.warning("This embedded server is for laptops and CI; in production, run TensorFlow Serving.")
    # TensorFlow's modules stay: unloading a version need not search them for garbage (0.2 s in which nobody is served).
    gc.freeze()
    server = EmbeddedServer(
        models,
        port=port,
        host=host,
        rest_port=rest_port,
        ssl=ssl,
        metrics_path=metrics_path,
        model_config_file=model_config_file,
        config_poll_seconds=config_poll_seconds,
        unavailable_labels=unavailable_labels,
    )
    with _stop_signals() as received:
        server.start()
        try:
            if on_ready is not None and not received:
                on_ready(server.port, server.rest_port)
            while not received:
                # A wait without end would miss the signal that comes just before it begins.
                time.sleep(WAKE_SECONDS)
        finally:
            server.stop(grace)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects the first SIGTERM or SIGINT; the second has its usual effect."""
    received: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        restore()

    for number in usual:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        restore()
