"""Every error this package raises on purpose.

GradcamError
├── OptionError            an argument has a value it cannot have
│   └── UnknownClass       the model has no such class
├── ImageError             an image cannot be read or prepared
├── IncompatibleModel      the served model and this client do not speak the same contract
├── MalformedAnswer        an answer arrived that the contract does not allow
└── ServerError            the server refused, or could not be reached; has `.target` and `.status`
    ├── ServerUnavailable  nobody answers there, or the server is starting or full
    ├── DeadlineExceeded   no answer within the timeout
    ├── ModelNotFound      the server does not serve that model or version
    ├── SignatureNotFound  the model does not offer what was asked of it
    ├── InvalidRequest     the server refused the values sent
    └── ServerOverloaded   a limit of the server is reached
"""


class GradcamError(Exception):
    """Root of this package's errors; the message says what was asked, what was found and what to do."""


class OptionError(GradcamError, ValueError):
    """An argument has a value it cannot have."""


class UnknownClass(OptionError):  # noqa: N818 - reads as the sentence it is
    """The model has no class of that label or index."""


class ImageError(GradcamError, ValueError):
    """An image cannot be read or prepared."""


class IncompatibleModel(GradcamError):  # noqa: N818
    """The served model and this client do not speak the same contract."""


class MalformedAnswer(GradcamError):  # noqa: N818
    """An answer arrived that the contract does not allow."""


class ServerError(GradcamError):
    """The server refused the call, or could not be reached.

    Attributes:
        target: the server's address, as the client was given it.
        status: name of the gRPC status, such as `"UNAVAILABLE"`.
        details: what the server said, or gRPC in its place.
    """

    def __init__(self, message: str, *, target: str, status: str, details: str = "") -> None:
        super().__init__(message)
        self.target = target
        self.status = status
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        # Errors go from process to process, with the workers of a pool; what is given by keyword alone would be lost.
        return _rebuilt, (type(self), str(self), self.target, self.status, self.details)


class ServerUnavailable(ServerError):  # noqa: N818
    """Nobody answers at the target, or the server is starting or full."""


class DeadlineExceeded(ServerError):  # noqa: N818
    """The answer did not arrive within the timeout."""


class ModelNotFound(ServerError):  # noqa: N818
    """The server does not serve that model or version."""


class SignatureNotFound(ServerError):  # noqa: N818
    """The model does not offer what was asked of it."""


class InvalidRequest(ServerError):  # noqa: N818
    """The server refused the values sent."""


class ServerOverloaded(ServerError):  # noqa: N818
    """A limit of the server is reached: threads, queue or memory."""


def _rebuilt(kind: type[ServerError], message: str, target: str, status: str, details: str) -> ServerError:
    return kind(message, target=target, status=status, details=details)
