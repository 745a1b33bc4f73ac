"""The uploads of one request as files."""

from __future__ import annotations

import contextlib
import fcntl
import mimetypes
import os
import re
import shutil
import stat
import sys
import tempfile
from typing import Any, Callable, Optional

from .words import Failure, Store, Upload

#: Suffixes that say little without the one before them: scan.nii.gz, array.npy.lz4.
_OUTER = frozenset((".gz", ".bz2", ".xz", ".lz4", ".zst", ".z", ".br", ".lzma", ".zip"))
#: uploads.go has it too, which removes the folders of workers that have died.
_PREFIX = "deepfn-uploads-"
_SUFFIX = re.compile(r"\.[A-Za-z0-9_+-]{1,16}\Z")


def suffix(filename: str, content_type: str = "") -> str:
    """Return the suffix that a stored file gets, "" for none.

    It is the last suffix of the client's filename, with the one before a compression's;
    without any it is guessed from the media type. It holds no separator and has at most 34
    characters.
    """
    base = re.split(r"[/\\]", filename)[-1]
    stem, last = os.path.splitext(base)
    if not last:
        media = content_type.split(";", 1)[0].strip().lower()
        known = media and media != "application/octet-stream"
        return (known and mimetypes.guess_extension(media)) or ""
    if not _SUFFIX.match(last):
        return ""
    before = os.path.splitext(stem)[1]
    if last.lower() in _OUTER and _SUFFIX.match(before):
        return before + last
    return last


class Uploads(Store):
    """Stores uploads in a folder of their own, which is made with the first one."""

    #: Whether this process has looked for folders of processes that died.
    _swept = False

    def __init__(self) -> None:
        self._dir = ""
        self._lock = -1
        self._count = 0

    def save(self, upload: Upload) -> str:
        """Write an upload to a temporary file that keeps its suffix; return its path.

        Raises a Failure "unavailable" when the disk does not take it.
        """
        view = upload.data
        try:
            if not self._dir:
                self._open()
            self._count += 1
            end = suffix(upload.filename, upload.content_type)
            path = os.path.join(self._dir, f"upload-{self._count}{end}")
            with open(path, "xb", buffering=0) as file:
                while view:
                    view = view[file.write(view) :]
        except OSError as exc:
            raise Failure(
                "unavailable",
                f"the upload {upload.name!r} of {upload.data.nbytes} bytes could not be stored: "
                f"{exc.strerror or exc}",
            ) from exc
        return path

    def _open(self) -> None:
        """Make the folder, and hold its lock while there is this process."""
        if not Uploads._swept:
            Uploads._swept = True
            _sweep(tempfile.gettempdir())
        while not self._dir:
            made = tempfile.mkdtemp(prefix=_PREFIX)
            try:
                lock = _away(os.open(made, os.O_RDONLY | os.O_DIRECTORY))
            except FileNotFoundError:
                continue
            with contextlib.suppress(OSError):  # a file system without locks: never swept
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(made):
                self._dir, self._lock = made, lock
            else:  # another process took it for one that was left
                os.close(lock)

    def close(self) -> None:
        """Remove the folder with all that is in it. What cannot be removed is logged."""
        if not self._dir:
            return
        try:
            self._remove()
        finally:
            lock, self._lock = self._lock, -1
            with contextlib.suppress(OSError):  # a module may have closed it
                os.close(lock)

    def _remove(self) -> None:
        folder, self._dir = self._dir, ""
        if not os.path.lexists(folder):
            return
        problems = []

        def again(function: Callable[..., Any], path: str, info: Any) -> None:
            """Give ourselves the right to a folder that the module locked; then try again."""
            exc = info[1] if isinstance(info, tuple) else info
            if isinstance(exc, FileNotFoundError):
                return
            try:
                parent = os.path.dirname(path)
                for place in (parent, path):
                    if os.path.isdir(place) and not os.path.islink(place):
                        os.chmod(place, stat.S_IRWXU)
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.unlink(path)
            except OSError:
                problems.append(exc)

        error: Optional[BaseException] = None
        try:
            # onerror is deprecated since Python 3.12, but 3.8 knows no other.
            if sys.version_info >= (3, 12):
                shutil.rmtree(folder, onexc=again)
            else:
                shutil.rmtree(folder, onerror=again)
        except Exception as exc:
            error = exc
        if os.path.lexists(folder):
            reason = error or (problems[0] if problems else "something was left in it")
            with contextlib.suppress(Exception):
                print(f"deepfn: the uploads in {folder} stay there: {reason}", file=sys.stderr)


def _away(fd: int) -> int:
    """Move a descriptor far away from those that modules close."""
    try:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 120)
    except OSError:  # there may be no such number
        return fd
    os.close(fd)
    return copy


def _sweep(place: str) -> None:
    """Remove the folders whose processes died before they could. Never raises."""
    with contextlib.suppress(OSError):
        for name in os.listdir(place):
            if not name.startswith(_PREFIX):
                continue
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(lock)
