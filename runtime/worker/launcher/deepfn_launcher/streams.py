"""What the model prints: kept apart from the protocol, and complete before each answer."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import io
import os
import sys
from typing import Any, Callable, Optional, TextIO


class Streams:
    """Looks after descriptors 1 and 2, sys.stdout and sys.stderr.

    A module may replace sys.stdout or point descriptor 1 elsewhere, which stays so. What
    is closed when a call has ended is opened again.
    """

    def __init__(self) -> None:
        """Set the streams up: UTF-8, by lines, and never an error because of a character."""
        self._copies = {fd: _copy(fd) for fd in (1, 2)}
        self._flush_c = _c_flush()
        self._ours: Any = None
        for name, fd in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            if isinstance(stream, io.TextIOWrapper) and not stream.closed:
                with contextlib.suppress(Exception):
                    stream.reconfigure(
                        encoding="utf-8", errors="backslashreplace", line_buffering=True
                    )
                    continue
            setattr(sys, name, _open(fd))
        # A crash in native code prints where Python was, on the descriptor itself.
        with contextlib.suppress(Exception):
            faulthandler.enable(2)

    def settle(self) -> None:
        """Flush everything and open again what the model has closed. Never raises."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:  # an object of the module's own may raise anything
                self._repair()
        flush_c = self._flush_c
        if flush_c is not None:
            flush_c()
        try:
            fcntl.fcntl(1, fcntl.F_GETFD)
            fcntl.fcntl(2, fcntl.F_GETFD)
        except OSError:
            self._repair()

    def _repair(self) -> None:
        for name, fd in (("stdout", 1), ("stderr", 2)):
            copy = self._copies[fd]
            try:
                fcntl.fcntl(fd, fcntl.F_GETFD)
            except OSError:
                if copy is not None:
                    with contextlib.suppress(OSError):
                        os.dup2(copy, fd)
            stream = getattr(sys, name)
            useless = True
            with contextlib.suppress(BaseException):
                useless = bool(getattr(stream, "closed", False)) or not hasattr(stream, "write")
            if useless:
                setattr(sys, name, _open(fd))


def flush() -> None:
    """Flush what Python holds back for stdout and stderr. Never raises."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # an object of the module's own
            stream.flush()


def _open(fd: int) -> TextIO:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _copy(fd: int) -> Optional[int]:
    """Return a copy of a descriptor far away from those that modules close."""
    for lowest in (110, 20):
        with contextlib.suppress(OSError):
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    return None


def _c_flush() -> Optional[Callable[[], object]]:
    """Return a function that flushes C's stdout, if there is a C library to ask.

    Not fflush(NULL): it waits for the lock of every stream, also of one that a thread of
    the module reads from.
    """
    try:
        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        fflush = libc.fflush
        fflush.argtypes, fflush.restype = [ctypes.c_void_p], ctypes.c_int
    except (OSError, ValueError, AttributeError):
        return None
    return lambda: fflush(stdout)
