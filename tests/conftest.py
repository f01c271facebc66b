"""What holds for all tests."""

import importlib.util

import pytest
from hypothesis import settings

# A slow moment of the machine is no fault of the code: no test asserts seconds, those of hypothesis included.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items):
    """Begin with what takes minutes, or one worker would end long after the other."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def exports_are_verified_here():
    """Spare a small export the start of another process, where there is an exporter at all."""
    if importlib.util.find_spec("gradcam_export") is None:
        yield
        return
    from verification import verified_here

    with verified_here():
        yield


@pytest.fixture
def fresh_process():
    """Verify in a process of its own, as users do."""
    from verification import verified_in_fresh_process

    with verified_in_fresh_process():
        yield
