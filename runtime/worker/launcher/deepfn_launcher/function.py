"""Plain functions as models: OpenWhisk's main(args), and predict(…) by its annotations.

A file with ``main(args)`` is called as OpenWhisk's Python runtime calls it: with the
arguments as one dict or list, files among them in base64. ``predict(image: bytes, top: int
= 3)`` takes its arguments by name; the annotations say what is converted and what is
refused. ``predict(args)`` that the caller names as main is called as main is.
``train``, ``warm`` and ``get_metadata`` may stand beside either.

What the platform says of an activation is in the environment during the call. It is the
environment of the whole process: a function that runs several calls at a time must not
look there.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

from . import failure, jsonable
from .module import completed, imports, plain
from .parameters import Parameters, as_text, signature
from .words import FROM_CONTEXT, FROM_FORM, FROM_QUERY, Call, Failure, Model, Store, Text, Values

#: Names of a second parameter that gets the Context.
CONTEXT_NAMES = ("context", "ctx", "_context", "_ctx", "_")
NOT_AN_OBJECT = "The action did not return a dictionary or array."


def find(namespace: Union[ModuleType, Mapping[str, Any]], main: str = "") -> Optional[Model]:
    """Return the model that a loaded file is; None when it has no function to call.

    ``main`` is the function's name, by default main, or else predict.
    """
    names = namespace if isinstance(namespace, Mapping) else vars(namespace)
    for name in (main,) if main else ("main", "predict"):
        if callable(names.get(name)):
            return Function(names, name, names[name], asked=bool(main))
    return None


class Context:
    """The second argument of a function that takes one: what is known of the activation.

    Each text of the platform is an attribute by its lower-case name without "__OW_":
    activation_id, namespace, action_name, deadline, api_key. Others are "".
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        for name, value in texts.items():
            short = name[5:] if name.upper().startswith("__OW_") else name
            setattr(self, short.lower(), value)

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return ""

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the activation may still run, in milliseconds; 0 if unknown."""
        try:
            return max(0, int(float(self.deadline) - time.time() * 1000))
        except ValueError:
            return 0


@dataclass
class _FunctionCall(Call):
    """A Call with what the platform said, by the names of variables."""

    platform: Dict[str, str] = field(default_factory=dict)


class Function(Model):
    """A model that is a function ``name`` in the namespace ``names`` of a file.

    ``asked`` says that its name was given by who wants it, and not found here.
    """

    def __init__(
        self,
        names: Mapping[str, Any],
        name: str,
        function: Callable[..., Any],
        asked: bool = False,
    ) -> None:
        self._names = names
        self._functions: Dict[str, Callable[..., Any]] = {"predict": function}
        if name != "train" and callable(names.get("train")):
            self._functions["train"] = names["train"]
        #: How many arguments a main(args) takes, 0 to 2; None for one by annotations.
        self._plain = None
        if name != "predict" or (asked and _has_one(function)):
            self._plain = _plain_arity(function)
        self.exits = self._plain is not None
        self._parameters = {
            verb: Parameters(found)
            for verb, found in self._functions.items()
            if verb == "train" or self._plain is None
        }

    def describe(self) -> Dict[str, Any]:
        """Return actions.Description."""
        found: Dict[str, Any] = {
            "predict": {"parameters": [], "open": True},
            "train": None,
            "imports": imports(str(self._names.get("__name__", ""))),
        }
        if self._plain is not None:
            found["function"] = True
        for verb, parameters in self._parameters.items():
            found[verb] = parameters.describe()
        try:
            about = self.metadata()
        except Exception as exc:
            print("deepfn: get_metadata failed:", file=sys.stderr)
            failure.report(exc)
            about = None
        if about is None:
            doc = inspect.getdoc(self._functions["predict"])
            about = {"description": doc} if doc else None
        if about is not None:
            found["metadata"] = plain(about)
        return found

    def hook(self, name: str) -> Optional[Callable[..., Any]]:
        """Return the function of that name in the file, but not the model itself."""
        found = self._names.get(name)
        return found if callable(found) and found not in self._functions.values() else None

    def metadata(self) -> Optional[Mapping[str, Any]]:
        """Return what get_metadata of the file returns; None without one."""
        function = self._names.get("get_metadata")
        if not callable(function):
            return None
        about = completed(function())
        if about is not None and not isinstance(about, Mapping):
            kind = failure.with_article(type(about).__name__)
            raise Failure("failed", f"get_metadata returned {kind}, not a dict")
        return about

    def warm(self) -> None:
        """Call warm of the file, if it has one."""
        function = self._names.get("warm")
        if callable(function):
            completed(function())

    def parse(self, verb: str, values: Values, store: Store) -> Call:
        """Make the call of a verb.

        Raises Failure "unsupported" when the file has no such function, "invalid" for
        arguments that are not JSON or not what the annotations say.
        """
        if verb not in self._functions:
            raise Failure("unsupported", f"the function has no {verb}", status=501)
        args = {} if values.args is None else jsonable.arguments(values.args)
        if args is None:
            args = {}
        texts: Dict[str, List[str]] = {}
        platform: Dict[str, str] = {}
        if values.texts:
            _sort(values.texts, texts, platform)
        parameters = self._parameters.get(verb)
        if parameters is not None:
            kwargs = parameters.read(args, texts, values.files, store)
        else:
            kwargs = {"args": _merged(args, texts, values)}
        return _FunctionCall(kwargs, platform=platform)

    def run(self, verb: str, call: Call) -> Any:
        """Call the function; wait for its result if it is a coroutine."""
        platform = call.platform if isinstance(call, _FunctionCall) else {}
        if platform:
            with _Environment(platform):
                result = self._invoke(verb, call, platform)
        else:
            result = self._invoke(verb, call, platform)
        if verb in self._parameters:
            return result
        if not isinstance(result, (dict, list)):
            if not isinstance(result, tuple):
                raise Failure("no_answer", NOT_AN_OBJECT)
            result = list(result)  # an array in JSON, as json.dumps has it
        return result

    def _invoke(self, verb: str, call: Call, platform: Mapping[str, str]) -> Any:
        """Call the function with the arguments that it takes."""
        function = self._functions[verb]
        parameters = self._parameters.get(verb)
        if parameters is not None:
            kwargs = dict(call.kwargs)
            first = [kwargs.pop(name) for name in parameters.positional if name in kwargs]
            return completed(function(*first, **kwargs))
        if self._plain == 1:
            result = function(call.kwargs["args"])
        else:
            result = function(*(call.kwargs["args"], Context(platform))[: self._plain])
        return result if type(result) is dict else completed(result)

    def shown(self, call: Call) -> Dict[str, Any]:
        """Return the arguments as a status may show them."""
        parameters = self._parameters.get("train")
        values = parameters.shown(call.kwargs) if parameters is not None else call.kwargs
        return {name: plain(value) for name, value in values.items()}


def _plain_arity(function: Callable[..., Any]) -> Optional[int]:
    """Return how many arguments a function as OpenWhisk calls it takes.

    None means that its annotations or names say that it takes its arguments by name.
    """
    parameters = list(signature(function).parameters.values())
    several = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return None
    if not several:
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return 1
        return None if parameters else 0
    if not _takes_all(several[0]):
        return None
    if len(several) == 1:
        return 1
    if several[1].name in CONTEXT_NAMES:
        return 2
    return 1 if all(p.default is not p.empty for p in several[1:]) else None


def _has_one(function: Callable[..., Any]) -> bool:
    """Whether a function has one parameter, and a context at most, that names nothing.

    It has neither a default nor an annotation, but for that of a dict.
    """
    parameters = list(signature(function).parameters.values())
    if not parameters or any(p.default is not p.empty for p in parameters):
        return False
    ordinary = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind not in ordinary for p in parameters):
        return False
    if [p.name for p in parameters[1:] if p.name not in CONTEXT_NAMES] or len(parameters) > 2:
        return False
    return parameters[0].annotation is inspect.Parameter.empty or _noted(parameters[0]) == "dict"


def _takes_all(parameter: inspect.Parameter) -> bool:
    """Whether a parameter can be all arguments at once: without annotation, or a dict."""
    if parameter.annotation is parameter.empty:
        return True
    whole = ("dict", "list", "any", "mapping", "object", "optional", "union")
    return _noted(parameter) in whole


def _noted(parameter: inspect.Parameter) -> str:
    """Return the name of an annotation in lower case, without what is in its brackets."""
    note = parameter.annotation
    text = note if isinstance(note, str) else getattr(note, "__name__", None) or str(note)
    return str(text).replace("typing.", "").split("[", 1)[0].strip().lower()


def _merged(args: Any, texts: Mapping[str, List[str]], values: Values) -> Any:
    """Return all arguments as one value, files in base64."""
    if not isinstance(args, (dict, list)):
        raise Failure("invalid", "The action did not receive a dictionary or array as an argument.")
    if isinstance(args, list) or (not texts and not values.files):
        return args
    for name, several in texts.items():
        args[name] = several[0] if len(several) == 1 else several
    files: Dict[str, List[str]] = {}
    for upload in values.files:
        files.setdefault(upload.name, []).append(as_text(upload))
    for name, several in files.items():
        args[name] = several[0] if len(several) == 1 else several
    return args


def _sort(given: List[Text], texts: Dict[str, List[str]], platform: Dict[str, str]) -> None:
    """Put texts where they belong. A name in the query string hides it in the form."""
    for origin in (FROM_QUERY, FROM_FORM):
        here: Dict[str, List[str]] = {}
        for text in given:
            if text.origin == origin:
                here.setdefault(text.name, []).append(text.value)
        for name, several in here.items():
            texts.setdefault(name, several)
    for text in given:
        if text.origin == FROM_CONTEXT:
            platform[text.name] = text.value


class _Environment:
    """Sets variables of the environment for the time of a call."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._before: Dict[str, Optional[str]] = {}

    def __enter__(self) -> None:
        for name, value in self._variables.items():
            if name and "=" not in name and "\0" not in name + value:
                self._before[name] = os.environ.get(name)
                os.environ[name] = value

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
