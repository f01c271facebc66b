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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE_SUFFIXES = (".keras", ".h5", ".hdf5")
DEFAULT_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class LoadedClassifier:
    """A built Keras model and what is known of its input."""

    model: keras.Model
    source: str
    """Where it came from, as the user named it."""
    input_shape: tuple[int, int, int]
    """`(H, W, C)`."""
    preprocess_input: Callable[[Any], Any] | None
    """What the factory's own module prescribes, for `keras.applications`."""

    def digest(self) -> str:
        """Return `sha256:…` over the names and values of all weights."""
        sha = hashlib.sha256()
        for variable in self.model.variables:
            sha.update(variable.path.encode())
            sha.update(np.ascontiguousarray(variable.value.numpy()).data)
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
        source: a Keras model, a `.keras` or `.h5` file, or `package.module:factory`.
        image_size: `(H, W)` or `(H, W, C)`, needed where the model leaves its input size open.
        factory_args: keyword arguments for the factory.
        safe_mode: refuse to run code stored inside a `.keras` file.

    Raises:
        LoadError: nothing loadable is there, or its input size is missing or contradicts `image_size`.
    """
    preprocess_input = None
    if isinstance(source, keras.Model):
        model, name = source, f"{type(source).__name__} {source.name!r}"
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
    if not isinstance(model, keras.Model):
        raise LoadError(f"{name} gave a {type(model).__name__}, not a keras.Model.")
    shape = _input_shape(model, image_size)
    if _known_input_shape(model) is None:
        # A subclassed model has no weights before its first call, and tracing must not create any.
        model(np.zeros((1, *shape), np.float32), training=False)
    return LoadedClassifier(model=model, source=name, input_shape=shape, preprocess_input=preprocess_input)


def _from_file(path: Path, *, safe_mode: bool) -> keras.Model:
    if not path.is_file():
        raise LoadError(f"{path}: no such file.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=safe_mode)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LoadError(f"{path}: Keras {keras.__version__} cannot load it: {reason}") from error


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


def _known_input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The model's own `(B, H, W, C)`, or `None` where it was never built."""
    try:
        shape = model.input_shape
    except AttributeError:
        shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if isinstance(shape, (list, dict)) and not all(isinstance(n, int | None) for n in shape):
        raise LoadError(f"{model.name!r} has {len(shape)} inputs; a classifier of one image is needed.")
    return None if shape is None else tuple(shape)


def _input_shape(model: keras.Model, image_size: tuple[int, ...] | None) -> tuple[int, int, int]:
    known = _known_input_shape(model) or (None, None, None, None)
    if len(known) != 4:
        raise LoadError(f"{model.name!r} takes an input of shape {known}; images [B,H,W,C] are needed.")
    asked = (*(image_size or (None, None)), None, None)[:3]
    height, width, channels = (own or wanted for own, wanted in zip(known[1:], asked, strict=True))
    for own, wanted in zip(known[1:], asked, strict=True):
        if own and wanted and own != wanted:
            size = "x".join(map(str, known[1:]))
            raise LoadError(f"{model.name!r} takes images of {size}, not {'x'.join(map(str, image_size or ()))}.")
    if not (height and width):
        raise LoadError(f"{model.name!r} leaves its image size open: say it with --image-size HxW (image_size=(H, W)).")
    return height, width, channels or DEFAULT_CHANNELS
