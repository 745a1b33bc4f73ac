"""Tests of a model that speaks the DEEPaaS V2 model API."""

from __future__ import annotations

import json
import pathlib
import sys
import types
from typing import Any, Dict

import marshmallow as ma
import pytest
from deepfn_launcher.module import DeepaasModule, imports, plain
from deepfn_launcher.uploads import Uploads
from deepfn_launcher.words import Call, Failure, Upload, Values
from marshmallow import fields


def model(**functions: Any) -> DeepaasModule:
    return DeepaasModule(types.SimpleNamespace(**functions), "sample")


def predicted(found: DeepaasModule, args: bytes = b"{}", verb: str = "predict") -> Any:
    store = Uploads()
    try:
        return found.run(verb, found.parse(verb, Values(args), store))
    finally:
        store.close()


def raises(code: str, match: str) -> Any:
    class Raised:
        def __enter__(self) -> None:
            self.caught = pytest.raises(Failure, match=match)
            self.info = self.caught.__enter__()

        def __exit__(self, *error: Any) -> Any:
            swallowed = self.caught.__exit__(*error)
            assert self.info.value.code == code
            return swallowed

    return Raised()


def test_a_whole_module() -> None:
    def get_train_args() -> Dict[str, Any]:
        return {"epochs": fields.Int(load_default=3)}

    warmed = []
    found = model(
        get_metadata=lambda: {"name": "sample", "when": pathlib.PurePosixPath("x")},
        get_predict_args=lambda **_: {"n": fields.Int(required=True)},
        predict=lambda n: {"n": n},
        get_train_args=get_train_args,
        train=lambda epochs: {"epochs": epochs},
        warm=lambda: warmed.append(1),
        schema={"n": fields.Int(required=True)},
    )
    about = found.describe()
    assert json.loads(json.dumps(about)) == about
    assert about["metadata"] == {"name": "sample", "when": "x"}
    assert [p["name"] for p in about["predict"]["parameters"]] == ["n"]
    assert [p["default"] for p in about["train"]["parameters"]] == [3]
    assert about["response"]["required"] == ["n"]
    assert "marshmallow" in about["imports"]
    found.warm()
    assert warmed == [1]
    assert predicted(found, b'{"n": "4"}') == {"n": 4}
    assert predicted(found, b"{}", "train") == {"epochs": 3}


def test_an_empty_module() -> None:
    found = model()
    about = found.describe()
    assert (about["predict"], about["train"], "metadata" in about) == (None, None, False)
    assert (found.metadata(), found.whole()) == (None, False)
    found.warm()
    for verb in ("predict", "train"):
        with raises("unsupported", "sample has no " + verb):
            found.parse(verb, Values(), Uploads())
        with raises("unsupported", "sample has no " + verb):
            found.run(verb, Call({}))


def test_predict_without_arguments() -> None:
    found = model(predict=lambda **kw: sorted(kw))
    assert predicted(found, b'{"a": 1}') == []
    assert found.describe()["predict"] == {"parameters": []}


def not_implemented() -> Any:
    raise NotImplementedError


def no_attribute() -> Any:
    return types.SimpleNamespace().missing


@pytest.mark.parametrize("raising", [not_implemented, no_attribute])
def test_functions_that_are_not_implemented(raising: Any, capsys: Any) -> None:
    found = model(predict=lambda **kw: kw, get_predict_args=raising, get_metadata=raising)
    assert predicted(found, b'{"a": 1}') == {}
    assert found.metadata() is None
    assert "metadata" not in found.describe()
    # What may well be a mistake is said.
    assert ("get_predict_args of sample" in capsys.readouterr().err) == (raising is no_attribute)


def test_warm() -> None:
    model(warm=not_implemented).warm()
    model(warm=None).warm()
    with pytest.raises(ValueError, match="no weights"):
        model(warm=lambda: (_ for _ in ()).throw(ValueError("no weights"))).warm()


@pytest.mark.parametrize(
    ("get_args", "match"),
    [
        (lambda: 1 / 0, "get_predict_args of sample: ZeroDivisionError: division by zero"),
        (lambda: [1], "get_predict_args of sample: it returned a list"),
        (lambda: {"a": 1}, "get_predict_args of sample: argument 'a' is not a field but int"),
        (lambda needed: {}, "get_predict_args of sample: TypeError: .*needed"),
    ],
)
def test_arguments_that_cannot_be_used(get_args: Any, match: str) -> None:
    with raises("failed", match):
        model(predict=print, get_predict_args=get_args)


def test_words_of_marshmallow_3() -> None:
    """They work where the module's own marshmallow takes them, else there is advice."""
    old = lambda: {"a": fields.Str(missing="x", description="A", location="query")}  # noqa: E731
    if "missing" in fields.Field.__init__.__code__.co_varnames:
        (parameter,) = model(predict=print, get_predict_args=old).describe()["predict"][
            "parameters"
        ]
        assert (parameter["default"], parameter["description"]) == ("x", "A")
        assert parameter["location"] == "query"
        return
    with raises("failed", "which marshmallow 3 took and marshmallow 4 does not; pin marshmallow<4"):
        model(predict=print, get_predict_args=old)


def test_metadata_is_asked_each_time() -> None:
    counted = iter(range(9))
    found = model(get_metadata=lambda: {"n": next(counted)})
    assert [found.metadata(), found.metadata()] == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("bad", [["list"], "text", 3])
def test_metadata_that_is_no_dict(bad: Any) -> None:
    found = model(get_metadata=lambda: bad)
    with raises("failed", "get_metadata of sample returned a"):
        found.metadata()
    assert "metadata" not in found.describe()
    assert model(get_metadata=lambda: None).metadata() is None


def test_metadata_that_raises_does_not_stop_the_start(capsys: Any) -> None:
    found = model(get_metadata=lambda: {}["missing"])
    assert "metadata" not in found.describe()
    assert "KeyError: 'missing'" in capsys.readouterr().err
    with pytest.raises(KeyError):
        found.metadata()


# Results


def test_coroutines_and_generators() -> None:
    async def predict(n: int) -> int:
        return n + 1

    async def chunks() -> Any:
        yield b"a"
        yield b"b"

    args = {"get_predict_args": lambda: {"n": fields.Int(load_default=1)}}
    assert predicted(model(predict=predict, **args)) == 2
    assert list(predicted(model(predict=chunks))) == [b"a", b"b"]
    assert next(predicted(model(predict=lambda: iter([b"a"])))) == b"a"


class Answer(ma.Schema):
    status = fields.Str(required=True)


@pytest.mark.parametrize("declared", [{"status": fields.Str(required=True)}, Answer, Answer()])
def test_response_schema(declared: Any, capsys: Any) -> None:
    found = model(predict=print, schema=declared)
    assert found.whole()
    good = {"status": "OK"}
    assert found.check(good) is good
    for bad in ({}, {"status": 3}, {"status": "OK", "more": 1}, [], "x", None):
        with raises("failed", "ERROR validating model response, check server logs."):
            found.check(bad)
    assert "Missing data for required field." in capsys.readouterr().err


def test_no_response_schema() -> None:
    for declared in (None, types, print):
        found = model(predict=print, schema=declared)
        assert not found.whole()
        assert found.check([1]) == [1]
        assert "response" not in found.describe()


@pytest.mark.parametrize("declared", ["text", 3, [fields.Str()], object, fields.Str()])
def test_response_schema_that_cannot_be_used(declared: Any) -> None:
    with raises("failed", "the schema of sample"):
        model(predict=print, schema=declared)


# What is shown


def test_shown_masks_files() -> None:
    about = {"type": "file", "location": "form"}
    found = model(
        train=print,
        get_train_args=lambda: {
            "data": fields.Raw(metadata=about),
            "when": fields.Date(),
            "ns": fields.List(fields.Int()),
        },
    )
    store = Uploads()
    upload = Upload("data", "a.csv", "text/csv", memoryview(b"1"))
    call = found.parse("train", Values(b'{"when": "2026-01-02", "ns": [1]}', [], [upload]), store)
    assert found.shown(call) == {
        "data": ["data", "text/csv", "a.csv"],
        "when": "2026-01-02",
        "ns": [1],
    }
    store.close()


class Unprintable:
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("nan"), "nan"),
        ("ü", "ü"),
        (b"x", "b'x'"),
        ({1: (2, {3})}, {"1": [2, [3]]}),
        (Unprintable(), "<Unprintable>"),
    ],
)
def test_plain(value: Any, want: Any) -> None:
    assert plain(value) == want


def test_imports_are_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = imports("sample")
    assert "marshmallow" in found and "pytest" in found
    assert not {"json", "deepfn_launcher", "__main__", "_pytest"} & set(found)
    assert "marshmallow" not in imports("marshmallow.fields")
    alias = types.ModuleType("alias_of_marshmallow")
    alias.__file__ = ma.__file__
    monkeypatch.setitem(sys.modules, "alias_of_marshmallow", alias)
    assert "alias_of_marshmallow" not in imports("sample")
