"""How figures are taken: in processes of their own, the sides in turn."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class TaskError(Exception):
    """A measuring process ended without a figure; a killed one (-9) has met the end of the machine's memory."""


def resident() -> int:
    """Return this process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Return the most memory this process ever had resident, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> None:
    """Let `highest` count from here."""
    Path("/proc/self/clear_refs").write_text("5")


def highest() -> int:
    """Return the most memory this process had resident since `forget_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def processor() -> str:
    """Return how many processors there are, of which kind, and what they know of half precision."""
    facts = Path("/proc/cpuinfo").read_text()
    named = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
    cells = {key.strip(): value.strip() for key, value in named.items()}
    known = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in cells.get("flags", "").split()]
    return ", ".join((f"{os.cpu_count()} × {cells.get('model name', platform.machine())}", *known))


def batch(loaded, size: int) -> dict:
    """Return a batch for `serving_default`, whatever its input is called."""
    import numpy as np

    ((name, info),) = loaded.signatures["serving_default"].inputs.items()
    shape = [size, *(dim.size for dim in info.tensor_shape.dim[1:])]
    kind = np.uint8 if info.dtype == 4 else np.float32
    return {name: np.random.default_rng(0).integers(0, 256, shape).astype(kind)}


def one_round(sides: dict, inputs: dict) -> dict:
    """Return the seconds of one call of each side."""
    times = {}
    for side, (version, signature) in sides.items():
        start = time.perf_counter()
        version.run(signature, inputs[side])
        times[side] = time.perf_counter() - start
    return times


def in_fresh_process(file: str, task: str, *arguments: object) -> dict:
    """Run one of the functions of `file` in a process of its own."""
    command = [sys.executable, file, "--task", task, json.dumps(arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise TaskError(f"{task}{arguments} ended with {process.returncode}: {process.stderr[-1000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def run_task(tasks: dict) -> bool:
    """Do what `in_fresh_process` asked this process for, if it did."""
    if sys.argv[1:2] != ["--task"]:
        return False
    print(json.dumps(tasks[sys.argv[2]](*json.loads(sys.argv[3]))))
    return True
