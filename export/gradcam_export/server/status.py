"""The status a call ends with: TensorFlow's error codes are gRPC's, number for number."""

from __future__ import annotations

import re

import grpc
import tensorflow as tf

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}

MAX_MESSAGE_CHARACTERS = 1024
"""The stock server cuts longer texts: they travel in HTTP/2 headers, which proxies limit."""

_EAGER_PREFIX = re.compile(r"^\{\{function_node __wrapped__.*?\}\} ")


class StatusError(Exception):
    """A request or a load that failed; never leaves the server but as the status of an RPC."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:MAX_MESSAGE_CHARACTERS]

    def __str__(self) -> str:
        """The message in one line, for logs and errors at start-up."""
        return " ".join(self.message.split())

    @property
    def number(self) -> int:
        """The code as `StatusProto.error_code` writes it."""
        return int(self.code.value[0])


def from_op_error(error: tf.errors.OpError) -> StatusError:
    """What the stock server answers when the graph raises `error`."""
    # Session.run raises a second error that adds Python's view of the graph; the runtime's own words are
    # the ones that the stock server sends (TensorFlow 2.20).
    origin = error.__context__ if isinstance(error.__context__, tf.errors.OpError) else error
    code = _BY_NUMBER.get(origin.error_code, grpc.StatusCode.UNKNOWN)
    return StatusError(code, _EAGER_PREFIX.sub("", origin.message))


def invalid_argument(message: str) -> StatusError:
    """A request that no server could answer."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    """A request for a model or version that is not here."""
    return StatusError(grpc.StatusCode.NOT_FOUND, message)
