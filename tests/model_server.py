"""A real `tensorflow_model_server`: from PATH, from its Docker image, or one that somebody else started."""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

import grpc
import pytest
from reloaded_server import addresses_told, reloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGE = "tensorflow/serving:2.20.0"
START_SECONDS = 120


class Addresses(NamedTuple):
    """Where a server answers, each as `"127.0.0.1:port"`."""

    grpc: str
    rest: str


def no_model_server() -> str:
    """Why there is none; empty if there is one."""
    if addresses_told() or shutil.which("tensorflow_model_server"):
        return ""
    if not shutil.which("docker"):
        return "neither tensorflow_model_server nor docker is on PATH"
    refusal = _refusal(["docker", "info"], seconds=10)
    return refusal and f"no tensorflow_model_server on PATH, and {refusal}"


@contextlib.contextmanager
def _told(base_path: Path, name: str) -> Iterator[Addresses]:
    """A server that somebody else started."""
    addresses = addresses_told()
    assert addresses is not None
    with reloaded(addresses, base_path, name):
        yield Addresses(*addresses)


def model_server() -> Callable[[Path, str], contextlib.AbstractContextManager[Addresses]]:
    """What serves the versions under a base path as a model of that name."""
    if addresses_told():
        return _told
    if shutil.which("tensorflow_model_server"):
        return _binary
    if refusal := _no_image():
        pytest.skip(f"no tensorflow_model_server on PATH, and {refusal}")
    return _docker


@functools.cache
def _no_image() -> str:
    return _refusal(["docker", "pull", "--quiet", IMAGE], seconds=600)


def _refusal(command: list[str], *, seconds: float) -> str:
    """Why `command` fails; empty if it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(command)}` does not answer in {seconds} s"
    return f"`{' '.join(command)}` fails: {done.stderr.strip()}" if done.returncode else ""


@contextlib.contextmanager
def _binary(base_path: Path, name: str) -> Iterator[Addresses]:
    addresses = Addresses(f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}")
    ports = [f"--port={addresses.grpc.split(':')[1]}", f"--rest_api_port={addresses.rest.split(':')[1]}"]
    flags = [*ports, f"--model_name={name}", f"--model_base_path={base_path}"]
    with subprocess.Popen(["tensorflow_model_server", *flags]) as process:
        try:
            _wait_until_open(addresses)
            yield addresses
        finally:
            process.terminate()


@contextlib.contextmanager
def _docker(base_path: Path, name: str) -> Iterator[Addresses]:
    addresses = Addresses(f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}")
    container = f"gradcam-test-{uuid.uuid4().hex[:12]}"
    ports = ["--publish", f"{addresses.grpc}:8500", "--publish", f"{addresses.rest}:8501"]
    where = [*ports, "--volume", f"{base_path.resolve()}:/models/{name}:ro"]
    what = ["--name", container, "--env", f"MODEL_NAME={name}", IMAGE]
    subprocess.run(["docker", "run", "--rm", "--detach", *where, *what], check=True, timeout=START_SECONDS)
    try:
        _wait_until_open(addresses)
        yield addresses
    finally:
        subprocess.run(["docker", "kill", container], check=True, capture_output=True, timeout=START_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_open(addresses: Addresses) -> None:
    """The stock server opens its ports once the models are available, that of REST last."""
    with grpc.insecure_channel(addresses.grpc) as channel:
        grpc.channel_ready_future(channel).result(START_SECONDS)
    host, port = addresses.rest.split(":")
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nothing answers at {addresses.rest}"
            time.sleep(0.1)
