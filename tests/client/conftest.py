from __future__ import annotations

import shutil
import subprocess

import grpc
import numpy as np
import pytest
from colour_server import Server
from command_runs import where
from gradcam_client import Client
from gradcam_client.cli import main
from in_memory import encoded
from on_a_loop import ClientOnALoop
from PIL import Image


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture(params=[Client, ClientOnALoop], ids=["sync", "async"])
def connect(request):
    """Makes a client, of each kind in turn."""
    return request.param


@pytest.fixture
def client(server, connect):
    with connect(server.target, model="colours") as opened:
        yield opened


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def picture(rng):
    return Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))


@pytest.fixture
def pictures(rng):
    """Ten pictures of different sizes."""
    return [Image.fromarray(rng.integers(0, 256, (9 + i, 30 - i, 3), dtype=np.uint8)) for i in range(10)]


@pytest.fixture
def files(pictures):
    """The pictures as PNG files."""
    return [encoded(picture) for picture in pictures]


@pytest.fixture
def folder(tmp_path, pictures):
    """Forty pictures."""
    found = tmp_path / "pictures"
    found.mkdir()
    for number in range(40):
        pictures[number % 10].save(found / f"p{number:02}.png")
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(server, capsys):
    def run(verb, *arguments):
        code = main([verb, *map(str, arguments), *where(server)])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """`ca.pem`, and `server` and `client` of it, each a `.pem` and a `.key`; `stranger.pem` vouches for none."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to make certificates")
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "stranger"):
        openssl(folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed_by, "-out", f"{name}.pem")
    return folder


@pytest.fixture
def secure(certificates):
    """Start a server that shows its certificate, and may ask for the caller's."""
    running = []

    def start(*, mutual):
        own = [((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())]
        ca = (certificates / "ca.pem").read_bytes() if mutual else None
        credentials = grpc.ssl_server_credentials(own, ca, require_client_auth=mutual)
        running.append(Server("localhost:0", credentials))
        return running[-1].target

    yield start
    for server in running:
        server.stop()
