"""What an export says of itself: the manifest, filled in."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from gradcam_export.errors import OptionError
from gradcam_export.manifest import Manifest
from gradcam_export.methods import METHODS
from gradcam_export.module import OVERLAY_ALPHA, OVERLAY_COLORMAP

if TYPE_CHECKING:
    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.trace import Classifier
    from gradcam_export.keras_model.inputs import ModelInput
    from gradcam_export.keras_model.load import LoadedClassifier
    from gradcam_export.options import ExportOptions

_ELSEWHERE = (
    "Elsewhere it is slower than float32, or oneDNN refuses it: then the warm-up requests fail, and the version does "
    "not load."
)
_PROCESSORS = {
    "float32": "",
    "bfloat16": (
        "Fast with instructions for bfloat16 (x86: AMX-BF16; Arm: BF16). With AVX512-BF16 alone it may be slower than "
        f"float32: measure. {_ELSEWHERE}"
    ),
    "float16": f"Fast with instructions for float16 (x86: AVX512-FP16, AMX-FP16; GPUs). {_ELSEWHERE}",
}
"""By precision, what it asks of a processor (TensorFlow 2.20)."""
COLOR_ORDERS = {1: "grey", 3: "rgb"}


def describe_export(
    name: str,
    options: ExportOptions,
    loaded: LoadedClassifier,
    classifier: Classifier,
    choice: Choice,
    labels: tuple[str, ...],
    ops: list[str],
) -> Manifest:
    """Return the manifest of an export that is not verified yet."""
    main = loaded.inputs.main
    return Manifest(
        model={
            "name": name,
            "source": loaded.source,
            "digest": loaded.digest(),
            "created": _now().isoformat(timespec="seconds"),
        },
        input=_facts_of(main)
        | {
            "color_order": COLOR_ORDERS[main.shape[-1]] if main.is_image else None,
            "resize": "bilinear" if main.is_image else None,
            "preprocessing": classifier.preprocessing.name,
            "encoded": loaded.inputs.takes_pictures and options.max_image_bytes > 0,
        },
        more_inputs=[_facts_of(one) for one in loaded.inputs if one is not main],
        labels=list(labels),
        explanation=_explanation(choice, options.output),
        overlay={"colormap": OVERLAY_COLORMAP, "alpha": OVERLAY_ALPHA},
        weights=options.weights,
        precision=options.precision,
        processor=_PROCESSORS[options.precision],
        batching=_batching(options, choice),
        versions={
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "exporter": installed_version("gradcam-export"),
        },
        ops=ops,
        verified={},
    )


def _now() -> datetime:
    """Return the time, or what SOURCE_DATE_EPOCH says (reproducible-builds.org): seconds since 1970, UTC."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return datetime.now(UTC) if told is None else datetime.fromtimestamp(int(told), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise OptionError(f"SOURCE_DATE_EPOCH must be seconds since 1970, a whole number; got {told!r}.") from error


def _explanation(choice: Choice, output: str | None) -> dict[str, Any]:
    return {
        "method": choice.methods[0],
        "layer": choice.target.feature_map.name,
        "grid": list(choice.layout.grid),
        "score": choice.score,
        "methods": list(choice.methods),
        "top_k": choice.top_k,
        "output": output,
    }


def _batching(options: ExportOptions, choice: Choice) -> dict[str, Any]:
    return {
        "mode": options.batching,
        "max_batch_size": None if options.batching == "none" else options.max_batch_size,
        "allowed_batch_sizes": list(options.batch_sizes),
        "timeout_micros": options.batch_timeout_micros,
        "threads": options.batch_threads,
        "methods": [method for method in choice.methods if not METHODS[method].alters],
    }


def _facts_of(one: ModelInput) -> dict[str, Any]:
    return {"name": one.name, "shape": list(one.shape), "dtype": one.dtype}
