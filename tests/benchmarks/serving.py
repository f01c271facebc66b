"""What the first request after AVAILABLE costs, and what is saved by asking for fewer outputs.

`make bench` prints both tables, each figure the median of runs in which the sides take turns. Run with names of
`keras.applications` to measure others: python tests/benchmarks/serving.py ResNet50.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

STARTS, REQUESTS, ROUNDS = 5, 40, 60
SIGNATURES = ("serving_default", "predict", "top_k")


def first_requests(name: str, base_path: Path, image) -> dict[str, float]:
    """Return what the first call of each signature costs in a server just started, in medians of further calls."""
    from gradcam_client import Client
    from server_process import ServerProcess

    ratios = {}
    with ServerProcess(base_path, base_path.parent / "log", name) as server, Client(server.grpc, model=name) as client:
        client.describe()  # connects, and reads what images shall look like
        for signature, ask in zip(SIGNATURES, (client.explain, client.predict, client.top_k), strict=True):
            seconds = []
            for _ in range(REQUESTS):
                start = time.perf_counter()
                ask(image)
                seconds.append(time.perf_counter() - start)
            ratios[signature] = seconds[0] / statistics.median(seconds[1:])
    return ratios


def print_first_requests(name: str, version: Path) -> None:
    """Print a row with warm-up requests and one without."""
    import numpy as np

    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    bases = {"with": version.parent, "without": version.parent.parent / "cold" / name}
    shutil.copytree(version, bases["without"] / "1")
    (bases["without"] / "1/assets.extra/tf_serving_warmup_requests").unlink()
    found = {side: [] for side in bases}
    for _ in range(STARTS):
        for side, base_path in bases.items():
            found[side].append(first_requests(name, base_path, image))
    for side, runs in found.items():
        figures = " | ".join(f"{statistics.median(run[key] for run in runs):.2f}" for key in SIGNATURES)
        print(f"| {name}, {side} warm-up | {figures} |", flush=True)


def print_filtered(name: str, versions: dict[str, Path]) -> None:
    """Print what `predictions` alone costs relative to all outputs, with requests merged and not."""
    from benchmarks.measuring import batch
    from gradcam_export.savedmodel.session import LoadedVersion

    for batching, path in versions.items():
        loaded = LoadedVersion.load(path)
        inputs = batch(loaded, 1)

        def ask(signature: str, *outputs: str, loaded=loaded, inputs=inputs) -> float:
            start = time.perf_counter()
            loaded.run(signature, inputs, outputs)
            return time.perf_counter() - start

        sides = {"all": ("serving_default",), "filtered": ("serving_default", "predictions"), "top": ("top_k",)}
        sides |= {"top filtered": ("top_k", "predictions")}
        times = [{side: ask(*asked) for side, asked in sides.items()} for _ in range(ROUNDS)]
        for whole, part in (("all", "filtered"), ("top", "top filtered")):
            ratio = statistics.median(one[part] / one[whole] for one in times[5:])
            print(f"| {name}, {batching} | {sides[whole][0]} | {ratio:.2f} |", flush=True)
        loaded.close()


def main(name: str) -> None:
    """Export twice, and print both tables' rows."""
    from conditioned import application
    from gradcam_export import export_classifier

    model, _ = application(name)
    with tempfile.TemporaryDirectory() as directory:
        versions = {
            batching: export_classifier(model, Path(directory, batching, name), batching=batching).path
            for batching in ("in-graph", "none")
        }
        print(f"\n| first request | {' | '.join(SIGNATURES)} |\n|---|---|---|---|")
        print_first_requests(name, versions["in-graph"])
        print("\n| only `predictions` | of | time |\n|---|---|---|")
        print_filtered(name, versions)


if __name__ == "__main__":
    for architecture in sys.argv[1:] or ["MobileNetV2"]:
        main(architecture)
