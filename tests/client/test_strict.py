"""Lists with images that cannot be read."""

import pytest
from gradcam_client.errors import ImageError


@pytest.fixture
def sources(pictures, tmp_path):
    """Ten pictures, and three between them that are none."""
    return [b"", *pictures[:8], tmp_path / "absent.png", *pictures[8:], tmp_path]


MESSAGES = {0: "the image of 0 bytes: is empty", 9: r"absent\.png: no such file", 12: "is a folder, not an image file"}


def check(found, expected):
    for position, message in MESSAGES.items():
        assert isinstance(found[position], ImageError)
        with pytest.raises(ImageError, match=message):
            raise found[position]
    assert [one.to_json() for one in found if not isinstance(one, ImageError)] == [one.to_json() for one in expected]


def test_their_errors_stand_in_their_places(client, pictures, sources):
    check(client.explain(sources, strict=False), client.explain(pictures))
    check(client.predict(sources, strict=False), client.predict(pictures))
    first = [one if isinstance(one, ImageError) else one[0] for one in client.top_k(sources, strict=False)]
    check(first, [one[0] for one in client.top_k(pictures)])


def test_each_image_keeps_its_own_class(client, sources):
    indices = [n % 3 for n in range(13)]
    found = client.explain(sources, class_index=indices, strict=False)
    assert [one.class_index for n, one in enumerate(found) if n not in MESSAGES] == [
        index for n, index in enumerate(indices) if n not in MESSAGES
    ]
    check(found, client.explain(sources[1:9] + sources[10:12], class_index=indices[1:9] + indices[10:12]))


def test_a_list_of_them_alone_is_not_asked_for(client, server):
    found = client.predict([b"", b"no picture"], strict=False)
    assert [str(one) for one in found] == [
        "the image of 0 bytes: is empty",
        "the image of 10 bytes: is not an image that Pillow can read",
    ]
    assert server.requests == []


def test_strictly_the_first_is_an_error_and_so_is_an_image_on_its_own(client, server, sources):
    with pytest.raises(ImageError, match="is empty"):
        client.explain(sources)
    for call in (client.explain, client.predict, client.top_k):
        with pytest.raises(ImageError, match="is empty"):
            call(b"", strict=False)
    assert server.requests == []
