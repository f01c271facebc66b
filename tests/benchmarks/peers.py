"""Grad-CAM by the served version, by the recipe of keras.io, and by the libraries that explain Keras models.

`make bench-peers` prints the tables. Every tool gets the same images of the same network, in a process of its own, the
tools in turn: a ratio is the median of those of each round. A tool that does not run is a row with its error.
To measure one network alone: python tests/benchmarks/peers.py --network MobileNetV2.
"""

import argparse
import datetime as dt
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import peers_networks, peers_tools
from benchmarks.measuring import TaskError, in_fresh_process, processor

BATCHES = (1, 8)
WORK = tuple(itertools.product(peers_tools.JOBS, BATCHES))
KINDS = (("constants", "float32"), ("constants", "bfloat16"), ("variables", "float32"), ("variables", "bfloat16"))
OURS = {f"served, {weights}, {precision}": (weights, precision) for weights, precision in KINDS}
BASES = tuple(OURS)[:2]
"""What the tables compare the tools with."""
HEADERS = (
    "version",
    "ms to answer, an image, " + " / ".join(f"B={size}" for size in BATCHES),
    *(f"{job}, over {base}" for job in peers_tools.JOBS for base in BASES),
    "memory, MB",
    "off the formula by",
)
WARM_UP, ROUNDS = 2, 9


class Tool:
    """A process that explains whenever it is told to."""

    def __init__(self, *arguments: str, log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, peers_tools.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def answer(self) -> dict:
        """Return what it says next."""
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            raise TaskError(said[-1].strip() if said else f"ended with {self._process.returncode}")
        return json.loads(line)

    def seconds(self, job: str, size: int) -> float:
        """Let it do its job for so many images, and return how long it took."""
        self._process.stdin.write(f"{job} {size}\n")
        self._process.stdin.flush()
        return self.answer()["seconds"]

    def end(self) -> dict:
        """Return what it says at its end."""
        self._process.stdin.close()
        facts = self.answer()
        self._process.wait()
        return facts

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


def start(name: str, directory: Path) -> tuple[dict[str, Tool], dict[str, dict]]:
    """Start every tool; return those that run, and what is known of each."""
    tools, rows = {}, {}
    for label in (*OURS, *(tool for tool in peers_tools.TOOLS if tool != peers_tools.SERVED)):
        print(f"{name}: starting {label} …", file=sys.stderr, flush=True)
        kind, path = label, ""
        try:
            if label in OURS:
                kind = peers_tools.SERVED
                made = in_fresh_process(peers_networks.__file__, "export", name, str(directory), *OURS[label])
                path = made["path"]
            layer = peers_networks.LAYERS[name]
            tool = Tool(kind, str(directory), layer, path, log=directory / f"{label}.log")
            rows[label] = tool.answer()
            for job, size in WORK * WARM_UP:
                tool.seconds(job, size)
            tools[label] = tool
        except TaskError as failure:
            rows[label] = {"error": str(failure).strip().splitlines()[-1]}
    return tools, rows


def measure(name: str, directory: Path, rounds: int) -> dict[str, dict]:
    """Return what was measured of each tool on one network."""
    directory.mkdir()
    in_fresh_process(peers_networks.__file__, "network", name, str(directory))
    tools, rows = start(name, directory)
    try:
        for job, size in WORK:
            print(f"{name}: {rounds} rounds of {job} {size} …", file=sys.stderr, flush=True)
            times = [{label: tool.seconds(job, size) for label, tool in tools.items()} for _ in range(rounds)]
            for label in tools:
                rows[label][f"seconds {job} {size}"] = statistics.median(taken[label] for taken in times) / size
                for base in (base for base in BASES if base in tools):
                    ratios = [taken[label] / taken[base] for taken in times]
                    rows[label][f"{base} {job} {size}"] = statistics.median(ratios)
        for label, tool in tools.items():
            rows[label] |= tool.end()
    finally:
        for tool in tools.values():
            tool.stop()
    return rows


def _both(row: dict, compared: str) -> str:
    ratios = [row.get(f"{compared} {size}") for size in BATCHES]
    return "–" if None in ratios else " / ".join(f"{ratio:.1f}" for ratio in ratios)


def cells(row: dict) -> list[str]:
    """Return a tool's row of the table, but for its name."""
    if "error" in row:
        said = row["error"].replace("|", "¦")[:200]
        return [*["–"] * (len(HEADERS) - 1), f"does not run: {said}"]
    times = " / ".join(f"{1000 * row[f'seconds {peers_tools.ANSWER} {size}']:.0f}" for size in BATCHES)
    ratios = [_both(row, f"{base} {job}") for job in peers_tools.JOBS for base in BASES]
    wrong = "; ".join(f"{value:.2g} {name}".strip() for name, value in row["differences"].items())
    return [row["version"], times, *ratios, f"{row['memory'] / 2**20:.0f}", wrong]


def fastest(rows: dict[str, dict], base: str) -> str:
    """Say how many times as long as one of ours the fastest of the others takes, and the recipe."""
    run = {label: row for label, row in rows.items() if label not in OURS and f"{base} {peers_tools.ANSWER} 1" in row}
    if not run:
        return f"{base}: nothing to compare"
    said = []
    for job, size in WORK:
        label = min(run, key=lambda tool: run[tool][f"{base} {job} {size}"])
        said.append(f"{job} B={size}: {label}, the fastest of the others, {run[label][f'{base} {job} {size}']:.1f}")
        if "keras.io recipe" in run:
            said.append(f"keras.io recipe {run['keras.io recipe'][f'{base} {job} {size}']:.1f}")
    return f"times as long as {base}: {'; '.join(said)}"


def report(name: str, rows: dict[str, dict]) -> None:
    """Print the table of one network."""
    print(f"\n| {name} | " + " | ".join(HEADERS) + " |\n|" + "---|" * (len(HEADERS) + 1))
    for label, row in rows.items():
        print(f"| {label} | " + " | ".join(cells(row)) + " |")
    print()
    for base in BASES:
        print(f"- {fastest(rows, base)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = tuple(peers_networks.LAYERS)
    parser.add_argument("--network", action="append", choices=names, help="may be repeated; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in asked.network or names:
            found[name] = measure(name, Path(directory, name), asked.rounds)
            print(json.dumps(found[name]), file=sys.stderr, flush=True)
    print(
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {processor()}, Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}, Keras {version('keras')}, numpy {version('numpy')}"
    )
    for name, rows in found.items():
        report(name, rows)


if __name__ == "__main__":
    main()
