from __future__ import annotations

import numpy as np
import pytest
from colour_server import Server
from gradcam_client import Client


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def client(server):
    with Client(server.target, model="colours") as opened:
        yield opened


@pytest.fixture
def rng():
    return np.random.default_rng(7)
