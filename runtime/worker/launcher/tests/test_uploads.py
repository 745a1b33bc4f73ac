from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from typing import Any, List

import pytest
from deepfn_launcher import uploads
from deepfn_launcher.uploads import Uploads
from deepfn_launcher.words import Failure, Upload


def upload(filename: str = "a.png", data: bytes = b"123", media: str = "") -> Upload:
    return Upload("f", filename, media, memoryview(data))


@pytest.fixture(autouse=True)
def temporary(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


SUFFIXES: List[Any] = [
    ("a.png", "", ".png"),
    ("A.PNG", "", ".PNG"),
    ("scan.nii.gz", "", ".nii.gz"),
    ("array.npy.lz4", "", ".npy.lz4"),
    ("a.b.c.txt", "", ".txt"),
    ("a.gz", "", ".gz"),
    ("v1.2.zip", "", ".2.zip"),
    ("noend", "", ""),
    ("", "", ""),
    (".hidden", "", ""),
    ("a.", "", ""),
    ("../../etc/passwd", "", ""),
    ("../x.sh/../a", "", ""),
    ("c:\\x.y\\photo.jpg", "", ".jpg"),
    ("a.p/ng", "", ""),
    ("a.p\0ng", "", ""),
    ("a.p ng", "", ""),
    ("a." + "x" * 17, "", ""),
    ("a." + "x" * 16, "", "." + "x" * 16),
    ("a.ä", "", ""),
    ("noend", "image/png", ".png"),
    ("noend", "image/jpeg; q=1", ".jpg"),
    ("", "text/html", ".html"),
    ("", "x/nothing", ""),
    ("", "application/octet-stream", ""),
    ("a.dat", "image/png", ".dat"),
]


@pytest.mark.parametrize(("filename", "media", "want"), SUFFIXES)
def test_suffix(filename: str, media: str, want: str) -> None:
    assert uploads.suffix(filename, media) == want


def test_nothing_is_made_before_the_first_upload(temporary: pathlib.Path) -> None:
    store = Uploads()
    store.close()
    assert list(temporary.iterdir()) == []


def test_save_and_close(temporary: pathlib.Path) -> None:
    store = Uploads()
    paths = [store.save(upload(data=bytes([n]) * n)) for n in range(3)]
    assert len(set(paths)) == 3
    for n, path in enumerate(paths):
        assert pathlib.Path(path).read_bytes() == bytes([n]) * n
        assert path.endswith(".png")
        assert os.stat(os.path.dirname(path)).st_mode & 0o77 == 0
    store.close()
    store.close()
    assert list(temporary.iterdir()) == []


def test_files_whose_names_have_no_end_lie_inside(temporary: pathlib.Path) -> None:
    store = Uploads()
    path = store.save(upload("../../../" + "x" * 5000))
    assert pathlib.Path(path).parent.parent == temporary
    store.close()


def test_what_the_module_did_to_its_files_is_removed(temporary: pathlib.Path) -> None:
    store = Uploads()
    first, second = store.save(upload()), store.save(upload())
    folder = pathlib.Path(first).parent
    os.rename(first, folder / "mine.png")
    os.unlink(second)
    (folder / "new" / "deep").mkdir(parents=True)
    (folder / "new" / "deep" / "file").write_text("x")
    outside = temporary / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (folder / "link").symlink_to(outside)
    store.close()
    assert [p.name for p in temporary.iterdir()] == ["outside"]
    assert (outside / "kept").exists()


def test_a_folder_that_the_module_removed(capsys: pytest.CaptureFixture[str]) -> None:
    store = Uploads()
    folder = pathlib.Path(store.save(upload())).parent
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    store.close()
    assert capsys.readouterr().err == ""


def test_folders_that_the_module_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        os.chmod(open_to_all, 0o777)
        monkeypatch.setattr(tempfile, "tempdir", open_to_all)
        check_locked()


def check_locked() -> None:
    store = Uploads()
    folder = pathlib.Path(store.save(upload())).parent
    locked = folder / "locked"
    locked.mkdir()
    (locked / "file").write_text("x")
    locked.chmod(0)
    folder.chmod(0o500)
    pid = os.fork()  # as somebody who is not the superuser, where that is possible
    if pid == 0:
        with contextlib.suppress(OSError):
            os.chown(folder, 65534, 65534)
            os.chown(locked, 65534, 65534)
            os.setuid(65534)
        store.close()
        os._exit(1 if folder.exists() else 0)
    assert os.waitpid(pid, 0)[1] == 0
    store.close()


def test_a_folder_that_became_a_link_is_not_followed(temporary: pathlib.Path) -> None:
    store = Uploads()
    folder = pathlib.Path(store.save(upload())).parent
    kept = temporary / "kept"
    os.rename(folder, kept)
    folder.symlink_to(kept)
    store.close()
    assert len(list(kept.iterdir())) == 1
    assert not folder.is_symlink()


def test_what_cannot_be_removed_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("not yours")

    store = Uploads()
    folder = pathlib.Path(store.save(upload())).parent
    monkeypatch.setattr(uploads.shutil, "rmtree", refuse)
    store.close()
    assert f"the uploads in {folder} stay there: not yours" in capsys.readouterr().err


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Uploads()
    store.save(upload())
    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(Failure) as caught:
        store.save(upload())
    monkeypatch.undo()
    store.close()
    assert caught.value.code == "unavailable"
    assert caught.value.msg == (
        "the upload 'f' of 3 bytes could not be stored: No space left on device"
    )


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(Failure) as caught:
        Uploads().save(upload())
    assert caught.value.code == "unavailable"


def test_folders_of_the_dead_are_removed(
    temporary: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uploads, "_swept", False)
    living = Uploads()
    living.save(upload())
    dead = temporary / "deepfn-uploads-dead"
    dead.mkdir()
    (dead / "upload-1").write_bytes(b"123")
    (temporary / "deepfn-uploads-file").write_bytes(b"no folder")
    other = temporary / "others"
    other.mkdir()
    monkeypatch.setattr(Uploads, "_swept", False)
    store = Uploads()
    path = store.save(upload())
    left = {p.name for p in temporary.iterdir()}
    assert not dead.exists()
    assert other.exists()
    assert os.path.basename(living._dir) in left
    assert os.path.exists(path)
    store.close()
    living.close()
    assert {p.name for p in temporary.iterdir()} == {"others", "deepfn-uploads-file"}


def test_a_folder_that_was_taken_for_a_dead_ones_is_made_again(
    temporary: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: List[str] = []
    mkdtemp = tempfile.mkdtemp

    def swept_at_once(prefix: str) -> str:
        folder = mkdtemp(prefix=prefix)
        made.append(folder)
        if len(made) == 1:
            os.rmdir(folder)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", swept_at_once)
    store = Uploads()
    assert os.path.dirname(store.save(upload())) == made[1]
    store.close()
    assert list(temporary.iterdir()) == []


def test_no_descriptors_are_left(temporary: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        store = Uploads()
        store.save(upload())
        store.close()
    assert len(os.listdir("/proc/self/fd")) == before
