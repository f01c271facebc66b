"""What half precision saves: predictions and heatmap against Keras' own `model.export()` of the same classifier, bare.

Everything is measured in this one run on this one machine, the sides in turn, and reported as the median of the ratios
of each round. Names on the command line choose others of the networks that can be exported here:
python tests/benchmarks/precision.py MobileNetV2.
"""

import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import peers_networks
from benchmarks.measuring import batch, in_fresh_process, one_round, processor, run_task

STORAGES, PRECISIONS = ("variables", "constants"), ("float32", "bfloat16")
BATCHES = (1, 8)
WARM_UP, ROUNDS = 3, 31


def bare(network: str, directory: str) -> dict:
    """Export the classifier without explanation."""
    import keras

    keras.saving.load_model(network, compile=False).export(f"{directory}/1", verbose=False)
    return {"path": f"{directory}/1"}


def speed(paths: dict) -> dict:
    """Call all versions in turn; return the median ratios to the bare one, by side and batch size."""
    from gradcam_export.savedmodel.session import LoadedVersion

    sides = {side: (LoadedVersion.load(path), "serving_default") for side, path in paths.items()}
    ratios = {}
    for size in BATCHES:
        inputs = {side: batch(version, size) for side, (version, _) in sides.items()}
        for _ in range(WARM_UP):
            one_round(sides, inputs)
        rounds = [one_round(sides, inputs) for _ in range(ROUNDS)]
        for side in sides:
            ratios[f"{side} B={size}"] = statistics.median(times[side] / times["bare"] for times in rounds)
    return ratios


def measure(name: str, directory: Path) -> dict:
    """Measure one network in both storages and precisions."""
    in_fresh_process(peers_networks.__file__, "network", name, str(directory))
    paths = {"bare": in_fresh_process(__file__, "bare", f"{directory}/classifier.keras", f"{directory}/bare")["path"]}
    for weights, precision in itertools.product(STORAGES, PRECISIONS):
        exported = in_fresh_process(peers_networks.__file__, "export", name, str(directory), weights, precision)
        paths[f"{weights} {precision}"] = exported["path"]
    row = in_fresh_process(__file__, "speed", paths)
    size = {side: sum(f.stat().st_size for f in Path(path).rglob("*") if f.is_file()) for side, path in paths.items()}
    for weights in STORAGES:
        row[f"{weights} disk"] = size[f"{weights} bfloat16"] / size[f"{weights} float32"]
    return row


def main() -> None:
    """Measure the networks and print the table."""
    if run_task(globals()):
        return
    rows = {}
    for name in sys.argv[1:] or peers_networks.LAYERS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as directory:
            rows[name] = measure(name, Path(directory))
    print("\nPredictions and heatmap against model.export() of the bare classifier, B=1 / B=8 (1.00 = as fast)\n")
    print(f"{processor()}; load average {os.getloadavg()[0]:.1f}\n")
    print("| | weights | float32 | bfloat16 | disk, of float32 |\n" + "|---" * 5 + "|")
    for (name, row), weights in itertools.product(rows.items(), STORAGES):
        cells = [" / ".join(f"{row[f'{weights} {one} B={size}']:.2f}" for size in BATCHES) for one in PRECISIONS]
        print(f"| {name} | {weights} | " + " | ".join(cells) + f" | {row[f'{weights} disk']:.2f} |")


if __name__ == "__main__":
    main()
