"""`gradcam` on folders: what is told when options have no meaning, or when some images fail."""

import pytest
from colour_server import ColourModel
from command_runs import images_sent, kept
from report_page import page_data


def test_evidence_against_a_class_needs_a_model_that_tells_it(run, server, folder, out):
    code, lines, err = run("explain", folder, "--out", out, "--polarity", "negative")
    assert (code, lines) == (1, [])
    assert err == [
        "gradcam: model 'colours' version 1 has no method 'counterfactual': it explains by gradcam, gradcam++"
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "--polarity", "both"], "--polarity negative or both explains one class: leave out --top-k"),
        (["--report", "r.html", "--polarity", "both"], "leave out --report, or --polarity negative or both"),
        (["--strip"], "--strip writes files: say where with --out"),
        (["--format", "jpeg"], "--format is that of files: say where with --out"),
        (["--resume"], "--resume reads results.jsonl: say where it is with --out"),
        (["--resume", "--out", "o", "--report", "r.html"], "a report shows the images of one run: leave out --resume"),
        (["--concurrency", "0"], "argument --concurrency: invalid count value: '0'"),
        (["--metadata", "=x"], "argument --metadata: invalid key_value value: '=x'"),
        (["--clip-percent-upper", "101"], "argument --clip-percent-upper: invalid percent value: '101'"),
    ],
)
def test_options_that_have_no_meaning_are_refused(run, server, folder, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        run("explain", folder, *arguments)
    assert message in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clip-percent-upper", "20", "--clip-percent-lower", "30"], "give two percentiles between 0 and 100"),
        (["--metadata", "a=1", "--metadata", "a=2"], "--metadata a, a: a key is given twice; give each once"),
        (["--tls-ca", __file__], "tls: ca holds no certificate in PEM"),
        (["--tls-key", "absent.pem"], "absent.pem"),
        (["--token-file", "absent.txt"], "absent.txt: No such file or directory"),
        (["--report", "absent/report.html"], "absent/report.html: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_image_is_sent(run, server, folder, arguments, message):
    code, out, err = run("explain", folder, *arguments)
    assert (code, out, len(err), images_sent(server)) == (1, [], 1, 0)
    assert message in err[0]


@pytest.mark.parametrize("verb", ["explain", "predict", "overlay"])
def test_images_that_fail_are_named_at_the_end(run, server, folder, out, verb):
    (folder / "p03.png").write_bytes(b"no image")
    (folder / "p30.png").unlink()
    (folder / "p30.png").symlink_to("absent")
    arguments = ["--out", out] if verb != "predict" else []
    code, lines, err = run(verb, *(folder / f"p{number:02}.png" for number in range(40)), *arguments)
    assert (code, len(lines)) == (1, 38)
    assert err == [
        f"gradcam: {folder}/p03.png: is not an image that Pillow can read",
        f"gradcam: {folder}/p30.png: no such file",
    ]


@pytest.mark.parametrize("verb", ["explain", "predict", "overlay"])
def test_what_the_server_refuses_is_told_of_each_image(run, server, folder, out, verb, tmp_path):
    class Picky(ColourModel):
        def run(self, signature, inputs):
            if signature != "describe":
                raise ValueError("too dark")
            return super().run(signature, inputs)

    server.versions = {1: Picky()}
    report = ["--report", tmp_path / "r.html"] if verb == "explain" else []
    arguments = ["--out", out, *report] if verb != "predict" else []
    code, lines, err = run(verb, *(folder / f"p{number:02}.png" for number in range(3)), *arguments)
    assert (code, lines, len(err)) == (1, [], 3)
    for number, line in enumerate(err):
        assert line.startswith(f"gradcam: {folder}/p{number:02}.png: ")
        assert "too dark" in line
    assert not (out / "results.jsonl").exists() or kept(out) == []
    if report:
        page = page_data(tmp_path / "r.html")
        assert [failure["name"] for failure in page["failures"]] == [f"{folder}/p{n:02}.png" for n in range(3)]
