"""The graph of a version without its strings and assertions, lowered by TensorFlow and compiled by the XLA of JAX."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

PREDICTED = ("predictions", "class_index", "score")
EXPLAINED = (*PREDICTED, "heatmap", "heatmap_peak")
OUTPUTS = {"predict": PREDICTED, "explain": EXPLAINED}
WEIGHTS = "weights.npz"


def lower(model, asked: Mapping, folder: Path, sizes: list[int]) -> None:
    """Write the folded graph of the model at each batch size, as StableHLO, and its weights, to `folder`."""
    import tensorflow as tf
    from gradcam_export.graph.core import FoldedCore
    from gradcam_export.graph.explain import explain, make_choice
    from gradcam_export.graph.fold import fold
    from gradcam_export.graph.trace import classifier_of, trace
    from gradcam_export.keras_model.load import load_classifier
    from gradcam_export.options import ExportOptions

    options = ExportOptions(**asked)
    classifier = classifier_of(load_classifier(model), options)
    traced = trace(classifier)
    choice = make_choice(traced.forward, options)
    folded = fold(explain(traced, choice))
    core = FoldedCore(folded, choice, classifier.inputs.main, options.chunk)
    weights = [tf.constant(value) for value in folded.weights.values()]
    np.savez(folder / WEIGHTS, **{str(place): value.numpy() for place, value in enumerate(weights)})

    def predict(images, class_index, *weights):
        return core.predict(weights, {"images": images, "class_index": class_index})

    def explained(images, class_index, *weights):
        return core.explain(weights, {"images": images, "class_index": class_index}, method=options.methods[0])

    height, width, channels = classifier.inputs.main.shape
    for signature, body in (("predict", predict), ("explain", explained)):
        for size in sizes:
            given = (tf.zeros([size, height, width, channels], tf.uint8), tf.zeros([size], tf.int32), *weights)
            _write(folder / f"{signature}-{size}", _ordered(body, OUTPUTS[signature]), given)


def _ordered(body: Callable, names: tuple) -> Callable:
    def run(*given):
        answer = body(*given)
        return tuple(answer[name] for name in names)

    return run


def _write(stem: Path, body: Callable, given: tuple) -> None:
    import tensorflow as tf

    function = tf.function(body, jit_compile=True, autograph=False)
    stem.with_suffix(".stablehlo").write_bytes(
        function.experimental_get_compiler_ir(*given)(stage="stablehlo_serialized")
    )
    outputs = [(one.shape.as_list(), one.dtype.name) for one in function.get_concrete_function(*given).outputs]
    stem.with_suffix(".json").write_text(json.dumps(outputs))


def gpu() -> str | None:
    """Return the GPU that JAX sees."""
    try:
        import jax

        return jax.devices("gpu")[0].device_kind
    except (ImportError, RuntimeError):
        return None


def compiled(folder: Path, device: str) -> Callable[[str, Mapping], dict]:
    """Return what runs a signature at one of the batch sizes that `lower` wrote, its weights on the device."""
    import jax

    place = jax.devices(device)[0]
    with np.load(folder / WEIGHTS) as stored:
        weights = [jax.device_put(stored[str(index)], place) for index in range(len(stored.files))]
    programs: dict = {}

    def run(signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = inputs["images"]
        classes = inputs.get("class_index", np.full(len(images), -1, np.int32))
        given = [jax.device_put(value, place) for value in (images, classes)]
        if (signature, len(images)) not in programs:
            program = _program(folder / f"{signature}-{len(images)}", [*given, *weights], device)
            programs[signature, len(images)] = program
        answer = programs[signature, len(images)](*given, *weights)
        return {name: np.asarray(value) for name, value in zip(OUTPUTS[signature], answer, strict=True)}

    return run


def _program(stem: Path, given: list, device: str) -> Callable:
    """Return a compiled program: JAX reads one through what it exports itself, so a stand-in lends its description."""
    import jax

    outputs = json.loads(stem.with_suffix(".json").read_text())
    stand_in = jax.jit(lambda *_: tuple(jax.numpy.zeros(*output) for output in outputs), keep_unused=True)
    platform = {"gpu": "cuda"}.get(device, device)
    exported = jax.export.export(stand_in, platforms=[platform])(*given)
    lowered = stem.with_suffix(".stablehlo").read_bytes()
    return jax.jit(dataclasses.replace(exported, mlir_module_serialized=lowered).call)
