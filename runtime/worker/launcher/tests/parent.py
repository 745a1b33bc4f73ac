"""The parent's side of the worker protocol, for tests of the launcher."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

FRAME = struct.Struct("<IHBBQIIQqqQII")
MAGIC = int.from_bytes(b"DFNW", "little")
CANCEL_AREA = 64 << 10
HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.join(os.path.dirname(HERE), "deepfn_launcher")


def align(n: int, to: int) -> int:
    return (n + to - 1) // to * to


def part(payload: bytes, name: str, media: str, filename: str, kind: int, data: bytes) -> bytes:
    """Append a part to a payload."""
    payload += b"\0" * (align(len(payload), 8) - len(payload))
    strings = [s.encode() for s in (name, media, filename)]
    payload += struct.pack("<4IQ", *map(len, strings), kind, len(data)) + b"".join(strings)
    return payload + b"\0" * (align(len(payload), 64) - len(payload)) + data


def request(
    args: Any = None,
    *,
    verb: str = "predict",
    accept: str = "",
    raw: Optional[bytes] = None,
    files: Tuple[Tuple[str, str, str, bytes], ...] = (),
    texts: Tuple[Tuple[int, str, str], ...] = (),
) -> Tuple[bytes, int]:
    """Return the payload of a call and its number of parts."""
    strings = [s.encode() for s in ("model", verb, "id-1", accept)]
    payload = struct.pack("<4I", *map(len, strings)) + b"".join(strings)
    if raw is None:
        raw = b"" if args is None else json.dumps(args).encode()
    payload = part(payload, "", "application/json", "", 0, raw)
    for name, filename, media, data in files:
        payload = part(payload, name, media, filename, 0, data)
    for origin, name, value in texts:
        payload = part(payload, name, "", "", origin, value.encode())
    return payload, 1 + len(files) + len(texts)


@dataclass
class Answer:
    """What the child answered."""

    type: int
    id: int
    lane: int
    run: int
    media: str
    filename: str
    kind: int
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    def ok(self) -> Any:
        """Return the JSON of a result."""
        assert self.type == 6, self.data
        return json.loads(self.data)

    def error(self) -> Dict[str, Any]:
        """Return an error as a dict."""
        assert self.type in (4, 7), self
        told: Dict[str, Any] = json.loads(self.data)
        return told


class Parent:
    """A launcher in a child process, and the descriptors to speak with it."""

    def __init__(
        self, argv: List[str], *, lanes: int = 1, limit: int = 1 << 20, env: Any = None
    ) -> None:
        self.limit, self.lanes = limit, lanes
        self.lane_size = align(limit, CANCEL_AREA)
        self.req = os.memfd_create("requests")
        self.resp = os.memfd_create("responses")
        os.ftruncate(self.req, CANCEL_AREA + lanes * self.lane_size)
        os.ftruncate(self.resp, lanes * self.lane_size)
        child_in, self.to_child = os.pipe()
        self.from_child, child_out = os.pipe()
        ours = [child_in, child_out, self.req, self.resp]
        # Descriptors of a child are given by a shell: subprocess cannot renumber them.
        high = [os.dup(fd) for fd in ours]
        high = [self._above(fd) for fd in high]
        redirect = " ".join(f"{n}<&{fd} {fd}<&-" for n, fd in zip(range(3, 7), high))
        self.out = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill
        self.err = tempfile.TemporaryFile()  # noqa: SIM115
        self.proc = subprocess.Popen(
            ["bash", "-c", f'exec "$@" {redirect}', "bash", *argv],
            env={**os.environ, "DEEPFN_WORKER": "1", **(env or {})},
            pass_fds=high,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=self.err,
            start_new_session=True,
        )
        for fd in [child_in, child_out, *high]:
            os.close(fd)
        # A test that hangs is a test that fails.
        self._watch = threading.Timer(60, self.proc.kill)
        self._watch.start()
        self.last = 0

    @staticmethod
    def _above(fd: int) -> int:
        import fcntl

        high = fcntl.fcntl(fd, fcntl.F_DUPFD, 20)
        os.close(fd)
        return high

    def frame(self, **said: int) -> None:
        """Send a frame with these fields."""
        words = "type flags id lane parts length deadline run limit lanes pid"
        names = words.split()
        os.write(
            self.to_child,
            FRAME.pack(MAGIC, said.pop("version", 1), *(said.pop(n, 0) for n in names)),
        )
        assert not said

    def read(self) -> Tuple[int, ...]:
        """Read a frame; () when the child has hung up."""
        raw = b""
        while len(raw) < 64:
            more = os.read(self.from_child, 64 - len(raw))
            if not more:
                assert raw == b""
                return ()
            raw += more
        return FRAME.unpack(raw)

    def start(self, setup: Dict[str, Any]) -> Answer:
        """Say hello and start; return ready or failed."""
        hello = self.read()
        assert hello[2] == 1, (hello, self.stderr())
        self.flags = hello[3]
        payload = part(b"", "", "application/json", "", 0, json.dumps(setup).encode())
        os.pwrite(self.req, payload, CANCEL_AREA)
        self.frame(type=2, parts=1, length=len(payload), limit=self.limit, lanes=self.lanes)
        return self.answer()

    def post(self, payload: bytes, parts: int, lane: int = 0) -> int:
        """Send a call; return its id."""
        self.last += 1
        os.pwrite(self.req, payload, CANCEL_AREA + lane * self.lane_size)
        self.frame(type=5, id=self.last, lane=lane, parts=parts, length=len(payload))
        return self.last

    def answer(self) -> Answer:
        """Read an answer."""
        frame = self.read()
        assert frame, "the child ended: " + self.stderr()
        return self.decode(frame)

    def decode(self, frame: Tuple[int, ...]) -> Answer:
        base = frame[5] * self.lane_size
        raw = os.pread(self.resp, frame[7], base)
        name, media, filename, kind, size = struct.unpack_from("<4IQ", raw)
        assert name == 0
        assert frame[6] == 1
        begin = align(24 + media + filename, 64)
        assert len(raw) == begin + size
        media_at, name_at = 24 + media, 24 + media + filename
        return Answer(
            frame[2],
            frame[4],
            frame[5],
            frame[9],
            raw[24:media_at].decode(),
            raw[media_at:name_at].decode(),
            kind,
            raw[begin:],
        )

    def call(self, args: Any = None, **more: Any) -> Answer:
        """Run a call to its end."""
        id_ = self.post(*request(args, **more))
        answer = self.answer()
        assert answer.id == id_
        return answer

    def cancel(self, id_: int, lane: int = 0) -> None:
        """Say that the caller of a call has left."""
        os.pwrite(self.req, struct.pack("<Q", id_), lane * 64)
        os.kill(self.proc.pid, signal.SIGUSR1)

    def stderr(self) -> str:
        return self._printed(self.err)

    def stdout(self) -> str:
        return self._printed(self.out)

    @staticmethod
    def _printed(file: Any) -> str:
        return os.pread(file.fileno(), 1 << 22, 0).decode(errors="replace")

    def close(self) -> int:
        """Hang up; return the status of the child."""
        if self.to_child >= 0:
            os.close(self.to_child)
            self.to_child = -1
        return self.proc.wait()

    def kill(self) -> None:
        """Give everything back."""
        self._watch.cancel()
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        for fd in (self.to_child, self.from_child, self.req, self.resp):
            if fd >= 0:
                os.close(fd)
        self.out.close()
        self.err.close()


def launcher() -> List[str]:
    """Return the command line of the launcher as it is shipped."""
    return [sys.executable, PACKAGE]
