"""Load and run a SavedModel the way TensorFlow Serving does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import numpy as np

SERVE_TAG = "serve"


class LoadedVersion:
    """One version in a Session of its own: the runtime of the stock server, which eager loading is not.

    `run` may be called from any number of threads.
    """

    def __init__(self, session: Any, meta_graph: Any) -> None:
        self._session = session
        self.signatures: Mapping[str, Any] = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith("__saved_model")
        }
        """Signature name → `SignatureDef` proto."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load the version in directory `path`.

        Raises:
            OSError: there is no readable SavedModel at `path`.
            tf.errors.OpError: the graph or its variables cannot be restored.
        """
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, [SERVE_TAG], str(path))
        return cls(session, meta_graph)

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        outputs: Collection[str] = (),
        *,
        timeout_ms: int | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Run one signature.

        Args:
            signature: its name.
            inputs: value of every input, by the signature's names.
            outputs: names of the outputs to compute; empty means all.
            timeout_ms: give up after so many milliseconds.

        Raises:
            KeyError: the signature, an input or an output does not exist.
            tf.errors.OpError: the graph refused the values.
        """
        definition = self.signatures[signature]
        fetches = {name: definition.outputs[name].name for name in (outputs or definition.outputs)}
        feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
        options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms) if timeout_ms else None
        return self._session.run(fetches, feeds, options=options)

    def close(self) -> None:
        """Release the session; nothing runs after this. The graph goes when the garbage collector comes to it."""
        self._session.close()
        del self._session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
