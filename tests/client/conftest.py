from __future__ import annotations

import numpy as np
import pytest
from colour_server import Server
from gradcam_client import Client
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
def pictures(rng):
    """Ten pictures of different sizes."""
    return [Image.fromarray(rng.integers(0, 256, (9 + i, 30 - i, 3), dtype=np.uint8)) for i in range(10)]
