"""The parameters of a plain function: from its annotations, and values for them.

The words for what is wrong are those of marshmallow, so that a plain function and a
DEEPaaS module tell a caller the same.
"""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import datetime
import enum
import inspect
import io
import json
import math
import pathlib
import re
import sys
import types
import typing
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import jsonable
from .failure import sentence
from .incoming import NotAFile, from_json
from .words import Failure, Store, Upload

_MISSING = "Missing data for required field."
_TRUE = frozenset(("t", "true", "on", "y", "yes", "1"))
_FALSE = frozenset(("f", "false", "off", "n", "no", "0"))
_NO_DEFAULT = inspect.Parameter.empty


class Wrong(Exception):
    """A value that is not of its type; the text is for the caller."""


class Kind:
    """A type of values: its name in package actions, its JSON Schema, and its reader.

    ``read(value, text)`` returns the value of a parameter; with ``text`` it came as text,
    from a form or a query string. Raises Wrong.
    """

    type = "any"
    #: Whether a value is one or several uploads.
    file = False
    many: Optional[Kind] = None

    def __init__(self) -> None:
        self.schema: Dict[str, Any] = {}

    def read(self, value: Any, text: bool) -> Any:
        """Return what the function gets for a value; here the value itself."""
        return value

    def shown(self, value: Any) -> Any:
        """Return a value as a status may show it."""
        return value

    def upload(self, upload: Upload, store: Store) -> Any:
        """Return what the function gets for an upload; raises Wrong."""
        raise Wrong("Not a valid value: an uploaded file.")


class _Any(Kind):
    def upload(self, upload: Upload, store: Store) -> Any:
        return bytes(upload.data)


class _Str(Kind):
    type = "string"

    def __init__(self) -> None:
        self.schema = {"type": "string"}

    def read(self, value: Any, text: bool) -> Any:
        if not isinstance(value, str):
            raise Wrong("Not a valid string.")
        return value

    def upload(self, upload: Upload, store: Store) -> Any:
        raise Wrong("Not a valid string.")


class _Int(Kind):
    type = "integer"

    def __init__(self) -> None:
        self.schema = {"type": "integer"}

    def read(self, value: Any, text: bool) -> Any:
        try:
            if isinstance(value, str):
                return int(value.strip())
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            if isinstance(value, float) and value.is_integer():
                return int(value)
        except ValueError:
            pass
        raise Wrong("Not a valid integer.")

    def upload(self, upload: Upload, store: Store) -> Any:
        raise Wrong("Not a valid integer.")


class _Float(Kind):
    type = "number"

    def __init__(self) -> None:
        self.schema = {"type": "number"}

    def read(self, value: Any, text: bool) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise Wrong("Not a valid number.")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise Wrong("Not a valid number.") from None
        if not math.isfinite(number):
            raise Wrong("Special numeric values (nan or infinity) are not permitted.")
        return number

    def upload(self, upload: Upload, store: Store) -> Any:
        raise Wrong("Not a valid number.")


class _Bool(Kind):
    type = "boolean"

    def __init__(self) -> None:
        self.schema = {"type": "boolean"}

    def read(self, value: Any, text: bool) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
            return value.strip().lower() in _TRUE
        if isinstance(value, int) and value in (0, 1):
            return value == 1
        raise Wrong("Not a valid boolean.")

    def upload(self, upload: Upload, store: Store) -> Any:
        raise Wrong("Not a valid boolean.")


class _None(Kind):
    def __init__(self) -> None:
        self.schema = {"type": "null"}

    def read(self, value: Any, text: bool) -> Any:
        if value is None or (text and value == ""):
            return None
        raise Wrong("Field must be null.")


# The forms of ISO 8601 that dates and times have in practice, with and without the marks
# between their parts. fromisoformat is not of use: what it takes depends on the version of
# Python, and before 3.11 it refuses a half second and Z.
_DATE = r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
_TIME = (
    r"(?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)"
    r"(?:(?P=colon)(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?"
)
_ZONE = r"[Zz]|(?P<sign>[+-])(?P<hours>\d\d)(?::?(?P<minutes>\d\d)(?::?(?P<seconds>\d\d))?)?"
_FORMS = {
    datetime.date: re.compile(_DATE, re.ASCII),
    datetime.datetime: re.compile(f"{_DATE}(?:[Tt ]{_TIME}(?P<zone>{_ZONE})?)?", re.ASCII),
}


class _Moment(Kind):
    """A date or a time of a day; the same texts are valid in all versions of Python."""

    type = "string"

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._name = {"datetime": "date-time"}.get(cls.__name__, cls.__name__)
        self.schema = {"type": "string", "format": self._name}

    def read(self, value: Any, text: bool) -> Any:
        found = _FORMS[self._cls].fullmatch(value) if isinstance(value, str) else None
        if found is not None:
            with contextlib.suppress(ValueError):  # a thirteenth month
                return _moment(self._cls, found.groupdict())
        raise Wrong(f"Not a valid {self._cls.__name__}.")


def _moment(cls: Any, parts: Dict[str, Optional[str]]) -> Any:
    """Return a date or datetime of its parts. Raises ValueError."""

    def number(name: str) -> int:
        return int(parts[name] or 0)

    day = (number("year"), number("month"), number("day"))
    if cls is datetime.date:
        return cls(*day)
    zone = None
    if parts["zone"]:
        offset = datetime.timedelta(
            hours=number("hours"), minutes=number("minutes"), seconds=number("seconds")
        )
        if number("minutes") > 59 or number("seconds") > 59:
            raise ValueError("an offset of more than 59 minutes or seconds")
        zone = datetime.timezone(-offset if parts["sign"] == "-" else offset)
    # What is finer than a microsecond is cut off.
    micro = int((parts["fraction"] or "0").ljust(6, "0")[:6])
    return cls(*day, number("hour"), number("minute"), number("second"), micro, zone)


class _List(Kind):
    type = "array"

    def __init__(self, inner: Kind, make: Callable[[List[Any]], Any] = list) -> None:
        self.many = inner
        self.file = inner.file
        self._make = make
        self.schema = {"type": "array", "items": inner.schema}
        if make in (set, frozenset):
            self.schema["uniqueItems"] = True

    def read(self, value: Any, text: bool) -> Any:
        inner = self.many
        assert inner is not None
        if text and isinstance(value, list) and len(value) == 1:
            value, text = _whole(value, "[", list, value)
        if not isinstance(value, list):
            raise Wrong("Not a valid list.")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(inner.read(item, text))
            except Wrong as exc:
                raise Wrong(f"{index}: {exc}") from None
        try:
            return self._make(items)
        except TypeError:
            raise Wrong("Not a valid list: its members cannot be in a set.") from None

    def upload(self, upload: Upload, store: Store) -> Any:
        assert self.many is not None
        return self.many.upload(upload, store)


class _Dict(Kind):
    type = "object"

    def __init__(self, inner: Kind) -> None:
        self._inner = inner
        self.schema = {"type": "object"}
        if inner.schema:
            self.schema["additionalProperties"] = inner.schema

    def read(self, value: Any, text: bool) -> Any:
        if text:
            value, _ = _whole([value], "{", dict, value)
        if not isinstance(value, dict):
            raise Wrong("Not a valid mapping type.")
        read = {}
        for key, member in value.items():
            try:
                read[key] = self._inner.read(member, False)
            except Wrong as exc:
                raise Wrong(f"{key}: {exc}") from None
        return read


def _whole(texts: List[Any], first: str, cls: type, otherwise: Any) -> Tuple[Any, bool]:
    """Return the JSON value that a text is, if it is one of cls; else what it was."""
    text = texts[0]
    if isinstance(text, str) and text.lstrip().startswith(first):
        try:
            value = jsonable.loads(text.encode("utf-8", "surrogatepass"))
        except Failure:
            return otherwise, True
        if isinstance(value, cls):
            return value, False
    return otherwise, True


class _Choice(Kind):
    def __init__(self, choices: List[Tuple[Any, Any]]) -> None:
        """Take pairs of what is given and what the function gets."""
        self._choices = choices
        given = [pair[0] for pair in choices]
        self.schema = {"enum": given}
        kinds = {type(value) for value in given}
        names = {str: "string", int: "integer", float: "number", bool: "boolean"}
        if len(kinds) == 1:
            self.type = names.get(kinds.pop(), "any")

    def read(self, value: Any, text: bool) -> Any:
        for given, meant in self._choices:
            if type(value) is type(given) and value == given:
                return meant
        for given, meant in self._choices:
            if text and (str(given) == value or (given is None and value == "")):
                return meant
            if isinstance(meant, enum.Enum) and meant.name == value:
                return meant
        known = ", ".join(str(given) for given, _ in self._choices)
        raise Wrong(f"Must be one of: {known}.")


class _Union(Kind):
    def __init__(self, kinds: List[Kind]) -> None:
        # A text is everything else before it is a text.
        self._kinds = sorted(kinds, key=lambda kind: kind.type == "string")
        self.schema = {"anyOf": [kind.schema for kind in kinds]}
        meant = [kind for kind in kinds if not isinstance(kind, _None)]
        self.file = any(kind.file for kind in meant)
        if len(meant) == 1:
            self.type, self.many = meant[0].type, meant[0].many
            if self.file:
                self.schema = meant[0].schema
        self._meant = meant

    def read(self, value: Any, text: bool) -> Any:
        if value is None and len(self._meant) == len(self._kinds):
            raise Wrong("Field may not be null.")
        kinds = self._kinds
        if not text:
            # {"x": "3"} for Union[int, str] is the text.
            kinds = sorted(kinds, key=lambda kind: not _fits(kind, value))
        problem = Wrong("Not a valid value.")
        for kind in kinds:
            try:
                if kind.many is None and text and isinstance(value, list):
                    return kind.read(value[0], True)
                return kind.read(value, text)
            except Wrong as exc:
                if kind in self._meant:
                    problem = exc
        raise problem

    def upload(self, upload: Upload, store: Store) -> Any:
        for kind in sorted(self._meant, key=lambda kind: not kind.file):
            return kind.upload(upload, store)
        raise Wrong("Not a valid value: an uploaded file.")


_FITS: Dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def _fits(kind: Kind, value: Any) -> bool:
    """Whether a JSON value has the type of a kind as it is."""
    if value is None or isinstance(kind, _None):
        return value is None and isinstance(kind, _None)
    if isinstance(value, bool):
        return kind.type == "boolean"
    return isinstance(value, _FITS.get(kind.type, ()))


class _NamedBytes(io.BytesIO):
    """Bytes as an open file with the name that the caller gave."""

    name = ""


class _File(Kind):
    """Bytes: an upload, or base64, a data: URI or an object with them in JSON."""

    type = "file"
    file = True

    def __init__(self, form: str) -> None:
        self._form = form  # bytes, bytearray, stream or path
        self.schema = {"type": "string", "format": "binary"}

    def read(self, value: Any, text: bool) -> Any:
        if text and not (isinstance(value, str) and value[:5].lower() == "data:"):
            raise Wrong("Must be an uploaded file.")
        if value is None:
            raise Wrong("Field may not be null.")
        try:
            return from_json("", value)
        except NotAFile as exc:
            raise Wrong(str(exc)) from None

    def upload(self, upload: Upload, store: Store) -> Any:
        if self._form == "path":
            return pathlib.Path(store.save(upload))
        if self._form == "stream":
            stream = _NamedBytes(upload.data)
            stream.name = upload.filename
            return stream
        return bytearray(upload.data) if self._form == "bytearray" else bytes(upload.data)

    def shown(self, value: Any) -> Any:
        return "<file>"


_SIMPLE: Dict[Any, Callable[[], Kind]] = {
    str: _Str,
    int: _Int,
    float: _Float,
    bool: _Bool,
    type(None): _None,
    bytes: lambda: _File("bytes"),
    bytearray: lambda: _File("bytearray"),
    memoryview: lambda: _File("bytes"),
    list: lambda: _List(_Any()),
    tuple: lambda: _List(_Any(), tuple),
    set: lambda: _List(_Any(), set),
    frozenset: lambda: _List(_Any(), frozenset),
    dict: lambda: _Dict(_Any()),
    datetime.datetime: lambda: _Moment(datetime.datetime),
    datetime.date: lambda: _Moment(datetime.date),
}
_LISTS = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
}
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_STREAMS = (
    typing.BinaryIO,
    io.BytesIO,
    io.BufferedReader,
    io.RawIOBase,
    io.BufferedIOBase,
    io.IOBase,
)


def kind_of(annotation: Any) -> Kind:
    """Return the kind of an annotation; what is not known takes every value."""
    while _is_wrapper(annotation):
        annotation = annotation.__origin__
    simple: Optional[Callable[[], Kind]] = _hashed(_SIMPLE, annotation)
    if simple is not None:
        return simple()
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is None and isinstance(annotation, type):
        return _class_kind(annotation)
    if annotation is typing.BinaryIO or (annotation is typing.IO):
        return _File("stream")
    if origin is typing.Union or origin is getattr(types, "UnionType", ()):
        return _Union([kind_of(member) for member in arguments])
    if origin is not None and _is_literal(annotation):
        return _Choice([(value, value) for value in arguments])
    if origin is typing.IO:
        return _File("stream") if bytes in arguments else Kind()
    if origin is tuple:
        inner = arguments[0] if len(set(arguments) - {Ellipsis}) == 1 else typing.Any
        return _List(kind_of(inner), tuple)
    if _hashed(_LISTS, origin) is not None:
        return _List(kind_of(arguments[0]) if arguments else _Any(), _LISTS[origin])
    if origin in _MAPPINGS:
        return _Dict(kind_of(arguments[1]) if len(arguments) == 2 else _Any())
    return _Any()


def _is_wrapper(annotation: Any) -> bool:
    """Whether it is Annotated[X, …], whose __origin__ is X."""
    return hasattr(annotation, "__metadata__") and hasattr(annotation, "__origin__")


def _is_literal(annotation: Any) -> bool:
    return getattr(typing.get_origin(annotation), "_name", "") == "Literal"


def _hashed(table: Dict[Any, Any], key: Any) -> Any:
    try:
        return table.get(key)
    except TypeError:
        return None


def _class_kind(cls: type) -> Kind:
    if issubclass(cls, enum.Enum):
        members: List[enum.Enum] = list(cls)
        if all(isinstance(m.value, (str, int, float, bool, type(None))) for m in members):
            return _Choice([(member.value, member) for member in members])
        return _Choice([(member.name, member) for member in members])
    if issubclass(cls, pathlib.PurePath):
        return _File("path")
    if cls in _STREAMS:
        return _File("stream")
    if issubclass(cls, dict) or cls in _MAPPINGS:  # a TypedDict is one
        return _Dict(_Any())
    return _Any()


class Parameters:
    """What a function takes, and how a request is read for it.

    ``context`` are names of parameters that the launcher itself fills.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._kinds: Dict[str, Kind] = {}
        self._found: Dict[str, inspect.Parameter] = {}
        self._notes: Dict[str, str] = {}
        self.open = False
        self.positional: List[str] = []
        hints = _hints(function)
        for name, parameter in signature(function).parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                self.open = True
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                self.positional.append(name)
            annotation = hints.get(name, parameter.annotation)
            if annotation is _NO_DEFAULT:
                annotation = _guess(parameter.default)
            self._found[name] = parameter
            kind = kind_of(annotation)
            if parameter.default is None and not isinstance(kind, (_Union, _Any)):
                kind = _Union([kind, _None()])  # def f(x: int = None)
            self._kinds[name] = kind
            self._notes[name] = _note(annotation)

    def describe(self) -> Dict[str, Any]:
        """Return actions.Signature."""
        described = []
        for name, parameter in self._found.items():
            kind = self._kinds[name]
            one: Dict[str, Any] = {"name": name, "type": kind.type, "schema": dict(kind.schema)}
            if kind.file and kind.many is not None:
                one["type"] = "array"
            if self._notes[name]:
                one["description"] = self._notes[name]
            if parameter.default is _NO_DEFAULT:
                one["required"] = True
            else:
                try:
                    default = json.loads(jsonable.dumps(parameter.default, name, "default"))
                except Failure:
                    pass
                else:
                    if default is not None and not kind.file:
                        one["default"] = one["schema"]["default"] = default
            if "enum" in kind.schema:
                one["choices"] = kind.schema["enum"]
            described.append(one)
        return {"parameters": described, "open": self.open}

    def read(
        self, given: Any, texts: Dict[str, List[str]], files: List[Upload], store: Store
    ) -> Dict[str, Any]:
        """Return the keyword arguments of a request.

        An upload comes before a text, and a text before a member of the JSON object
        ``given``. Raises Failure "invalid" with what is wrong by parameter.
        """
        if not isinstance(given, dict):
            raise Failure(
                "invalid", "Invalid input type.", fields={"json": ["Invalid input type."]}
            )
        uploads: Dict[str, List[Upload]] = {}
        for upload in files:
            uploads.setdefault(upload.name, []).append(upload)
        values: Dict[str, Any] = {}
        wrong: Dict[str, List[str]] = {}
        for name, parameter in self._found.items():
            try:
                if name in uploads:
                    values[name] = _uploaded(self._kinds[name], uploads[name], store)
                elif name in texts:
                    values[name] = self._text(self._kinds[name], texts[name], store)
                elif name in given:
                    values[name] = _stored(
                        self._kinds[name], self._json(self._kinds[name], given[name]), store
                    )
                elif parameter.default is _NO_DEFAULT:
                    wrong[name] = [_MISSING]
            except Wrong as exc:
                wrong[name] = [str(exc)]
        if wrong:
            raise Failure("invalid", sentence(wrong), fields=wrong)
        if self.open:
            self._rest(values, given, texts, uploads)
        return values

    @staticmethod
    def _json(kind: Kind, value: Any) -> Any:
        if value is None and not isinstance(kind, (_Any, _Union, _Choice, _None)):
            raise Wrong("Field may not be null.")
        return kind.read(value, False)

    @staticmethod
    def _text(kind: Kind, texts: List[str], store: Store) -> Any:
        value = kind.read(texts if kind.many is not None else texts[0], True)
        return _stored(kind, value, store)

    def _rest(
        self,
        values: Dict[str, Any],
        given: Dict[str, Any],
        texts: Dict[str, List[str]],
        uploads: Dict[str, List[Upload]],
    ) -> None:
        """Add what a function with ** takes besides its own parameters."""
        rest: Dict[str, Any] = dict(given)
        rest.update({name: some[0] if len(some) == 1 else some for name, some in texts.items()})
        for name, several in uploads.items():
            data = [bytes(upload.data) for upload in several]
            rest[name] = data[0] if len(data) == 1 else data
        for name, value in rest.items():
            if name not in self._found and not name.startswith("__ow_"):
                values[name] = value

    def shown(self, values: Dict[str, Any]) -> Dict[str, Any]:
        """Return the arguments as a status may show them: files are not shown."""
        shown: Dict[str, Any] = {}
        for name, value in values.items():
            kind = self._kinds.get(name)
            hidden = (kind is not None and kind.file) or isinstance(value, (bytes, bytearray))
            shown[name] = "<file>" if hidden and value is not None else value
        return shown


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function; that of an open one if it has none to show."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
        return inspect.Signature([rest])


def _hints(function: Callable[..., Any]) -> Dict[str, Any]:
    """Return the annotations with their names resolved, as far as they can be."""
    target = function
    if not inspect.isroutine(function) and not inspect.isclass(function):
        target = getattr(type(function), "__call__", function)  # noqa: B004 - its annotations
    extras: Dict[str, Any] = {"include_extras": True} if sys.version_info >= (3, 9) else {}
    try:
        return typing.get_type_hints(target, **extras)
    except Exception:  # one name that is not there spoils them all
        names = getattr(target, "__globals__", {})
        notes = getattr(target, "__annotations__", {})
        return {name: _resolved(note, names) for name, note in notes.items()}


def _resolved(note: Any, names: Dict[str, Any]) -> Any:
    """Return an annotation, from its text if it is one; Any if that means nothing."""
    for _ in range(2):  # a text in quotes is a text again
        if not isinstance(note, str):
            break
        try:
            note = eval(note, names)
        except Exception:
            return typing.Any
    return note


def _guess(default: Any) -> Any:
    """Return the annotation that a default stands for."""
    known = (bool, int, float, str, list, dict)
    return type(default) if type(default) in known else typing.Any


def _note(annotation: Any) -> str:
    """Return the first text of Annotated[X, "text"]."""
    for note in getattr(annotation, "__metadata__", ()):
        if isinstance(note, str):
            return note
        told = getattr(note, "description", None)
        if isinstance(told, str):
            return told
    return ""


def _uploaded(kind: Kind, uploads: List[Upload], store: Store) -> Any:
    if kind.many is not None:
        return [kind.upload(upload, store) for upload in uploads]
    return kind.upload(uploads[0], store)


def _stored(kind: Kind, value: Any, store: Store) -> Any:
    """Replace the uploads that came in JSON or text by what the function gets."""
    if isinstance(value, Upload):
        return kind.upload(value, store)
    if kind.file and isinstance(value, list):
        return [_stored(kind, item, store) for item in value]
    return value


def as_text(upload: Upload) -> str:
    """Return the bytes of an upload in base64."""
    return base64.b64encode(upload.data).decode("ascii")
