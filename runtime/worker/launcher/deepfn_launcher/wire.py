"""The worker protocol, the child's side: control frames, payloads, lanes of shared memory.

The protocol is specified in the documentation of the Go package worker. Nothing that the
other side says about lengths is believed before it was checked.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
from typing import Any, Dict, NamedTuple, Optional, Tuple, Union

from .trace import NAMES as TRACE_NAMES
from .words import Failure, Text, Upload, Values

VERSION = 1
COOKIE = "DEEPFN_WORKER"

HELLO, START, READY, FAILED, CALL, RESULT, ERROR = range(1, 8)
#: The flag of a hello whose sender wants SIGUSR1 when a cancel word was written.
WANTS_SIGNAL = 1

#: The kind of a part that is a header of the trace context.
TRACE = 5

FRAME_SIZE = 64
MAX_STRING = 64 << 10
MAX_FAILURE = 1 << 20
MAX_LANES = 64
MAX_LANE_SIZE = 1 << 40
CANCEL_AREA = 64 << 10
CANCEL_WORD = 64
DATA_ALIGN = 64

_MAGIC = int.from_bytes(b"DFNW", "little")
_FRAME = struct.Struct("<IHBBQIIQqqQII")
_HEAD = struct.Struct("<4I")
_PART = struct.Struct("<4IQ")
_WORD = struct.Struct("<Q")
_JSON = b"application/json"

#: Descriptors are moved to this number or above, out of the way of modules that close
#: or count on low ones.
_HIGH = 100


class Broken(Exception):
    """The other side broke the protocol; nothing can be said to it any more."""


class Frame(NamedTuple):
    """A control frame, with its fields in their order in memory."""

    magic: int
    version: int
    type: int
    flags: int
    id: int
    lane: int
    parts: int
    length: int
    deadline: int
    run: int
    limit: int
    lanes: int
    pid: int


class Fill:
    """Data that write themselves into the lane, so that they are copied once."""

    def fill(self, room: memoryview) -> int:
        """Write all data into room and return their number of bytes.

        Raises a Failure "too_large" if there are more than room has.
        """
        raise NotImplementedError


Buffer = Union[bytes, bytearray, memoryview]


def too_large(size: int, limit: int) -> Failure:
    """Return the failure of an answer of size bytes (0: unknown) over the limit."""
    what = f"has {size} bytes" if size else "is longer than its limit"
    return Failure("too_large", f"the answer {what}: one call may use {limit} bytes")


class Wire:
    """The conversation with the parent: reads frames, reads requests, sends answers.

    ``pid`` is the process that it was made in. Answers may be sent by several threads,
    each on a lane of its own; frames are read by one.
    """

    def __init__(self, control_in: int, control_out: int, requests: int, responses: int) -> None:
        """Take four open descriptors over; the two memory files are closed by ``open``."""
        self.pid = os.getpid()
        self._in = control_in
        self._out = control_out
        self._files = (requests, responses)
        self.lanes = 0
        self.limit = 0
        self._lane_size = 0
        self._req: Any = b""
        self._req_view = memoryview(b"")
        self._resp: Any = b""
        self._resp_view = memoryview(b"")

    # Frames

    def next(self) -> Optional[Frame]:
        """Wait for a frame; return None when the parent has hung up.

        Raises Broken for anything that is not a frame of this version.
        """
        raw = os.read(self._in, FRAME_SIZE)
        while len(raw) < FRAME_SIZE:
            more = os.read(self._in, FRAME_SIZE - len(raw)) if raw else b""
            if not more:
                if raw:
                    raise Broken(f"the control pipe ended within a frame ({raw[:8]!r})")
                return None
            raw += more
        frame = Frame._make(_FRAME.unpack(raw))
        if frame.magic != _MAGIC:
            raise Broken(f"the control pipe carries something else than frames ({raw[:8]!r})")
        if frame.version != VERSION:
            raise Broken(
                f"the other side speaks version {frame.version} of the worker protocol, this side "
                f"version {VERSION}: they must come from the same release"
            )
        if not HELLO <= frame.type <= ERROR:
            raise Broken(f"a frame of unknown type {frame.type}")
        return frame

    def _post(
        self,
        type_: int,
        *,
        flags: int = 0,
        id_: int = 0,
        lane: int = 0,
        parts: int = 0,
        length: int = 0,
        run: int = 0,
        pid: int = 0,
    ) -> None:
        # One write of 64 bytes to a pipe is atomic, so that threads need no lock.
        os.write(
            self._out,
            _FRAME.pack(_MAGIC, VERSION, type_, flags, id_, lane, parts, length, 0, run, 0, 0, pid),
        )

    # Start

    def hello(self, flags: int = WANTS_SIGNAL) -> None:
        """Say which version is spoken here."""
        self._post(HELLO, flags=flags, pid=self.pid)

    def open(self, start: Frame) -> Dict[str, Any]:
        """Map the memory that the start frame describes; return the setup, a JSON object.

        Raises Broken when the frame, the files or the setup are not as they must be.
        """
        if start.type != START:
            raise Broken(f"the parent began with a frame of type {start.type}")
        if not 0 < start.lanes <= MAX_LANES or not 0 < start.limit <= MAX_LANE_SIZE - CANCEL_AREA:
            raise Broken(f"shared memory of {start.lanes} lanes of {start.limit} bytes")
        self.lanes, self.limit = start.lanes, start.limit
        self._lane_size = (start.limit + CANCEL_AREA - 1) // CANCEL_AREA * CANCEL_AREA
        size = self.lanes * self._lane_size
        self._req = self._map(self._files[0], CANCEL_AREA + size)
        self._resp = self._map(self._files[1], size)
        self._req_view, self._resp_view = memoryview(self._req), memoryview(self._resp)
        if start.parts != 1 or start.length > self._lane_size:
            raise Broken(f"a setup of {start.parts} parts and {start.length} bytes")
        part = self._part(CANCEL_AREA, CANCEL_AREA + start.length)
        raw = self._req[part[4] : part[5]]
        try:
            setup = json.loads(raw or b"{}")
        except ValueError as exc:
            raise Broken(f"a setup that cannot be read: {exc}") from None
        if not isinstance(setup, dict):
            raise Broken("a setup that is not an object")
        return setup

    @staticmethod
    def _map(fd: int, size: int) -> Any:
        got = os.fstat(fd).st_size
        if got != size:
            raise Broken(f"a memory file of {got} bytes instead of {size}")
        mapped = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        os.close(fd)
        return mapped

    def ready(self, info: Buffer) -> None:
        """Say that the model is loaded; info is the description of the model as JSON.

        Raises a Failure "too_large" if it does not fit into a lane.
        """
        length = self._put(0, self._lane_size, _JSON, b"", 0, info)
        self._post(READY, parts=1, length=length)

    def failed(self, failure: Failure) -> None:
        """Say instead of ready that the model cannot be loaded."""
        self._post(FAILED, parts=1, length=self._put_failure(0, failure))

    # Calls

    def canceled(self, lane: int) -> int:
        """Return the id of the last call on the lane whose caller has left."""
        word: int = _WORD.unpack_from(self._req, lane * CANCEL_WORD)[0]
        return word

    def request(self, call: Frame) -> Tuple[str, Values]:
        """Return the verb and the values of a call.

        The bytes in the values lie in the shared memory and are valid until the answer.
        Raises Broken for a frame that is no call, and for lengths that cannot be.
        """
        lane, length, count = call.lane, call.length, call.parts
        if call.type != CALL:
            raise Broken(f"the parent sent a frame of type {call.type} where a call must be")
        if lane >= self.lanes or not call.id or not _HEAD.size <= length <= self.limit:
            raise Broken(f"call {call.id} of {length} bytes on lane {lane}")
        if not 0 < count <= length // _PART.size:
            raise Broken(f"a request of {count} parts in {length} bytes")
        memory = self._req
        base = CANCEL_AREA + lane * self._lane_size
        end = base + length
        sizes = _HEAD.unpack_from(memory, base)
        at = base + _HEAD.size
        verb_at = at + sizes[0]
        id_at = verb_at + sizes[1]
        accept_at = id_at + sizes[2]
        at = accept_at + sizes[3]
        if max(sizes) > MAX_STRING or at > end:
            raise Broken(f"strings of {sizes} bytes in a payload of {length}")
        verb = memory[verb_at:id_at].decode("utf-8", "replace") or "predict"
        accept = memory[accept_at:at].decode("utf-8", "replace")
        _, _, _, _, start, at = self._part(at, end)
        values = Values(self._req_view[start:at] if at > start else None, [], [], accept)
        for _ in range(count - 1):
            name, media, filename, kind, start, at = self._part(at, end)
            if kind == 0:
                data = self._req_view[start:at]
                values.files.append(Upload(name, filename, media, data))
            elif kind <= 4:
                text = memory[start:at].decode("utf-8", "replace")
                values.texts.append(Text(kind, name, text))
            elif kind == TRACE:
                if name in TRACE_NAMES:
                    values.trace = values.trace or {}
                    values.trace[name] = memory[start:at].decode("utf-8", "replace")
            else:
                raise Broken(f"a part of kind {kind}")
        return verb, values

    def _part(self, at: int, end: int) -> Tuple[str, str, str, int, int, int]:
        """Return name, media type, filename, kind, and where the data begin and end."""
        at = (at + 7) & ~7
        if end - at < _PART.size:
            raise Broken("a part begins behind the end of the payload")
        name, media, filename, kind, size = _PART.unpack_from(self._req, at)
        at += _PART.size
        media_at = at + name
        filename_at = media_at + media
        after = filename_at + filename
        if name > MAX_STRING or media > MAX_STRING or filename > MAX_STRING or after > end:
            raise Broken("a string is longer than its payload")
        memory = self._req
        start = (after + DATA_ALIGN - 1) & ~(DATA_ALIGN - 1)
        if start > end or size > end - start:
            raise Broken(f"a part of {size} bytes of data behind the end of the payload")
        return (
            memory[at:media_at].decode("utf-8", "replace"),
            memory[media_at:filename_at].decode("utf-8", "replace"),
            memory[filename_at:after].decode("utf-8", "replace"),
            kind,
            start,
            start + size,
        )

    def put(
        self, lane: int, content_type: str, filename: str, whole: bool, data: Union[Buffer, Fill]
    ) -> int:
        """Write a response into its lane and return the length of the payload.

        Raises a Failure "too_large" if it does not fit.
        """
        media = content_type.encode("utf-8", "replace")
        name = filename.encode("utf-8", "replace")
        if len(media) > MAX_STRING or len(name) > MAX_STRING:
            raise Failure("failed", "the answer has a media type or filename of over 64 KiB")
        return self._put(lane, self.limit, media, name, 1 if whole else 0, data)

    def _put(
        self,
        lane: int,
        limit: int,
        media: bytes,
        filename: bytes,
        kind: int,
        data: Union[Buffer, Fill],
    ) -> int:
        base = lane * self._lane_size
        head = _PART.size + len(media) + len(filename)
        start = (head + DATA_ALIGN - 1) & ~(DATA_ALIGN - 1)
        if start > limit:
            raise too_large(start, limit)
        memory = self._resp
        if isinstance(data, Fill):
            size = data.fill(self._resp_view[base + start : base + limit])
        else:
            if not isinstance(data, bytes):
                data = memoryview(data)
                if not data.c_contiguous:
                    data = data.tobytes()
            size = data.nbytes if isinstance(data, memoryview) else len(data)
            if size > limit - start:
                raise too_large(size, limit)
            memory[base + start : base + start + size] = data
        strings = media + filename
        memory[base + _PART.size : base + head] = strings
        _PART.pack_into(memory, base, 0, len(media), len(filename), kind, size)
        return start + size

    def _put_failure(self, lane: int, failure: Failure) -> int:
        said: Dict[str, Any] = {"code": failure.code, "msg": failure.msg}
        if failure.fields:
            said["fields"] = failure.fields
        if failure.status:
            said["status"] = failure.status
        room = min(MAX_FAILURE, self._lane_size - 2 * DATA_ALIGN)
        raw = b""
        try:
            raw = json.dumps(said).encode("ascii")
        except (TypeError, ValueError, RecursionError):
            said = {"code": str(failure.code), "msg": str(failure.msg)}
        if not raw or len(raw) > room:
            # A character takes twelve bytes at most.
            said["msg"] = said["msg"][: min(8 << 10, room // 24)]
            said.pop("fields", None)
            raw = json.dumps(said).encode("ascii")
        return self._put(lane, self._lane_size, _JSON, b"", 0, raw)

    def result(self, call: Frame, length: int, run: int) -> None:
        """Answer a call with the length bytes that put has written; run is nanoseconds."""
        self._post(RESULT, id_=call.id, lane=call.lane, parts=1, length=length, run=run)

    def error(self, call: Frame, failure: Failure, run: int) -> None:
        """Answer a call with a failure; run is the time that it took in nanoseconds."""
        length = self._put_failure(call.lane, failure)
        self._post(ERROR, id_=call.id, lane=call.lane, parts=1, length=length, run=run)


def adopt() -> Wire:
    """Take the descriptors 3 to 6 that the parent left and return the conversation.

    They are moved out of the way and not inherited by programs that the model starts, and
    the variable DEEPFN_WORKER leaves the environment. Raises Broken without that variable,
    which means that the process was started by hand.
    """
    if not os.environ.pop(COOKIE, None):
        raise Broken(
            "this program is the child of a deepfn worker and is not meant to be run by hand: "
            "it talks with its parent through inherited descriptors"
        )
    try:
        moved = [_move(fd) for fd in range(3, 7)]
    except OSError as exc:
        raise Broken(f"the descriptors 3 to 6 are not there: {exc}") from None
    return Wire(*moved)


def _move(fd: int) -> int:
    """Move a descriptor to a high number, or as far as the limit of the process allows."""
    for lowest in (_HIGH, 20, 7):
        try:
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError as exc:
            if lowest == 7 or not os.path.exists(f"/proc/self/fd/{fd}"):
                raise exc
            continue
        os.close(fd)
        return moved
    raise AssertionError("unreachable")
