"""Files inside ZIP and TAR archives, named as if the archive were a folder: `photos.zip/summer/beach.jpg`."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import threading
import zlib
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from gradcam_client.errors import ImageError

if TYPE_CHECKING:
    import tarfile
    import zipfile
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

MAX_MEMBER: Final = 2**30
"""The most bytes of a member that is read."""

SUFFIXES: Final = (".zip", ".tar")
"""What the name of an archive ends with."""

_COMPRESSED: Final = (".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.z")
# How gzip, compress, bzip2, xz and zstd begin; a TAR begins with a name.
_COMPRESSED_BEGIN: Final = re.compile(rb"\x1f[\x8b\x9d]|BZh[1-9]1AY&SY|\xfd7zXZ\0|\x28\xb5\x2f\xfd")
_KEPT: Final = 8
"""Of so many archives the index is kept."""

# APPNOTE.TXT 4.3.7: signature, then, at 26, how long the name and the extra field are.
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
# APPNOTE.TXT 4.4.5.
_STORED, _DEFLATED = 0, 8
# APPNOTE.TXT 4.4.4: encrypted, its strong kind, and a name in UTF-8.
_ENCRYPTED, _STRONGLY, _UTF8 = 0x1, 0x40, 0x800


class _Member(NamedTuple):
    """Where the bytes of a file are: `packed` of them from `start` on, which make `size` by `method` of ZIP.

    `problem` says why they cannot be read, where they cannot.
    """

    start: int
    packed: int
    size: int
    method: int = _STORED
    checksum: int | None = None
    problem: str = ""


_indexes: dict[tuple[int, ...], Mapping[str, _Member]] = {}
_indexing = threading.Lock()


def is_archive(path: Path) -> bool:
    """Whether this is the file of an archive, by its name; also of a compressed one, which is then refused."""
    return path.name.lower().endswith((*SUFFIXES, *_COMPRESSED)) and os.path.isfile(path)  # noqa: PTH113 - whatever the name holds


def archive_of(path: Path) -> Path | None:
    """The archive that a path leads into, or `None`: where a file stands for a folder, the path itself is none."""
    return next(filter(is_archive, path.parents), None)


def names(archive: Path) -> list[str]:
    """The files in an archive, in its order; each once, by relative paths without empty parts and `.`.

    A name is only a name: it may hold `..`, or bytes that are not UTF-8, as names of files are held.

    Raises:
        ImageError: the archive is compressed as a whole, damaged, or not there.
    """
    with _opened(archive, str(archive)) as file:
        return list(_index(file, archive))


def read_member(path: Path) -> bytes:
    """Read a file that lies in an archive; from any number of threads at once.

    Args:
        path: the archive's, followed by the member's name.

    Raises:
        ImageError: no archive is in the path, or none that can be read; it has no such member, or several; the
            member is encrypted, a link, larger than `MAX_MEMBER`, or its data are not what its header says.
    """
    archive = archive_of(path)
    if archive is None:
        raise ImageError(f"{path}: no such file")
    with _opened(archive, str(path)) as file:
        # Path has taken the empty parts out of it, and `.`, as the index has.
        member = _index(file, archive).get(str(path)[len(str(archive)) + 1 :])
        if member is None:
            raise ImageError(f"{path}: no such file in the archive {archive}")
        if member.problem:
            raise ImageError(f"{path}: {member.problem}")
        return _content(file, member)


@contextlib.contextmanager
def _opened(archive: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        with archive.open("rb") as file:
            yield file
    except _damage() as error:
        # `ImageError` is a ValueError too.
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}: the archive is damaged: {str(error) or type(error).__name__}") from error
    except OSError as error:
        raise ImageError(f"{name}: the archive cannot be read: {error.strerror or error}") from error


def _damage() -> tuple[type[Exception], ...]:
    """What the standard library raises on archives that are cut off or altered."""
    import tarfile
    import zipfile

    # A header that claims much is a MemoryError.
    found = zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error
    return *found, EOFError, ValueError, OverflowError, MemoryError, NotImplementedError


def _index(file: IO[bytes], archive: Path) -> Mapping[str, _Member]:
    """What is in the archive by name; read once, until the file changes."""
    found = os.fstat(file.fileno())
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    with _indexing:
        if key not in _indexes:
            compressed = archive.name.lower().endswith(_COMPRESSED)
            if compressed or _COMPRESSED_BEGIN.match(file.read(10)):
                raise ImageError(
                    f"{archive}: is compressed as a whole, so that no image of it can be read alone: "
                    "unpack it, or pack the images as ZIP or as TAR without compression"
                )
            file.seek(0)
            members = _zip_members if archive.suffix.lower() == ".zip" else _tar_members
            index = _by_name(members(file, found.st_size))
            if len(_indexes) >= _KEPT:
                del _indexes[next(iter(_indexes))]
            _indexes[key] = index
        return _indexes[key]


def _by_name(members: Iterable[tuple[str, _Member]]) -> dict[str, _Member]:
    index: dict[str, _Member] = {}
    for full, member in members:
        name = "/".join(part for part in full.split("/") if part not in ("", "."))
        if name in index:
            problem = "the archive has several files of this name: pack it anew, with each once"
            index[name] = member._replace(problem=problem)
        elif name:
            index[name] = member
    return index


def _zip_members(file: IO[bytes], size: int) -> Iterator[tuple[str, _Member]]:
    # Here, as importing the client must cost little.
    import zipfile

    with zipfile.ZipFile(file) as archive:
        for one in archive.infolist():
            # `is_dir` fails where the name is empty.
            if not one.filename.endswith("/"):
                member = _Member(one.header_offset, one.compress_size, one.file_size, one.compress_type, one.CRC)
                yield _zip_name(one), member._replace(problem=_zip_problem(one) or _size_problem(member, size))


def _zip_name(one: zipfile.ZipInfo) -> str:
    if not one.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            # The Archive Utility of macOS writes UTF-8 without saying so.
            return one.filename.encode("cp437").decode()
    return one.filename


def _zip_problem(one: zipfile.ZipInfo) -> str:
    if one.flag_bits & (_ENCRYPTED | _STRONGLY):
        return "is encrypted: unpack the archive with its password"
    if one.compress_type not in (_STORED, _DEFLATED):
        # Only of these is known beforehand, or can be told, where to stop.
        return f"is compressed by method {one.compress_type} of ZIP: unpack the archive, or pack it anew with 'deflate'"
    return ""


def _tar_members(file: IO[bytes], size: int) -> Iterator[tuple[str, _Member]]:
    import tarfile

    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        for one in archive:
            if one.isdir():
                continue
            member = _Member(one.offset_data, one.size, one.size)
            yield one.name, member._replace(problem=_tar_problem(one) or _size_problem(member, size))
        # A header that cannot be read ends the list without a word, as the block of zeros does at an archive's end.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0") or file.tell() < archive.offset + tarfile.BLOCKSIZE:
            raise ValueError(f"its list of files breaks off after {archive.offset} bytes")


def _tar_problem(one: tarfile.TarInfo) -> str:
    if one.isreg() and not one.issparse():
        return ""
    return "is a link or no plain file in the archive: pack it anew, with the files in place of links"


def _size_problem(member: _Member, size: int) -> str:
    if (most := max(member.size, member.packed)) > MAX_MEMBER:
        return f"has {most} bytes in the archive; at most {MAX_MEMBER} are read"
    if member.start < 0 or member.packed < 0 or member.size < 0 or member.start + member.packed > size:
        return "the archive is damaged: it ends before this file does"
    return ""


def _content(file: IO[bytes], member: _Member) -> bytes:
    file.seek(member.start)
    if member.checksum is None:
        data = file.read(member.size)
    else:
        signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        if signature != b"PK\3\4":
            raise ValueError("no file begins where its list says so")
        file.seek(name + extra, os.SEEK_CUR)
        data = file.read(member.packed)
        if member.method == _DEFLATED:
            # A byte more than it says, and no further: what it says may be a lie.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    if len(data) != member.size:
        raise ValueError(f"the file has not the {member.size} bytes that its list says")
    if member.checksum not in (None, zlib.crc32(data)):
        raise ValueError("the file's checksum is wrong")
    return data
