"""What a caller may set, checked once where it is made."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final, Literal

from gradcam_client.errors import OptionError

DEFAULT_TIMEOUT_S: Final = 10.0


class _Unset(enum.Enum):
    UNSET = "unset"


UNSET: Final = _Unset.UNSET
"""A timeout that was not given; `None` is one that was: wait without limit."""

Timeout = float | None
GivenTimeout = float | None | Literal[_Unset.UNSET]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Which model to ask, where, and how long to wait.

    Attributes:
        target: the server's gRPC address, `host:port`.
        model: name the model is served under.
        version: version to ask; `None` follows the latest one.
        timeout: seconds for each call; `None` waits without limit.

    Raises:
        OptionError: one of them has a value it cannot have.
    """

    target: str
    model: str
    version: int | None = None
    timeout: Timeout = DEFAULT_TIMEOUT_S

    def __post_init__(self) -> None:
        if not self.target or self.target.startswith(("http://", "https://")):
            raise OptionError(f"server {self.target!r}: give HOST:PORT, such as localhost:8500, without http://")
        if not self.model:
            raise OptionError("model '': give the name the model is served under")
        if self.version is not None and self.version < 0:
            raise OptionError(f"version {self.version}: give a number from 0 up, or None for the latest")
        _check_timeout(self.timeout)

    def deadline(self, timeout: GivenTimeout) -> Timeout:
        """Seconds to wait for one call: what was given for it, else the connection's own.

        Raises:
            OptionError: `timeout` is not a positive number of seconds.
        """
        if timeout is UNSET:
            return self.timeout
        _check_timeout(timeout)
        return timeout


def _check_timeout(timeout: Timeout) -> None:
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise OptionError(f"timeout {timeout}: give seconds above 0, or None to wait without limit")
