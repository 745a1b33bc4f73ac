"""Finding and importing a model: a Python file, a module, a class, or an entry point."""

from __future__ import annotations

import glob
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import os
import shlex
import site
import sys
import traceback
import types
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

from . import compat, function, tiers
from .module import ARGUMENT_NAMES, DeepaasModule
from .words import Failure, Model, Setup

GROUP = "deepaas.v2.model"

_API = (*ARGUMENT_NAMES, "get_metadata", "predict", "train", "warm")
#: Packages of another name than the module that is missed most often.
_PACKAGES = {"pkg_resources": "setuptools<81", "cv2": "opencv-python-headless", "PIL": "pillow"}
_PACKAGES.update({"sklearn": "scikit-learn", "skimage": "scikit-image", "yaml": "pyyaml"})
_T = TypeVar("_T")


def load(setup: Setup) -> Model:
    """Import what a setup names and return its model.

    Raises Failure: "not_found" when the file, module or entry point is not there, "failed"
    when importing it raises or it is no model. What the import raised is on stderr.
    """
    compat.install()
    _put_launcher_last()
    sys.modules.setdefault(tiers.NAME, tiers)
    find = _from_entry_point
    if setup.path or setup.module:
        find = _from_file if setup.path else _from_module
    return _guarded(setup.path or setup.module or setup.model, lambda: find(setup))


def _put_launcher_last() -> None:
    """Let no file beside the launcher be imported in place of one of the model's."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if own in sys.path:
        sys.path[:] = [p for p in sys.path if p != own] + [own]


# Files


def _from_file(setup: Setup) -> Model:
    path = os.path.abspath(setup.path)
    if not os.path.isfile(path):
        raise Failure("not_found", f"no file {path!r}")
    folder = os.path.dirname(path)
    _use_virtualenv(folder)
    packages = _packages(folder)
    for place in (os.path.dirname(packages[0]) if packages else folder, folder):
        if place in sys.path:
            sys.path.remove(place)
        sys.path.insert(0, place)
    name = os.path.basename(path)
    module = _guarded(name, lambda: _import_file(path, packages))
    return _model_in(module, name, setup.main)


def _use_virtualenv(folder: str) -> None:
    """Put the packages of a virtual environment beside the file before all others."""
    env = os.path.join(folder, "virtualenv")
    if not os.path.isdir(env) or os.path.exists(os.path.join(env, "__init__.py")):
        return
    sites = sorted(glob.glob(os.path.join(glob.escape(env), "lib", "python*", "site-packages")))
    if not sites:
        msg = "the folder {!r} is no virtual environment: it has no lib/python*/site-packages"
        raise Failure("failed", msg.format(env))
    version = "python{}.{}".format(*sys.version_info[:2])
    fitting = [s for s in sites if os.path.basename(os.path.dirname(s)) == version]
    if not fitting:
        made_for = os.path.basename(os.path.dirname(sites[-1]))
        msg = "deepfn: {!r} was made for {}; compiled packages in it do not load in {}"
        print(msg.format(env, made_for, version), file=sys.stderr)
    before = list(sys.path)
    for place in fitting or sites[-1:]:
        site.addsitedir(place)
    added = [p for p in sys.path if p not in before]
    sys.path[:] = added + before
    importlib.invalidate_caches()


def _packages(folder: str) -> List[str]:
    """Return the folders of the packages that a folder lies in, the outermost first."""
    found: List[str] = []
    while os.path.isfile(os.path.join(folder, "__init__.py")) and folder != os.path.dirname(folder):
        found.insert(0, folder)
        folder = os.path.dirname(folder)
    return found


def _import_file(path: str, packages: List[str]) -> types.ModuleType:
    """Import a file as a module of the packages that it lies in."""
    parent = ""
    for folder in packages:
        name = (
            _free_name(os.path.basename(folder), folder) if not parent else os.path.basename(folder)
        )
        parent = _execute(
            _dotted(parent, name), os.path.join(folder, "__init__.py"), folder
        ).__name__
    stem = os.path.splitext(os.path.basename(path))[0]
    if stem == "__init__" and packages:
        return sys.modules[parent]
    # What stands under "if __name__ == '__main__'" is for the command line.
    stem = {"__main__": "main__"}.get(stem, stem)
    name = stem if parent else _free_name(stem, "")
    return _execute(_dotted(parent, name), path, "")


def _dotted(parent: str, name: str) -> str:
    name = name.replace(".", "_")
    return parent + "." + name if parent else name


def _free_name(name: str, folder: str) -> str:
    """Return a name that hides no module that others import, such as json."""
    taken = getattr(sys, "stdlib_module_names", sys.builtin_module_names)
    loaded = sys.modules.get(name)
    if name in taken or (loaded is not None and folder not in getattr(loaded, "__path__", [])):
        return "action_" + name
    return name


def _execute(name: str, path: str, package: str) -> types.ModuleType:
    """Run a file as the module of a name, unless that was done before."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    places = [package] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        # A name without .py is read as Python, too.
        loader = importlib.machinery.SourceFileLoader(name, path)
        spec = importlib.util.spec_from_loader(name, loader)
    if spec is None or spec.loader is None:
        raise Failure("failed", f"{path!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    head, _, tail = name.rpartition(".")
    if head:
        setattr(sys.modules[head], tail, module)
    return sys.modules.get(name, module)


# Modules and entry points


def _from_module(setup: Setup) -> Model:
    name, _, path = setup.module.partition(":")
    if os.getcwd() not in sys.path:
        # It may lie beside action.yaml, but hides nothing that is installed.
        sys.path.append(os.getcwd())
    module = _guarded(name, lambda: importlib.import_module(name), wanted=name)
    if not path:
        return _model_in(module, name, setup.main, by_name=True)
    found: Any = module
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            msg = f"module {name} has no {path}"
            raise Failure("not_found", msg) from None
    if inspect.ismodule(found):
        return _model_in(found, setup.module, setup.main, by_name=True)
    return DeepaasModule(_object(found, setup.module), setup.module)


def _from_entry_point(setup: Setup) -> Model:
    found = _entry_points()
    names = sorted(found)
    name = setup.entry_point
    if not found:
        msg = (
            "no package in {!r} declares a model; declare one in its pyproject.toml "
            "with these two lines:\n"
            '[project.entry-points."{}"]\nname = "package.api"'
        )
        raise Failure("not_found", msg.format(sys.executable, GROUP))
    if not name and len(names) > 1:
        msg = "there are several models in {}: {}; choose one as entry_point"
        raise Failure("not_found", msg.format(sys.executable, ", ".join(names)))
    name = name or names[0]
    if name not in found:
        msg = "no model {} in {}; there is {}"
        raise Failure("not_found", msg.format(name, sys.executable, ", ".join(names)))
    values = found[name]
    if len(values) > 1:
        msg = "the model {} is declared several times: {}"
        raise Failure("not_found", msg.format(name, ", ".join(sorted(values))))
    value, point = next(iter(values.items()))
    target = _guarded(f"entry point {name} = {value}", point.load, entry=(name, value))
    return DeepaasModule(_object(target, value), value)


def _entry_points() -> Dict[str, Dict[str, Any]]:
    """Return the entry points of the group: by name, then by what they point to."""
    points: Any = importlib.metadata.entry_points()
    # Before Python 3.10 it is a dictionary.
    select = getattr(points, "select", None)
    group = select(group=GROUP) if select is not None else points.get(GROUP, ())
    found: Dict[str, Dict[str, Any]] = {}
    for point in group:
        value = point.value.partition("[")[0].replace(" ", "")
        found.setdefault(point.name, {}).setdefault(value, point)
    return found


# What was imported


def _model_in(module: types.ModuleType, name: str, main: str, by_name: bool = False) -> Model:
    """Return the model that a module is, or has in it.

    ``by_name`` says that it was named as modules of the catalog are, not as a file.
    """
    namespace = vars(module)
    if main == "predict" and _declares(namespace):
        main = ""  # predict of a module is what is called anyway, by what the module declares
    if not main and _speaks_deepaas(namespace, by_name):
        return DeepaasModule(module, name)
    if main and inspect.isclass(namespace.get(main)):
        return DeepaasModule(_object(namespace[main], name), name)
    found = function.find(namespace, main)
    if found is not None:
        return found
    classes = [] if main else _model_classes(module)
    if len(classes) > 1:
        names = ", ".join(c.__name__ for c in classes)
        raise Failure("failed", f"{name} has several models: {names}; choose one as main")
    if classes:
        return DeepaasModule(_object(classes[0], name), name)
    if not main and any(callable(namespace.get(f)) for f in _API):
        return DeepaasModule(module, name)
    if main:
        raise Failure("not_found", f"{name} has no function {main}")
    msg = "{} is no model: it has neither get_predict_args, nor main(args), nor predict(…)"
    raise Failure("failed", msg.format(name))


def _speaks_deepaas(namespace: Mapping[str, Any], by_name: bool) -> bool:
    """Whether functions are those of the DEEPaaS V2 model API.

    Beside get_metadata, or in a module of the catalog, predict is DEEPaaS's if it names no
    parameter, because without get_predict_args it gets none; else it is a plain function.
    """
    if _declares(namespace):
        return True
    predict = namespace.get("predict")
    if callable(namespace.get("main")):
        return False
    if not by_name and not callable(namespace.get("get_metadata")):
        return False
    if not callable(predict):
        return any(callable(namespace.get(name)) for name in _API)
    try:
        parameters = inspect.signature(predict).parameters.values()
    except (TypeError, ValueError):
        return True
    return all(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def _declares(namespace: Mapping[str, Any]) -> bool:
    """Whether a module says itself what its functions take."""
    return any(callable(namespace.get(name)) for name in ARGUMENT_NAMES)


def _model_classes(module: types.ModuleType) -> List[type]:
    """Return the classes that a module defines and that are models."""
    found = []
    for value in vars(module).values():
        if not inspect.isclass(value) or value.__module__ != module.__name__:
            continue
        inherits = any(
            c.__name__ == "BaseModel" and c.__module__.startswith("deepaas.")
            for c in value.__mro__[1:]
        )
        speaks = callable(getattr(value, "predict", None)) and any(
            hasattr(value, n) for n in ARGUMENT_NAMES
        )
        if (inherits or speaks) and not value.__name__.startswith("_") and value not in found:
            found.append(value)
    bases = {base for c in found for base in c.__mro__[1:]}
    return [c for c in found if c not in bases]


def _object(target: Any, name: str) -> Any:
    """Return what has the functions: a class itself if they need no object, else one.

    The published server calls the class's attributes; a class with ordinary methods, which
    its documentation shows, works here too.
    """
    if not inspect.isclass(target) or not _needs_object(target):
        return target
    try:
        return _guarded(name, target)
    except Failure as err:
        msg = f"making an object of {target.__name__} without arguments: {err.msg}"
        raise Failure(err.code, msg) from None


def _needs_object(target: type) -> bool:
    """Whether a class has an API function that takes the object as its first parameter."""
    for name in _API:
        try:
            found = inspect.getattr_static(target, name)
        except AttributeError:
            continue
        if isinstance(found, (staticmethod, classmethod)) or not inspect.isfunction(found):
            continue
        first = next(iter(inspect.signature(found).parameters.values()), None)
        if first is not None and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            return True
    return False


def _guarded(
    name: str, act: Callable[[], _T], wanted: str = "", entry: Tuple[str, str] = ("", "")
) -> _T:
    """Run code of the model's; everything that it raises becomes a Failure.

    ``wanted`` is the module that was asked for, whose absence is "not_found"; ``entry`` is
    the name and the value of an entry point that is loaded.
    """
    try:
        return act()
    except Failure:
        raise
    except SystemExit as err:
        msg = "Command exited abruptly during initialization. {} called sys.exit({})."
        code = "" if err.code is None else repr(err.code)
        raise Failure("failed", msg.format(name, code)) from err
    except ModuleNotFoundError as err:
        missing = err.name or ""
        if wanted and missing and (wanted + ".").startswith(missing + "."):
            msg = f"no module {missing!r} in {sys.executable}'s environment"
            raise Failure("not_found", msg) from None
        _print_trace(err)
        msg = f"ModuleNotFoundError: {err}; {_how_to_have(missing, entry)}"
        raise Failure("failed", msg) from err
    except Exception as err:
        _print_trace(err)
        advice = compat.explain(err)
        msg = f"{name}: {type(err).__name__}: {err}"
        raise Failure("failed", msg + ("; " + advice if advice else "")) from err


def _how_to_have(missing: str, entry: Tuple[str, str]) -> str:
    """Return what to do when a module is missing."""
    name, value = entry
    target = value.partition(":")[0]
    top = missing.partition(".")[0]
    if missing and (target + ".").startswith(missing + "."):
        return f'the entry point "{name} = {value}" is wrong: it has to name a module that is there'
    if "." in missing and top == target.partition(".")[0]:
        return f"the file is missing in the package {top!r}, or the name is wrong"
    what = _PACKAGES.get(top, top) or "NAME"
    advice = (
        "add it to the module's dependencies, or install it too: deepfn add … --with {0}; "
        "in an interpreter of your own: {1} -m pip install {0}"
    )
    return advice.format(shlex.quote(what), shlex.quote(sys.executable))


def _print_trace(err: BaseException) -> None:
    """Print an error to stderr from the first line that is not the launcher's."""
    own = os.path.dirname(os.path.abspath(__file__))
    trace: Optional[types.TracebackType] = err.__traceback__
    while trace is not None and _is_between(trace.tb_frame.f_code.co_filename, own):
        trace = trace.tb_next
    traceback.print_exception(type(err), err, trace)


def _is_between(filename: str, own: str) -> bool:
    return os.path.dirname(filename) == own or "importlib" in filename


def found_entry_points() -> List[Tuple[str, str]]:
    """Return the name and the value of each model that the environment declares."""
    return sorted((name, value) for name, values in _entry_points().items() for value in values)
