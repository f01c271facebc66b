"""What an explained classifier costs against Keras' own `model.export()` of the same one without explanation.

`make bench` prints the tables. Everything is measured in this one run on this one machine, the sides in turn, and
reported as the median of the ratios of each round: seconds of another machine say nothing. Run with names of
`keras.applications` to measure others: python tests/benchmarks/bench.py ResNet50.
"""

import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import TaskError, batch, in_fresh_process, one_round, peak, resident, run_task

ARCHITECTURES = ("MobileNetV2", "ResNet50", "EfficientNetB0", "Xception", "VGG16")
PREPROCESSING = {"MobileNetV2": "tf", "Xception": "tf", "ResNet50": "caffe", "VGG16": "caffe"}
KINDS = ("bare", "variables", "constants")
BATCHES = (1, 8)
WARM_UP = 3
ROUNDS = (7, 41)
"""Fewest and most rounds of one network and batch size; as many as `SECONDS` allow."""
SECONDS = 25
LOADS = 3


def save_network(name: str, path: str) -> dict:
    """Write the conditioned network to `path`."""
    from conditioned import application

    model, _ = application(name)
    model.save(path)
    return {"weights": sum(variable.value.numpy().nbytes for variable in model.variables)}


def export(name: str, network: str, kind: str, directory: str) -> dict:
    """Export the network, and measure what it takes beyond the model itself."""
    import keras
    from gradcam_export import export_classifier

    model = keras.saving.load_model(network, compile=False)
    before, start = resident(), time.perf_counter()
    if kind == "bare":
        model.export(f"{directory}/1", verbose=False)
        return {"path": f"{directory}/1"}
    published = export_classifier(model, directory, weights=kind, preprocessing=PREPROCESSING.get(name))
    seconds, memory = time.perf_counter() - start, peak() - before
    return {
        "path": str(published.path),
        "seconds": seconds,
        "memory": memory,
        "nodes": count_nodes(model, name),
    }


def count_nodes(model, name: str) -> tuple[int, int]:
    """Return the graph's nodes before and after folding."""
    from gradcam_export.graph.explain import explain, make_choice
    from gradcam_export.graph.fold import fold
    from gradcam_export.graph.trace import classifier_of, trace
    from gradcam_export.keras_model.load import load_classifier
    from gradcam_export.options import ExportOptions

    options = ExportOptions(preprocessing=PREPROCESSING.get(name))
    traced = trace(classifier_of(load_classifier(model), options))
    return fold(explain(traced, make_choice(traced.forward, options))).nodes


def first_call(path: str) -> dict:
    """Load a version and call it once, in a process that has done nothing else with TensorFlow."""
    from gradcam_export.savedmodel.session import LoadedVersion

    before, start = resident(), time.perf_counter()
    loaded = LoadedVersion.load(path)
    loaded.run("serving_default", batch(loaded, 1))
    seconds, memory = time.perf_counter() - start, resident() - before
    return {"seconds": seconds, "memory": memory}


def speed(paths: dict) -> dict:
    """Call all versions in turn; return the median ratios of each batch size.

    A ratio is taken within a round, so that what else the machine does meets both sides alike.
    """
    from gradcam_export.savedmodel.session import LoadedVersion

    loaded = {kind: LoadedVersion.load(path) for kind, path in paths.items()}
    sides = {kind: (loaded[kind], "serving_default") for kind in paths}
    sides |= {f"{kind} predict": (loaded[kind], "predict") for kind in paths if kind != "bare"}
    ratios = {}
    for size in BATCHES:
        inputs = {side: batch(version, size) for side, (version, _) in sides.items()}
        for _ in range(WARM_UP):
            warm = one_round(sides, inputs)
        count = min(max(round(SECONDS / sum(warm.values())), ROUNDS[0]), ROUNDS[1])
        rounds = [one_round(sides, inputs) for _ in range(count)]
        for kind in paths.keys() - {"bare"}:
            ratios[f"{kind} B={size}"] = statistics.median(times[kind] / times["bare"] for times in rounds)
            ratios[f"{kind} heatmap B={size}"] = statistics.median(
                times[kind] / times[f"{kind} predict"] for times in rounds
            )
    return ratios


def measure(name: str, directory: Path) -> dict:
    """Measure one architecture."""
    network = str(directory / f"{name}.keras")
    weights = in_fresh_process(__file__, "save_network", name, network)["weights"]
    exports = {}
    for kind in KINDS:
        try:
            exports[kind] = in_fresh_process(__file__, "export", name, network, kind, f"{directory}/{name}_{kind}")
        except TaskError as failure:
            print(f"left out: {failure}", file=sys.stderr, flush=True)
    paths = {kind: export["path"] for kind, export in exports.items()}
    loads = {
        kind: [in_fresh_process(__file__, "first_call", path) for _ in range(LOADS)] for kind, path in paths.items()
    }
    size = {kind: sum(f.stat().st_size for f in Path(path).rglob("*") if f.is_file()) for kind, path in paths.items()}
    middle = {
        kind: {key: statistics.median(load[key] for load in runs) for key in ("seconds", "memory")}
        for kind, runs in loads.items()
    }
    row = {"nodes": exports["variables"]["nodes"], "export_seconds": exports["variables"]["seconds"]}
    row["export_memory"] = exports["variables"]["memory"] / weights
    row |= in_fresh_process(__file__, "speed", paths)
    for kind in paths.keys() - {"bare"}:
        row[f"{kind} load"] = middle[kind]["seconds"] / middle["bare"]["seconds"]
        row[f"{kind} memory"] = middle[kind]["memory"] / middle["bare"]["memory"]
        row[f"{kind} disk"] = size[kind] / size["bare"]
    return row


def mean(rows: list[dict], *columns: str) -> float:
    """Return the geometric mean over rows and columns."""
    return math.exp(statistics.fmean(math.log(row[column]) for row in rows for column in columns))


def report(rows: dict) -> None:
    """Print the tables."""
    print("\nPredictions and heatmap against model.export() of the bare classifier (1.00 = as fast, as large)\n")
    columns = ("B=1", "B=8", "load", "memory", "disk")
    for kind in KINDS[1:]:
        print(f"| {kind} | " + " | ".join(columns) + " | heatmap over predict, B=1 / B=8 |\n" + "|---" * 7 + "|")
        made = {name: row for name, row in rows.items() if f"{kind} B=1" in row}
        for name, row in made.items():
            cells = [f"{row[f'{kind} {column}']:.2f}" for column in columns]
            heat = " / ".join(f"{row[f'{kind} heatmap B={size}']:.3f}" for size in BATCHES)
            print(f"| {name} | " + " | ".join(cells) + f" | {heat} |")
        values = list(made.values())
        cells = [f"{mean(values, f'{kind} {column}'):.2f}" for column in columns]
        print("| geometric mean | " + " | ".join(cells) + " | |")
        print(f"\n{kind}, both batch sizes: {mean(values, f'{kind} B=1', f'{kind} B=8'):.3f}\n")
    print("| exporting | graph nodes before → after | seconds | peak memory / weights |\n|---|---|---|---|")
    for name, row in rows.items():
        before, after = row["nodes"]
        print(f"| {name} | {before} → {after} | {row['export_seconds']:.0f} | {row['export_memory']:.1f} |")


def main() -> None:
    """Measure all architectures and print the tables."""
    if run_task(globals()):
        return
    names = sys.argv[1:] or ARCHITECTURES
    with tempfile.TemporaryDirectory() as directory:
        rows = {}
        for name in names:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            rows[name] = measure(name, Path(directory))
            print(json.dumps(rows[name]), file=sys.stderr, flush=True)
    report(rows)


if __name__ == "__main__":
    main()
