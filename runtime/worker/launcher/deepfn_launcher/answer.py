"""A model's result as the answer of a call: JSON, bytes, a file or a text.

A result that is bytes or a file is sent as it is, whatever the caller accepts: who sends
the answer on refuses what is not acceptable. A text is JSON, unless the caller wants a
type of its own: then a text type gets the text, and any other the file of that name, which
is how some modules return pictures.

A model that repeats what it was given must not be made to show any file. So a text is
taken for a path only under a media type that is no text type and that the module itself
names, if the caller has not given it, and if the file lies where modules put their
results: below the working folder, the temporary folder or DEEPFN_MODEL_DIR.
"""

from __future__ import annotations

import collections.abc
import contextlib
import io
import mimetypes
import os
import stat
import sys
import tempfile
from typing import Any, BinaryIO, Iterator, List, Mapping, Optional, Union

from . import jsonable
from .failure import with_article
from .wire import Buffer, Fill, too_large
from .words import JSON_TYPE, Call, Failure, Model

OCTETS = "application/octet-stream"
_CHUNK = 1 << 20
_FILE_FIELDS = ("name", "filename", "content_type", "original_filename")
_MAX_PATH = 4096

# What files begin with, where in the file, and what they are then.
_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"BM", "image/bmp"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\x93NUMPY", "application/x-npy"),
    (0, b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
)
_RIFF = frozenset(("image/webp", "audio/wav", "video/x-msvideo"))


class Answer:
    """What is sent: the data, or the file that they are read from, and what they are.

    ``whole`` says that the JSON is a whole document, which gets no envelope. ``close`` is
    to be called when the data were sent.
    """

    __slots__ = ("content_type", "data", "filename", "whole")

    def __init__(
        self,
        content_type: str,
        data: Union[Buffer, Fill],
        *,
        filename: str = "",
        whole: bool = False,
    ) -> None:
        self.content_type = content_type
        self.data = data
        self.filename = filename
        self.whole = whole

    def close(self) -> None:
        """Close the file that the data come from. Never raises."""
        if isinstance(self.data, _File):
            self.data.close()


class _File(Fill):
    """A file that is read into its place when it is sent."""

    def __init__(self, file: Any, head: bytes = b"", own: bool = True) -> None:
        self.file = file
        self.head = head  # read already
        self.own = own

    def fill(self, room: memoryview) -> int:
        n = len(self.head)
        size = self._size()
        if n > len(room) or size > len(room):
            raise too_large(max(size, n), len(room))
        room[:n] = self.head
        readinto = getattr(self.file, "readinto", None)
        if readinto is not None:
            while n < len(room):
                got = readinto(room[n:])
                if not got:
                    return n
                n += got
            if self.file.read(1):
                raise too_large(0, len(room))
            return n
        while True:
            chunk = _bytes(self.file.read(_CHUNK))
            if not chunk:
                return n
            if len(chunk) > len(room) - n:
                raise too_large(0, len(room))
            room[n : n + len(chunk)] = chunk
            n += len(chunk)

    def _size(self) -> int:
        """Return the size of a file on disk, 0 when it is not known."""
        try:
            info = os.fstat(self.file.fileno())
        except (OSError, AttributeError, ValueError, TypeError):
            return 0
        return info.st_size if stat.S_ISREG(info.st_mode) else 0

    def close(self) -> None:
        if self.own:
            with contextlib.suppress(Exception):  # its data were sent
                self.file.close()


class _Chunks(Fill):
    """Bytes that come one after the other."""

    def __init__(self, first: Buffer, rest: Any) -> None:
        self.first, self.rest = first, rest

    def fill(self, room: memoryview) -> int:
        n = 0
        chunk: Any = self.first
        while True:
            view = memoryview(_bytes(chunk)).cast("B")
            if len(view) > len(room) - n:
                raise too_large(0, len(room))
            room[n : n + len(view)] = view
            n += len(view)
            try:
                chunk = next(self.rest)
            except StopIteration:
                return n


def encode(result: Any, call: Call, model: Model, verb: str = "predict") -> Answer:
    """Return the answer for what verb returned under call.accept.

    Raises a Failure "failed" for a result that is neither JSON nor bytes nor a file, and
    what model.check raises.
    """
    accept = call.accept
    if accept != "*/*":
        accept = accept.split(";", 1)[0].strip().lower()
    if verb != "predict":
        return Answer(JSON_TYPE, jsonable.dumps(result, verb, "output").encode())
    wants_json = accept in ("", "*/*", JSON_TYPE)
    if type(result) in (dict, list):
        return _json(result, model)
    if result is None:
        if wants_json:
            return _json(None, model)
        return Answer(OCTETS if "*" in accept else accept, b"")
    if isinstance(result, str):
        if not wants_json:
            told = _text(result, accept, call)
            if told is not None:
                return told
        return _json(result, model)
    return _binary(result, accept) or _json(result, model)


def _json(result: Any, model: Model) -> Answer:
    whole = model.whole()
    if whole:
        result = model.check(result)
    return Answer(JSON_TYPE, jsonable.dumps(result).encode(), whole=whole)


def _text(result: str, accept: str, call: Call) -> Optional[Answer]:
    """Return the answer of a text under a type that is not JSON; None to send it as JSON."""
    if _is_text(accept):
        data = result.encode("utf-8", "replace")
        media = "text/plain" if "*" in accept else accept
        return Answer(media if data.isascii() else media + "; charset=utf-8", data)
    path = _named(result, call)
    return None if path is None else _file(_opened(path), accept, "", result)


def _named(result: str, call: Call) -> Optional[str]:
    """Return the path of the file that a text names; None when it is not to be opened."""
    if not call.offered or len(result) > _MAX_PATH or "\0" in result or "\n" in result:
        return None
    if not os.path.isfile(result) or any(result in text for text in _texts(call.given)):
        return None
    path = os.path.realpath(result)
    folders = _folders()
    if any(os.path.commonpath((path, folder)) == folder for folder in folders):
        return path
    print(
        f"deepfn: predict returned the path {result}; it is sent as text, because the file is "
        f"not below one of {', '.join(folders)}",
        file=sys.stderr,
    )
    return None


def _folders() -> List[str]:
    """Return where files lie that a module may return by their paths."""
    found = [os.environ.get("DEEPFN_MODEL_DIR", "")]
    for find in (os.getcwd, tempfile.gettempdir):
        with contextlib.suppress(OSError):  # there is none
            found.append(find())
    real = {os.path.realpath(folder) for folder in found if folder}
    return sorted(real - {os.path.realpath(os.sep)})


def _texts(given: Any) -> Iterator[str]:
    """Return all texts in the arguments of a request, with the names of uploads."""
    left = [given]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left.extend(value)
            left.extend(value.values())
        elif isinstance(value, (list, tuple)):
            left.extend(value)
        else:
            name = getattr(value, "filename", None)
            if isinstance(name, str):
                yield name


def _is_text(accept: str) -> bool:
    return accept.startswith("text/") or accept.endswith(("+xml", "/xml", "/yaml", "/x-yaml"))


def _binary(result: Any, accept: str) -> Optional[Answer]:
    """Return the answer of a result that is bytes or a file, None for one that is neither."""
    if isinstance(result, (bytes, bytearray)):
        return _data(result, accept)
    if isinstance(result, memoryview):
        return _data(result.tobytes() if not result.c_contiguous else result, accept)
    if isinstance(result, io.BytesIO):
        if result.closed:
            raise Failure("failed", "predict returned a BytesIO that is closed")
        return _data(result.getbuffer(), accept)
    if isinstance(result, tuple) and all(hasattr(result, name) for name in _FILE_FIELDS):
        return _returned(result, accept)
    if isinstance(result, os.PathLike):
        path = os.fspath(result)
        return _file(_opened(path), accept, "", path) if os.path.isfile(path) else None
    if isinstance(result, io.StringIO):
        return _data(result.getvalue().encode("utf-8", "replace"), accept, text=True)
    if callable(getattr(result, "read", None)):
        return _stream(result, accept)
    if isinstance(result, collections.abc.Iterator):
        return _chunks(result, accept)
    return None


def _returned(result: Any, accept: str) -> Answer:
    """Return the answer of an UploadedFile or a ReturnedFile: the file that it names."""
    path = result.filename
    if not isinstance(path, (str, os.PathLike)):
        kind = with_article(type(result).__name__)
        raise Failure("failed", f"predict returned {kind} without a filename")
    shown = result.original_filename or path
    return _file(_opened(path), accept, str(result.content_type or ""), shown)


def _stream(result: Any, accept: str) -> Answer:
    """Return the answer of an open file, from its beginning if it has one."""
    name = getattr(result, "name", "")
    if getattr(result, "closed", False) is True:
        # The published server opens it again by its name, so modules may close it.
        if isinstance(name, str) and os.path.isfile(name):
            return _file(_opened(name), accept, "", name)
        raise Failure("failed", "predict returned a file that is closed")
    if callable(getattr(result, "seek", None)):
        # It does not work with a pipe or the body of a response.
        with contextlib.suppress(OSError, ValueError, TypeError):
            result.seek(0)
    if isinstance(result, io.TextIOBase):
        text = result.read().encode("utf-8", "replace")
        result.close()
        return _data(text, accept, name=name if isinstance(name, str) else "", text=True)
    return _file(result, accept, "", name if isinstance(name, str) else "")


def _chunks(result: Any, accept: str) -> Answer:
    """Return the answer of an iterator: of bytes one after the other, else a list in JSON."""
    first: List[Any] = []
    for item in result:
        first.append(item)
        break
    if not first or not isinstance(first[0], (bytes, bytearray, memoryview)):
        rest = jsonable.dumps(_chain(first, result))
        return Answer(JSON_TYPE, rest.encode())
    media = _media(accept, "", "", bytes(first[0][:64]))
    if media == JSON_TYPE:
        media = OCTETS
    return Answer(media, _Chunks(first[0], result))


def _chain(first: List[Any], rest: Any) -> Any:
    yield from first
    yield from rest


def _opened(path: Any) -> BinaryIO:
    try:
        return open(path, "rb")
    except (OSError, ValueError) as exc:
        raise Failure("failed", f"predict returned a file that cannot be read: {exc}") from exc


def _file(file: Any, accept: str, declared: str, name: Any) -> Answer:
    """Return the answer that is read from a file; name is where it lies."""
    shown = _shown(name)
    head = b""
    media = _media(accept, declared, shown, b"")
    if media in (OCTETS, JSON_TYPE):
        head = _bytes(file.read(64)) if media == OCTETS else _bytes(file.read())
        media = _media(accept, declared, shown, head)
    if media == JSON_TYPE:
        file.close()
        return _data(head, accept, declared, shown)
    return Answer(media, _File(file, head), filename=shown)


def _data(
    data: Buffer, accept: str, declared: str = "", name: str = "", text: bool = False
) -> Answer:
    """Return the answer that is made of bytes."""
    media = _media(accept, declared, name, bytes(data[:64]))
    if media == JSON_TYPE or (accept == JSON_TYPE and media == OCTETS):
        # Nobody may be sent as JSON what is none.
        media = JSON_TYPE if _is_json(data) else OCTETS
    if text and media == OCTETS:
        media = "text/plain; charset=utf-8"
    return Answer(media, data, filename=_shown(name))


def _is_json(data: Buffer) -> bool:
    try:
        jsonable.loads(bytes(data))
    except Failure:
        return False
    return True


def _media(accept: str, declared: str, name: str, head: bytes) -> str:
    """Return the media type of bytes: what the caller named, else what they are."""
    if accept and "*" not in accept and accept != JSON_TYPE:
        return accept
    # It becomes a header, and a module may have it from a file.
    fit = "/" in declared and declared.isascii() and declared.isprintable()
    if fit and declared.lower() != OCTETS:
        return declared
    guessed, packed = mimetypes.guess_type(name)
    if packed:
        return {"gzip": "application/gzip", "bzip2": "application/x-bzip2"}.get(packed, OCTETS)
    return guessed or sniff(head)


def sniff(head: bytes) -> str:
    """Return the media type of what begins with head, application/octet-stream if unknown."""
    for at, magic, media in _MAGIC:
        if head.startswith(magic, at) and (media not in _RIFF or head.startswith(b"RIFF")):
            return media
    return OCTETS


def _shown(name: Any) -> str:
    """Return a filename that can be shown: the last part of a path, printable."""
    text = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else ""
    base = text.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in base if c.isprintable())[-255:]


def _bytes(chunk: Any) -> bytes:
    if chunk is None:
        return b""
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk) if not isinstance(chunk, bytes) else chunk
    raise Failure(
        "failed",
        f"predict returned a file or an iterator that gives {type(chunk).__name__}, not bytes",
    )
