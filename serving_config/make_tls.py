"""A test CA, a certificate for the server and one for a client, and the `ssl.pbtxt` that TensorFlow Serving reads.

    make tls                                       # for this machine
    make tls TLS_HOSTS="localhost serving.models"  # for the names that clients will use instead

For trying TLS out, and for tests. In production take certificates of your own CA, and write `ssl.pbtxt` in this form:
TensorFlow Serving wants the PEM texts in it, not paths. It reads the file once, when it starts.
"""

from __future__ import annotations

import argparse
import datetime as dt
import ipaddress
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# This machine, and the name in docker-compose.yaml and kubernetes/.
HOSTS = ("localhost", "127.0.0.1", "::1", "serving")
LIFETIME = dt.timedelta(days=90)  # to be made again before anybody relies on them

Certificate = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def main() -> None:
    """Write everything into the folder that is asked for."""
    parser = argparse.ArgumentParser(description="Make certificates to try TensorFlow Serving with TLS.")
    parser.add_argument("directory", type=Path, help="where to write; what is there is replaced")
    parser.add_argument("--host", nargs="*", default=HOSTS, help="names and addresses clients use for the server")
    arguments = parser.parse_args()
    write_certificates(arguments.directory, arguments.host)
    sys.stdout.write(f"{arguments.directory}: ssl.pbtxt for the server; ca.pem, client.pem, client.key for clients\n")


def write_certificates(directory: Path, hosts: list[str] | tuple[str, ...] = HOSTS) -> None:
    """Write `ca.pem`, `server.pem`, `client.pem`, their keys and `ssl.pbtxt` into `directory`.

    The CA's key is written nowhere: nobody can make a third certificate.
    """
    authority = _authority()
    server = _signed_by(authority, "TensorFlow Serving", ExtendedKeyUsageOID.SERVER_AUTH, hosts)
    client = _signed_by(authority, "client", ExtendedKeyUsageOID.CLIENT_AUTH)
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "ca.pem", _certificate_text(authority))
    for name, certificate in (("server", server), ("client", client)):
        _write(directory / f"{name}.pem", _certificate_text(certificate))
        _write(directory / f"{name}.key", _key_text(certificate), mode=0o600)
    # With the key in it. The image's server runs as root, and Kubernetes hands it on as a secret: both can read it.
    _write(directory / "ssl.pbtxt", ssl_config(authority, server), mode=0o600)


def ssl_config(authority: Certificate, server: Certificate) -> str:
    """The text of an `SSLConfig`, for --ssl_config_file: gRPC for callers who show a certificate of `authority`."""
    return f"""# TLS for gRPC: a text SSLConfig for --ssl_config_file of TensorFlow Serving. Written by make_tls.py.
# It holds a private key. REST and metrics on the other port have no TLS.

# What the server proves its name with.
server_key:{_quoted(_key_text(server))}

# Its name, and who vouches for it.
server_cert:{_quoted(_certificate_text(server))}

# Whom the server believes about callers.
custom_ca:{_quoted(_certificate_text(authority))}

# Callers without a certificate are turned away. false lets everybody in who trusts the server.
client_verify: true
"""


def _authority() -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("gradcam-serving test CA")
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(key, subject=name, issuer=name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return key, builder.sign(key, hashes.SHA256())


def _signed_by(
    authority: Certificate, name: str, purpose: x509.ObjectIdentifier, hosts: list[str] | tuple[str, ...] = ()
) -> Certificate:
    issuer_key, issuer = authority
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        _builder(key, subject=_name(name), issuer=issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(identifier, critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return key, builder.sign(issuer_key, hashes.SHA256())


def _builder(key: ec.EllipticCurvePrivateKey, *, subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:  # a name, not an address
        return x509.DNSName(host)


def _certificate_text(certificate: Certificate) -> str:
    return certificate[1].public_bytes(serialization.Encoding.PEM).decode()


def _key_text(certificate: Certificate) -> str:
    form, cipher = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return certificate[0].private_bytes(serialization.Encoding.PEM, form, cipher).decode()


def _quoted(text: str) -> str:
    """`text` as protobuf's text format has it: one string a line, which its parser joins."""
    return "".join(f'\n  "{line}\\n"' for line in text.splitlines())


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write anew: a key must at no moment be readable by others, which its predecessor may have been."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
