"""Every error this package raises on purpose.

GradcamExportError
├── LoadError            the classifier could not be loaded
├── OptionError          an option has a value it cannot have
│   └── LabelsError      the labels do not fit the classifier
├── ExplanationError     the classifier is loaded, but this explanation of it does not exist
│   ├── LayerNotFound    no such layer
│   ├── NoFeatureMap     nothing spatial lies between the image and the class score
│   └── UnsupportedHead  the class score cannot be told from the end of the graph
├── UnsupportedOperation the classifier computes with what a stock server does not have
├── VersionError         a directory is no published version, or not one that can be judged
├── VerificationError    a written version answers other values than the live model; nothing was published
├── PublishError         the version could not be put in place
├── ServeError           the embedded server cannot start or go on
└── DemoError            the demo cannot go on, or its figures are not what they should be
"""


class GradcamExportError(Exception):
    """Root of this package's errors; the message says what was asked, what was found and what to do."""


class LoadError(GradcamExportError):
    """The classifier could not be loaded."""


class OptionError(GradcamExportError, ValueError):
    """An option has a value it cannot have."""


class LabelsError(OptionError):
    """The labels do not fit the classifier."""


class ExplanationError(GradcamExportError):
    """The classifier is loaded, but the explanation asked for does not exist."""


class LayerNotFound(ExplanationError):  # noqa: N818 - reads as the sentence it is
    """No layer or operation of that name was met on the way from the image to the class score."""


class NoFeatureMap(ExplanationError):  # noqa: N818
    """No spatial feature map lies on every path from the image to the class score."""


class UnsupportedHead(ExplanationError):  # noqa: N818
    """The class score cannot be told from the end of the classifier's graph."""


class UnsupportedOperation(GradcamExportError):  # noqa: N818
    """The classifier computes with an operation that a stock TensorFlow Serving cannot run."""


class VersionError(GradcamExportError):
    """A directory is no published version, or not one that can be judged."""


class VerificationError(GradcamExportError):
    """A written version does not answer what the live model answers."""


class PublishError(GradcamExportError):
    """A version could not be put in place."""


class ServeError(GradcamExportError):
    """The embedded server cannot start or go on."""


class DemoError(GradcamExportError):
    """The demo cannot go on, or its figures are not what they should be."""
