"""Overlays that the server draws."""

import io

import numpy as np
import pytest
from colour_server import ColourModel
from gradcam_client import codec, images
from gradcam_client.errors import (
    ImageError,
    IncompatibleModel,
    InvalidRequest,
    MalformedAnswer,
    OptionError,
    UnknownClass,
)
from PIL import Image


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def sent(server):
    return codec.decode(server.requests[-1].inputs["image_bytes"]).tolist()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_files_are_sent_as_they_are_and_the_answer_comes_as_it_is(client, server, pictures, tmp_path, kind):
    file = tmp_path / "a picture"
    file.write_bytes(encoded(pictures[3], kind))
    for source in (file, str(file), file.read_bytes()):
        drawn = client.overlay(source, class_index=1)
        assert sent(server) == [file.read_bytes()]
        expected = server.versions[1].run(
            "overlay", {"image_bytes": np.array([file.read_bytes()], object), "class_index": np.array([1])}
        )
        assert drawn == expected["overlay_bytes"][0]
    assert server.signatures_asked() == ["describe", "overlay", "overlay", "overlay"]
    assert list(server.requests[-1].output_filter) == ["overlay_bytes"]


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF", None])
def test_all_else_is_sent_as_png(client, server, pictures, kind):
    source = pictures[0] if kind is None else encoded(pictures[0], kind)
    for one in (source, np.asarray(pictures[0])):
        with Image.open(io.BytesIO(client.overlay(one))) as drawn:
            assert (drawn.format, drawn.size) == ("JPEG", pictures[0].size)
        (file,) = sent(server)
        assert file.startswith(b"\x89PNG")
        assert images.read(file) == images.read(one)


def test_the_class_is_chosen_as_for_explain(client, server, pictures):
    for choice, index in (({}, -1), ({"class_index": 2}, 2), ({"label": "green"}, 1), ({"class_index": -1}, -1)):
        client.overlay(pictures[0], **choice)
        assert codec.decode(server.requests[-1].inputs["class_index"]).tolist() == [index]
    with pytest.raises(UnknownClass, match="no class 'bleu': did you mean 'blue'"):
        client.overlay(pictures[0], label="bleu")
    for several in ([], pictures[:2]):
        with pytest.raises(ImageError, match="list given as image: give a path, bytes, Pillow image or uint8 array"):
            client.overlay(several)
    with pytest.raises(OptionError, match="were both given"):
        client.overlay(pictures[0], label="red", class_index=0)


def test_what_is_no_image_is_refused_before_any_call(client, server, tmp_path):
    (tmp_path / "empty.png").touch()
    for source, message in (
        (tmp_path / "absent.jpg", r"absent\.jpg: no such file"),
        (tmp_path / "empty.png", r"empty\.png: is empty"),
        (tmp_path, "is a folder, not an image file"),
        (b"no picture", "is not an image that Pillow can read"),
        (3, "int given as image"),
    ):
        with pytest.raises(ImageError, match=message):
            client.overlay(source)
    assert server.requests == []


def test_a_version_without_it_is_named(client, server, pictures):
    signatures = tuple(one for one in server.versions[1].signatures if one != "overlay")
    server.versions = {1: ColourModel(signatures=signatures)}
    with pytest.raises(IncompatibleModel, match=r"draws no overlays: .*--max-image-bytes 0; explain the image"):
        client.overlay(pictures[0])


def test_a_file_that_the_server_cannot_decode_is_refused(client, server, pictures):
    with pytest.raises(InvalidRequest, match="INVALID_ARGUMENT"):
        client.overlay(encoded(pictures[0], "JPEG")[:40])


def test_what_is_no_jpeg_is_malformed(client, server, pictures):
    def spoil(response):
        if "overlay_bytes" in response.outputs:
            response.outputs["overlay_bytes"].CopyFrom(codec.encode(np.array([b"GIF89a"], object)))
        return response

    server.tamper = spoil
    with pytest.raises(MalformedAnswer, match="'overlay_bytes' came with values that are no JPEG"):
        client.overlay(pictures[0])
