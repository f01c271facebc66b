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
        version: version to ask; `None` follows the label, or without one the latest.
        label: version label to ask, such as `"stable"`, which the server's configuration points at a version.
        timeout: seconds for each call; `None` waits without limit.

    Raises:
        OptionError: one of them has a value it cannot have.
    """

    target: str
    model: str
    version: int | None = None
    label: str | None = None
    timeout: Timeout = DEFAULT_TIMEOUT_S

    def __post_init__(self) -> None:
        if not self.target or self.target.startswith(("http://", "https://")):
            raise OptionError(f"server {self.target!r}: give HOST:PORT, such as localhost:8500, without http://")
        if not self.model:
            raise OptionError("model '': give the name the model is served under")
        _check_text("model", self.model)
        if self.version is not None and self.version < 0:
            raise OptionError(f"version {self.version}: give a number from 0 up, or None for the latest")
        if self.label is not None:
            self._check_label(self.label)
        _check_timeout(self.timeout)

    def _check_label(self, label: str) -> None:
        if self.version is not None:
            raise OptionError(f"version {self.version} and label {label!r} were both given: give one of them")
        if not label:
            raise OptionError("label '': give one of the server's configuration, such as 'stable', or None")
        _check_text("label", label)

    def deadline(self, timeout: GivenTimeout) -> Timeout:
        """Seconds to wait for one call: what was given for it, else the connection's own.

        Raises:
            OptionError: `timeout` is not a positive number of seconds.
        """
        if timeout is UNSET:
            return self.timeout
        _check_timeout(timeout)
        return timeout


def _check_text(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise OptionError(f"{what} {text!r}: is no text that can be sent") from error


def _check_timeout(timeout: Timeout) -> None:
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise OptionError(f"timeout {timeout}: give seconds above 0, or None to wait without limit")
