"""`gradcam-export serve` as a process of its own: it can be killed, and what it takes can be measured."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:
    from pathlib import Path


class Taken(NamedTuple):
    """What a process has taken of the machine."""

    memory: int
    """Resident bytes."""
    threads: int
    files: int


class ServerProcess:
    """Serves a base path as a model, on the same ports after each start; a context manager ends it."""

    def __init__(self, base_path: Path, log: Path, model: str = "tiny") -> None:
        self._base_path, self._log, self._model = base_path, log, model
        self.port, self.rest_port = 0, 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["--model-name", self._model, "--port", str(self.port), "--rest-port", str(self.rest_port)]
        command = [sys.executable, "-m", "gradcam_export.cli", "serve", str(self._base_path), *options]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        lines = [self._process.stdout.readline() for _ in range(2)]
        assert all(lines), self.log()
        self.port = int(lines[0].rpartition(":")[2])
        self.rest_port = int(lines[1].split("/")[2].rpartition(":")[2])
        self._measured = psutil.Process(self._process.pid)

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def rest(self) -> str:
        return f"127.0.0.1:{self.rest_port}"

    def taken(self) -> Taken:
        """What it has taken now; fails where it has ended."""
        assert self._process.poll() is None, f"ended with {self._process.returncode}: {self.log()[-2000:]}"
        with self._measured.oneshot():
            return Taken(self._measured.memory_info().rss, self._measured.num_threads(), self._measured.num_fds())

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.kill()
