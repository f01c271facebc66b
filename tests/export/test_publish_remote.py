"""Publishing to object stores: by fsspec's memory file system, with faults, and watched at every step."""

import errno
import threading
from collections import Counter
from typing import ClassVar

import fsspec
import pytest
from finished_versions import VERSION_FILES, at_once, finished
from fsspec.implementations.memory import MemoryFileSystem
from gradcam_export import PublishError, publish_version
from gradcam_export.savedmodel.publish import base_path_at

BASE = "watched://bucket/models/flowers"


class LibraryError(Exception):
    """What drivers raise: an error of a library that nobody else knows."""


class WatchedStore(MemoryFileSystem):
    """A store in memory that creates exclusively in one step, as S3 and Google Storage do.

    It notes what it is asked to do, and what numbers a server could load after that; its `fail_at`-th request fails.
    """

    protocol = "watched"
    cachable = False
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    requests: ClassVar[list[tuple[str, str]]] = []
    loadable: ClassVar[list[dict[str, set[str]]]] = []
    failures: ClassVar[dict[int, BaseException]] = {}
    fails_when_done: ClassVar[set[int]] = set()
    lock = threading.RLock()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("watched://", "memory://"))

    @classmethod
    def _asked(cls, request, path, work):
        with cls.lock:
            cls.requests.append((request, path.removeprefix("/bucket/models/flowers/")))
            failure, late = cls.failures.get(len(cls.requests)), len(cls.requests) in cls.fails_when_done
            if failure is None or late:
                work()
            cls.loadable.append(files_of_what_a_server_could_load(cls.store))
            if failure is not None:
                raise failure

    def put_file(self, lpath, rpath, **keywords):
        self._asked("put", rpath, lambda: super(WatchedStore, self).put_file(lpath, rpath, **keywords))

    def cp_file(self, path1, path2, **keywords):
        self._asked("copy", path2, lambda: super(WatchedStore, self).cp_file(path1, path2, **keywords))

    def pipe_file(self, path, value, mode="overwrite", **keywords):
        self._asked(mode, path, lambda: super(WatchedStore, self).pipe_file(path, value, mode=mode, **keywords))

    def rm(self, path, recursive=False, maxdepth=None):
        self._asked("delete", path, lambda: super(WatchedStore, self).rm(path, recursive=recursive, maxdepth=maxdepth))


def files_of_what_a_server_could_load(store) -> dict[str, set[str]]:
    """What lies under each number that has a graph: a server loads that, whatever else is there."""
    parts = [path.removeprefix("/bucket/models/flowers/").partition("/") for path in list(store)]
    numbers = {number for number, _, name in parts if number.isdigit() and name == "saved_model.pb"}
    return {number: {name for found, _, name in parts if found == number} for number in numbers}


@pytest.fixture
def store(monkeypatch):
    """The class of an empty store without faults."""
    for name, empty in {"store": {}, "pseudo_dirs": [""], "requests": [], "loadable": [], "failures": {}}.items():
        monkeypatch.setattr(WatchedStore, name, empty)
    monkeypatch.setattr(WatchedStore, "fails_when_done", set())
    fsspec.register_implementation("watched", WatchedStore, clobber=True)
    return WatchedStore


@pytest.fixture
def source(tmp_path):
    """A version on this machine."""
    return finished(tmp_path / "built/3")


def text_of(store, name: str) -> str:
    return store.store[f"/bucket/models/flowers/{name}"].getvalue().decode()


def test_the_graph_is_the_last_to_appear(store, source):
    assert publish_version(source, BASE) == f"{BASE}/1"
    requests = [(request, path) for request, path in store.requests if request != "delete"]
    uploads, (hold, *copies) = requests[: len(VERSION_FILES)], requests[len(VERSION_FILES) :]
    assert {request for request, _ in uploads} == {"put"}
    assert {path.partition("/")[0][:12] for _, path in uploads} == {".unpublished"}
    assert uploads[-1][1].endswith("/saved_model.pb")
    assert hold == ("create", ".unpublished-1")
    assert {path for _, path in copies} == {f"1/{name}" for name in VERSION_FILES}
    assert copies[-1] == ("copy", "1/saved_model.pb")
    assert {path.removeprefix("/bucket/models/flowers/") for path in store.store} == {path for _, path in copies}
    assert all(text_of(store, f"1/{name}") == (source / name).read_text() for name in VERSION_FILES)
    assert [found for found in store.loadable if found not in ({}, {"1": set(VERSION_FILES)})] == []
    assert sorted(path.name for path in source.parent.iterdir()) == ["3"]


def test_numbers_go_up_and_are_never_overwritten(store, tmp_path, source):
    assert [publish_version(source, f"{BASE}/"), publish_version(source, BASE, version=7)] == [f"{BASE}/1", f"{BASE}/7"]
    assert publish_version(finished(tmp_path / "new", "new"), BASE) == f"{BASE}/8"
    refused = pytest.raises(PublishError, match="flowers/7 exists; a published version is never overwritten")
    with refused:
        publish_version(tmp_path / "new", BASE, version=7)
    with refused:
        base_path_at(BASE).publish(tmp_path / "new", version=7)
    assert text_of(store, "7/saved_model.pb") == "graph"
    assert text_of(store, "8/saved_model.pb") == "new"


@pytest.mark.parametrize("late", [False, True], ids=["fails", "done, but reported as failed"])
@pytest.mark.parametrize("fail_at", range(1, 2 * len(VERSION_FILES) + 2))
def test_a_store_that_fails_leaves_nothing(store, source, tmp_path, fail_at, late):
    publish_version(finished(tmp_path / "old", "old"), BASE)
    before = {path: file.getvalue() for path, file in store.store.items()}
    begun = len(store.requests)
    store.failures[begun + fail_at] = OSError(errno.ENOSPC, "No space left on device")
    store.fails_when_done.update({begun + fail_at} if late else ())
    with pytest.raises(PublishError, match=r"^[^\n]*flowers[^\n]*: No space left on device\.$"):
        publish_version(source, BASE)
    # A hold that was made, but reported as failed, is not known to be ours: it stays, and the number is left out.
    held = late and store.requests[begun + fail_at - 1][0] == "create"
    left = {path for path in store.store if path not in before}
    assert left == ({"/bucket/models/flowers/.unpublished-2"} if held else set())
    assert {path: store.store[path].getvalue() for path in before} == before
    whole = set(VERSION_FILES)
    assert all(set(found) <= {"1", "2"} and whole == found.get("2", whole) for found in store.loadable)
    assert publish_version(source, BASE) == f"{BASE}/{3 if held else 2}"


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (PermissionError(errno.EACCES, "Access Denied."), "3 cannot be copied there: Access Denied."),
        (LibraryError("Unable to locate credentials\nTry this.\n"), "LibraryError: Unable to locate credentials."),
        (LibraryError(), "cannot be copied there: LibraryError."),
    ],
)
def test_whatever_a_driver_raises_is_one_line(store, source, failure, message):
    store.failures[2] = failure
    with pytest.raises(PublishError) as raised:
        publish_version(source, BASE)
    assert str(raised.value).startswith(f"{BASE}: ")
    assert str(raised.value).endswith(message)
    assert raised.value.__cause__ is failure
    assert store.store == {}


@pytest.mark.parametrize("fail_at", [2, len(VERSION_FILES) + 3])
def test_an_interrupted_upload_leaves_nothing(store, source, fail_at):
    store.failures[fail_at] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        publish_version(source, BASE)
    assert store.store == {}


def test_what_cannot_be_deleted_is_said_and_the_first_failure_counts(store, source, caplog):
    store.failures.update({2: OSError(errno.EIO, "Input/output error"), 3: LibraryError("no right to delete")})
    with pytest.raises(PublishError, match="Input/output error"):
        publish_version(source, BASE)
    (said,) = caplog.messages
    assert said.startswith(f"{BASE}: could not be deleted (LibraryError: no right to delete); delete /bucket/models/")
    # One that is in place is published, even where its leavings stay.
    store.failures.update({len(store.requests) + 2 * len(VERSION_FILES) + 2: LibraryError("no right to delete")})
    assert publish_version(source, BASE) == f"{BASE}/1"
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith("delete /bucket/models/flowers/.unpublished-1")


def test_a_store_that_cannot_be_listed_is_one_clear_line(store, source, monkeypatch):
    def denied(self, path, **keywords):
        raise PermissionError(errno.EACCES, "Access Denied")

    monkeypatch.setattr(WatchedStore, "ls", denied)
    with pytest.raises(PublishError, match=f"^{BASE}: cannot be read: Access Denied"):
        publish_version(source, BASE)
    assert store.requests == []


def test_a_store_that_cannot_make_folders_is_one_clear_line(store, source, monkeypatch):
    def denied(self, path, exist_ok=False):
        raise PermissionError(errno.EACCES, "Access Denied")

    monkeypatch.setattr(WatchedStore, "makedirs", denied)
    with pytest.raises(PublishError, match=r"3 cannot be copied there: Access Denied\.$"):
        publish_version(source, BASE)
    assert store.store == {}


def test_publishers_at_once_get_a_number_each(store, tmp_path):
    sources = [finished(tmp_path / f"new-{index}", str(index)) for index in range(8)]
    published = at_once(lambda source: publish_version(source, BASE), sources)
    assert sorted(published) == [f"{BASE}/{number}" for number in range(1, 9)]
    for index, place in enumerate(published):
        number = place.rpartition("/")[2]
        assert {text_of(store, f"{number}/{name}") for name in VERSION_FILES[:-1]} == {str(index)}
    assert len(store.store) == 8 * len(VERSION_FILES)


def test_of_publishers_of_one_number_one_succeeds(store, tmp_path):
    sources = [finished(tmp_path / f"new-{index}", str(index)) for index in range(8)]
    results = at_once(lambda source: publish_version(source, BASE, version=5), sources)
    (winner,) = [index for index, result in enumerate(results) if isinstance(result, str)]
    kinds = Counter(str(result).removeprefix(f"{BASE}/5 ")[:6] for result in results if not isinstance(result, str))
    assert sum(kinds.values()) == 7
    assert set(kinds) <= {"exists", "is bei"}
    assert {text_of(store, f"5/{name}") for name in VERSION_FILES[:-1]} == {str(winner)}
    assert len(store.store) == len(VERSION_FILES)


def test_what_a_killed_publisher_left_is_not_taken_for_a_version(store, source):
    files = fsspec.filesystem("watched")
    files.pipe_file("/bucket/models/flowers/.unpublished-1", b"host-1")
    files.pipe_file("/bucket/models/flowers/1/variables/variables.index", b"half")
    files.pipe_file("/bucket/models/flowers/.unpublished-2", b"host-2")
    assert publish_version(source, BASE) == f"{BASE}/3"
    with pytest.raises(PublishError) as raised:
        publish_version(source, BASE, version=2)
    assert str(raised.value) == (
        f"{BASE}/2 is being published. If whoever did that was killed, delete what there is of it, and then "
        f"{BASE}/.unpublished-2."
    )
    assert text_of(store, ".unpublished-2") == "host-2"
