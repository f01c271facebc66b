"""What `make tls` writes is what the stock server reads, and lets in exactly who has a certificate."""

from __future__ import annotations

import concurrent.futures
import os
import stat
import subprocess
import sys

import deployment
import grpc
import pytest
from cryptography import x509
from deployment import CONFIG

ROOT = CONFIG.parent
FILES = {"ca.pem", "server.pem", "server.key", "client.pem", "client.key", "ssl.pbtxt"}


def make(directory, *arguments: str):
    command = [sys.executable, str(CONFIG / "make_tls.py"), str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(directory))
    return directory


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tls") / "new")


@pytest.fixture(scope="module")
def port(tls):
    """A gRPC server with the credentials that the stock server makes of `ssl.pbtxt`; it echoes."""
    config = deployment.parse("SSLConfig", (tls / "ssl.pbtxt").read_text())
    credentials = grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())], config.custom_ca.encode(), config.client_verify
    )
    echo = grpc.method_handlers_generic_handler(
        "test", {"Echo": grpc.unary_unary_rpc_method_handler(lambda sent, _: sent)}
    )
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[echo])
    chosen = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield chosen
    server.stop(None).wait()


def call(target: str, authority: bytes, key: bytes | None = None, certificate: bytes | None = None) -> bytes:
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    with grpc.secure_channel(target, credentials) as channel:
        return channel.unary_unary("/test/Echo")(b"hello", timeout=10)


def own(tls) -> list[bytes]:
    return [(tls / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_caller_with_the_certificate_is_let_in(tls, port, host) -> None:
    assert call(f"{host}:{port}", *own(tls)) == b"hello"


def test_a_caller_without_a_certificate_is_not(tls, port) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call(f"localhost:{port}", (tls / "ca.pem").read_bytes())
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_ca_is_not(tls, port, tmp_path) -> None:
    _, key, certificate = own(make(tmp_path))
    with pytest.raises(grpc.RpcError) as refused:
        call(f"localhost:{port}", (tls / "ca.pem").read_bytes(), key, certificate)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_server_of_another_name_is_not_believed(tls, port) -> None:
    credentials = grpc.ssl_channel_credentials(*own(tls))
    options = [("grpc.ssl_target_name_override", "elsewhere.example")]
    with (
        grpc.secure_channel(f"localhost:{port}", credentials, options) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary("/test/Echo")(b"hello", timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_ssl_pbtxt_holds_the_texts_of_the_files(tls) -> None:
    config = deployment.parse("SSLConfig", (tls / "ssl.pbtxt").read_text())
    assert config.server_key == (tls / "server.key").read_text()
    assert config.server_cert == (tls / "server.pem").read_text()
    assert config.custom_ca == (tls / "ca.pem").read_text()
    assert config.client_verify


def test_keys_are_for_their_owner_alone_and_the_ca_s_is_not_kept(tls) -> None:
    assert {file.name for file in tls.iterdir()} == FILES
    private = {file.name for file in tls.iterdir() if b"PRIVATE KEY" in file.read_bytes()}
    assert private == {"server.key", "client.key", "ssl.pbtxt"}
    for name in private:
        assert stat.S_IMODE((tls / name).stat().st_mode) == 0o600


def test_a_key_that_others_could_read_is_replaced_by_one_that_they_cannot(tls, tmp_path) -> None:
    open_key = tmp_path / "server.key"
    open_key.write_text("old")
    os.link(open_key, tmp_path / "kept open")
    open_key.chmod(0o644)
    make(tmp_path)
    assert stat.S_IMODE(open_key.stat().st_mode) == 0o600
    assert (tmp_path / "kept open").read_text() == "old"


def test_the_names_are_those_that_are_asked_for(tmp_path) -> None:
    make(tmp_path, "--host", "serving.example", "10.0.0.7")
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["serving.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]


def test_the_names_of_compose_and_kubernetes_are_there(tls) -> None:
    server = x509.load_pem_x509_certificate((tls / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    compose = deployment.read_yaml("docker-compose.yaml")["services"]["serving-cpu"]["networks"]["default"]["aliases"]
    headless = deployment.read_objects("kubernetes/services.yaml")[0]["metadata"]["name"]
    assert {*compose, headless, "localhost"} <= set(names.get_values_for_type(x509.DNSName))


def test_make_tls_writes_where_compose_looks_and_git_does_not() -> None:
    done = subprocess.run(
        ["make", "--directory", str(ROOT), "--dry-run", "tls", "TLS_HOSTS=a b"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "serving_config/make_tls.py serving_config/tls --host a b" in done.stdout
    assert "/config/tls/ssl.pbtxt" in (CONFIG / "docker-compose.yaml").read_text()
    assert "/serving_config/tls/" in (ROOT / ".gitignore").read_text().splitlines()
