"""Archives to read from: packed of files and their names, and altered afterwards."""

import io
import tarfile
import warnings
import zipfile

import pytest

LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


WRITE = {".zip": write_zip, ".tar": write_tar}
EITHER = pytest.mark.parametrize("suffix", WRITE)


def patched(path, at, new):
    """Write `new` over the bytes of a file from `at` on."""
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    return path
