"""What a heatmap costs beside `predict` on a GPU, and how far it is from the CPU's: `make bench-gpu`.

The published version runs in the server's runtime where TensorFlow sees a GPU; else the same graph, lowered to
StableHLO, is compiled by the XLA of JAX where that sees one. Without either it says so and ends with exit code 2;
`--device cpu` tries the measurement itself. Where TensorFlow and the GPU are on two machines: `--lower DIR` here,
`--run DIR` there, which needs numpy and JAX alone.
"""

import argparse
import datetime as dt
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from benchmarks import gpu_xla
from benchmarks.measuring import in_fresh_process, processor, run_task

PREPROCESSING = {"ResNet50": "caffe", "MobileNetV2": "tf"}
BATCHES = (1, 8, 32, 128)
SIGNATURES = ("predict", "explain")
WARM_UP, ROUNDS = 3, 15
NO_GPU = 2
"""Exit code where there is nothing to measure on."""

Ask = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def requests(count: int) -> dict[str, np.ndarray]:
    """Return images from coarse to fine, and for each the class that is predicted."""
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (count, 7, 7, 3)).repeat(32, axis=1).repeat(32, axis=2)
    images = ((random.integers(0, 256, coarse.shape) + 3 * coarse) // 4).astype(np.uint8)
    return {"images": images, "class_index": np.full(count, -1, np.int32)}


def prepare(name: str, directory: str, sizes: list[int], xla: bool) -> dict:
    """Publish the conditioned network and write what the CPU answers; for XLA, its graph at each batch size too."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    from conditioned import application
    from gradcam_export import export_classifier
    from gradcam_export.savedmodel.session import LoadedVersion

    model, _ = application(name)
    asked = {"preprocessing": PREPROCESSING[name], "batching": "none", "max_image_bytes": 0}
    path = export_classifier(model, f"{directory}/{name}", **asked).path
    given = requests(max(sizes))
    rows = range(len(given["images"]))
    with LoadedVersion.load(path) as loaded:
        answers = [loaded.run("explain", {key: value[row : row + 1] for key, value in given.items()}) for row in rows]
    expected = {key: np.concatenate([one[key] for one in answers]) for key in gpu_xla.EXPLAINED}
    np.savez(f"{directory}/{name}.npz", **given, **{f"cpu/{key}": value for key, value in expected.items()})
    if xla:
        gpu_xla.lower(model, asked, Path(directory, name), sizes)
    return {"path": str(path)}


def served(path: str, device: str) -> Ask:
    """Return what runs a signature of the version in the server's runtime."""
    import tensorflow as tf

    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    from gradcam_export.savedmodel.session import LoadedVersion

    return LoadedVersion.load(path).run


def measure(name: str, directory: str, sizes: list[int], runtime: str, device: str) -> dict:
    """Return for each batch size the seconds of both signatures, their ratio, and how far heatmaps are off."""
    given = dict(np.load(f"{directory}/{name}.npz"))
    expected = {key: given.pop(f"cpu/{key}") for key in gpu_xla.EXPLAINED}
    versions = Path(directory, name)
    ask = gpu_xla.compiled(versions, device) if runtime == "xla" else served(str(versions / "1"), device)
    return {size: _measured(ask, given, expected, size) for size in sizes}


def _measured(ask: Ask, given: Mapping, expected: Mapping, size: int) -> dict:
    explain = {key: value[:size] for key, value in given.items()}
    inputs = {"predict": {"images": explain["images"]}, "explain": explain}

    def timed(signature: str) -> float:
        start = time.perf_counter()
        ask(signature, inputs[signature])
        return time.perf_counter() - start

    for _ in range(WARM_UP):
        found = ask("explain", explain)
        timed("predict")
    rounds = [{signature: timed(signature) for signature in SIGNATURES} for _ in range(ROUNDS)]
    off = np.abs(found["heatmap"] - expected["heatmap"][:size]).reshape(size, -1).max(axis=1)
    return {
        **{signature: statistics.median(one[signature] for one in rounds) for signature in SIGNATURES},
        "ratio": statistics.median(one["explain"] / one["predict"] for one in rounds),
        "other": int(np.count_nonzero(found["class_index"] != expected["class_index"][:size])),
        "off": [float(np.median(off)), float(off.max())],
    }


def gpu_of_tensorflow() -> dict:
    """Return the GPU that TensorFlow sees."""
    try:
        import tensorflow as tf
    except ImportError:
        return {"name": None}
    found = tf.config.list_physical_devices("GPU")
    return {"name": tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU") if found else None}


def runtime_for(device: str, asked: str | None) -> tuple[str, str] | None:
    """Return the runtime and what it runs on; nothing where there is no GPU."""
    if device == "cpu":
        return asked or "tensorflow", processor()
    if asked != "xla" and (name := in_fresh_process(__file__, "gpu_of_tensorflow")["name"]):
        return "tensorflow", name
    if asked != "tensorflow" and (name := in_fresh_process(__file__, "gpu_of_jax")["name"]):
        return "xla", name
    return None


def gpu_of_jax() -> dict:
    """Return the GPU that JAX sees."""
    return {"name": gpu_xla.gpu()}


def report(name: str, rows: Mapping) -> None:
    """Print the table of one network."""
    print(f"\n| {name} | predict, ms | explain, ms | explain over predict | heatmap off the CPU's, median / most |")
    print("|---|---|---|---|---|")
    for size, row in rows.items():
        times = " | ".join(f"{1000 * row[signature]:.2f}" for signature in SIGNATURES)
        off = " / ".join(f"{value:.1g}" for value in row["off"])
        other = f"; {row['other']} of another class" if row["other"] else ""
        print(f"| B={size} | {times} | {row['ratio']:.3f} | {off}{other} |")


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=PREPROCESSING, help="may be repeated; default: all")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--runtime", choices=("tensorflow", "xla"), help="default: the first that sees a GPU")
    parser.add_argument("--sizes", type=int, nargs="+", default=BATCHES, metavar="B")
    halves = parser.add_mutually_exclusive_group()
    halves.add_argument("--lower", metavar="DIR", help="only write there what --run needs")
    halves.add_argument("--run", metavar="DIR", help="measure what --lower wrote there, with XLA")
    return parser.parse_args()


def main() -> int:
    """Measure and print; return the exit code."""
    if run_task(globals()):
        return 0
    asked = arguments()
    if asked.lower:
        for name in asked.network or PREPROCESSING:
            in_fresh_process(__file__, "prepare", name, asked.lower, asked.sizes, True)
        return 0
    found = runtime_for(asked.device, "xla" if asked.run else asked.runtime)
    if found is None:
        print("no GPU: neither TensorFlow nor JAX sees one here; --device cpu tries the measurement", file=sys.stderr)
        return NO_GPU
    runtime, place = found
    print(f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {place}, {runtime}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as workspace:
        directory = asked.run or workspace
        for name in asked.network or PREPROCESSING:
            if not asked.run:
                in_fresh_process(__file__, "prepare", name, directory, asked.sizes, runtime == "xla")
            rows = in_fresh_process(__file__, "measure", name, directory, asked.sizes, runtime, asked.device)
            print(json.dumps({name: rows}), file=sys.stderr, flush=True)
            report(name, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
