"""Images explained in an Apache Beam pipeline: for what one machine is too small for.

Needs Apache Beam, which nothing else here imports: `pip install 'gradcam-client[beam]'`.
"""

from __future__ import annotations

import itertools
import os
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradcam_client.choices import class_choices
from gradcam_client.client import Client
from gradcam_client.errors import GradcamError, IncompatibleModel, ModelNotFound, OptionError
from gradcam_client.many import ManyOptions
from gradcam_client.outcomes import Outcome

try:
    import apache_beam as beam
    from apache_beam.metrics import Metrics
except ModuleNotFoundError as error:
    if error.name != "apache_beam":
        raise
    raise ImportError(
        "gradcam_client.beam: Apache Beam is not installed: pip install 'gradcam-client[beam]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradcam_client.images import Source

_FOR_ALL_IMAGES: Final = (OptionError, IncompatibleModel, ModelNotFound)
"""What no image can be answered after; raised, the runner tries again, and then says so."""

EXPLAINED: Final = "explained"
FAILED: Final = "failed"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that was not explained, and why.

    Attributes:
        key: the element's key, as in the explained output.
        image: what was given as image: with the key, all it takes to ask again.
        error: name of the error's class in `gradcam_client`, such as `"ImageError"` or `"ServerUnavailable"`.
        message: the error's words.
    """

    key: Any
    image: Source
    error: str
    message: str


class ExplainImages(beam.PTransform):
    """Asks a served classifier about each image of a PCollection, as `Client.explain_many` does.

    Each element is a path that the workers can open, the bytes of an image file, or a pair `(key, image)` of any key
    and one of those, a Pillow image or a uint8 array `[H, W]` or `[H, W, C]`. The key of a path is the path, that of
    bare bytes is `None`.

    Its outputs:
        `explained`: pairs `(key, Explanation)`, or with `top_k` `(key, list of T Explanations, best class first)`.
        `failed`: a `Failure` for each image that was not explained, also where the server did not answer: hold their
            count against what may fail. The pipeline itself fails where no image can be answered: there is no such
            model, class or method, or the model does not describe itself.

    Its metrics: the counters `explained`, `failed` (images) and `calls`, and the distribution `milliseconds` of a call,
    in the namespace `gradcam_client.beam.ExplainImages`.

    An `Explanation` holds its picture. Take from it what is kept before anything that moves elements between workers.
    What is read from one file or list lies in one bundle, and is explained by one worker, unless a `beam.Reshuffle`
    stands before this transform.

    Args:
        target: the server's gRPC address, as the workers see it.
        model: the name the model is served under.
        class_index: the class to explain; by default the one that the model predicts.
        class_label: the class to explain by its name.
        method: the CAM method; by default the model's own.
        top_k: explain the T best classes of each image.
        batch_size: the most images that a bundle hands on at once. They are sent in calls of the server's batch size.
        concurrency: the most calls under way at once for each thread of a worker.
        connection: the other arguments of `Client`: `version`, `label`, `timeout`, `tls`, `token` and so on. Each
            worker process opens one connection for all of its threads. A `token` that is a function is carried to them.

    Raises:
        OptionError: an argument has a value it cannot have, or excludes another.

    Example:
        ```python
        with beam.Pipeline() as pipeline:
            found = pipeline | beam.Create(paths) | beam.Reshuffle() | ExplainImages("localhost:8500", model="flowers")
            found.explained | beam.MapTuple(lambda path, one: f"{path} {one.label}") | "Labels" >> WriteToText("labels")
            found.failed | beam.Map(lambda failure: failure.message) | "Failures" >> WriteToText("failures")
        ```
    """

    def __init__(
        self,
        target: str,
        *,
        model: str,
        class_index: int | None = None,
        class_label: str | None = None,
        method: str | None = None,
        top_k: bool = False,
        batch_size: int = 32,
        concurrency: int = 4,
        **connection: Any,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise OptionError(f"batch_size {batch_size}: give 1 or more")
        question: dict[str, Any] = {"class_index": class_index, "label": class_label, "method": method, "top_k": top_k}
        question["concurrency"] = concurrency
        # A wrong argument is told where the pipeline is written, not by a worker; neither of these connects.
        class_choices(1, class_index, class_label)
        ManyOptions(images=(), **question)
        Client(target, model=model, **connection).close()
        self._batch_size = batch_size
        self._explain = _Explain({"target": target, "model": model, **connection}, question)

    def expand(self, images: Any) -> Any:
        """The outputs `explained` and `failed`."""
        batches = images | "Batch" >> beam.BatchElements(
            min_batch_size=self._batch_size, max_batch_size=self._batch_size
        )
        return batches | "Explain" >> beam.ParDo(self._explain).with_outputs(FAILED, main=EXPLAINED)


class _Explain(beam.DoFn):
    def __init__(self, connection: dict[str, Any], question: dict[str, Any]) -> None:
        super().__init__()
        self._connection = connection
        self._question = question
        self._name = uuid.uuid4().hex
        self._explained = Metrics.counter(ExplainImages, EXPLAINED)
        self._failed = Metrics.counter(ExplainImages, FAILED)
        self._calls = Metrics.counter(ExplainImages, "calls")
        self._milliseconds = Metrics.distribution(ExplainImages, "milliseconds")

    def setup(self) -> None:
        self._client = _clients.acquire(self._name, self._connection)

    def teardown(self) -> None:
        _clients.release(self._name)

    def process(self, batch: Sequence[Any]) -> Iterator[Any]:
        keys, images = zip(*map(_keyed, batch), strict=True)
        outcomes = self._outcomes(images)
        self._count(outcomes)
        for key, outcome in zip(keys, outcomes, strict=True):
            if outcome.error is None:
                yield key, outcome.result
            else:
                error, message = type(outcome.error).__name__, str(outcome.error)
                failure = Failure(key=key, image=outcome.source, error=error, message=message)
                yield beam.pvalue.TaggedOutput(FAILED, failure)

    def _outcomes(self, images: Sequence[Source]) -> list[Outcome]:
        try:
            return list(self._client.explain_many(images, **self._question))
        except _FOR_ALL_IMAGES:
            raise
        except GradcamError as error:
            return [
                Outcome(position=position, source=image, result=None, error=error, seconds=0.0)
                for position, image in enumerate(images)
            ]

    def _count(self, outcomes: Iterable[Outcome]) -> None:
        # The outcomes of one call stand together and have its seconds; those of images that were not sent have none.
        for seconds, answered in itertools.groupby(outcomes, key=lambda outcome: outcome.seconds):
            if seconds:
                self._calls.inc()
                self._milliseconds.update(round(seconds * 1000))
            for outcome in answered:
                (self._failed if outcome.error else self._explained).inc()


def _keyed(element: Any) -> tuple[Any, Source]:
    if isinstance(element, tuple) and len(element) == 2:
        return element
    return (element if isinstance(element, str | os.PathLike) else None), element


class _Clients:
    """The open clients of this process, each shared by all who acquired it under its name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Client, int]] = {}

    def acquire(self, name: str, connection: dict[str, Any]) -> Client:
        with self._lock:
            client, users = self._open.get(name) or (Client(**connection), 0)
            self._open[name] = client, users + 1
            return client

    def release(self, name: str) -> None:
        with self._lock:
            client, users = self._open[name]
            if users > 1:
                self._open[name] = client, users - 1
                return
            del self._open[name]
        client.close()


_clients = _Clients()
