"""What a caller may set, checked once where it is made."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict

from gradcam_client.errors import OptionError

if TYPE_CHECKING:
    import os

DEFAULT_TIMEOUT_S: Final = 10.0


class _Unset(enum.Enum):
    UNSET = "unset"


UNSET: Final = _Unset.UNSET
"""A timeout that was not given; `None` is one that was: wait without limit."""

Timeout = float | None
GivenTimeout = float | None | Literal[_Unset.UNSET]
Token: TypeAlias = str | Callable[[], str] | None
Compression: TypeAlias = Literal["gzip", "deflate"] | None
COMPRESSIONS: Final = ("gzip", "deflate")


class CallOptions(TypedDict, total=False):
    """What every question takes."""

    timeout: GivenTimeout


class ExplainOptions(CallOptions, total=False):
    """What a question about one image takes."""

    class_index: int | None
    label: str | None
    method: str | None


class ExplainListOptions(CallOptions, total=False):
    """What a question about a list of images takes."""

    class_index: int | Sequence[int] | None
    label: str | Sequence[str] | None
    method: str | None


# What HTTP/2 lets through, less gRPC's own names and those whose values are bytes.
_KEY: Final = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """How to know the server, and how to be known to it.

    Attributes:
        ca: PEM bytes of the certificates that may vouch for the server; `None` trusts those that come with gRPC.
        certificate: PEM bytes of this client's own certificate chain, for servers that ask for one (mutual TLS).
        key: PEM bytes of the private key to `certificate`.

    Raises:
        OptionError: one of them is not PEM, or of certificate and key one is missing.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, what in (("ca", b"CERTIFICATE"), ("certificate", b"CERTIFICATE"), ("key", b"PRIVATE KEY")):
            text = getattr(self, name)
            if text is not None and not (isinstance(text, bytes) and what + b"-----" in text):
                raise OptionError(f"tls: {name} holds no {what.decode().lower()} in PEM: give a file's bytes")
        if (self.certificate is None) != (self.key is None):
            given, missing = ("key", "certificate") if self.certificate is None else ("certificate", "key")
            raise OptionError(f"tls: a {given} was given without its {missing}: give both, or none")

    @classmethod
    def read(
        cls,
        *,
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> Tls:
        """Read each from the file that holds it.

        Raises:
            OptionError: a file cannot be read, or what it holds is not what it should be.
        """
        return cls(ca=_file("ca", ca), certificate=_file("certificate", certificate), key=_file("key", key))


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Which model to ask, where, how, and how long to wait.

    Attributes:
        target: the server's gRPC address, `host:port`, or any that gRPC resolves: `dns:///host:port`,
            `ipv4:10.0.0.1:8500,10.0.0.2:8500`, `unix:/path`.
        model: name the model is served under.
        version: version to ask; `None` follows the label, or without one the latest.
        label: version label to ask, such as `"stable"`, which the server's configuration points at a version.
        timeout: seconds for each call; `None` waits without limit.
        tls: certificates; `None` speaks in the clear.
        token: bearer token, or what gives the one that is valid now; asked before each call.
        metadata: names and values that go with each call.
        compression: how requests are compressed.
        channel_options: gRPC's channel arguments, which go before this client's own.

    Raises:
        OptionError: one of them has a value it cannot have.
    """

    target: str
    model: str
    version: int | None = None
    label: str | None = None
    timeout: Timeout = DEFAULT_TIMEOUT_S
    tls: Tls | None = None
    token: Token = field(default=None, repr=False)
    metadata: Mapping[str, str] | None = field(default=None, repr=False)
    compression: Compression = None
    channel_options: Mapping[str, int | str] | None = None

    def __post_init__(self) -> None:
        if not self.target or self.target.startswith(("http://", "https://")):
            raise OptionError(f"server {self.target!r}: give HOST:PORT, such as localhost:8500, without http://")
        if ("/" not in self.target and ":" not in self.target) or self.target.endswith(":"):
            # gRPC would ask port 443.
            raise OptionError(f"server {self.target!r}: names no port: give HOST:PORT, such as localhost:8500")
        if not self.model:
            raise OptionError("model '': give the name the model is served under")
        _check_text("model", self.model)
        if self.version is not None and self.version < 0:
            raise OptionError(f"version {self.version}: give a number from 0 up, or None for the latest")
        if self.label is not None:
            self._check_label(self.label)
        check_timeout(self.timeout)
        if self.compression not in (None, *COMPRESSIONS):
            raise OptionError(f"compression {self.compression!r}: give {' or '.join(map(repr, COMPRESSIONS))}, or None")
        self._check_metadata()
        for name, value in (self.channel_options or {}).items():
            if not (_is(name, str) and _is(value, int | str)):
                raise OptionError(f"channel option {name!r}: {value!r}: give names of gRPC's with a number or a text")

    def _check_label(self, label: str) -> None:
        if self.version is not None:
            raise OptionError(f"version {self.version} and label {label!r} were both given: give one of them")
        if not label:
            raise OptionError("label '': give one of the server's configuration, such as 'stable', or None")
        _check_text("label", label)

    def _check_metadata(self) -> None:
        for name, value in (self.metadata or {}).items():
            if not (_is(name, str) and _KEY.fullmatch(name)):
                raise OptionError(
                    f"metadata {name!r}: give a name of small letters, digits and '-', that neither begins with "
                    "'grpc-' nor ends with '-bin'"
                )
            if not (_is(value, str) and _VALUE.fullmatch(value)):
                raise OptionError(f"metadata {name!r}: its value must be printable ASCII text")
        if self.token is not None and "authorization" in (self.metadata or {}):
            raise OptionError("a token and the metadata 'authorization' were both given: give one of them")
        if isinstance(self.token, str):
            _check_token(self.token)

    def deadline(self, timeout: GivenTimeout) -> Timeout:
        """Seconds to wait for one call: what was given for it, else the connection's own.

        Raises:
            OptionError: `timeout` is not a positive number of seconds.
        """
        if timeout is UNSET:
            return self.timeout
        check_timeout(timeout)
        return timeout

    def call_metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with a call that begins now; the token may take time to get.

        Raises:
            OptionError: the token cannot be sent.
        """
        pairs = tuple((self.metadata or {}).items())
        if self.token is None:
            return pairs
        token = self.token() if callable(self.token) else self.token
        _check_token(token)
        return (*pairs, ("authorization", f"Bearer {token}"))


def check_timeout(timeout: Timeout) -> None:
    """Refuse what is no time to wait.

    Raises:
        OptionError: `timeout` is not a positive number of seconds.
    """
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise OptionError(f"timeout {timeout}: give seconds above 0, or None to wait without limit")


def _check_text(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise OptionError(f"{what} {text!r}: is no text that can be sent") from error


def _is(value: object, kind: Any) -> bool:
    """Whether a value is what its annotation says: callers need not have checked."""
    return isinstance(value, kind)


def _check_token(token: object) -> None:
    # The message leaves it out: it is a secret.
    if not isinstance(token, str) or not token or not _VALUE.fullmatch(token):
        raise OptionError("token: give printable ASCII text, or a function that returns it")


def _file(what: str, path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OptionError(f"tls: {what} cannot be read: {error}") from error
