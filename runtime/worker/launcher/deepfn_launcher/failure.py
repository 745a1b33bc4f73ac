"""Exceptions of a module as failures that a caller can act on."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from types import TracebackType
from typing import Any, Dict, FrozenSet, List, Mapping, Optional

from .words import Failure

#: The longest message that a caller is sent, in characters.
MAX_MESSAGE = 4000

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

#: Exceptions of HTTP clients: the status is what another server said to the module, not
#: what the module says to its caller.
_CLIENTS = frozenset(("URLError", "ClientError", "RequestException", "HTTPStatusError"))


def bounded(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return text, cut to limit characters with a note of how many are missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"


def text_of(value: object) -> str:
    """Return str(value), or a note when the object cannot even do that. Never raises."""
    try:
        return str(value)
    except BaseException as exc:
        return f"<its __str__ raised {type(exc).__name__}>"


def describe(exc: BaseException) -> str:
    """Return "Type: message" of an exception, bounded. Never raises."""
    text = text_of(exc).strip()
    name = type(exc).__name__
    return bounded(f"{name}: {text}" if text else name)


def of(exc: BaseException, verb: str = "predict") -> Failure:
    """Return what a caller is told of an exception that verb raised.

    A Failure is passed on; a ValidationError of marshmallow or webargs is "invalid" with
    its fields; an exception that names an HTTP status keeps it, with a code that fits;
    NotImplementedError is "unsupported"; everything else is "failed".
    """
    if isinstance(exc, Failure):
        return exc
    names = frozenset(cls.__name__ for cls in type(exc).__mro__)
    return (
        _validation(exc, names)
        or _http(exc, names)
        or _known(exc, verb)
        or Failure("failed", describe(exc))
    )


def _known(exc: BaseException, verb: str) -> Optional[Failure]:
    if isinstance(exc, SystemExit):
        code = "" if exc.code is None else bounded(text_of(exc.code), 200)
        return Failure("failed", f"{verb} called sys.exit({code})")
    if isinstance(exc, KeyboardInterrupt):
        return Failure("failed", f"{verb} was interrupted by KeyboardInterrupt")
    if isinstance(exc, NotImplementedError):
        text = text_of(exc).strip()
        said = f": {bounded(text)}" if text else ""
        return Failure("unsupported", f"the model does not implement {verb}{said}")
    if isinstance(exc, MemoryError):
        text = text_of(exc).strip()
        said = f": {bounded(text)}" if text else ""
        return Failure("failed", f"{verb} ran out of memory (MemoryError{said})")
    return None


def _validation(exc: BaseException, names: FrozenSet[str]) -> Optional[Failure]:
    if "ValidationError" not in names:
        return None
    messages = _attribute(exc, "messages")
    if not isinstance(messages, (dict, list, str)) or not messages:
        return None
    fields = fields_of(messages)
    return Failure("invalid", bounded(sentence(fields)), fields=fields)


def fields_of(messages: Any) -> Dict[str, List[str]]:
    """Return marshmallow's messages as lists of texts by argument.

    Messages of no argument stand under "_schema"; those of the parts of an argument are
    its own, with the way to the part before them: {"sizes": ["0: Not a valid integer."]}.
    """
    if not isinstance(messages, Mapping):
        return {"_schema": _flat(messages, "")}
    return {text_of(key): _flat(value, "") for key, value in messages.items()}


def _flat(messages: Any, way: str) -> List[str]:
    if isinstance(messages, Mapping):
        parts = []
        for key, value in messages.items():
            parts += _flat(value, f"{way}{text_of(key)}: ")
        return parts
    if isinstance(messages, (list, tuple)):
        parts = []
        for value in messages:
            parts += _flat(value, way)
        return parts
    return [way + text_of(messages)]


def sentence(fields: Mapping[str, List[str]]) -> str:
    """Return what is wrong with arguments in one line: "a: Too long; b: Not a valid date."."""
    said = [f"{name}: {' '.join(texts)}" for name, texts in fields.items()]
    # The messages of marshmallow are sentences, with a stop of their own.
    return "; ".join([s[:-1] if s.endswith(".") else s for s in said[:-1]] + said[-1:])


def with_article(noun: str) -> str:
    """Return "an object" for "object", "a dict" for "dict"."""
    return ("an " if noun[:1].lower() in tuple("aeiou") else "a ") + noun


def _http(exc: BaseException, names: FrozenSet[str]) -> Optional[Failure]:
    status = _status(exc)
    if status == 0 or names & _CLIENTS:
        return None
    if "HTTPException" not in names and not any(
        isinstance(_attribute(exc, name), str) for name in ("reason", "detail")
    ):
        return None
    msg = bounded(_http_message(exc, status))
    code = "failed"
    if status == 404:
        code = "not_found"
    elif status < 500:
        code = "invalid"
    elif status == 501:
        code = "unsupported"
    elif status == 503:
        code = "unavailable"
    return Failure(code, msg, status=status)


def _status(exc: BaseException) -> int:
    for name in ("status", "status_code", "code"):
        value = _attribute(exc, name)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return int(value)
    return 0


def _http_message(exc: BaseException, status: int) -> str:
    """Return what the module wrote: a text of its own before the reason of the status."""
    reason = _attribute(exc, "reason")
    text = _attribute(exc, "text")
    if isinstance(text, str) and text.strip() and text != f"{status}: {reason}":
        return text
    for name in ("detail", "explanation", "description", "reason", "title"):
        value = _attribute(exc, name)
        if value is not None and not callable(value):
            said = text_of(value).strip()
            if said:
                return said
    return describe(exc)


def _attribute(exc: BaseException, name: str) -> Any:
    try:
        return getattr(exc, name, None)
    except BaseException:  # a property of the module's own may raise anything
        return None


def report(exc: BaseException) -> None:
    """Print the traceback of an exception on stderr, without the launcher's own frames.

    A Failure is not printed: who raised it has said all. Nor is what a module says to its
    caller with a status below 500. Never raises.
    """
    if isinstance(exc, Failure) or of(exc).code in ("invalid", "not_found"):
        return
    try:
        where = _of_module(exc.__traceback__)
        lines = traceback.TracebackException(type(exc), exc, where).format()
        _say("".join(lines))
    except BaseException:
        _say(f"{describe(exc)} (its traceback cannot be printed)\n")


def _of_module(where: Optional[TracebackType]) -> Optional[TracebackType]:
    while where is not None and where.tb_frame.f_code.co_filename.startswith(_HERE):
        where = where.tb_next
    return where


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BaseException:  # the module replaced it, or closed it
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
