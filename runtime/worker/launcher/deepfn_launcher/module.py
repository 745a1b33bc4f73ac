"""A model that speaks the DEEPaaS V2 model API: a module, a class or an object."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import sysconfig
import traceback
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from . import compat, schema
from .arguments import Arguments, has_base, may_be_file
from .failure import with_article
from .words import Call, Failure, Model, Store, Values

#: The names by which an object is known for a model.
ARGUMENT_NAMES = ("get_predict_args", "get_train_args")
VERBS = ("predict", "train")

#: Types of which nothing has to be waited for. It takes longer to ask all others.
_READY = frozenset((dict, list, tuple, str, int, float, bool, bytes, type(None)))

_BAD_RESPONSE = "ERROR validating model response, check server logs."


class DeepaasModule(Model):
    """A model whose functions are those of the DEEPaaS V2 model API.

    ``target`` has them as attributes, all of them optional; ``name`` is for messages.
    Making one calls get_predict_args and get_train_args, and raises Failure when what they
    return cannot be used.
    """

    def __init__(self, target: Any, name: str) -> None:
        self._target = target
        self._name = name
        self._arguments: Dict[str, Arguments] = {}
        for verb in VERBS:
            if self._function(verb) is not None:
                self._arguments[verb] = self._declared(verb)
        self._response = self._response_schema()
        if any(may_be_file(f) for a in self._arguments.values() for f in a.fields.values()):
            compat.uploaded_file_class()  # imports it now, not in the first request

    def _function(self, name: str) -> Optional[Callable[..., Any]]:
        found = getattr(self._target, name, None)
        return found if callable(found) else None

    def _declared(self, verb: str) -> Arguments:
        """Return the arguments of a verb, none when the module does not name any."""
        name = f"get_{verb}_args"
        function = self._function(name)
        declared: Any = {}
        try:
            if function is not None:
                declared = function()
            return Arguments(declared, negotiates=verb == "predict")
        except (NotImplementedError, AttributeError) as err:
            if not isinstance(err, NotImplementedError):
                # The published server takes it for "has no arguments", and so do we; but
                # often it is a mistake in the module.
                print(f"deepfn: {name} of {self._name} failed:", file=sys.stderr)
                traceback.print_exc()
            return Arguments({}, negotiates=False)
        except Failure as err:
            raise Failure(err.code, f"{name} of {self._name}: {err.msg}") from err
        except Exception as err:
            raise said(err, f"{name} of {self._name}") from err

    def _response_schema(self) -> Any:
        """Return an instance of the schema of responses, None when there is none."""
        declared = getattr(self._target, "schema", None)
        if declared is None or inspect.ismodule(declared) or inspect.isroutine(declared):
            return None
        try:
            if isinstance(declared, Mapping):
                import marshmallow

                return marshmallow.Schema.from_dict(
                    dict(declared), name="ModelPredictionResponse"
                )()
            if inspect.isclass(declared) and has_base_class(declared, "Schema"):
                return declared()
        except Exception as err:
            raise said(err, f"the schema of {self._name}") from err
        if has_base(declared, "Schema"):
            return declared
        msg = "the schema of {} must be a dict of fields or a marshmallow Schema, not {!r}"
        raise Failure("failed", msg.format(self._name, type(declared).__name__))

    def describe(self) -> Dict[str, Any]:
        """Return actions.Description."""
        found: Dict[str, Any] = {"predict": None, "train": None, "imports": imports(self._name)}
        for verb, arguments in self._arguments.items():
            found[verb] = schema.signature(arguments)
        if self._response is not None:
            found["response"] = schema.document_schema(self._response)
        try:
            about = self.metadata()
        except (Exception, SystemExit):
            print(f"deepfn: get_metadata of {self._name} failed:", file=sys.stderr)
            traceback.print_exc()
            about = None
        if about is not None:
            found["metadata"] = plain(about)
        return found

    def metadata(self) -> Optional[Mapping[str, Any]]:
        """Return what get_metadata returns; None when it is not implemented."""
        function = self._function("get_metadata")
        if function is None:
            return None
        try:
            about = completed(function())
        except (NotImplementedError, AttributeError):
            return None
        if about is not None and not isinstance(about, Mapping):
            msg = "get_metadata of {} returned {}, not a dict"
            raise Failure("failed", msg.format(self._name, with_article(type(about).__name__)))
        return about

    def warm(self) -> None:
        """Call warm, if the module has one that is implemented."""
        function = self._function("warm")
        if function is None:
            return
        try:
            completed(function())
        except NotImplementedError:
            return

    def parse(self, verb: str, values: Values, store: Store) -> Call:
        """Make the call of a verb; see Arguments.parse."""
        arguments = self._arguments.get(verb)
        if arguments is None:
            raise Failure("unsupported", f"{self._name} has no {verb}", status=501)
        return arguments.parse(values, store)

    def run(self, verb: str, call: Call) -> Any:
        """Call predict or train, and wait for its result if it is a coroutine."""
        function = self._function(verb)
        if function is None:
            raise Failure("unsupported", f"{self._name} has no {verb}", status=501)
        return completed(function(**call.kwargs))

    def shown(self, call: Call) -> Dict[str, Any]:
        """Return the arguments as JSON-able values; see plain."""
        return {str(key): plain(value) for key, value in call.kwargs.items()}

    def hook(self, name: str) -> Optional[Callable[..., Any]]:
        """Return the attribute of that name, if it can be called."""
        return self._function(name)

    def whole(self) -> bool:
        """Whether the module has a schema for what predict returns."""
        return self._response is not None

    def check(self, result: Any) -> Any:
        """Return the result if it has the form that the module's schema says.

        Otherwise raises Failure "failed", and says on stderr what is wrong.
        """
        if self._response is None:
            return result
        try:
            self._response.load(result)
        except Exception as err:
            if has_base(err, "ValidationError"):
                told = getattr(err, "messages", err)
                print("deepfn: the response does not fit the schema:", told, file=sys.stderr)
            else:
                traceback.print_exc()
            raise Failure("failed", _BAD_RESPONSE) from None
        return result


def has_base_class(value: type, name: str) -> bool:
    """Whether a class is, or inherits from, a class of this name."""
    return any(c.__name__ == name for c in value.__mro__)


def completed(result: Any) -> Any:
    """Wait for the result of a coroutine; return everything else as it is."""
    if type(result) in _READY:
        return result
    if inspect.isawaitable(result):

        async def wait() -> Any:
            return await result

        return asyncio.run(wait())
    if hasattr(result, "__aiter__"):
        return _drained(result)
    return result


def _drained(result: Any) -> Iterator[Any]:
    """Return what an asynchronous generator yields."""

    async def drain() -> List[Any]:
        return [item async for item in result]

    return iter(asyncio.run(drain()))


def said(err: Exception, where: str) -> Failure:
    """Return the Failure of an error while loading, with its trace on stderr."""
    traceback.print_exception(type(err), err, err.__traceback__)
    msg = f"{where}: {type(err).__name__}: {err}"
    advice = compat.explain(err)
    return Failure("failed", msg + ("; " + advice if advice else ""))


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON has not is shown as text.

    An uploaded file is shown as its name, content type and original filename.
    """
    if type(value) in (str, int, bool, type(None)):
        return value
    fields = getattr(value, "_fields", ())
    if isinstance(value, tuple) and "original_filename" in fields and "filename" in fields:
        about = value._asdict()  # type: ignore[attr-defined]
        return [about.get("name"), about.get("content_type"), about.get("original_filename")]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        pass
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def imports(own: str) -> List[str]:
    """Return the top-level names of the installed packages that are imported.

    Those of the standard library and ``own``, the model's package, are left out.
    """
    paths = sysconfig.get_paths()
    places = {paths["purelib"], paths["platlib"]}
    places |= {p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")}
    found = set()
    for name, module in list(sys.modules.items()):
        if "." in name or name.startswith("_") or name == own.partition(".")[0]:
            continue
        origin = getattr(module, "__file__", None)
        if not isinstance(origin, str):
            continue
        # A package lies in a folder of its name; what does not is another's alias.
        folder = os.path.dirname(origin)
        if os.path.basename(folder) == name:
            folder = os.path.dirname(folder)
        if folder in places:
            found.add(name)
    return sorted(found)
