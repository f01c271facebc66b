"""Load a classifier from an object, a file or a factory."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from gradcam_export.errors import LoadError
from gradcam_export.keras_model.inputs import find_inputs, is_built

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradcam_export.keras_model.inputs import ClassifierInputs

FILE_SUFFIXES = (".keras", ".h5", ".hdf5")
_UNLOADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError)
"""What Keras raises for a file that it cannot read or rebuild (3.15, 2.20)."""


@dataclass(frozen=True, kw_only=True)
class LoadedClassifier:
    """A built Keras model and what is known of its inputs."""

    model: Any
    """A `keras.Model`, or one of `tf_keras` (Keras 2)."""
    source: str
    """Where it came from, as the user named it."""
    inputs: ClassifierInputs
    preprocess_input: Callable[[Any], Any] | None
    """What the factory's own module prescribes, for `keras.applications`."""

    def digest(self) -> str:
        """Return `sha256:…` over the kinds, shapes and values of all weights, in their order.

        Not over their names, some of which Keras counts up anew each time a model is loaded (3.15).
        """
        sha = hashlib.sha256()
        # Not `variables`: the state of a Dropout's generator is another one after each loading.
        for variable in self.model.weights:
            value = variable.numpy()
            sha.update(f"{value.dtype} {value.shape}".encode())
            # As bytes: bfloat16 is no format that a buffer knows.
            sha.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return f"sha256:{sha.hexdigest()}"


def load_classifier(
    source: keras.Model | str | Path,
    *,
    image_size: tuple[int, ...] | None = None,
    factory_args: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> LoadedClassifier:
    """Load the classifier that `source` names, and build it where it was never called.

    Args:
        source: a Keras model, a `.keras` or `.h5` file, or `package.module:factory`; Keras 3, or Keras 2 (`tf_keras`).
        image_size: sizes along the spatial axes (and the channels), needed where the model leaves them open.
        factory_args: keyword arguments for the factory.
        safe_mode: refuse to run code stored inside a `.keras` file.

    Raises:
        LoadError: nothing loadable is there, or its input size is missing or contradicts `image_size`.
    """
    if keras.config.backend() != "tensorflow":
        raise LoadError(
            f"Keras runs on {keras.config.backend()}; SavedModels need TensorFlow: set KERAS_BACKEND=tensorflow. "
            "A .keras file trained on any backend loads there."
        )
    model: Any
    preprocess_input = None
    if not isinstance(source, str | Path):
        model, name = source, f"{type(source).__name__} {getattr(source, 'name', '')!r}"
    elif Path(source).suffix in FILE_SUFFIXES:
        model, name = _from_file(Path(source), safe_mode=safe_mode), Path(source).name
    elif ":" in str(source):
        model, preprocess_input = _from_factory(str(source), factory_args or {})
        name = str(source)
    else:
        raise LoadError(
            f"{source}: neither a {' or '.join(FILE_SUFFIXES[:2])} file nor package.module:factory. "
            "Name one of them, or pass a keras.Model object."
        )
    if not _is_model(model):
        raise LoadError(f"{name} gave a {type(model).__name__}, not a keras.Model.")
    inputs = find_inputs(model, image_size)
    if not is_built(model):
        # A subclassed model has no weights before its first call, and tracing must not create any.
        model(inputs.zeros(), training=False)
    return LoadedClassifier(model=model, source=name, inputs=inputs, preprocess_input=preprocess_input)


def _is_model(value: Any) -> bool:
    """Whether `value` is a model of Keras 3 or, where `tf_keras` was imported to make one, of Keras 2."""
    legacy = sys.modules.get("tf_keras")
    return isinstance(value, keras.Model) or (legacy is not None and isinstance(value, legacy.Model))


def _from_file(path: Path, *, safe_mode: bool) -> Any:
    if not path.is_file():
        raise LoadError(f"{path}: no such file.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=safe_mode)
    except _UNLOADABLE as error:
        message = f"{path}: Keras {keras.__version__} cannot load it: {_first_line(error)}"
        return _from_keras_2_file(path, message, error, safe_mode=safe_mode)


def _from_keras_2_file(path: Path, message: str, error: Exception, *, safe_mode: bool) -> Any:
    """Load with `tf_keras` what Keras 3 cannot; `error` is what it said."""
    try:
        legacy = importlib.import_module("tf_keras")
    except ModuleNotFoundError:
        raise LoadError(f"{message} (A file of Keras 2 needs tf_keras: pip install gradcam-export[keras2].)") from error
    try:
        return legacy.saving.load_model(path, compile=False, safe_mode=safe_mode)
    except _UNLOADABLE as second:
        raise LoadError(f"{message}; nor can Keras {legacy.__version__}: {_first_line(second)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def import_object(name: str) -> Any:
    """Return what `package.module:attribute` names.

    Raises:
        LoadError: the module or the attribute does not exist.
    """
    module_name, _, attribute = name.partition(":")
    # A console script, unlike `python -m`, does not see modules that lie in the working directory.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise LoadError(f"{name}: there is no module {error.name!r}.") from error
    except AttributeError as error:
        raise LoadError(f"{name}: module {module_name!r} has no {attribute!r}.") from error


def _from_factory(name: str, factory_args: Mapping[str, Any]) -> tuple[Any, Callable[[Any], Any] | None]:
    factory = import_object(name)
    if not callable(factory):
        raise LoadError(f"{name} is a {type(factory).__name__}, not something to call for a model.")
    try:
        model = factory(**factory_args)
    except (TypeError, ValueError) as error:
        raise LoadError(f"{name}: {error}") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # keras.utils.get_file (3.15) raises the bare class when a download fails.
        raise LoadError(
            f"{name}: its weights are not on this machine and could not be fetched ({error}). "
            "Give a .keras file, or --factory-arg weights=none for random weights."
        ) from error
    module = inspect.getmodule(factory)
    if module is None or not module.__name__.startswith("keras.src.applications"):
        return model, None
    return model, getattr(module, "preprocess_input", None)
