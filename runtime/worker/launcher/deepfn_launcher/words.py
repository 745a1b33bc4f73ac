"""The words that the parts of the launcher share."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

#: One JSON value as it came, not decoded.
RawJSON = Union[bytes, memoryview]


@dataclass(frozen=True)
class Decoded:
    """One JSON value that was decoded already. Nobody else has it."""

    value: Any


# The origins of a Text, as package actions numbers them.
FROM_QUERY = 1
FROM_FORM = 2
FROM_HEADER = 3
FROM_CONTEXT = 4

JSON_TYPE = "application/json"


@dataclass
class Setup:
    """Which model to load and how; launcher.Setup on the Go side.

    With ``path`` it is a Python file, else with ``module`` an importable module
    ("pkg.api") or an object in one ("pkg.api:Model"), else the entry point
    ``entry_point`` of the group ``deepaas.v2.model``, or the only one there when that is
    empty.
    """

    model: str
    path: str = ""
    module: str = ""
    entry_point: str = ""
    #: Name of the function of a plain file; empty means main or predict.
    main: str = ""
    #: Whether warm() is called before the first request.
    warm: bool = True
    #: How the model is suspended: "hooks", "torch", "none"; empty for what it has.
    suspend: str = ""


@dataclass
class Text:
    """An argument that is text, and in which part of the request it was found."""

    origin: int
    name: str
    value: str


@dataclass
class Upload:
    """An argument that is bytes. ``data`` is valid until the request is answered."""

    name: str
    filename: str
    content_type: str
    data: memoryview


@dataclass
class Values:
    """The arguments of a request as the caller gave them.

    ``args`` is one JSON value, usually an object; None when there was none. It is decoded by
    jsonable.arguments. ``accept`` is
    in the syntax of the HTTP header, and empty when the caller does not care. ``trace`` are
    the headers of the trace context; None when the request belongs to none.
    """

    args: Optional[Union[RawJSON, Decoded]] = None
    texts: List[Text] = field(default_factory=list)
    files: List[Upload] = field(default_factory=list)
    accept: str = ""
    trace: Optional[Dict[str, str]] = None


@dataclass
class Call:
    """A parsed request: what to call the model with.

    ``accept`` is the media type that the answer should have, one of the module's own or
    ``application/json``; ``*/*`` leaves it to the result. ``offered`` says that the module
    itself names that type, or its main type, among those that it can answer. ``given`` are
    the arguments as the caller gave them, before the module's fields converted them.
    """

    kwargs: Dict[str, Any]
    accept: str = "*/*"
    offered: bool = False
    given: Any = None


class Store(abc.ABC):
    """Keeps the uploads of one request on disk until it is answered."""

    @abc.abstractmethod
    def save(self, upload: Upload) -> str:
        """Write an upload to a temporary file that keeps its suffix; return its path."""


class Failure(Exception):
    """An error that the caller is told about; actions.Error on the Go side.

    ``code`` is a code of package actions: "invalid", "not_found", "unsupported",
    "too_large", "conflict", "busy", "unavailable", "deadline", "canceled", "failed",
    "no_answer", "exited" or "internal". ``fields`` says what is wrong with which argument
    (it makes an "invalid" a 422). ``status`` is the HTTP status that the module itself
    asked for.
    """

    def __init__(
        self,
        code: str,
        msg: str,
        *,
        fields: Optional[Mapping[str, List[str]]] = None,
        status: int = 0,
    ) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.fields = dict(fields) if fields is not None else None
        self.status = status


class Canceled(BaseException):
    """Ends the Python code of a call whose caller has left."""


class Model(abc.ABC):
    """A loaded model: a DEEPaaS module or a plain function.

    All methods but ``describe`` may raise anything: a Failure is passed on, everything
    else becomes one.
    """

    #: Whether sys.exit() in predict ends the process, as it does in OpenWhisk's Python.
    exits = False

    @abc.abstractmethod
    def describe(self) -> Dict[str, Any]:
        """Return actions.Description as a JSON-able dict; called once, after loading."""

    @abc.abstractmethod
    def metadata(self) -> Optional[Mapping[str, Any]]:
        """Return what the module says of itself now; None when it says nothing."""

    @abc.abstractmethod
    def warm(self) -> None:
        """Make the model ready for its first request; do nothing if it has no warm."""

    @abc.abstractmethod
    def parse(self, verb: str, values: Values, store: Store) -> Call:
        """Make the call of "predict" or "train" from what the caller gave.

        Raises Failure: "unsupported" when the module lacks the verb, "invalid" with
        fields for wrong arguments.
        """

    @abc.abstractmethod
    def run(self, verb: str, call: Call) -> Any:
        """Call "predict" or "train" and return its result as it is."""

    @abc.abstractmethod
    def shown(self, call: Call) -> Dict[str, Any]:
        """Return the arguments as a status may show them: JSON-able, files masked."""

    def hook(self, name: str) -> Optional[Callable[..., Any]]:
        """Return the model's own function of that name, if it has one."""
        return None

    def whole(self) -> bool:
        """Whether results are whole documents (the module has a response schema)."""
        return False

    def check(self, result: Any) -> Any:
        """Check a JSON result against the response schema; return what to send."""
        return result
