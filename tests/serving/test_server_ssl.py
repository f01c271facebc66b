"""TLS on the gRPC port by `--ssl-config-file`, as the stock server reads it."""

from __future__ import annotations

import datetime as dt

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gradcam_export.errors import ServeError
from gradcam_export.server import EmbeddedServer, ServedModel, SslConfig, read_ssl_config
from tensorflow_serving.apis import prediction_service_pb2_grpc

IMAGES = np.ones([1, 4, 4, 3], np.uint8)


def identity(name: str) -> tuple[bytes, bytes]:
    """A private key and the certificate that it signs for itself, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


SERVER, CLIENT, STRANGER = identity("localhost"), identity("client"), identity("stranger")


def write(path, **values: bytes | str | bool):
    """A text SSLConfig, its values on one line each as the stock server's documentation has them."""
    lines = []
    for name, value in values.items():
        text = value.decode() if isinstance(value, bytes) else value
        quoted = str(text).lower() if isinstance(text, bool) else '"' + text.replace("\n", "\\n") + '"'
        lines.append(f"{name}: {quoted}")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def serving(publish, tmp_path):
    """Factory: `serving(key, certificate, …)` starts a server by such a file; returns its port."""
    servers = []

    def start(key: bytes, certificate: bytes, **more: bytes | bool) -> int:
        ssl = read_ssl_config(write(tmp_path / "ssl.pbtxt", server_key=key, server_cert=certificate, **more))
        servers.append(EmbeddedServer([ServedModel(name="toy", base_path=publish(1))], ssl=ssl, rest_port=0))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def ask(request, port: int, credentials: grpc.ChannelCredentials | None) -> float:
    where = f"localhost:{port}"
    channel = grpc.secure_channel(where, credentials) if credentials else grpc.insecure_channel(where)
    with channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request, timeout=10).outputs["sums"].float_val[0]


def unavailable():
    return pytest.raises(grpc.RpcError, check=lambda error: error.code() is grpc.StatusCode.UNAVAILABLE)


def test_the_port_speaks_tls_and_rest_does_not(serving, predict_request, connect_rest) -> None:
    server = serving(*SERVER)
    request = predict_request(images=IMAGES)
    assert ask(request, server.port, grpc.ssl_channel_credentials(SERVER[1])) == 48 + 1
    with unavailable():
        ask(request, server.port, None)
    with unavailable():
        ask(request, server.port, grpc.ssl_channel_credentials(STRANGER[1]))
    assert connect_rest(server.rest_port).predict({"inputs": IMAGES.tolist()})[0] == 200


def test_callers_prove_who_they_are_where_they_must(serving, predict_request) -> None:
    server = serving(*SERVER, custom_ca=CLIENT[1], client_verify=True)
    request = predict_request(images=IMAGES)
    assert ask(request, server.port, grpc.ssl_channel_credentials(SERVER[1], *CLIENT)) == 48 + 1
    for credentials in (
        grpc.ssl_channel_credentials(SERVER[1]),
        grpc.ssl_channel_credentials(SERVER[1], *STRANGER),
    ):
        with unavailable():
            ask(request, server.port, credentials)


def test_the_file_is_read(tmp_path) -> None:
    path = write(tmp_path / "ssl", server_key=SERVER[0], server_cert=SERVER[1])
    config = read_ssl_config(path)
    assert config == SslConfig(SERVER[0], SERVER[1], None, client_verify=False)
    assert "PRIVATE KEY" not in repr(config)
    path = write(path, server_key=SERVER[0], server_cert=SERVER[1], custom_ca=CLIENT[1], client_verify=True)
    assert read_ssl_config(path) == SslConfig(SERVER[0], SERVER[1], CLIENT[1], client_verify=True)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({}, "ssl: server_key is missing"),
        ({"server_key": SERVER[0]}, "ssl: server_cert is missing"),
        (
            {"server_key": "/etc/server.key", "server_cert": SERVER[1]},
            "server_key is not PEM text.* not the name of a file",
        ),
        ({"server_key": SERVER[0], "server_cert": SERVER[1], "custom_ca": "ca.pem"}, "custom_ca is not PEM text"),
        ({"server_key": SERVER[0], "server_cert": SERVER[1], "client_verify": True}, "client_verify needs custom_ca"),
        ({"private_key": "x"}, 'ssl is not a readable SSLConfig: 1:1 : .*no field named "private_key"'),
    ],
)
def test_a_file_that_lacks_something_is_refused(tmp_path, values, match) -> None:
    with pytest.raises(ServeError, match=match):
        read_ssl_config(write(tmp_path / "ssl", **values))


def test_a_file_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(ServeError, match=r"absent is not a readable SSLConfig: .*No such file"):
        read_ssl_config(tmp_path / "absent")


@pytest.mark.parametrize(
    ("key", "certificate"), [(CLIENT[0], SERVER[1]), (SERVER[0], b"-----BEGIN CERTIFICATE-----\n")]
)
def test_a_key_without_its_certificate_is_refused(serving, key, certificate) -> None:
    with pytest.raises(ServeError, match="or the key, certificate and CA of the SSL configuration do not fit"):
        serving(key, certificate)
