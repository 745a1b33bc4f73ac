"""Every kind of argument and answer that a module of the DEEPaaS V2 API may have.

It computes nothing. It shows a caller how to send each kind of argument and what arrives,
and it makes on demand what models do otherwise only by accident: it answers late, prints,
and raises errors. It needs marshmallow only.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zipfile
import zlib
from typing import Any, Dict, List

from marshmallow import Schema, ValidationError, fields, validate

_JSON = "application/json"
_PNG = "image/png"
_ZIP = "application/zip"
_TEXT = "text/plain"


class HTTPException(Exception):
    """An error with a status, by the name and the attributes that aiohttp's have."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def get_metadata() -> Dict[str, Any]:
    """Return what the model is."""
    return {
        "name": "demo",
        "title": "Echo of every kind of argument",
        "summary": "Answers with what it was given. Also late, loudly, or with an error.",
        "version": "1.0.0",
        "author": "The deepfn authors",
        "license": "Apache-2.0",
    }


def _about(description: str, **more: Any) -> Dict[str, Any]:
    return {"description": description, **more}


def _values() -> Dict[str, Any]:
    point = Schema.from_dict(
        {"x": fields.Float(required=True), "y": fields.Float(load_default=0.0)}, name="Point"
    )
    return {
        "text": fields.Str(load_default="some text", metadata=_about("Any text.")),
        "choice": fields.Str(
            load_default="second",
            validate=validate.OneOf(["first", "second", "third"]),
            metadata=_about("One of three."),
        ),
        "code": fields.Str(
            validate=[validate.Length(min=2, max=8), validate.Regexp(r"^[a-z]+$")],
            metadata=_about("2 to 8 lower-case letters."),
        ),
        "password": fields.Str(
            load_only=True,
            validate=validate.Length(min=1),
            metadata=_about("Is not echoed; only its length is.", format="password"),
        ),
        "integer": fields.Int(load_default=1, metadata=_about("A whole number.")),
        "percent": fields.Int(
            load_default=50,
            validate=validate.Range(min=0, max=100),
            metadata=_about("A whole number from 0 to 100."),
        ),
        "number": fields.Float(load_default=0.5, metadata=_about("A number.")),
        "flag": fields.Bool(load_default=True, metadata=_about("True or false.")),
        "integers": fields.List(fields.Int(), metadata=_about("Whole numbers.")),
        "numbers": fields.List(
            fields.Float(), load_default=lambda: [0.1, 0.2], metadata=_about("Numbers.")
        ),
        "texts": fields.List(
            fields.Str(), validate=validate.Length(max=10), metadata=_about("Up to 10 texts.")
        ),
        "mapping": fields.Dict(
            keys=fields.Str(), values=fields.Float(), metadata=_about("Numbers by name; JSON only.")
        ),
        "point": fields.Nested(point, metadata=_about("A point with x and y; JSON only.")),
        "url": fields.Url(metadata=_about("An address on the web.")),
        "email": fields.Email(metadata=_about("An e-mail address.")),
        "uuid": fields.UUID(metadata=_about("A UUID.")),
        "day": fields.Date(metadata=_about("A date, 2026-01-31.")),
        "moment": fields.DateTime(metadata=_about("A date and time in ISO 8601.")),
        "nothing": fields.Int(
            allow_none=True, load_default=None, metadata=_about("A whole number, or null.")
        ),
        "renamed": fields.Str(
            data_key="other-name", metadata=_about("Comes under a name that Python cannot have.")
        ),
        "anything": fields.Raw(metadata=_about("Any value.")),
    }


def _files() -> Dict[str, Any]:
    def place(description: str) -> Dict[str, Any]:
        return _about(description, type="file", location="form")

    return {
        "image": fields.Raw(metadata=place("A PNG; it comes back as image/png.")),
        "file": fields.Raw(metadata=place("Any file.")),
        "files": fields.List(
            fields.Raw(metadata=place("Any file.")), metadata=place("Any number of files.")
        ),
    }


def _behaviour() -> Dict[str, Any]:
    return {
        "wait": fields.Float(
            load_default=0.0,
            validate=validate.Range(min=0, max=3600),
            metadata=_about("Seconds until the answer."),
        ),
        "say": fields.Str(metadata=_about("A line to print on stdout and on stderr.")),
        "http_error": fields.Int(
            validate=validate.Range(min=400, max=599),
            metadata=_about("Raise an HTTP error of this status instead of an answer."),
        ),
        "error": fields.Str(metadata=_about("Raise a ValueError that says this.")),
        "bad_argument": fields.Str(metadata=_about("Refuse an argument in predict itself.")),
    }


def get_predict_args() -> Dict[str, Any]:
    """Return the arguments of predict."""
    accept = fields.Str(
        load_default=_JSON,
        validate=validate.OneOf([_JSON, _PNG, _ZIP, _TEXT]),
        metadata=_about("Media type of the answer.", location="headers"),
    )
    return {**_values(), **_files(), **_behaviour(), "accept": accept}


def predict(**kwargs: Any) -> Any:
    """Return the arguments, as the media type in ``accept``.

    JSON is {name: {"type": its class in Python, "value": …}}, where a file's value is its
    name, media type, size and CRC-32; zip is the same as arguments.json, with the files;
    text is a line for each argument; PNG is ``image``, else a picture of the shades that
    ``percent`` asks for. Raises what ``http_error``, ``error`` and ``bad_argument`` say.
    """
    accept = kwargs.pop("accept", _JSON)
    _behave(kwargs)
    if accept == _PNG:
        return _picture(kwargs)
    echo = {name: _echo(name, value) for name, value in kwargs.items()}
    if accept == _ZIP:
        return _archive(echo, kwargs)
    if accept == _TEXT:
        lines = [f"{name}: {x['type']} {json.dumps(x['value'])}\n" for name, x in echo.items()]
        return io.BytesIO("".join(lines).encode())
    return echo


def get_train_args() -> Dict[str, Any]:
    """Return the arguments of train."""
    return {
        "epochs": fields.Int(
            load_default=3,
            validate=validate.Range(min=1, max=10000),
            metadata=_about("Steps to pretend."),
        ),
        "seconds": fields.Float(
            load_default=0.1,
            validate=validate.Range(min=0, max=3600),
            metadata=_about("How long a step takes."),
        ),
        "fail_after": fields.Int(
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=0),
            metadata=_about("Raise an error after so many steps."),
        ),
        "data": fields.Raw(metadata=_about("Any file.", type="file", location="form")),
    }


def train(**kwargs: Any) -> Dict[str, Any]:
    """Pretend to train, and report each step; raise RuntimeError if ``fail_after`` says so."""
    epochs, fail_after = kwargs["epochs"], kwargs.get("fail_after")
    for epoch in range(epochs + 1):
        if fail_after is not None and epoch == fail_after:
            raise RuntimeError(f"failed after {epoch} epochs, as was asked for")
        print(f"deepfn-progress: {epoch / epochs:.2f} epoch {epoch} of {epochs}", flush=True)
        if epoch < epochs:
            time.sleep(kwargs["seconds"])
    answer: Dict[str, Any] = {"epochs": epochs, "loss": 1 / (1 + epochs)}
    if "data" in kwargs:
        answer["data"] = _echo("data", kwargs["data"])["value"]
    return answer


def warm() -> None:
    """Do nothing: there is nothing to load."""


def _behave(kwargs: Dict[str, Any]) -> None:
    time.sleep(kwargs.get("wait", 0.0))
    if "say" in kwargs:
        print(kwargs["say"], flush=True)
        print(kwargs["say"], file=sys.stderr, flush=True)
    if "http_error" in kwargs:
        raise HTTPException(kwargs["http_error"], "as was asked for")
    if "error" in kwargs:
        raise ValueError(kwargs["error"])
    if "bad_argument" in kwargs:
        raise ValidationError({"bad_argument": [kwargs["bad_argument"]]})


def _is_file(value: Any) -> bool:
    return hasattr(value, "filename") and hasattr(value, "content_type")


def _echo(name: str, value: Any) -> Dict[str, Any]:
    """Return an argument's class and value in JSON's words."""
    shown = value
    if name == "password":
        shown = f"{len(value)} characters"
    elif _is_file(value):
        shown = _file(value)
    elif isinstance(value, list):
        shown = [_file(item) if _is_file(item) else item for item in value]
    elif not isinstance(value, (str, int, float, bool, dict, type(None))):
        shown = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return {"type": type(value).__name__, "value": shown}


def _file(upload: Any) -> Dict[str, Any]:
    data = _bytes(upload)
    return {
        "filename": upload.original_filename,
        "content_type": upload.content_type,
        "size": len(data),
        "crc32": f"{zlib.crc32(data):08x}",
    }


def _bytes(upload: Any) -> bytes:
    with open(upload.filename, "rb") as file:
        return file.read()


def _archive(echo: Dict[str, Any], kwargs: Dict[str, Any]) -> io.BytesIO:
    uploads: List[Any] = [value for value in kwargs.values() if _is_file(value)]
    uploads += [x for value in kwargs.values() if isinstance(value, list) for x in value]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arguments.json", json.dumps(echo, indent=2))
        for number, upload in enumerate((x for x in uploads if _is_file(x)), 1):
            # The name is the caller's: only its last part counts, and it may come twice.
            name = (upload.original_filename or "file").replace("\\", "/").rsplit("/", 1)[-1]
            archive.writestr(f"{number}/{name or 'file'}", _bytes(upload))
    out.seek(0)
    return out


def _picture(kwargs: Dict[str, Any]) -> Any:
    if "image" in kwargs:
        if not _is_file(kwargs["image"]):
            raise ValidationError({"image": ["Not an uploaded file."]})
        data = _bytes(kwargs["image"])
        if not data.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValidationError({"image": ["Not a PNG."]})
        # Who sends it closes it.
        return open(kwargs["image"].filename, "rb")
    return io.BytesIO(shades(kwargs.get("percent", 50)))


def shades(percent: int, width: int = 256, height: int = 64) -> bytes:
    """Return a PNG that goes from black, at the left, to ``percent`` of white."""
    row = bytes(round(x * percent / 100 * 255 / (width - 1)) for x in range(width))
    rows = (b"\0" + row) * height
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        out += struct.pack(">I", len(data)) + kind + data
        out += struct.pack(">I", zlib.crc32(kind + data))
    return out
