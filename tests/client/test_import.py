"""The client is light: it loads fast, brings nothing heavy, and shows exactly the names it means to."""

import subprocess
import sys

import gradcam_client
import pytest


def brings(module, heavy):
    code = f"import sys, {module}; print({heavy!r} in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return out.stdout == "True\n"


@pytest.mark.parametrize("heavy", ["tensorflow", "tensorflow_serving", "keras", "gradcam_export"])
@pytest.mark.parametrize("module", ["gradcam_client", "gradcam_client.cli"])
def test_importing_the_client_brings_nothing_heavy(module, heavy):
    assert not brings(module, heavy)


def test_the_check_can_fail():
    assert brings("json.tool", "json.tool")


def test_importing_the_client_brings_grpc_so_that_the_first_call_need_not():
    assert brings("gradcam_client", "grpc.aio")


def test_the_public_names_are_these():
    assert all(hasattr(gradcam_client, name) for name in gradcam_client.__all__)
    assert set(gradcam_client.__all__) == {
        "UNSET",
        "AsyncClient",
        "Client",
        "DeadlineExceeded",
        "Explanation",
        "GradcamError",
        "ImageError",
        "IncompatibleModel",
        "InvalidRequest",
        "MalformedAnswer",
        "Manifest",
        "ModelInput",
        "ModelNotFound",
        "OptionError",
        "Outcome",
        "Prediction",
        "ServerError",
        "ServerOverloaded",
        "ServerUnavailable",
        "SignatureNotFound",
        "Tls",
        "UnknownClass",
        "VersionStatus",
        "Visualization",
        "grid",
    }


def test_every_error_of_the_package_is_public():
    from gradcam_client import errors

    names = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert names <= set(gradcam_client.__all__)
    assert all(issubclass(getattr(errors, name), errors.GradcamError) for name in names)
    assert all(name in errors.__doc__ for name in names)
