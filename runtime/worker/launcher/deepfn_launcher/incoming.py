"""Arguments that are files: what a field sees of them, and what predict gets."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
import sys
import urllib.parse
from typing import IO, Any, Callable, Dict, Mapping, Optional, Tuple, Type

from . import compat
from .answer import OCTETS, sniff
from .uploads import suffix
from .words import Store, Upload


class NotAFile(Exception):
    """A value that should be a file in JSON or text, and is not; the message says why."""


class Incoming:
    """An upload while the fields look at it.

    It has the attributes of aiohttp's FileField, which is what a field of the published
    server sees: ``name`` of the argument, ``filename`` as the sender gave it,
    ``content_type``, ``headers`` and ``file``, open for reading. It is written to disk
    when somebody asks for its bytes.
    """

    def __init__(self, upload: Upload, store: Store) -> None:
        put = object.__setattr__  # FileField is frozen
        put(self, "name", upload.name)
        put(self, "filename", upload.filename)
        put(self, "content_type", upload.content_type or OCTETS)
        put(self, "headers", _headers(upload))
        put(self, "_upload", upload)
        put(self, "_store", store)
        put(self, "_path", "")
        put(self, "_file", None)

    name: str
    filename: str
    content_type: str
    headers: Mapping[str, str]
    _upload: Upload
    _store: Store
    _path: str
    _file: Optional[IO[bytes]]

    @property
    def file(self) -> IO[bytes]:
        """The bytes, as a file that is open for reading."""
        if self._file is None:
            object.__setattr__(self, "_file", open(self.path(), "rb"))  # noqa: SIM115
        assert self._file is not None
        return self._file

    def path(self) -> str:
        """Return the path of the temporary file with the bytes."""
        if not self._path:
            object.__setattr__(self, "_path", self._store.save(self._upload))
        return self._path

    def uploaded(self, make: Callable[..., Any]) -> Any:
        """Return the UploadedFile that predict gets, made by ``make``."""
        if self._file is not None:
            self._file.close()
        return make(
            name=self.name,
            filename=self.path(),
            content_type=self.content_type,
            original_filename=self.filename,
        )


def _headers(upload: Upload) -> Dict[str, str]:
    name = urllib.parse.quote(upload.name, safe=" ")
    filename = urllib.parse.quote(upload.filename, safe=" ")
    return {
        "Content-Disposition": f'form-data; name="{name}"; filename="{filename}"',
        "Content-Type": upload.content_type or OCTETS,
    }


_CLASSES: Dict[Any, Type[Incoming]] = {}


def incoming(upload: Upload, store: Store) -> Incoming:
    """Return an upload as the fields see it.

    If the module has imported aiohttp, it is an instance of its FileField too.
    """
    loaded = sys.modules.get("aiohttp.web_request")
    base = getattr(loaded, "FileField", None)
    if not isinstance(base, type):
        return Incoming(upload, store)
    if base not in _CLASSES:
        try:
            _CLASSES[base] = type("Incoming", (Incoming, base), {"__hash__": object.__hash__})
        except TypeError:  # a FileField that cannot be inherited from
            _CLASSES[base] = Incoming
    return _CLASSES[base](upload, store)


def deliver(value: Any) -> Any:
    """Replace every Incoming in what the fields have made by an UploadedFile."""
    if isinstance(value, Incoming):
        return value.uploaded(compat.uploaded_file_class())
    if type(value) in (list, tuple):
        if any(isinstance(item, Incoming) for item in value):
            return type(value)(deliver(item) for item in value)
    elif type(value) is dict and any(isinstance(item, Incoming) for item in value.values()):
        return {key: deliver(item) for key, item in value.items()}
    return value


def from_json(name: str, value: Any) -> Upload:
    """Return the file that a JSON value holds.

    It is a base64 string, a ``data:`` URI, or an object with ``data``, which is one of the
    two, and optionally ``filename`` and ``content_type``. What is not said of the two is
    guessed from the other and the bytes. Raises NotAFile.
    """
    filename: Any = ""
    named_type: Any = ""
    if isinstance(value, dict):
        filename, named_type = value.get("filename"), value.get("content_type")
        value = value.get("data")
        if not isinstance(value, str):
            raise NotAFile("Must be an uploaded file: an object with the member data in base64.")
    if not isinstance(value, str):
        raise NotAFile("Must be an uploaded file.")
    content_type, data = _decode(value)
    filename = filename if isinstance(filename, str) else ""
    if isinstance(named_type, str) and named_type:
        content_type = named_type
    content_type = content_type or mimetypes.guess_type(filename)[0] or sniff(data[:64]) or OCTETS
    # Modules take the kind of a file from its name, as a browser would have sent it.
    filename = filename or name + suffix("", content_type)
    return Upload(name, filename, content_type, memoryview(data))


def is_data_uri(value: Any) -> bool:
    """Whether a value is a data: URI, which begins with data: and has a comma."""
    return isinstance(value, str) and value[:5].lower() == "data:" and "," in value


def _decode(text: str) -> Tuple[str, bytes]:
    """Return the media type, "" when there is none, and the bytes of a text."""
    if is_data_uri(text):
        head, data = text[5:].split(",", 1)
        content_type, encoding = _cut_base64(head)
        if encoding:
            return content_type, _base64(urllib.parse.unquote(data))
        return content_type, urllib.parse.unquote_to_bytes(data)
    if text[:7].lower() == "http://" or text[:8].lower() == "https://":
        raise NotAFile("Must be an uploaded file: a URL is not fetched.")
    return "", _base64(text)


def _cut_base64(head: str) -> Tuple[str, bool]:
    """Split the head of a data: URI into its media type and whether base64 follows."""
    before, separator, last = head.rpartition(";")
    if separator and last.strip().lower() == "base64":
        return before.strip(), True
    return head.strip(), False


_SPACE = re.compile(r"[ \t\r\n]+")
_URL_SAFE = str.maketrans("-_", "+/")


def _base64(text: str) -> bytes:
    """Decode base64 in either alphabet, with or without padding and line breaks."""
    text = _SPACE.sub("", text).translate(_URL_SAFE)
    stripped = text.rstrip("=")
    if len(stripped) % 4 == 1 or len(text) - len(stripped) > 2:
        raise NotAFile("Not valid base64.")
    try:
        return base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise NotAFile("Not valid base64.") from None
