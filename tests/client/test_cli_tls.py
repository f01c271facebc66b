"""`gradcam` over TLS: what its options name reaches a server that asks for it."""

import pytest
from gradcam_client.cli import main


@pytest.fixture
def ask(capsys):
    def ask(target, *options):
        code = main(["status", "--server", target, "--model", "colours", "--timeout", "20", *map(str, options)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return ask


def test_the_authority_of_the_command_line_is_believed(ask, secure, certificates):
    code, out, err = ask(secure(mutual=False), "--tls-ca", certificates / "ca.pem")
    assert (code, err) == (0, "")
    assert out.startswith("1\tAVAILABLE\n")


def test_the_command_line_shows_its_own_certificate(ask, secure, certificates, pictures, tmp_path):
    target = secure(mutual=True)
    own = ("--tls-ca", certificates / "ca.pem", "--tls-certificate", certificates / "client.pem")
    own += ("--tls-key", certificates / "client.key")
    assert ask(target, *own)[0] == 0
    pictures[0].save(tmp_path / "one.png")
    asked = ["explain", tmp_path / "one.png", "--server", target, "--model", "colours", *own]
    assert main([str(argument) for argument in asked]) == 0


@pytest.mark.parametrize("options", [(), ("--tls",), ("--tls-ca", "stranger.pem"), ("--tls-ca", "ca.pem")])
def test_who_is_not_known_is_not_let_in(options, ask, secure, certificates):
    given = [certificates / option if option.endswith(".pem") else option for option in options]
    code, out, err = ask(secure(mutual=True), *given)
    assert (code, out) == (1, "")
    assert "UNAVAILABLE" in err
    assert len(err.splitlines()) == 1
