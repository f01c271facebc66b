"""What both clients are made from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from gradcam_client.options import DEFAULT_TIMEOUT_S, Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcam_client.options import Compression, Timeout, Tls, Token


class Connected(ABC):
    """Holds a checked connection; who derives from it opens it."""

    def __init__(
        self,
        target: str,
        *,
        model: str,
        version: int | None = None,
        label: str | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT_S,
        tls: Tls | None = None,
        token: Token = None,
        metadata: Mapping[str, str] | None = None,
        compression: Compression = None,
        channel_options: Mapping[str, int | str] | None = None,
    ) -> None:
        self._connection = Connection(
            target=target,
            model=model,
            version=version,
            label=label,
            timeout=timeout,
            tls=tls,
            token=token,
            metadata=metadata,
            compression=compression,
            channel_options=channel_options,
        )
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Make what waits for answers."""
