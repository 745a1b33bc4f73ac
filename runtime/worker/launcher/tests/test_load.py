"""Tests of finding and importing models; each in an interpreter of its own."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
from typing import Any, Dict, Iterator, Sequence

import deepfn_launcher
import pytest

PYTHON = os.path.normpath(sys.executable)
LAUNCHER = pathlib.Path(deepfn_launcher.__file__).resolve().parents[1]

#: Loads each model in a fork of an interpreter that has imported no library yet.
DRIVER = """
import sys
sys.path = [p for p in sys.path if p]
import json, os, traceback
sys.path.insert(0, sys.argv[1])
from deepfn_launcher import load, words
from deepfn_launcher.uploads import Uploads

def tell(job):
    try:
        model = load.load(words.Setup("sample", **job["setup"]))
        about = model.describe()
        told = dict(kind=type(model).__name__, about=about)
        if about["predict"] is not None:
            args = json.dumps(job["args"]).encode()
            call = model.parse("predict", words.Values(args), Uploads())
            told["result"] = model.run("predict", call)
    except words.Failure as err:
        told = dict(code=err.code, msg=err.msg)
    with open(job["told"], "w") as f:
        json.dump(told, f)

for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(job["err"], os.O_WRONLY | os.O_CREAT), 2)
        os.chdir(job["cwd"])
        sys.path[1:1] = job["path"]
        try:
            tell(job)
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    print("done", flush=True)
"""

MODULE = """
from marshmallow import fields
def get_predict_args(): return {"n": fields.Int(load_default=1)}
def predict(n): return n + 1
"""
#: A module without a library.
SMALL = """
def get_predict_args(): return {}
def predict(): return __name__
"""


@pytest.fixture(name="load", scope="module")
def loader() -> Iterator[Any]:
    """A function that returns what became of a setup: see DRIVER; err is what was printed."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(LAUNCHER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def load(
        setup: Dict[str, Any], path: Sequence[Any] = (), args: Any = None, cwd: Any = LAUNCHER
    ) -> Dict[str, Any]:
        assert driver.stdin is not None and driver.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            told, err = os.path.join(folder, "told"), os.path.join(folder, "err")
            job = {"setup": setup, "args": args or {}, "cwd": str(cwd), "told": told, "err": err}
            job["path"] = [str(p) for p in path]
            driver.stdin.write(json.dumps(job) + "\n")
            driver.stdin.flush()
            while driver.stdout.readline() not in ("done\n", ""):
                pass  # the model's own lines
            said = pathlib.Path(err).read_text()
            assert os.path.exists(told), said
            found: Dict[str, Any] = json.loads(pathlib.Path(told).read_text())
            found["err"] = said
            return found

    yield load
    driver.communicate()


def write(folder: pathlib.Path, files: Dict[str, str]) -> pathlib.Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def declare(folder: pathlib.Path, *points: str, dist: str = "sample") -> pathlib.Path:
    text = "[deepaas.v2.model]\n" + "\n".join(points) + "\n"
    meta = f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1\n"
    info = dist + "-1.dist-info"
    return write(folder, {info + "/METADATA": meta, info + "/entry_points.txt": text})


# Files


def test_a_file(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"api.py": MODULE})
    told = load({"path": str(tmp_path / "api.py")}, args={"n": 2})
    assert (told["kind"], told["result"]) == ("DeepaasModule", 3)
    assert told["about"]["imports"]


def test_a_module_whose_predict_is_asked_for(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"api.py": MODULE})
    told = load({"path": str(tmp_path / "api.py"), "main": "predict"}, args={"n": 2})
    assert (told["kind"], told["result"]) == ("DeepaasModule", 3)


def test_a_file_and_what_lies_beside_it(tmp_path: pathlib.Path, load: Any) -> None:
    files = {
        "api.py": "import beside, words, serve\n" + SMALL + "assert words.mine and serve.mine\n",
        "beside.py": "",
        "words.py": "mine = True\n",
        "serve.py": "mine = True\n",
    }
    write(tmp_path, files)
    assert load({"path": str(tmp_path / "api.py")})["result"] == "api"


def test_a_file_in_a_package(tmp_path: pathlib.Path, load: Any) -> None:
    api = "from . import config\nfrom .. import top\nimport outer.top\n" + SMALL
    api += "assert outer.top is top and config.x == 1\n"
    files = {
        "outer/__init__.py": "",
        "outer/top.py": "",
        "outer/inner/__init__.py": "from . import config\n",
        "outer/inner/config.py": "x = 1\n",
        "outer/inner/api.py": api,
    }
    write(tmp_path, files)
    assert load({"path": str(tmp_path / "outer/inner/api.py")})["result"] == "outer.inner.api"
    (tmp_path / "outer/inner/__init__.py").write_text(SMALL)
    assert load({"path": str(tmp_path / "outer/inner/__init__.py")})["result"] == "outer.inner"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my-model.py", "my-model"),
        ("v1.2.py", "v1_2"),
        ("json.py", "action_json"),
        ("marshmallow.py", "marshmallow"),
        ("__main__.py", "main__"),
        ("model", "model"),
        ("my-package/__init__.py", None),
        ("select/__init__.py", None),
    ],
)
def test_names_of_files(file: str, name: Any, tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {file: SMALL})
    path = tmp_path / file
    if name is None:
        (path.parent / "api.py").write_text("from . import predict\n" + SMALL)
        told = load({"path": str(path.parent / "api.py")})
        package = path.parent.name
        assert told["result"] in (package + ".api", "action_" + package + ".api")
        return
    assert load({"path": str(path)})["result"] == name


def test_code_for_the_command_line_does_not_run(tmp_path: pathlib.Path, load: Any) -> None:
    main = "def main(args): return args\nif __name__ == '__main__': raise SystemExit(9)\n"
    write(tmp_path, {"__main__.py": main})
    told = load({"path": str(tmp_path / "__main__.py")}, args={"a": 1})
    assert (told["kind"], told["result"]) == ("Function", {"a": 1})


def test_virtualenv_beside_the_file(tmp_path: pathlib.Path, load: Any) -> None:
    here = "virtualenv/lib/python{}.{}/site-packages/".format(*sys.version_info[:2])
    api = "import mine, marshmallow, by_pth\n" + SMALL + "assert marshmallow.mine\n"
    files = {
        "api.py": api,
        here + "mine.py": "",
        here + "marshmallow.py": "mine = True\n",
        here + "more.pth": "more\n",
        here + "more/by_pth.py": "",
    }
    write(tmp_path, files)
    told = load({"path": str(tmp_path / "api.py")})
    assert told["result"] == "api"
    assert {"mine", "marshmallow"} <= set(told["about"]["imports"])


def test_virtualenv_of_another_python(tmp_path: pathlib.Path, load: Any) -> None:
    site = "virtualenv/lib/python2.0/site-packages/mine.py"
    write(tmp_path, {"api.py": "import mine\n" + SMALL, site: ""})
    told = load({"path": str(tmp_path / "api.py")})
    assert told["result"] == "api"
    assert "was made for python2.0" in told["err"]


def test_virtualenv_that_is_none(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"api.py": SMALL, "virtualenv/README": ""})
    told = load({"path": str(tmp_path / "api.py")})
    assert told["code"] == "failed"
    assert (
        "virtualenv' is no virtual environment: it has no lib/python*/site-packages" in told["msg"]
    )


def test_what_kind_of_file(tmp_path: pathlib.Path, load: Any) -> None:
    base = "from deepaas.model.v2.base import BaseModel\n"
    abstract = "".join(
        f"    def {name}(self, **kw): return {{}}\n"
        for name in ("get_metadata", "get_predict_args", "train", "get_train_args", "warm")
    )
    own = "class Mine(BaseModel):\n" + abstract + "    def predict(self): return 'mine'\n"
    cases = [
        ("def main(args): return {}", {}, "Function"),
        ("def predict(x: int = 1): return x", {}, "Function"),
        ("def predict(**kw): return kw", {}, "Function"),
        ("def get_metadata(): return {}\ndef predict(x=1): return x", {}, "Function"),
        ("def get_metadata(): return {}\ndef predict(**kw): return kw", {}, "DeepaasModule"),
        ("def get_predict_args(): return {}\ndef main(args): return {}", {}, "DeepaasModule"),
        ("def get_train_args(): return {}\ndef train(): return {}", {}, "DeepaasModule"),
        (
            "def get_predict_args(): return {}\ndef run(args): return {}",
            {"main": "run"},
            "Function",
        ),
        ("def warm(): pass\ndef train(): pass", {}, "DeepaasModule"),
        (base + own, {}, "DeepaasModule"),
        (base + own, {"main": "Mine"}, "DeepaasModule"),
        (base + own + "class More(Mine): pass\n", {}, "DeepaasModule"),
        (base + own + own.replace("Mine", "Other"), {"main": "Other"}, "DeepaasModule"),
    ]
    for i, (text, more, kind) in enumerate(cases):
        path = tmp_path / f"case{i}.py"
        path.write_text(text)
        told = load({"path": str(path), **more})
        assert told.get("kind") == kind, (text, told)


@pytest.mark.parametrize(
    ("text", "more", "code", "said"),
    [
        ("x = 1", {}, "failed", "api.py is no model: it has neither get_predict_args"),
        ("x = 1", {"main": "run"}, "not_found", "api.py has no function run"),
        ("def (", {}, "failed", "api.py: SyntaxError: "),
        ("x = 1 / 0", {}, "failed", "api.py: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", {}, "failed", "abruptly during initialization. "),
        ("import sys; sys.exit()", {}, "failed", "api.py called sys.exit()."),
        ("import not_there.sub", {}, "failed", "--with not_there; in an interpreter of your own: "),
        ("raise ModuleNotFoundError('no cv2', name='cv2')", {}, "failed", "opencv-python-headless"),
        ("from json import not_there", {}, "failed", "ImportError: cannot import name"),
        (SMALL + "def get_predict_args(): raise SystemExit(4)", {}, "failed", "called sys.exit(4)"),
        ("from . import beside", {}, "failed", "ImportError: attempted relative import"),
    ],
)
def test_files_that_are_no_models(
    text: str, more: Dict[str, Any], code: str, said: str, tmp_path: pathlib.Path, load: Any
) -> None:
    write(tmp_path, {"api.py": text})
    told = load({"path": str(tmp_path / "api.py"), **more})
    assert told["code"] == code
    assert said in told["msg"]
    if "Error" in said or "--with" in said:
        assert "deepfn_launcher" not in told["err"]
        assert "Error" in told["err"]


def test_files_that_are_not_there(tmp_path: pathlib.Path, load: Any) -> None:
    for path in (tmp_path, tmp_path / "none.py"):
        told = load({"path": str(path)})
        assert told["code"] == "not_found"
        assert told["msg"] == f"no file '{path}'"


def test_metadata_that_exits(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"api.py": SMALL + "def get_metadata(): raise SystemExit(5)\n"})
    told = load({"path": str(tmp_path / "api.py")})
    assert told["result"] == "api"
    assert "get_metadata of api.py failed" in told["err"]


def test_old_words_of_marshmallow_at_import(tmp_path: pathlib.Path, load: Any) -> None:
    text = "from marshmallow import fields\nx = fields.Str(missing='a', description='b')\n" + SMALL
    write(tmp_path, {"api.py": text})
    told = load({"path": str(tmp_path / "api.py")})
    if "result" in told:  # with marshmallow 3
        assert told["result"] == "api"
    else:
        assert "pin marshmallow<4" in told["msg"]


# Modules


CLASSES = """
class Static:
    made = 0
    def __init__(self): Static.made += 1
    @staticmethod
    def get_predict_args(): return {}
    @classmethod
    def predict(cls): return ["static", Static.made]

class Plain:
    def get_predict_args(): return {}
    def predict(**kw): return "plain"

class Ordinary:
    made = 0
    def __init__(self): Ordinary.made += 1
    def get_predict_args(self): return {}
    def predict(self): return ["ordinary", Ordinary.made]

class Demanding(Ordinary):
    def __init__(self, needed): pass

class Outer:
    Inner = Ordinary

made = Ordinary()
"""


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("pkg.classes:Static", ["static", 0]),
        ("pkg.classes:Plain", "plain"),
        ("pkg.classes:Ordinary", ["ordinary", 2]),
        ("pkg.classes:Outer.Inner", ["ordinary", 2]),
        ("pkg.classes:made", ["ordinary", 1]),
        ("pkg.api", "pkg.api"),
        ("pkg:api", "pkg.api"),
        ("pkg.bare", []),
    ],
)
def test_modules(name: str, result: Any, tmp_path: pathlib.Path, load: Any) -> None:
    files = {
        "pkg/__init__.py": "from . import api\n",
        "pkg/api.py": SMALL,
        "pkg/bare.py": "def predict(**kw): return sorted(kw)\n",
        "pkg/classes.py": CLASSES,
    }
    write(tmp_path, files)
    told = load({"module": name}, [tmp_path], args={"x": 1})
    assert (told.get("kind"), told.get("result")) == ("DeepaasModule", result), told


def test_a_module_in_the_working_folder(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"mine.py": SMALL, "json.py": "1 / 0\n", "marshmallow.py": "1 / 0\n"})
    assert load({"module": "mine"}, cwd=tmp_path)["result"] == "mine"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nobody", "not_found", "no module 'nobody' in "),
        ("pkg.nobody", "not_found", "no module 'pkg.nobody' in "),
        ("pkg.needs", "failed", "--with not_there; in an interpreter of your own: "),
        ("pkg.classes:None_", "not_found", "module pkg.classes has no None_"),
        ("pkg.classes:Demanding", "failed", "making an object of Demanding without arguments: "),
        ("pkg", "failed", "pkg is no model"),
    ],
)
def test_modules_that_are_no_models(
    name: str, code: str, said: str, tmp_path: pathlib.Path, load: Any
) -> None:
    files = {"pkg/__init__.py": "", "pkg/needs.py": "import not_there\n", "pkg/classes.py": CLASSES}
    write(tmp_path, files)
    told = load({"module": name}, [tmp_path])
    assert told["code"] == code
    assert said in told["msg"]


# Entry points


def test_the_only_entry_point(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"pkg/__init__.py": "", "pkg/api.py": MODULE, "pkg/cls.py": CLASSES})
    declare(tmp_path, "sample = pkg.api")
    for entry_point in ("", "sample"):
        told = load({"entry_point": entry_point}, [tmp_path, tmp_path], args={"n": 4})
        assert told["result"] == 5
    assert "pkg" not in told["about"]["imports"]


def test_entry_points_to_choose_from(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"pkg/__init__.py": "", "pkg/api.py": SMALL, "pkg/cls.py": CLASSES})
    declare(tmp_path, "b = pkg.cls:Ordinary [extra]", "a = pkg.api")
    told = load({}, [tmp_path])
    assert told["code"] == "not_found"
    assert f"several models in {PYTHON}: a, b; choose one" in told["msg"]
    assert load({"entry_point": "b"}, [tmp_path])["result"][0] == "ordinary"
    told = load({"entry_point": "c"}, [tmp_path])
    assert told["msg"] == f"no model c in {PYTHON}; there is a, b"


def test_no_entry_point(tmp_path: pathlib.Path, load: Any) -> None:
    told = load({}, [tmp_path])
    assert told["code"] == "not_found"
    assert '\n[project.entry-points."deepaas.v2.model"]\nname = "package.api"' in told["msg"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("pkg.apii", 'the entry point "m = pkg.apii" is wrong: '),
        ("pkgg.api:Model", 'the entry point "m = pkgg.api:Model" is wrong: '),
        ("pkg.half", "the file is missing in the package 'pkg', or the name is wrong"),
        ("pkg.needs", "install it too: deepfn add … --with 'setuptools<81'; "),
        ("pkg.nameless", "--with NAME; "),
    ],
)
def test_entry_points_that_miss_a_module(
    value: str, said: str, tmp_path: pathlib.Path, load: Any
) -> None:
    files = {
        "pkg/__init__.py": "",
        "pkg/api.py": SMALL,
        "pkg/half.py": "import pkg.forgotten\n",
        "pkg/needs.py": "raise ModuleNotFoundError('none', name='pkg_resources.extern')\n",
        "pkg/nameless.py": "raise ModuleNotFoundError('none')\n",
    }
    write(tmp_path, files)
    declare(tmp_path, f"m = {value}")
    told = load({}, [tmp_path])
    assert told["code"] == "failed"
    assert said in told["msg"]


def test_entry_points_of_one_name(tmp_path: pathlib.Path, load: Any) -> None:
    write(tmp_path, {"one.py": SMALL, "two.py": SMALL})
    declare(tmp_path, "m = one")
    declare(tmp_path, "m = two", dist="other")
    told = load({}, [tmp_path])
    assert "m is declared several times: one, two" in told["msg"]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("m = nobody.api", 'entry point "m = nobody.api" is wrong'),
        ("m = one:nothing", "has no attribute 'nothing'"),
        ("m = broken", "ZeroDivisionError"),
        ("m = exits", "exits called sys.exit('bye')"),
    ],
)
def test_broken_entry_points(point: str, said: str, tmp_path: pathlib.Path, load: Any) -> None:
    files = {"one.py": SMALL, "broken.py": "1 / 0", "exits.py": "raise SystemExit('bye')"}
    declare(write(tmp_path, files), point)
    told = load({}, [tmp_path])
    assert told["code"] == "failed"
    assert said in told["msg"]


def test_an_entry_point_without_any_function(tmp_path: pathlib.Path, load: Any) -> None:
    declare(write(tmp_path, {"nothing.py": "x = 1\n"}), "m = nothing")
    told = load({}, [tmp_path])
    assert told["about"]["predict"] is None and told["about"]["train"] is None
