from __future__ import annotations

import array
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from typing import Dict, Iterator, List, Optional, Tuple

import pytest

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from deepfn_launcher import zygote"
FRAME = struct.Struct("<4sBxxxIi")
PATIENCE = 60

READY, UNSAFE, FORK, FORKED, REFUSED, REAP, REAPED = range(1, 8)


class Server:
    """A fork server, and the parent's side of its socket."""

    def __init__(self, folder: pathlib.Path, names: List[str], env: Dict[str, str]) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(PATIENCE)
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as self
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", BOOT + "; zygote.main()", HOME, *names],
            {**os.environ, "PYTHONPATH": str(folder), "DEEPFN_WORKER": "1", **env},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self.output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, self.output.fileno(), 2),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
            ],
        )
        theirs.close()
        self.number = 0

    def receive(self) -> Tuple[int, int, int, str, int]:
        """Return type, id, number, text and descriptor of the next packet."""
        packet, control, _, _ = self.channel.recvmsg(4096, 1000)
        if not packet:
            raise EOFError(self.printed())
        fds = array.array("i")
        for _, _, data in control:
            fds.frombytes(data)
        magic, kind, number, value = FRAME.unpack_from(packet)
        assert magic == b"DFNZ"
        assert len(fds) == (1 if kind == FORKED else 0)
        return kind, number, value, packet[FRAME.size :].decode(), fds[0] if fds else -1

    def ask(
        self, kind: int, value: int = 0, fds: Optional[List[int]] = None
    ) -> Tuple[int, int, str, int]:
        """Return the answer to a packet: type, number, text, descriptor."""
        self.number += 1
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds or []))]
        self.channel.sendmsg([FRAME.pack(b"DFNZ", kind, self.number, value)], rights if fds else [])
        kind, number, value, text, fd = self.receive()
        assert number == self.number
        return kind, value, text, fd

    def ready(self) -> str:
        kind, _, _, text, _ = self.receive()
        assert kind == READY, text
        return text

    def hang_up(self) -> int:
        """Return the status with which the server ends."""
        self.channel.close()
        return os.waitpid(self.pid, 0)[1]

    def printed(self) -> str:
        return os.pread(self.output.fileno(), 1 << 20, 0).decode()


class Birth:
    """A child that a server was asked for."""

    def __init__(self, server: Server, words: List[bytes], count: int = 8) -> None:
        self.body = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as self
        self.body.write(b"".join(w + b"\0" for w in words))
        self.body.flush()
        self.memory = tempfile.TemporaryFile()  # noqa: SIM115 - as body
        self.out, out = os.pipe()
        control, self.control = os.pipe()
        self.frames, frames = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        memory = self.memory.fileno()
        fds = [null, out, out, control, frames, memory, memory, self.body.fileno()]
        self.kind, self.pid, self.text, self.fd = server.ask(FORK, fds=fds[-count:])
        for fd in (null, out, control, frames):
            os.close(fd)

    def wait(self) -> str:
        """Wait for the end of the child and return what it has printed."""
        ready, _, _ = select.select([self.fd], [], [], PATIENCE)
        assert ready, "it does not end"
        return os.read(self.out, 1 << 16).decode()


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for server in starter.made:
        try:
            os.kill(server.pid, signal.SIGKILL)
            os.waitpid(server.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


class Starter:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.made: List[Server] = []

    def __call__(self, *names: str, source: str = "", **env: str) -> Server:
        """Start a server that imports the names; source is that of the module imported."""
        (self.folder / "imported.py").write_text(source)
        server = Server(self.folder, list(names), env)
        self.made.append(server)
        return server


def words(folder: pathlib.Path, **env: str) -> List[bytes]:
    env = {"DEEPFN_WORKER": "1", "PATH": os.environ["PATH"], **env}
    return [b"title", os.fsencode(folder), *(os.fsencode(f"{k}={v}") for k, v in env.items())]


def test_a_child_is_a_worker(serve: Starter, tmp_path: pathlib.Path) -> None:
    server = serve()
    assert server.ready() == ""
    child = Birth(server, words(tmp_path))
    assert child.kind == FORKED, child.text
    hello = os.read(child.frames, 64)
    assert hello[:7] == b"DFNW\x01\x00\x01"
    assert struct.unpack_from("<I", hello, 60)[0] == child.pid
    assert os.getpgid(child.pid) == child.pid
    assert os.readlink(f"/proc/{child.pid}/cwd") == str(tmp_path)
    with open(f"/proc/{child.pid}/comm") as f:
        assert f.read() == "title\n"
    held = [os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{child.pid}/fd")]
    assert not [h for h in held if h.startswith("socket")], held
    assert server.ask(REAP, child.pid)[0] == REFUSED
    os.close(child.control)
    assert child.wait() == ""
    assert server.ask(REAP, child.pid)[:2] == (REAPED, 0)
    assert server.ask(REAP, child.pid)[0] == REFUSED
    assert server.hang_up() == 0


def test_the_status_of_a_child(serve: Starter, tmp_path: pathlib.Path) -> None:
    server = serve()
    server.ready()
    child = Birth(server, words(tmp_path))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert server.ask(REAP, child.pid)[:2] == (REAPED, int(signal.SIGKILL))


def test_children_end_with_the_server(serve: Starter, tmp_path: pathlib.Path) -> None:
    server = serve()
    server.ready()
    child = Birth(server, words(tmp_path))
    os.kill(server.pid, signal.SIGKILL)
    child.wait()


def test_wrong_requests_are_refused(serve: Starter, tmp_path: pathlib.Path) -> None:
    server = serve()
    server.ready()
    assert Birth(server, words(tmp_path), count=3).kind == REFUSED
    assert Birth(server, []).kind == REFUSED
    assert server.ask(REAP, 1)[0] == REFUSED
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    Birth(server, [], count=7)
    assert len(os.listdir(f"/proc/{server.pid}/fd")) == before
    assert Birth(server, words(tmp_path)).kind == FORKED


@pytest.mark.parametrize("packet", [b"DFNZ", b"x" * 16, FRAME.pack(b"DFNZ", 9, 1, 0)])
def test_a_broken_protocol_ends_it(serve: Starter, packet: bytes) -> None:
    server = serve()
    server.ready()
    server.channel.send(packet)
    with pytest.raises(EOFError, match="deepfn: a packet of the parent"):
        server.receive()


def test_a_folder_that_there_is_not(serve: Starter, tmp_path: pathlib.Path) -> None:
    server = serve()
    server.ready()
    child = Birth(server, words(tmp_path / "none"))
    assert "deepfn: the working directory: " in child.wait()
    assert server.ask(REAP, child.pid)[:2] == (REAPED, 1 << 8)


def test_imports_that_fail_are_left_out(serve: Starter) -> None:
    server = serve("imported", "json", "not_there.x", source="import sys\nsys.exit('enough')\n")
    first, second = server.ready().split("\n")
    assert first == "imported: SystemExit: enough"
    assert second == "not_there.x: ModuleNotFoundError: No module named 'not_there'"


def test_what_was_printed_is_printed_once(serve: Starter, tmp_path: pathlib.Path) -> None:
    server = serve("imported", source="print('half a line', end='')\n")
    server.ready()
    child = Birth(server, words(tmp_path))
    os.close(child.control)
    assert child.wait() == ""
    assert server.printed() == "half a line"


def test_imports_cannot_take_descriptors_of_workers(serve: Starter, tmp_path: pathlib.Path) -> None:
    source = "import os\nfd = os.open('/dev/zero', os.O_RDONLY)\nassert fd > 6, fd\n"
    server = serve("imported", source=source)
    assert server.ready() == ""
    child = Birth(server, words(tmp_path))
    os.read(child.frames, 64)
    held = [os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{child.pid}/fd")]
    assert "/dev/zero" in held


def test_exit_handlers_run_once(serve: Starter, tmp_path: pathlib.Path) -> None:
    source = "import atexit\natexit.register(print, 'the handler', flush=True)\n"
    server = serve("imported", source=source)
    server.ready()
    child = Birth(server, words(tmp_path))
    os.close(child.control)
    assert child.wait() == ""
    assert server.hang_up() == 0
    assert server.printed() == "the handler\n"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(1000,), name='mine', daemon=True).start()\n",
            "importing has started threads: mine",
        ),
        (
            "import ctypes\nlibc = ctypes.CDLL(None)\n"
            "libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)\n",
            "importing has started 1 threads in native code",
        ),
        ("import sys\nsys.modules['tensorflow'] = sys\n", "tensorflow was imported"),
    ],
)
def test_unsafe_imports(serve: Starter, source: str, why: str) -> None:
    server = serve("imported", source=source)
    kind, _, _, text, _ = server.receive()
    assert (kind, text[: len(why)]) == (UNSAFE, why)


def test_tensorflow_is_not_even_imported(serve: Starter, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('it was')\n")
    kind, _, _, text, _ = serve("tensorflow.keras").receive()
    assert (kind, text) == (UNSAFE, "tensorflow.keras does not work in a forked process")


BECOME = """
import os, subprocess
before = {b"SET": b"1", b"GONE": b"1", b"OWN": b"1"}
os.environb.clear()
os.environb.update(before)
os.environ.update({"SET": "2", "OWN": "2", "NEW": "2", "KEPT": "2"})
del os.environ["GONE"]
fds = [os.dup(i) for i in (0, 1, 2, 0, 0, 0, 0, 0)]
own = {b"SET": b"1", b"GONE": b"1", b"OWN": b"3", b"KEPT": b"3"}
zygote.become(zygote.Child(fds, b"x", b"", own), zygote._changes(before))
print(sorted(os.environ.items()))
print(sorted(subprocess.check_output(["/usr/bin/env"]).split()))
"""


def test_the_environment_of_a_child() -> None:
    """Its own, but what imports have changed stays changed if it was theirs to change."""
    command = [sys.executable, "-c", BOOT + BECOME, HOME]
    out = subprocess.run(command, capture_output=True, check=False)
    want = {"SET": "2", "OWN": "3", "NEW": "2", "KEPT": "3"}
    told = sorted(f"{k}={v}".encode() for k, v in want.items())
    assert out.stdout.decode() == f"{sorted(want.items())}\n{told}\n", out.stderr
