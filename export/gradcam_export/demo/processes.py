"""The embedded server and the client, each in a process of its own, as users run them."""

import contextlib
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gradcam_export.demo.answers import Answer
from gradcam_export.errors import DemoError

START_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0
CALL_LIMIT_S = 120
"""For one call of the client: a large classifier of the user's takes its time on a laptop."""

_CLIENT = "gradcam_client"
_READY = re.compile(r"^serving .+ on (\S+:\d+)\n", re.MULTILINE)
_POLL_S = 0.1


def require_client() -> None:
    """Ask for the client before minutes are spent that need it.

    Raises:
        DemoError: the client is not installed in this environment.
    """
    if importlib.util.find_spec(_CLIENT) is None:
        raise DemoError(
            "The demo asks its server through gradcam-client, which is not installed here: pip install gradcam-client."
        )


@contextlib.contextmanager
def serving(base_path: Path, log: Path, *, start_limit_s: float = START_LIMIT_S) -> Iterator[str]:
    """Serve the model at `base_path` on a free port of this machine while the block runs.

    Args:
        base_path: where the model's versions lie; its last part is the model's name.
        log: file for what the server says.
        start_limit_s: how long it may take to come up, seconds.

    Yields:
        `host:port`.

    Raises:
        DemoError: the server ended, or did not come up in time.
    """
    # Unbuffered, so that the line with the port is in the file when it is said.
    command = [sys.executable, "-u", "-m", "gradcam_export.cli", "serve", str(base_path), "--port", "0"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            yield _wait_until_ready(server, log, start_limit_s)
        finally:
            server.terminate()
            try:
                server.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_until_ready(server: subprocess.Popen[bytes], log: Path, limit_s: float) -> str:
    deadline = time.monotonic() + limit_s
    while True:
        ended = server.poll() is not None
        if ready := _READY.search(log.read_text("utf-8", "replace")):
            return ready[1]
        if ended:
            raise DemoError(f"The server ended before it served: {_last_line(log.read_bytes())} (all of it: {log})")
        if time.monotonic() > deadline:
            raise DemoError(f"The server did not come up within {limit_s:g} s; what it said is in {log}.")
        time.sleep(_POLL_S)


def explain_folder(images: Path, address: str, model: str, *, overlays: Path, report: Path) -> list[Answer]:
    """Explain every image of a folder over gRPC.

    Args:
        images: the folder.
        address: `host:port` of the server.
        model: the name that the model is served under.
        overlays: folder for the overlays and the heatmaps.
        report: file for the HTML report.

    Raises:
        DemoError: the client failed, or could not explain each of the images.
    """
    command = [sys.executable, "-m", f"{_CLIENT}.cli", "explain", str(images.resolve()), "--json"]
    command += ["--server", address, "--model", model, "--timeout", str(CALL_LIMIT_S)]
    command += ["--out", str(overlays), "--report", str(report)]
    run = subprocess.run(command, capture_output=True, check=False)
    if run.returncode != 0:
        raise DemoError(f"The client could not explain all of {images}: {_last_line(run.stderr)}")
    return [Answer.from_json(line) for line in run.stdout.decode().splitlines()]


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
