"""Results as JSON, and JSON as arguments: always valid, whatever a model returns.

What json.dumps can write is written exactly so. Beyond that:

* NaN and the infinities become null, with a line on stderr that says where;
* arrays and tensors (numpy, torch, tensorflow, jax) become lists, their scalars numbers,
  a pandas DataFrame a list of records and a Series a list;
* dates and times become ISO 8601, a timedelta its seconds;
* sets become lists, sorted where their members can be compared; so do iterators;
* bytes become base64, as files are in JSON everywhere in deepfn;
* paths and UUIDs become texts, a Decimal a number, an Enum its value, a dataclass or a
  pydantic model an object;
* keys that are no texts become texts.

Everything else is a Failure that names the type and where it is.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import itertools
import json
import math
import os
import sys
import uuid
from typing import Any, Dict, List, NoReturn, Tuple, Union

from .failure import bounded, describe, text_of, with_article
from .words import Decoded, Failure, RawJSON

#: How deep a result may be nested.
MAX_DEPTH = 200
#: How many things an iterator may give.
MAX_ITEMS = 10_000_000

_PLAIN_KEYS = (str, int, type(None))
_LAZY: Any = (collections.abc.Sequence, collections.abc.Set, collections.abc.MappingView)


class _Odd(Exception):
    """A value that has no form in JSON; the text says why."""


def dumps(value: Any, verb: str = "predict", root: str = "predictions") -> str:
    """Return value as JSON.

    Raises a Failure "failed" that names the place, as in "predictions.a[3]", for what has
    no form in JSON, for a circular structure and for one nested over 200 deep.
    """
    try:
        return _encode(value)
    except Exception:
        # The encoder does not say where. This way does, and takes what the encoder refuses.
        plain = _Walk(verb, root).walk(value)
    try:
        return _encode(plain)
    except Exception as exc:
        raise Failure("failed", f"{verb} returned what is not JSON: {describe(exc)}") from None


def plain(value: Any, verb: str = "predict", root: str = "predictions") -> Any:
    """Return value as dicts, lists, texts and numbers only; raises as dumps does."""
    return json.loads(dumps(value, verb, root))


def _convert(value: Any) -> Any:
    """Return something nearer to JSON; raises _Odd when there is nothing."""
    if isinstance(value, (datetime.date, datetime.time)):
        text = value.isoformat()
        return None if text == "NaT" else text
    if isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
        return None if math.isnan(seconds) else seconds
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return _ordered(value)
    if not isinstance(value, type):
        done, better = _foreign(value)
        if done:
            return better
    if isinstance(value, _LAZY):
        return list(value)
    raise _Odd(f"{with_article(_name(type(value)))}, which has no form in JSON")


def _foreign(value: Any) -> Tuple[bool, Any]:
    """Convert what arrays, tensors and tables have in common, without importing them."""
    kind = type(value)
    if kind.__name__ in ("NAType", "NaTType"):
        return True, None
    if _has(value, "model_dump"):
        return True, value.model_dump()
    if _has(value, "to_dict") and hasattr(value, "columns"):
        return True, value.to_dict(orient="records")
    if _has(value, "detach") and _has(value, "cpu"):
        value = value.detach().cpu()
    if _has(value, "tolist"):
        return True, value.tolist()
    if _has(value, "numpy"):
        return True, value.numpy()
    if _has(value, "item"):
        return True, value.item()
    if _has(value, "to_dict"):
        return True, value.to_dict()
    return False, None


def _has(value: Any, method: str) -> bool:
    return callable(getattr(value, method, None))


def _decimal(value: decimal.Decimal) -> Union[int, float, None]:
    if not value.is_finite():
        return float("nan")
    if abs(value.adjusted()) < 300 and value == value.to_integral_value():
        return int(value)
    return float(value)


def _ordered(members: Any) -> List[Any]:
    try:
        return sorted(members)
    except Exception:
        return list(members)


def _name(cls: type) -> str:
    module = getattr(cls, "__module__", "")
    return cls.__qualname__ if module in ("builtins", "") else f"{module}.{cls.__qualname__}"


# As json.dumps writes it; made once, which saves most of the time of a small result.
_encode_whole = json.JSONEncoder(allow_nan=False, default=_convert).encode

# A text is long from this length on, in characters: a file in base64, a page. It is looked
# for in the first levels of a result only, and only where a level has few members.
_LONG = 8 << 10
_FEW = 8
_LEVELS = 3

# The characters of ASCII that JSON or json.dumps writes otherwise, the usual ones first.
_ESCAPED = ("\n", '"', "\\", *(chr(c) for c in (*range(10), *range(11, 32), 127)))


def _encode(value: Any) -> str:
    """Return value as json.dumps writes it, in a fifth of the time where texts are long."""
    if not _has_long(value, _LEVELS):
        return _encode_whole(value)
    pieces: List[str] = []
    _put(value, _LEVELS, pieces)
    return "".join(pieces)


def _has_long(value: Any, levels: int) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) >= _LONG
    if (kind is not dict and kind is not list) or not levels or len(value) > _FEW:
        return False
    for member in value.values() if kind is dict else value:
        kind = type(member)
        if kind is str:
            if len(member) >= _LONG:
                return True
        elif (kind is dict or kind is list) and _has_long(member, levels - 1):
            return True
    return False


def _put(value: Any, levels: int, pieces: List[str]) -> None:
    """Append the pieces of what may hold long texts; the encoder makes all others."""
    kind = type(value)
    if kind is str and len(value) >= _LONG:
        pieces += ('"', value, '"') if _stands_for_itself(value) else (_encode_whole(value),)
    elif not levels or not value or not _has_long(value, levels):
        pieces.append(_encode_whole(value))
    elif kind is list:
        before = "["
        for member in value:
            pieces.append(before)
            _put(member, levels - 1, pieces)
            before = ", "
        pieces.append("]")
    elif all(type(key) is str for key in value):
        before = "{"
        for key, member in value.items():
            pieces += (before, _encode_whole(key), ": ")
            _put(member, levels - 1, pieces)
            before = ", "
        pieces.append("}")
    else:
        pieces.append(_encode_whole(value))


def _stands_for_itself(text: str) -> bool:
    """Whether JSON holds a text as it is.

    A search for one character takes a hundredth of the time in which the encoder looks at
    each of them twice.
    """
    return text.isascii() and not any(c in text for c in _ESCAPED)


def _drained(value: Any) -> List[Any]:
    """Return what an iterator gives: once, so that the encoder leaves it to the walk."""
    items = list(itertools.islice(value, MAX_ITEMS + 1))
    if len(items) > MAX_ITEMS:
        raise _Odd(f"an iterator of over {MAX_ITEMS} things")
    return items


class _Walk:
    """Goes through a value that the encoder refused, and knows where it is."""

    def __init__(self, verb: str, root: str) -> None:
        self._verb = verb
        self._way: List[Union[str, int]] = []
        self._root = root
        self._inside: Dict[int, Any] = {}
        self._nans = 0
        self._first_nan = ""

    def walk(self, value: Any) -> Any:
        try:
            result = self._any(value)
        except RecursionError:
            self._fail("something nested too deeply")
        if self._nans:
            more = f" and {self._nans - 1} more" if self._nans > 1 else ""
            print(
                f"deepfn: {self._verb} returned {self._first_nan}{more}: JSON has no such "
                "number, null was sent",
                file=sys.stderr,
            )
        return result

    def _any(self, value: Any) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int) and not isinstance(value, enum.Enum):
            return self._int(value)
        if isinstance(value, float) and not isinstance(value, enum.Enum):
            return self._float(value)
        return self._inner(value)

    def _int(self, value: int) -> int:
        number = int.__int__(value)
        try:
            int.__repr__(number)
        except ValueError:  # Python writes integers up to a limit of digits only
            self._fail(f"an integer of {number.bit_length()} bits")
        return number

    def _float(self, value: float) -> Union[float, None]:
        if math.isfinite(value):
            return float.__float__(value)
        self._nans += 1
        if not self._first_nan:
            self._first_nan = f"{float.__repr__(value)} at {self._place()}"
        return None

    def _inner(self, value: Any) -> Any:
        if id(value) in self._inside:
            self._fail("a circular structure")
        if len(self._inside) >= MAX_DEPTH:
            self._fail(f"something nested more than {MAX_DEPTH} deep")
        self._inside[id(value)] = value
        try:
            if isinstance(value, dict):
                return self._dict(value)
            if isinstance(value, (list, tuple)):
                return self._list(value)
            return self._any(self._converted(value))
        finally:
            del self._inside[id(value)]

    def _converted(self, value: Any) -> Any:
        try:
            if isinstance(value, collections.abc.Iterator):
                return _drained(value)
            return _convert(value)
        except _Odd as exc:
            self._fail(text_of(exc))
        except RecursionError:
            raise
        except Exception as exc:
            self._fail(
                f"{with_article(_name(type(value)))} that could not be made JSON ({describe(exc)})"
            )

    def _dict(self, value: Any) -> Dict[str, Any]:
        try:
            items = list(value.items())
        except Exception as exc:
            self._fail(
                f"{with_article(_name(type(value)))} that does not list its items ({describe(exc)})"
            )
        result = {}
        for key, member in items:
            name = self._key(key)
            self._way.append(name if isinstance(name, str) else text_of(name))
            result[name] = self._any(member)
            self._way.pop()
        return result

    def _list(self, value: Any) -> List[Any]:
        result = []
        for index, member in enumerate(value):
            self._way.append(index)
            result.append(self._any(member))
            self._way.pop()
        return result

    def _key(self, key: Any) -> Any:
        if isinstance(key, enum.Enum):
            key = key.value
        elif callable(getattr(key, "item", None)):
            try:
                key = key.item()
            except Exception as exc:
                self._fail(f"a key of type {_name(type(key))} ({describe(exc)})")
        if isinstance(key, _PLAIN_KEYS) or (isinstance(key, float) and math.isfinite(key)):
            return key
        try:
            return key.decode() if isinstance(key, bytes) else str(key)
        except Exception as exc:
            self._fail(f"a key of type {_name(type(key))} that is no text ({describe(exc)})")

    def _place(self) -> str:
        way = self._root
        shown = self._way if len(self._way) <= 20 else [*self._way[:10], "…", *self._way[-9:]]
        for step in shown:
            if isinstance(step, int):
                way += f"[{step}]"
            elif step.isidentifier():
                way += f".{bounded(step, 50)}"
            else:
                way += f"[{bounded(step, 50)!r}]"
        return way

    def _fail(self, what: str) -> NoReturn:
        raise Failure("failed", f"{self._verb} returned {what} at {self._place()}")


class _Constant(ValueError):
    """NaN or an infinity in what is to be JSON."""


def _refuse(name: str) -> NoReturn:
    raise _Constant(name)


_decode = json.JSONDecoder(parse_constant=_refuse).decode


def arguments(given: Union[RawJSON, Decoded]) -> Any:
    """Return the JSON value that arguments are. Raises as loads does."""
    return given.value if isinstance(given, Decoded) else loads(given)


def loads(raw: RawJSON) -> Any:
    """Return the value of a JSON text in UTF-8.

    Of members with the same name the last counts; integers keep all their digits. Raises a
    Failure "invalid" for what is not JSON, NaN and Infinity included, and for what is
    nested too deeply for Python.
    """
    try:
        return _decode(str(raw, "utf-8", "surrogatepass"))
    except _Constant as exc:
        raise Failure("invalid", f"Invalid JSON body: {exc} is not a number of JSON.") from None
    except json.JSONDecodeError as exc:
        raise Failure(
            "invalid", f"Invalid JSON body: {exc.msg} (line {exc.lineno}, column {exc.colno})."
        ) from None
    except UnicodeDecodeError as exc:
        raise Failure("invalid", f"Invalid JSON body: not UTF-8 at byte {exc.start}.") from None
    except RecursionError:
        raise Failure("invalid", "Invalid JSON body: it is nested too deeply.") from None
    except ValueError as exc:  # integers are bounded by sys.set_int_max_str_digits
        raise Failure("invalid", f"Invalid JSON body: {bounded(text_of(exc), 200)}.") from None
