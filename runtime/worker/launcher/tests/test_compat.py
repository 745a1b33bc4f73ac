"""Tests of the names of deepaas, and of the advice on marshmallow."""

from __future__ import annotations

import pathlib
import pickle
import subprocess
import sys

import pytest
from deepfn_launcher import compat

LAUNCHER = pathlib.Path(compat.__file__).resolve().parents[1]

SHIM = """
from deepfn_launcher import compat
compat.install(); compat.install()
import sys
assert sum(type(f).__module__ == compat.__name__ for f in sys.meta_path) == 1
from deepaas.model.v2 import wrapper, base
import deepaas.model.v2.wrapper
from deepaas.model.v2.base import BaseModel
from deepaas.model.v2.wrapper import UploadedFile, ReturnedFile
import inspect, pickle
f = UploadedFile("a", filename="b")
print(f, tuple(ReturnedFile()), f._fields)
assert pickle.loads(pickle.dumps(f)) == f
assert compat.uploaded_file_class() is UploadedFile
print(sorted(BaseModel.__abstractmethods__), BaseModel.schema)
try:
    import deepaas.cmd
except ModuleNotFoundError as err:
    print("no", err.name)
"""


def run(code: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=str(LAUNCHER),
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_same_names_with_and_without_deepaas() -> None:
    want = [
        "UploadedFile(name='a', filename='b', content_type=None, original_filename=None) "
        "(None, None, None, None) ('name', 'filename', 'content_type', 'original_filename')",
        "['get_metadata', 'get_predict_args', 'get_train_args', 'predict', 'train', 'warm'] None",
    ]
    if not compat.has_deepaas():
        want.append("no deepaas.cmd")
    assert run(SHIM).splitlines() == want
    # -S leaves site-packages out: deepaas is not there.
    assert run(SHIM, "-S").splitlines() == [*want[:2], "no deepaas.cmd"]


def test_an_incomplete_deepaas_does_not_stop_uploads(tmp_path: pathlib.Path) -> None:
    (tmp_path / "deepaas" / "model").mkdir(parents=True)
    (tmp_path / "deepaas" / "__init__.py").write_text("")
    (tmp_path / "deepaas" / "model" / "__init__.py").write_text("import not_there")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from deepfn_launcher import compat\ncompat.install()\n"
    code += "assert compat.has_deepaas()\n"
    code += "print(compat.uploaded_file_class() is compat.UploadedFile)\n"
    code += "print(compat.uploaded_file_class()(name='x').name)\n"
    code += "import importlib\n"
    code += "try: importlib.import_module('deepaas.model')\n"
    code += "except ModuleNotFoundError as err: print(err.name)\n"
    assert run(code).split() == ["True", "x", "not_there"]


@pytest.mark.stack("current")
def test_tuples_can_be_pickled_here() -> None:
    compat.install()
    for c in (compat.UploadedFile, compat.ReturnedFile):
        assert pickle.loads(pickle.dumps(c("n"))) == c("n")


@pytest.mark.parametrize(
    ("error", "advised"),
    [
        (TypeError("Field.__init__() got an unexpected keyword argument 'missing'"), True),
        (TypeError("String.__init__() got an unexpected keyword argument 'description'"), True),
        (TypeError("__init__() got an unexpected keyword argument 'location'"), True),
        (TypeError("DelimitedList.__init__() got an unexpected keyword argument 'enum'"), True),
        (TypeError("Thing.__init__() got an unexpected keyword argument 'missing'"), False),
        (TypeError("predict() got an unexpected keyword argument 'x'"), False),
        (ValueError("Field.__init__() got an unexpected keyword argument 'missing'"), False),
        (TypeError("unsupported operand"), False),
        (AttributeError("module 'marshmallow' has no attribute '__version__'"), True),
        (ImportError("cannot import name 'x' from 'marshmallow.utils' (somewhere)"), True),
        (AttributeError("module 'numpy' has no attribute 'float'"), False),
    ],
)
@pytest.mark.parametrize("version", ["4.1.0", "3.26.0"])
def test_explain(
    error: Exception, advised: bool, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import marshmallow

    monkeypatch.setattr(marshmallow, "__version__", version, raising=False)
    got = compat.explain(error)
    assert bool(got) == (advised and version == "4.1.0")
    if got:
        assert "pin marshmallow<4" in got
