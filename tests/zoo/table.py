"""Print what the zoo proves as a Markdown table: one row a family, the largest differences found."""

import multiprocessing
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from verification import verified_here

from zoo import all_cases
from zoo.case import Case, Difference, check

HEADER = "| family | models | layer (grid) | predictions differ by | heatmaps differ by |\n|---|---|---|---|---|"


def measure(name: str) -> Difference:
    """Check one case in this process."""
    with tempfile.TemporaryDirectory() as directory, verified_here():
        return check(all_cases()[name], Path(directory))


@contextmanager
def process_for(cases: Sequence[Case]) -> Iterator[Executor]:
    """Give a process that takes one case after the other; a fresh one for each where they are large."""
    # The largest networks need what the ones before them would still hold.
    each = 1 if any(case.large for case in cases) else None
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=each) as pool:
        yield pool


def distinct(values: Iterable[str]) -> str:
    """Join `values`, each once, in their order."""
    return ", ".join(dict.fromkeys(values))


def row(family: str, measured: Sequence[tuple[Case, Difference]]) -> str:
    """Return one family's row."""
    models = distinct(case.name for case, _ in measured)
    layers = distinct(f"`{found.layer}` ({'×'.join(map(str, found.grid))})" for _, found in measured)
    predictions, heatmap = (max(getattr(found, name) for _, found in measured) for name in ("predictions", "heatmap"))
    return f"| {family} | {models} | {layers} | {predictions:.0e} | {heatmap:.0e} |"


def main(families: Sequence[str]) -> int:
    """Measure all cases, or those of `families`; return the exit status."""
    cases = [case for case in all_cases().values() if not families or case.family in families]
    families_of: dict[str, list[Case]] = {}
    for case in cases:
        families_of.setdefault(case.family, []).append(case)
    measured: dict[str, list[tuple[Case, Difference]]] = {}
    failures = 0
    for family, members in families_of.items():
        with process_for(members) as pool:
            for case in members:
                print(f"{family}: {case.name}", file=sys.stderr, flush=True)
                try:
                    measured.setdefault(family, []).append((case, pool.submit(measure, case.name).result()))
                except Exception as error:  # noqa: BLE001  one classifier's failure is a result, whatever it is
                    failures += 1
                    print(f"{case.name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    print(HEADER)
    for family, results in measured.items():
        if results:
            print(row(family, results))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
