"""The fork server: a process that has imported what a model needs, and forks workers.

It speaks with the parent on descriptor 3, a Unix socket of packets; the protocol is
specified in the documentation of the Go package worker. A forked child becomes a worker
like one that was started afresh: the same descriptors, environment, working directory
and process group, and the kernel kills it when the fork server ends.

What differs, and what is done about it:

- Handlers of ``atexit`` that the imports have registered belong to the fork server: it
  runs them when it ends, its children do not. Otherwise the first child to end would
  remove the temporary folder that an import has made for all.
- The random states of ``random`` and ``numpy.random`` are seeded anew in each child. The
  model's own module is imported after that, so a seed that it sets holds.
- Hash seeds of str are shared by all children.
- Variables of the environment that the imports have set are set in the children too.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import logging
import os
import pkgutil
import signal
import socket
import struct
import sys
import threading
import warnings
from typing import Dict, List, NamedTuple, NoReturn, Optional, Tuple

_SOCKET = 3
#: The descriptors of a worker are 0 to 6.
_WORKER_FDS = 7
_FRAME = struct.Struct("<4sBxxxIi")
_MAGIC = b"DFNZ"
_MAX_PACKET = 4096
_MAX_BODY = 16 << 20

READY, UNSAFE, FORK, FORKED, REFUSED, REAP, REAPED = range(1, 8)

#: Packages that do not survive a fork once they are imported.
_NEVER = ("tensorflow",)

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_SYS_PIDFD_OPEN = 434  # on every architecture


class Unsafe(Exception):
    """Why this process must not fork workers."""


class Child(NamedTuple):
    """What a forked child is to become.

    ``fds`` are the worker's descriptors 0 to 6, under other numbers.
    """

    fds: List[int]
    title: bytes
    folder: bytes
    environ: Dict[bytes, bytes]


def main() -> None:
    """Serve forks until the parent hangs up; in a forked child, be a worker.

    The arguments of the process are the modules to import first; one that begins with a
    slash is a folder whose virtual environment they are looked for in.
    """
    names, sys.argv[1:] = sys.argv[1:], []
    os.environ.pop("DEEPFN_WORKER", None)
    before = dict(os.environb)
    try:
        _reserve()
        channel = socket.socket(fileno=_SOCKET)
        channel.set_inheritable(False)
        _libc().prctl(_PR_SET_NAME, b"deepfn-fork", 0, 0, 0)
        skipped = preload(names)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.collect()
        gc.freeze()
        check()
    except Unsafe as why:
        _send(channel, UNSAFE, text=str(why))
        return
    _send(channel, READY, text="\n".join(f"{name}: {why}" for name, why in skipped.items()))
    child = serve(channel)
    if child is None:
        return
    channel.close()
    become(child, _changes(before))
    from . import serve as worker

    worker.main()


def _reserve() -> None:
    """Keep the numbers of a worker's descriptors free of what imports open."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if fd >= _WORKER_FDS:
            os.close(fd)
            return


def preload(names: List[str]) -> Dict[str, str]:
    """Import the launcher and the modules; return those that fail, and why.

    Raises Unsafe for a module that does not survive a fork.
    """
    package = __name__.rpartition(".")[0]
    for found in pkgutil.iter_modules(sys.modules[package].__path__):
        if found.name not in ("__main__", "zygote"):
            importlib.import_module(package + "." + found.name)
    skipped: Dict[str, str] = {}
    for name in names:
        if name.split(".")[0] in _NEVER:
            raise Unsafe(f"{name} does not work in a forked process")
        try:
            if name.startswith("/"):
                _use_folder(name)
            else:
                importlib.import_module(name)
        except BaseException as err:  # sys.exit() in a module, too
            skipped[name] = f"{type(err).__name__}: {_text(err)}"
    return skipped


def _use_folder(folder: str) -> None:
    from . import load

    use = getattr(load, "_use_virtualenv")  # noqa: B009 - it is not ours
    use(folder)


def _text(err: BaseException) -> str:
    try:
        return str(err)[:300]
    except Exception:
        return "?"


def check() -> None:
    """Raise Unsafe unless a child of this process would work as one started afresh."""
    for name in _NEVER:
        if name in sys.modules:
            raise Unsafe(f"{name} was imported, which does not work in a forked process")
    if threading.active_count() > 1:
        others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
        raise Unsafe("importing has started threads: {}".format(", ".join(others)[:300]))
    _check_devices()
    _check_native_threads()


def _check_devices() -> None:
    """CUDA contexts are not inherited."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    initialized = getattr(cuda, "is_initialized", None)
    if initialized is not None and initialized():
        raise Unsafe("importing has initialized CUDA in torch")
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + fd)
        except OSError:  # the one of the listing itself
            continue
        if target.startswith("/dev/nvidia"):
            raise Unsafe(f"importing has opened {target}")


def _check_native_threads() -> None:
    """Fork once, to see whether it works and which threads of libraries are left.

    A library that is ready for forks, as OpenBLAS, ends its threads before and starts new
    ones when it needs them. Threads that are still there after a fork are missing in the
    child.
    """
    pid = _fork()
    if pid == 0:
        os._exit(0)
    try:
        os.close(_pidfd(pid))
    except OSError as err:
        raise Unsafe(f"the kernel gives no descriptors of processes: {err}") from err
    finally:
        os.waitpid(pid, 0)
    tasks = os.listdir("/proc/self/task")
    if len(tasks) > 1:
        raise Unsafe(f"importing has started {len(tasks) - 1} threads in native code")


def _fork() -> int:
    """Fork, with nothing in the streams that both would print."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of the threads that check has looked for.
        warnings.simplefilter("ignore")
        return os.fork()


def serve(channel: socket.socket) -> Optional[Child]:
    """Fork and reap as the parent asks; return None when it has hung up.

    In a child it returns what that is to become.
    """
    while True:
        packet, fds = _receive(channel)
        if not packet:
            return None
        kind, number, pid = _parse(packet)
        if kind == REAP:
            _reap(channel, number, pid)
            continue
        try:
            child = _read(kind, fds)
        except (OSError, ValueError) as err:
            _close(fds)
            _send(channel, REFUSED, number, text=str(err))
            continue
        if _fork_child(channel, number, child):
            return child


def _receive(channel: socket.socket) -> Tuple[bytes, List[int]]:
    """Return a packet and the descriptors that came with it."""
    size = array.array("i").itemsize
    room = socket.CMSG_SPACE(16 * size)
    while True:
        try:
            packet, control, _, _ = channel.recvmsg(_MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return b"", []
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) // size * size])
        return packet, list(fds)


def _parse(packet: bytes) -> Tuple[int, int, int]:
    if len(packet) < _FRAME.size:
        raise SystemExit("deepfn: a packet of the parent is too short")
    magic, kind, number, pid = _FRAME.unpack_from(packet)
    if magic != _MAGIC or kind not in (FORK, REAP):
        raise SystemExit(f"deepfn: a packet of the parent is of the unknown type {kind}")
    return kind, number, pid


def _read(kind: int, fds: List[int]) -> Child:
    """Read what a child is to become; the last descriptor is the file that says it."""
    if kind != FORK or len(fds) != _WORKER_FDS + 1:
        raise ValueError(f"{len(fds)} descriptors came, not {_WORKER_FDS + 1}")
    size = os.fstat(fds[-1]).st_size
    if size > _MAX_BODY:
        raise ValueError(f"an environment of {size} bytes")
    body = os.pread(fds[-1], size, 0)
    if len(body) != size or not body.endswith(b"\0"):
        raise ValueError("the environment is not complete")
    title, folder, *variables = body[:-1].split(b"\0")
    pairs = (v.partition(b"=") for v in variables)
    return Child(fds, title, folder, {name: value for name, _, value in pairs if name})


def _fork_child(channel: socket.socket, number: int, child: Child) -> bool:
    """Fork and tell the parent; return True in the child."""
    me = os.getpid()
    try:
        pid = _fork()
    except OSError as err:
        _close(child.fds)
        _send(channel, REFUSED, number, text=f"fork: {err}")
        return False
    if pid == 0:
        _tie(me)
        return True
    _close(child.fds)
    with contextlib.suppress(OSError):  # it has ended
        os.setpgid(pid, pid)  # the parent may kill the group before the child was scheduled
    try:
        fd = _pidfd(pid)
    except OSError as err:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _send(channel, REFUSED, number, text=f"pidfd_open: {err}")
        return False
    try:
        _send(channel, FORKED, number, pid, fd=fd)
    finally:
        os.close(fd)
    return False


def _tie(parent: int) -> None:
    """Make the child the leader of a group that ends with the fork server."""
    os.setpgid(0, 0)
    if _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(1)


def become(child: Child, changes: Dict[bytes, Tuple[Optional[bytes], Optional[bytes]]]) -> None:
    """Give this process the descriptors, the environment and the folder of a worker.

    ``changes`` are the variables that imports have changed, with the values before and
    after. Where the child would have had the value before, it gets the one after.
    """
    for target, fd in enumerate(child.fds[:_WORKER_FDS]):
        os.dup2(fd, target, inheritable=True)
    _close(child.fds)
    _libc().prctl(_PR_SET_NAME, child.title[:15], 0, 0, 0)
    environ = dict(child.environ)
    for name, (old, new) in changes.items():
        if environ.get(name) == old:
            environ.pop(name, None)
            if new is not None:
                environ[name] = new
    for name in [n for n in os.environb if n not in environ]:
        del os.environb[name]
    os.environb.update(environ)
    if child.folder:
        try:
            os.chdir(child.folder)
        except OSError as err:
            _fail(f"deepfn: the working directory: {err}")
    _start_over()


def _changes(before: Dict[bytes, bytes]) -> Dict[bytes, Tuple[Optional[bytes], Optional[bytes]]]:
    """Return the variables that are not as they were before, with both values."""
    after = dict(os.environb)
    names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
    return {n: (before.get(n), after.get(n)) for n in names}


def _start_over() -> None:
    """Separate the state of libraries from that of the other children."""
    atexit._clear()
    atexit.register(logging.shutdown)
    for name in ("random", "numpy.random"):
        seed = getattr(sys.modules.get(name), "seed", None)
        if seed is not None:
            seed()


def _reap(channel: socket.socket, number: int, pid: int) -> None:
    """Give the id of a child that has ended back, and tell how it ended."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except (OSError, OverflowError) as err:
        _send(channel, REFUSED, number, text=f"waitpid: {err}")
        return
    if done == 0:
        _send(channel, REFUSED, number, text=f"the process {pid} has not ended")
        return
    _send(channel, REAPED, number, status)


def _send(
    channel: socket.socket,
    kind: int,
    number: int = 0,
    value: int = 0,
    *,
    text: str = "",
    fd: int = -1,
) -> None:
    """Send a packet; a parent that has gone is noticed by the next read."""
    packet = _FRAME.pack(_MAGIC, kind, number, value)
    packet += text.encode("utf-8", "backslashreplace")[: _MAX_PACKET - len(packet)]
    rights = []
    if fd >= 0:
        rights.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd])))
    with contextlib.suppress(OSError):
        channel.sendmsg([packet], rights, socket.MSG_NOSIGNAL)


def _close(fds: List[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _fail(msg: str) -> NoReturn:
    """End a child before it is a worker; its last line says why."""
    os.write(2, msg.encode("utf-8", "backslashreplace") + b"\n")
    os._exit(1)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _pidfd(pid: int) -> int:
    """Return a descriptor of a child that was not reaped."""
    known = getattr(os, "pidfd_open", None)  # not in Python 3.8, nor with old headers
    if known is not None:
        fd: int = known(pid)
        return fd
    fd = _libc().syscall(_SYS_PIDFD_OPEN, pid, 0)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return fd
