"""From whatever holds a picture to the pixels a model takes.

The same file must give the same pixels here and in the served graph, which decodes JPEG and PNG by itself:
alpha is dropped there, not composited, 16-bit grey keeps its high byte, and colour profiles are ignored.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from gradcam_client import archives
from gradcam_client.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = np.ndarray[Any, np.dtype[Any]]
Source: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | Array
"""What holds a picture; see `read`."""

_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIC: Final = (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")
"""What a file of HEIC has from its fifth byte on; AVIF, of the same family, has other brands."""
_SENT_AS_THEY_ARE: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
# What Pillow's decoders raise on files that are cut off or altered.
_BROKEN: Final = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error)


def read(source: Source) -> Image.Image:
    """Read a picture: decoded, upright, 8-bit RGB.

    Args:
        source: path of an image file, also of one in a ZIP or TAR archive, `photos.zip/beach.jpg`; the file's bytes;
            a Pillow image; or a uint8 array `[H, W]`, `[H, W, 1]`, `[H, W, 3]` (RGB) or `[H, W, 4]` (RGB and alpha,
            which is dropped).

    Returns:
        A new image of mode RGB, without the file's metadata.

    Raises:
        ImageError: there is no picture in `source`, or one that cannot be shown in 8-bit RGB.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        with _refusing("the image"):
            return _upright_rgb(source)
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), f"the image of {len(source)} bytes")
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"{type(source).__name__} given as image: give a path, bytes, Pillow image or uint8 array")
    path = _path(source)
    return _decode(io.BytesIO(archives.read_member(path)) if archives.archive_of(path) else path, str(path))


def read_all(source: Source | Sequence[Source], *, strict: bool = True) -> list[Image.Image | ImageError]:
    """Read one picture, or each of a list.

    Returns:
        The pictures; where not `strict`, with the error in the place of each of a list that cannot be read.

    Raises:
        ImageError: as `read` does; in a list, for the first that fails.
    """
    if not isinstance(source, list | tuple):
        return [read(source)]  # type: ignore[arg-type]
    return [read(one) if strict else read_or_error(one) for one in source]


def read_or_error(source: Source) -> Image.Image | ImageError:
    """Read a picture as `read` does, and hand on what is wrong with it where it cannot be."""
    try:
        return read(source)
    except ImageError as error:
        return error


def encoded(source: Source) -> bytes:
    """The file of a picture as a server decodes it: JPEG or PNG, unchanged if it is one.

    Raises:
        ImageError: as `read` does; files that go unchanged are not decoded here.
    """
    file = source
    if isinstance(source, str | os.PathLike):
        path = _path(source)
        if archives.archive_of(path):
            file = archives.read_member(path)
        else:
            with _refusing(str(path)):
                file = path.read_bytes()
    if isinstance(file, bytes) and file.startswith(_SENT_AS_THEY_ARE):
        return file
    buffer = io.BytesIO()
    read(source).save(buffer, "PNG")
    return buffer.getvalue()


def fit(image: Image.Image, shape: tuple[int, int, int]) -> Array:
    """Bring a picture to a model's input: stretched to its size, bilinearly, first its width, then its height.

    Args:
        image: a picture from `read`.
        shape: `(H, W, C)`; C is 3, or 1 for grey.

    Returns:
        `[H, W, C]` uint8.

    Raises:
        ImageError: the model takes neither colour nor grey pictures.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise ImageError(f"the model takes {channels} channels: pictures have 3, or 1 in grey")
    flat = image.convert("L") if channels == 1 else image
    if flat.size == (width, height):
        return np.asarray(flat).reshape(shape)
    # In one call Pillow rounds between two passes as well, but takes the height first where that is less work, since
    # version 13; the served graph never does.
    narrow = flat.resize((width, flat.height), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR)).reshape(shape)


def _from_array(array: Array) -> Image.Image:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} was given as image: give uint8 values, 0..255")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if 0 in array.shape or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ImageError(
            f"an array of shape {list(array.shape)} was given as image: give [H, W] or [H, W, 3]; "
            "for several images, a list"
        )
    image = Image.fromarray(array)
    # An image of three channels is made of a copy, one of any other may share the array's memory.
    return image if image.mode == "RGB" else image.convert("RGB")


def _path(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if os.path.isdir(path):  # noqa: PTH112 - whatever the name holds
        raise ImageError(f"{path}: is a folder, not an image file")
    if archives.is_archive(path):
        raise ImageError(f"{path}: is an archive, not an image file: name one in it, as {path.name}/NAME")
    return path


def _decode(file: Path | io.BytesIO, name: str) -> Image.Image:
    with _refusing(name):
        size = len(file.getbuffer()) if isinstance(file, io.BytesIO) else file.stat().st_size
    if size == 0 and (isinstance(file, io.BytesIO) or file.is_file()):
        raise ImageError(f"{name}: is empty")
    with _refusing(name), _opened(file, name) as image:
        return _upright_rgb(image)


def _opened(file: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        if not _is_heic(file):
            raise
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ImageError(f"{name}: is HEIC, which needs one more library: install gradcam-client[heic]") from error
    register_heif_opener()
    return Image.open(file)


def _is_heic(file: Path | io.BytesIO) -> bool:
    if isinstance(file, io.BytesIO):
        return bytes(file.getbuffer()[4:12]).startswith(_HEIC)
    with file.open("rb") as opened:
        return opened.read(12)[4:].startswith(_HEIC)


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: claims too many pixels to be decoded: {error}") from error
    except _BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"{name}: cannot be read: {reason}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    rgb = _rgb(image)
    # Only now: loading a TIFF turns it, and then takes the orientation away (Pillow 13).
    orientation = image.getexif().get(_ORIENTATION_TAG)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    # The orientation is spent: left in place, reading this image again would turn it a second time.
    rgb.info = {}
    return rgb


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"P", "PA"}:
        # Straight to RGB, Pillow warns about a palette whose transparency is given in bytes.
        return image.convert("RGBA").convert("RGB")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow's own conversion clips: everything above 255 would be white.
        high = np.asarray(image).astype(np.int32) >> 8
        return Image.fromarray(high.astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise ImageError(f"its pixels have 32 bits (mode {image.mode}), whose white is unknown: make it 8-bit")
    return image.convert("RGB")
