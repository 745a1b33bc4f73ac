from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Tuple

import parent
import pytest
from deepfn_launcher import wire
from deepfn_launcher.wire import Broken, Frame
from deepfn_launcher.words import Failure

LIMIT = 1 << 20


class Ends:
    """A Wire and the other ends of its pipes and memory."""

    def __init__(self, lanes: int = 1, limit: int = LIMIT) -> None:
        self.lanes, self.limit = lanes, limit
        self.size = parent.align(limit, parent.CANCEL_AREA)
        self.req = os.memfd_create("requests")
        self.resp = os.memfd_create("responses")
        os.ftruncate(self.req, parent.CANCEL_AREA + lanes * self.size)
        os.ftruncate(self.resp, lanes * self.size)
        child_in, self.to_child = os.pipe()
        self.from_child, child_out = os.pipe()
        self.fds = [child_in, child_out]
        self.wire = wire.Wire(child_in, child_out, os.dup(self.req), os.dup(self.resp))

    def start_frame(self, payload: bytes = b"", **more: Any) -> Frame:
        payload = payload or parent.part(b"", "", "", "", 0, b'{"model":"m"}')
        os.pwrite(self.req, payload, parent.CANCEL_AREA)
        said: Dict[str, Any] = {
            "type": 2,
            "parts": 1,
            "length": len(payload),
            "limit": self.limit,
            "lanes": self.lanes,
        }
        return frame(**{**said, **more})

    def open(self) -> wire.Wire:
        self.wire.open(self.start_frame())
        return self.wire

    def call(self, payload: bytes, parts: int, lane: int = 0, **more: Any) -> Frame:
        os.pwrite(self.req, payload, parent.CANCEL_AREA + lane * self.size)
        said = {"type": 5, "id": 7, "lane": lane, "parts": parts, "length": len(payload)}
        return frame(**{**said, **more})

    def close(self) -> None:
        for fd in (*self.fds, self.to_child, self.from_child, self.req, self.resp):
            with contextlib.suppress(OSError):
                os.close(fd)


def frame(**said: int) -> Frame:
    names = Frame._fields
    values = [said.pop(name, 0) for name in names]
    assert not said
    return Frame._make(values)._replace(magic=parent.MAGIC, version=1)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_frame_has_64_bytes() -> None:
    assert wire._FRAME.size == wire.FRAME_SIZE == 64


def test_hello(ends: Ends) -> None:
    ends.wire.hello()
    got = parent.FRAME.unpack(os.read(ends.from_child, 64))
    assert got[0:4] == (parent.MAGIC, 1, 1, 1)
    assert got[11] == 0
    assert got[12] == os.getpid()


def test_next_reads_frames_in_pieces(ends: Ends) -> None:
    raw = parent.FRAME.pack(*frame(type=5, id=3, deadline=-1))
    os.write(ends.to_child, raw[:10])
    pid = os.fork()
    if pid == 0:
        os.write(ends.to_child, raw[10:])
        os._exit(0)
    got = ends.wire.next()
    os.waitpid(pid, 0)
    assert got is not None
    assert (got.type, got.id, got.deadline) == (5, 3, -1)
    os.close(ends.to_child)
    ends.to_child = os.open(os.devnull, os.O_RDONLY)
    assert ends.wire.next() is None


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 40, "something else than frames"),
        (parent.FRAME.pack(*frame(type=5)._replace(version=2)), "version 2 .* this side version 1"),
        (parent.FRAME.pack(*frame(type=0)), "unknown type 0"),
        (parent.FRAME.pack(*frame(type=8)), "unknown type 8"),
        (b"DFNW\1\0", "ended within a frame"),
    ],
)
def test_next_refuses(ends: Ends, raw: bytes, says: str) -> None:
    os.write(ends.to_child, raw[:64])
    os.close(ends.to_child)
    ends.to_child = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(Broken, match=says):
        ends.wire.next()


def test_open_returns_the_setup(ends: Ends) -> None:
    assert ends.wire.open(ends.start_frame()) == {"model": "m"}


HOSTILE: List[Tuple[str, Dict[str, Any]]] = [
    ("no lanes", {"lanes": 0}),
    ("too many lanes", {"lanes": 65}),
    ("no limit", {"limit": 0}),
    ("huge limit", {"limit": 1 << 63}),
    ("another size", {"limit": LIMIT * 2}),
    ("more lanes than memory", {"lanes": 2}),
    ("no parts", {"parts": 0}),
    ("long setup", {"length": 1 << 40}),
    ("short setup", {"length": 3}),
    ("not a start", {"type": 5}),
]


@pytest.mark.parametrize(("name", "more"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_open_refuses(ends: Ends, name: str, more: Dict[str, Any]) -> None:
    with pytest.raises(Broken):
        ends.wire.open(ends.start_frame(**more))


@pytest.mark.parametrize("setup", [b"[]", b"{", b"\xff", b"3"])
def test_open_refuses_setups(ends: Ends, setup: bytes) -> None:
    with pytest.raises(Broken):
        ends.wire.open(ends.start_frame(parent.part(b"", "", "", "", 0, setup)))


def test_request(ends: Ends) -> None:
    payload, parts = parent.request(
        {"a": "ä"},
        verb="train",
        accept="image/png",
        files=(("f", "x.bin", "application/x", b"\0\1\2"), ("f", "", "", b"")),
        texts=((1, "q", "1"), (2, "q", "zwei"), (3, "h", "3"), (4, "__OW_API_KEY", "k")),
    )
    verb, values = ends.open().request(ends.call(payload, parts))
    assert verb == "train"
    assert values.accept == "image/png"
    assert values.args is not None
    assert bytes(values.args) == b'{"a": "\\u00e4"}'
    got = [(f.name, f.filename, f.content_type, bytes(f.data)) for f in values.files]
    assert got == [("f", "x.bin", "application/x", b"\0\1\2"), ("f", "", "", b"")]
    assert [(t.origin, t.name, t.value) for t in values.texts] == [
        (1, "q", "1"),
        (2, "q", "zwei"),
        (3, "h", "3"),
        (4, "__OW_API_KEY", "k"),
    ]


def test_request_of_a_trace(ends: Ends) -> None:
    wire = ends.open()
    _, values = wire.request(ends.call(*parent.request({"a": 1})))
    assert values.trace is None
    given = ((5, "traceparent", "00-1"), (5, "tracestate", "a=b"), (5, "later", "x"))
    _, values = wire.request(ends.call(*parent.request({"a": 1}, texts=given)))
    assert (values.trace, values.texts) == ({"traceparent": "00-1", "tracestate": "a=b"}, [])


def test_request_without_arguments(ends: Ends) -> None:
    verb, values = ends.open().request(ends.call(*parent.request(verb="")))
    assert (verb, values.args) == ("predict", None)


def test_bytes_that_are_no_text_pass(ends: Ends) -> None:
    payload, parts = parent.request(texts=((1, "q", "abc"),))
    payload = payload.replace(b"abc", b"a\xffc")
    _, values = ends.open().request(ends.call(payload, parts))
    assert values.texts[0].value == "a\ufffdc"


def spoiled(at: int, size: int, value: int) -> bytes:
    payload, _ = parent.request({"a": 1}, texts=((1, "q", "1"),))
    return payload[:at] + value.to_bytes(size, "little") + payload[at + size :]


@pytest.mark.parametrize(
    ("payload", "more"),
    [
        (spoiled(0, 4, 0xFFFFFFFF), {}),
        (spoiled(12, 4, 70000), {}),
        (spoiled(4, 4, 600), {}),
        (parent.request({"a": 1})[0], {"parts": 0}),
        (parent.request({"a": 1})[0], {"parts": 1000}),
        (parent.request({"a": 1})[0], {"parts": 2}),
        (parent.request({"a": 1})[0], {"length": 8}),
        (parent.request({"a": 1})[0], {"length": LIMIT + 1}),
        (parent.request({"a": 1})[0], {"length": 1 << 62}),
        (parent.request({"a": 1})[0], {"lane": 1}),
        (parent.request({"a": 1})[0], {"lane": 0xFFFFFFFF}),
        (parent.request({"a": 1})[0], {"id": 0}),
        (parent.request({"a": 1})[0], {"type": 6}),
        (parent.request(texts=((6, "q", "1"),))[0], {"parts": 2}),
        (parent.request(texts=((2**32 - 1, "q", "1"),))[0], {"parts": 2}),
    ],
)
def test_request_refuses(ends: Ends, payload: bytes, more: Dict[str, Any]) -> None:
    ends.open()
    with pytest.raises(Broken):
        ends.wire.request(ends.call(payload, more.get("parts", 2))._replace(**more))


@pytest.mark.parametrize("field", [0, 1, 2, 4])
@pytest.mark.parametrize("value", [0xFFFFFFFF, 70000, 5000])
def test_part_refuses_lengths(ends: Ends, field: int, value: int) -> None:
    payload, parts = parent.request({"a": 1})
    at = parent.align(16 + len("modelpredictid-1"), 8) + 4 * field
    size = 8 if field == 4 else 4
    payload = payload[:at] + value.to_bytes(size, "little") + payload[at + size :]
    ends.open()
    with pytest.raises(Broken):
        ends.wire.request(ends.call(payload, parts))


def test_lengths_of_64_bits(ends: Ends) -> None:
    payload, parts = parent.request({"a": 1})
    at = parent.align(16 + len("modelpredictid-1"), 8) + 16
    for size in (2**64 - 1, 2**63, 2**64 - 128, LIMIT):
        bad = payload[:at] + size.to_bytes(8, "little") + payload[at + 8 :]
        ends.wire = wire.Wire(-1, -1, os.dup(ends.req), os.dup(ends.resp))
        ends.open()
        with pytest.raises(Broken):
            ends.wire.request(ends.call(bad, parts))


def test_put_places_data_at_multiples_of_64(ends: Ends) -> None:
    made = ends.open()
    length = made.put(0, "image/png", "ä.png", True, b"12345")
    raw = os.pread(ends.resp, length, 0)
    assert raw[24:33] == b"image/png"
    assert raw[33:39] == "ä.png".encode()
    assert raw[64:] == b"12345"
    assert int.from_bytes(raw[12:16], "little") == 1


def test_put_takes_what_fits_and_no_more(ends: Ends) -> None:
    made = ends.open()
    assert made.put(0, "x/y", "", False, b"a" * (LIMIT - 64)) == LIMIT
    with pytest.raises(Failure) as caught:
        made.put(0, "x/y", "", False, b"a" * (LIMIT - 63))
    assert caught.value.code == "too_large"
    assert str(LIMIT - 63) in caught.value.msg
    assert str(LIMIT) in caught.value.msg


def test_put_counts_bytes_of_any_buffer(ends: Ends) -> None:
    import array

    made = ends.open()
    length = made.put(0, "x/y", "", False, memoryview(array.array("d", [1.0, 2.0])))
    assert length == 64 + 16
    length = made.put(0, "x/y", "", False, memoryview(bytes(range(10)))[::2])
    assert os.pread(ends.resp, length, 0)[64:] == bytes(range(0, 10, 2))


def test_lanes_lie_apart() -> None:
    ends = Ends(lanes=3, limit=70000)
    made = ends.open()
    for lane in range(3):
        payload, parts = parent.request({"lane": lane})
        _, values = made.request(ends.call(payload, parts, lane=lane))
        assert bytes(values.args or b"") == b'{"lane": %d}' % lane
        made.put(lane, "", "", False, b"%d" % lane)
        assert os.pread(ends.resp, 1, lane * ends.size + 64) == b"%d" % lane
    os.pwrite(ends.req, (99).to_bytes(8, "little"), 64)
    assert [made.canceled(lane) for lane in range(3)] == [0, 99, 0]
    ends.close()


def test_errors_are_bounded(ends: Ends) -> None:
    made = ends.open()
    fields = {"f": ["x" * (2 << 20)]}
    made.error(ends.call(b"", 1), Failure("invalid", "é" * (3 << 20), fields=fields), 5)
    got = parent.FRAME.unpack(os.read(ends.from_child, 64))
    assert got[2] == 7
    assert got[9] == 5
    assert got[7] < 1 << 20
    import json

    told = json.loads(os.pread(ends.resp, got[7] - 64, 64))
    assert told["code"] == "invalid"
    assert set(told["msg"]) == {"é"}


def test_an_error_that_is_no_json_is_sent_as_text(ends: Ends) -> None:
    made = ends.open()
    odd: Any = {"f": [object()]}
    made.error(ends.call(b"", 1), Failure("invalid", "why", fields=odd), 0)
    got = parent.FRAME.unpack(os.read(ends.from_child, 64))
    assert os.pread(ends.resp, got[7] - 64, 64) == b'{"code": "invalid", "msg": "why"}'


def test_adopt_refuses_a_process_started_by_hand() -> None:
    env = {k: v for k, v in os.environ.items() if k != "DEEPFN_WORKER"}
    done = subprocess.run(
        parent.launcher(), env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "not meant to be run by hand" in done.stderr
    assert "Traceback" not in done.stderr


def test_adopt_without_descriptors() -> None:
    env = {**os.environ, "DEEPFN_WORKER": "1"}
    done = subprocess.run(
        parent.launcher(), env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "descriptors 3 to 6 are not there" in done.stderr


def test_adopt_moves_descriptors_and_hides_them() -> None:
    code = (
        "import os, sys\n"
        "from deepfn_launcher import wire\n"
        "w = wire.adopt()\n"
        "assert 'DEEPFN_WORKER' not in os.environ\n"
        "for fd in range(3, 7):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: continue\n"
        "    sys.exit(f'descriptor {fd} is open')\n"
        "assert not any(os.get_inheritable(fd) for fd in (w._in, w._out))\n"
        "print('moved', min(w._in, w._out) >= 100)\n"
    )
    p = parent.Parent(
        [sys.executable, "-c", code], env={"PYTHONPATH": os.path.dirname(parent.PACKAGE)}
    )
    try:
        assert p.close() == 0, p.stderr()
        assert p.stdout() == "moved True\n"
    finally:
        p.kill()
