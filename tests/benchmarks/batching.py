"""What merging requests in the graph changes for one caller and for many.

`make bench` prints the table: ratios to `--batching none`, medians of rounds in which the sides take turns.
Run with a name of `keras.applications` to measure another: python tests/benchmarks/batching.py ResNet50.
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.measuring import batch

CALLERS = (1, 4, 8, 32)
TIMEOUTS = (0, 2000, 10000)
ROUNDS, SECONDS = 5, 4.0


def export(name: str, directory: Path) -> dict:
    """Export without merging, and with each timeout."""
    from conditioned import application
    from gradcam_export import export_classifier

    model, _ = application(name)
    sides = {"none": export_classifier(model, directory / "none", batching="none")}
    for timeout in TIMEOUTS:
        sides[timeout] = export_classifier(model, directory / str(timeout), batch_timeout_micros=timeout)
    return {side: published.path for side, published in sides.items()}


def load(version, inputs: dict, callers: int) -> tuple[float, float, float]:
    """Ask from that many threads; return answers a second, and the latency's median and 99th percentile."""
    latencies: list[float] = []
    end = time.perf_counter() + SECONDS

    def ask() -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            version.run("serving_default", inputs)
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    percentiles = statistics.quantiles(latencies, n=100)
    return len(latencies) / (time.perf_counter() - start), percentiles[49], percentiles[98]


def rows_a_batch(version, inputs: dict, callers: int) -> float:
    """Return how many rows were computed at once, on average."""
    from kernels import profiled

    with tempfile.TemporaryDirectory() as directory, profiled(Path(directory)) as kernels:
        rate, _, _ = load(version, inputs, callers)
    return rate * SECONDS / kernels.batches()


def main(name: str) -> None:
    """Print one row for each number of callers and timeout."""
    from gradcam_export.savedmodel.session import LoadedVersion

    with tempfile.TemporaryDirectory() as directory:
        sides = {side: LoadedVersion.load(path) for side, path in export(name, Path(directory)).items()}
        inputs = batch(sides["none"], 1)
        for version in sides.values():
            for size in (1, 2, 4, 8, 16):
                version.run("serving_default", batch(version, size))
        print(f"\n| {name}: callers | waiting | throughput | median latency | 99th percentile | rows a batch |")
        print("|---|---|---|---|---|---|")
        for callers in CALLERS:
            found: dict = {timeout: [] for timeout in TIMEOUTS}
            for _ in range(ROUNDS):
                plain = load(sides["none"], inputs, callers)
                for timeout in TIMEOUTS:
                    merged = load(sides[timeout], inputs, callers)
                    found[timeout].append([ours / theirs for ours, theirs in zip(merged, plain, strict=True)])
            for timeout in TIMEOUTS:
                figures = [statistics.median(column) for column in zip(*found[timeout], strict=True)]
                rows = rows_a_batch(sides[timeout], inputs, callers)
                shown = " | ".join(f"{figure:.2f}" for figure in figures)
                print(f"| {callers} | {timeout / 1000:g} ms | {shown} | {rows:.1f} |", flush=True)


if __name__ == "__main__":
    for architecture in sys.argv[1:] or ["MobileNetV2"]:
        main(architecture)
