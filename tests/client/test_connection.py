"""How the server is reached: addresses, certificates, tokens, compression, gRPC's own options."""

import dataclasses
import itertools
import pickle
import socket
import threading

import grpc
import numpy as np
import pytest
from colour_server import Server
from gradcam_client import Client, OptionError, ServerError, ServerUnavailable, Tls
from gradcam_client.options import Connection


def test_a_server_is_known_by_its_certificate(connect, secure, certificates, pictures):
    target = secure(mutual=False)
    with connect(target, model="colours", tls=Tls.read(ca=certificates / "ca.pem")) as client:
        assert client.explain(pictures[0]).model_version == 1
    for tls in (Tls.read(ca=certificates / "stranger.pem"), Tls(), None):
        with connect(target, model="colours", tls=tls) as client, pytest.raises(ServerUnavailable, match="UNAVAILABLE"):
            client.describe()


def test_a_caller_is_known_by_its_certificate(connect, secure, certificates, pictures):
    target = secure(mutual=True)
    own = {"certificate": certificates / "client.pem", "key": certificates / "client.key"}
    with connect(target, model="colours", tls=Tls.read(ca=certificates / "ca.pem", **own)) as client:
        assert client.explain(pictures[0]).model_version == 1
    with (
        connect(target, model="colours", tls=Tls.read(ca=certificates / "ca.pem")) as client,
        pytest.raises(ServerUnavailable, match="UNAVAILABLE"),
    ):
        client.describe()


PEM = b"-----BEGIN CERTIFICATE-----"
KEY = b"-----BEGIN PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ca": b"\x30\x82"}, "tls: ca holds no certificate in PEM: give a file's bytes"),
        ({"ca": "ca.pem"}, "tls: ca holds no certificate in PEM"),
        ({"certificate": PEM, "key": PEM}, "tls: key holds no private key in PEM"),
        ({"certificate": KEY, "key": KEY}, "tls: certificate holds no certificate in PEM"),
        ({"certificate": PEM}, "tls: a certificate was given without its key: give both, or none"),
        ({"key": KEY}, "tls: a key was given without its certificate: give both, or none"),
    ],
)
def test_what_is_no_certificate_is_refused(given, message):
    with pytest.raises(OptionError, match=message):
        Tls(**given)


def test_certificates_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(OptionError, match=r"tls: ca cannot be read: .*absent\.pem"):
        Tls.read(ca=tmp_path / "absent.pem")
    with pytest.raises(OptionError, match=r"tls: key cannot be read: .*Is a directory"):
        Tls.read(key=tmp_path)


def test_secrets_are_not_shown():
    connection = Connection(
        target="a:1",
        model="m",
        tls=Tls(certificate=PEM, key=KEY),
        token="hidden",  # noqa: S106
        metadata={"x-key": "hidden"},
    )
    assert "hidden" not in repr(connection)
    assert "PRIVATE" not in repr(connection)


def test_a_token_and_metadata_go_with_each_call(connect, server, pictures):
    given = {"token": "abc", "metadata": {"x-tenant": "a b"}}
    with connect(server.target, model="colours", **given) as client:
        client.explain(pictures)
        client.status()
    assert len(server.metadata) == 3
    for one in server.metadata:
        assert (one["authorization"], one["x-tenant"]) == ("Bearer abc", "a b")


def test_a_token_is_asked_for_before_each_call(connect, server, pictures):
    numbers = itertools.count()
    with connect(server.target, model="colours", token=lambda: f"token-{next(numbers)}") as client:
        client.explain(pictures)
    assert [one["authorization"] for one in server.metadata] == ["Bearer token-0", "Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("token", ["", "two\nlines", "café", None, b"abc"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(connect, server, token):
    with (
        connect(server.target, model="colours", token=lambda: token) as client,
        pytest.raises(OptionError, match=r"^token: give printable ASCII text, or a function that returns it$"),
    ):
        client.describe()
    assert server.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": "a\rb"}, "^token: give printable ASCII text"),
        ({"token": "a", "metadata": {"authorization": "b"}}, "a token and the metadata 'authorization' were both"),
        ({"metadata": {"X-Tenant": "a"}}, "metadata 'X-Tenant': give a name of small letters, digits and '-'"),
        ({"metadata": {"grpc-timeout": "1S"}}, "neither begins with 'grpc-' nor ends with '-bin'"),
        ({"metadata": {"trace-bin": "1S"}}, "neither begins with 'grpc-' nor ends with '-bin'"),
        ({"metadata": {"": "a"}}, "metadata '': give a name"),
        ({"metadata": {3: "a"}}, "metadata 3: give a name"),
        ({"metadata": {"x": "a\nb"}}, "metadata 'x': its value must be printable ASCII text"),
        ({"metadata": {"x": b"a"}}, "metadata 'x': its value must be printable ASCII text"),
        ({"compression": "brotli"}, "compression 'brotli': give 'gzip' or 'deflate', or None"),
        ({"channel_options": {"grpc.x": 1.5}}, r"channel option 'grpc\.x': 1\.5: give names of gRPC's"),
        ({"channel_options": {1: 1}}, "channel option 1: 1: give names"),
    ],
)
def test_wrong_options_are_refused_where_they_are_given(connect, options, message):
    with pytest.raises(OptionError, match=message):
        connect("localhost:1", model="colours", **options)


class Counted:
    """A proxy that counts the bytes that pass to the server."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._server = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.sent = 0
        self._open = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            self._open += [near, far]
            for source, sink, counted in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass, args=(source, sink, counted), daemon=True).start()

    def _pass(self, source, sink, counted) -> None:
        try:
            while data := source.recv(1 << 16):
                self.sent += len(data) if counted else 0
                sink.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture
def proxy(server):
    opened = Counted(server.target)
    yield opened
    opened.close()


def test_requests_are_compressed_where_that_is_asked_for(connect, proxy):
    image = np.zeros((8, 12, 3), np.uint8)
    sizes = {}
    for compression in (None, "gzip", "deflate"):
        with connect(proxy.target, model="colours", compression=compression) as client:
            client.describe()
            before = proxy.sent
            assert client.predict([image] * 8)[0].model_version == 1
            sizes[compression] = proxy.sent - before
    # 2304 zeros.
    assert sizes[None] > 2304
    assert max(sizes["gzip"], sizes["deflate"]) < sizes[None] - 1500


def test_a_service_config_may_take_the_place_of_ours(connect, server):
    server.refuse = (grpc.StatusCode.UNAVAILABLE, "starting")
    with (
        connect(server.target, model="colours", channel_options={"grpc.service_config": "{}"}) as client,
        pytest.raises(ServerUnavailable, match="starting"),
    ):
        client.describe()
    assert len(server.requests) == 1


def test_a_unix_socket_is_an_address(connect, tmp_path, pictures):
    server = Server(f"unix:{tmp_path}/socket")
    try:
        with connect(server.target, model="colours") as client:
            assert client.explain(pictures[0]).model_version == 1
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["", "dns:///", "ipv4:"])
def test_addresses_may_name_their_resolver(connect, server, pictures, scheme):
    with connect(scheme + server.target, model="colours") as client:
        assert client.explain(pictures[0]).model_version == 1


def test_errors_of_the_server_survive_pickling(server):
    server.refuse = (grpc.StatusCode.INTERNAL, "out of luck")
    with Client(server.target, model="colours") as client, pytest.raises(ServerError, match="out of luck") as caught:
        client.describe()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is ServerError
    assert (str(copy), vars(copy)) == (str(caught.value), vars(caught.value))
    assert (copy.target, copy.status, copy.details) == (server.target, "INTERNAL", "out of luck")


def test_certificates_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Tls().ca = PEM
