"""What modules expect of their surroundings: the names of deepaas, and marshmallow's ways.

A module of the catalog imports ``deepaas`` for two tuples and an abstract class. Where the
published server is not installed, ``install`` makes these names importable, so that the
module runs without the server's many dependencies.
"""

from __future__ import annotations

import abc
import collections
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import traceback
import types
from typing import Any, Callable, Dict, Optional, Sequence

#: What predict gets for an uploaded file: ``name`` of the argument, ``filename`` where it
#: lies now, its ``content_type``, and the ``original_filename`` that its sender gave it.
UploadedFile = collections.namedtuple(
    "UploadedFile",
    ("name", "filename", "content_type", "original_filename"),
    defaults=(None, None, None, None),
)

#: What predict may return for a file, with the same fields.
ReturnedFile = collections.namedtuple(
    "ReturnedFile",
    ("name", "filename", "content_type", "original_filename"),
    defaults=(None, None, None, None),
)

# Whoever unpickles them or reads their repr finds them where modules import them from.
UploadedFile.__module__ = ReturnedFile.__module__ = "deepaas.model.v2.wrapper"


class BaseModel(abc.ABC):
    """The methods that a model has, for models that are classes.

    ``schema`` is None, a dictionary of fields, or a marshmallow Schema class: the document
    that predict returns.
    """

    schema: Any = None

    @abc.abstractmethod
    def get_metadata(self) -> Any:
        """Return a dictionary that describes the model."""
        raise NotImplementedError

    @abc.abstractmethod
    def predict(self, **kwargs: Any) -> Any:
        """Return the prediction for arguments that get_predict_args names."""
        raise NotImplementedError

    @abc.abstractmethod
    def get_predict_args(self) -> Any:
        """Return the arguments of predict, a dictionary of fields."""
        raise NotImplementedError

    @abc.abstractmethod
    def train(self, **kwargs: Any) -> Any:
        """Train with arguments that get_train_args names; return something JSON-able."""
        raise NotImplementedError

    @abc.abstractmethod
    def get_train_args(self) -> Any:
        """Return the arguments of train, a dictionary of fields."""
        raise NotImplementedError

    @abc.abstractmethod
    def warm(self) -> Any:
        """Make the model ready for its first prediction."""
        raise NotImplementedError


BaseModel.__module__ = "deepaas.model.v2.base"

#: The modules that stand in for deepaas, and what each holds.
_STAND_INS: Dict[str, Dict[str, Any]] = {
    "deepaas": {},
    "deepaas.model": {},
    "deepaas.model.v2": {},
    "deepaas.model.v2.base": {"BaseModel": BaseModel},
    "deepaas.model.v2.wrapper": {"UploadedFile": UploadedFile, "ReturnedFile": ReturnedFile},
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stand-ins after every other finder had its chance."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[Any]],
        target: Optional[types.ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname not in _STAND_INS:
            return None
        top = sys.modules.get("deepaas")
        if fullname != "deepaas" and (top is None or not _is_ours(top)):
            return None  # the real deepaas is there, in a version without this module
        return importlib.machinery.ModuleSpec(
            fullname, self, is_package=not fullname.endswith((".base", ".wrapper"))
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__doc__ = "Stands in for " + module.__name__ + ", which is not installed."
        vars(module).update(_STAND_INS[module.__name__])


def _is_ours(module: types.ModuleType) -> bool:
    return isinstance(getattr(module, "__loader__", None), _Finder)


def install() -> None:
    """Make deepaas importable where it is not; do nothing when that was done before."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def has_deepaas() -> bool:
    """Whether the published server is installed in this interpreter."""
    top = sys.modules.get("deepaas")
    if top is not None:
        return not _is_ours(top)
    try:
        spec = importlib.util.find_spec("deepaas")
    except (ImportError, ValueError):
        return False
    return spec is not None and not isinstance(spec.loader, _Finder)


def uploaded_file_class() -> Callable[..., Any]:
    """Return the UploadedFile that the module knows.

    It is the published server's own where that is installed and can be imported, so that
    isinstance in the module holds, else the one of this file.
    """
    name = "deepaas.model.v2.wrapper"
    module = sys.modules.get(name)
    if module is None and has_deepaas():
        try:
            module = importlib.import_module(name)
        except Exception:  # an installation that is not complete
            print("deepfn: the installed deepaas cannot be imported:", file=sys.stderr)
            traceback.print_exc()
            _give_up_deepaas()
    found = getattr(module, "UploadedFile", None)
    return found if callable(found) else UploadedFile


def _give_up_deepaas() -> None:
    """Let the stand-in answer for a deepaas that cannot be imported, from now on."""
    name = "deepaas.model.v2.wrapper"
    module = types.ModuleType(name)
    vars(module).update(_STAND_INS[name])
    sys.modules[name] = module


_GONE = re.compile(
    r"module 'marshmallow[\w.]*' has no attribute|cannot import .* from 'marshmallow"
)
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def explain(err: BaseException) -> str:
    """Say what to do about an error of a module that was written for an older library.

    Returns an empty string when there is nothing to add. marshmallow 3 took any keyword
    of a field as its metadata, and ``missing`` and ``default``; marshmallow 4 refuses them.
    """
    if isinstance(err, (AttributeError, ImportError)) and _GONE.search(str(err)):
        return _advice_on_names(sys.modules.get("marshmallow"))
    found = _UNEXPECTED.search(str(err)) if isinstance(err, TypeError) else None
    if found is None or not _raised_by_field(err):
        return ""
    marshmallow = sys.modules.get("marshmallow")
    major = _major(marshmallow)
    if major < 4:
        return ""
    return (
        f"the module passes {found.group(1)!r} to a field, which marshmallow 3 took and "
        f"marshmallow {major} does not; pin marshmallow<4 in the requirements, or change the "
        "module to metadata={...} and load_default"
    )


def _advice_on_names(marshmallow: Optional[types.ModuleType]) -> str:
    """Say which version has a name that marshmallow 4 has not; webargs 5 needs some."""
    if _major(marshmallow) < 4:
        return ""
    return "the name went with marshmallow 4; pin marshmallow<4 in the requirements"


def _raised_by_field(err: BaseException) -> bool:
    """Whether the call that failed is that of a field: its class stands in the message."""
    text = str(err)
    fields = sys.modules.get("marshmallow.fields")
    name = text.split(".__init__", 1)[0].split("(", 1)[0].strip()
    if ".__init__()" not in text and not text.startswith("__init__()"):
        return False
    # Before Python 3.10 the message does not name the class.
    return name == "__init__" or hasattr(fields, name) or name in ("DelimitedList",)


def _major(marshmallow: Optional[types.ModuleType]) -> int:
    """Return the major version of marshmallow, 0 when it is not known."""
    version = getattr(marshmallow, "__version__", None)
    if version is None and marshmallow is not None:
        try:
            from importlib.metadata import version as installed

            version = installed("marshmallow")
        except Exception:
            return 0
    head = str(version).split(".", 1)[0]
    return int(head) if head.isdigit() else 0
