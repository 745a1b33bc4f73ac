from __future__ import annotations

import base64
import json
import os
import sys
import types
from typing import Any, Dict, List, Tuple

import pytest
from deepfn_launcher import function
from deepfn_launcher.uploads import Uploads
from deepfn_launcher.words import Failure, Model, Text, Upload, Values

HEAD = """
from __future__ import annotations
import datetime, enum, io, os, pathlib, sys, typing
from typing import *
from typing import IO, BinaryIO, Literal
class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"
class Odd(enum.Enum):
    PAIR = (1, 2)
"""


def load(source: str, main: str = "") -> Model:
    module = types.ModuleType("file")
    exec(compile(HEAD + source, "file.py", "exec", dont_inherit=True), module.__dict__)
    sys.modules["file"] = module
    found = function.find(module, main)
    assert found is not None
    return found


def called(
    model: Model,
    args: Any = None,
    *,
    verb: str = "predict",
    texts: Tuple[Tuple[int, str, str], ...] = (),
    files: Tuple[Tuple[str, str, str, bytes], ...] = (),
) -> Any:
    raw = None if args is None else json.dumps(args).encode()
    values = Values(
        raw,
        [Text(*text) for text in texts],
        [Upload(n, f, m, memoryview(d)) for n, f, m, d in files],
    )
    store = Uploads()
    try:
        return model.run(verb, model.parse(verb, values, store))
    finally:
        store.close()


def refused(model: Model, *args: Any, **more: Any) -> Dict[str, List[str]]:
    with pytest.raises(Failure) as caught:
        called(model, *args, **more)
    assert caught.value.code == "invalid"
    assert caught.value.msg
    return caught.value.fields or {}


# Which function


def test_find() -> None:
    assert function.find({}, "") is None
    assert function.find({"x": 1}, "x") is None
    assert function.find({"main": 3}, "") is None
    assert function.find({"main": print}, "other") is None
    both = "def main(args): return {'f': 'main'}\ndef predict(): return 'predict'\n"
    assert called(load(both)) == {"f": "main"}
    assert called(load(both, "predict")) == "predict"
    assert called(load("def niam(args): return args", "niam"), {"a": 1}) == {"a": 1}


# main(args)


MAINS: List[Any] = [
    ("def main(args): return args", {"a": 1}, {"a": 1}),
    ("def main(args): return args", None, {}),
    ("def main(args): return args", [1, 2], [1, 2]),
    ("def main(args: dict) -> dict: return args", {"a": 1}, {"a": 1}),
    ("def main(args: Dict[str, Any]): return args", {"a": 1}, {"a": 1}),
    ("def main(): return {'none': 1}", {"a": 1}, {"none": 1}),
    ("def main(args, verbose=False): return {'v': verbose}", {}, {"v": False}),
    ("def main(event, context): return {'c': context.activation_id}", {}, {"c": "id1"}),
    ("def main(event, context): return {'c': context.nothing}", {}, {"c": ""}),
    ("def main(event, context): return {'t': context.get_remaining_time_in_millis()}", {},
     {"t": 0}),
    ("def main(*args): return {'n': len(args)}", {}, {"n": 1}),
    ("def main(a, b): return {'sum': a + b}", {"a": 1, "b": 2}, {"sum": 3}),
    ("def main(name: str = 'you'): return {'hello': name}", {"name": "me"}, {"hello": "me"}),
    ("def main(**kw): return kw", {"a": 1, "__ow_method": "post"}, {"a": 1}),
    ("async def main(args): return args", {"a": 1}, {"a": 1}),
    ("main = lambda args: args", {"a": 1}, {"a": 1}),
    ("class C:\n    def __call__(self, args): return args\nmain = C()", {"a": 1}, {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "args", "want"), MAINS)
def test_main(source: str, args: Any, want: Any) -> None:
    texts = ((4, "__OW_ACTIVATION_ID", "id1"), (4, "__OW_DEADLINE", "5"))
    assert called(load(source), args, texts=texts) == want


ASKED: List[Any] = [
    ("def predict(args): return {'got': args}", {"q": 1}, {"got": {"q": 1}}),
    ("def predict(x): return {'got': x}", [1, 2], {"got": [1, 2]}),
    ("def predict(x): return {'got': x}", None, {"got": {}}),
    ("def predict(args: dict) -> dict: return {'got': args}", {"q": 1}, {"got": {"q": 1}}),
    ("def predict(args: Dict[str, Any]): return args", {"q": 1}, {"q": 1}),
    ("def predict(args, context): return [args, context.activation_id]", {}, [{}, "id1"]),
    ("predict = lambda event: event", {"q": 1}, {"q": 1}),
    ("async def predict(params, /): return params", {"q": 1}, {"q": 1}),
    # what names its arguments gets them by name
    ("def predict(x: int): return x + 1", {"x": 1}, 2),
    ("def predict(x: Optional[int]): return x", {"x": 1}, 1),
    ("def predict(x: List[int]): return x", {"x": [1]}, [1]),
    ("def predict(x=3): return x", {"x": 1}, 1),
    ("def predict(x, top=3): return [x, top]", {"x": 1}, [1, 3]),
    ("def predict(x, y): return [x, y]", {"x": 1, "y": 2}, [1, 2]),
    ("def predict(x, context, more): return [x, context, more]", {"x": 1, "context": 2, "more": 3},
     [1, 2, 3]),
    ("def predict(x, *, y): return [x, y]", {"x": 1, "y": 2}, [1, 2]),
    ("def predict(x, **rest): return [x, rest]", {"x": 1, "y": 2}, [1, {"y": 2}]),
    ("def predict(**rest): return rest", {"x": 1}, {"x": 1}),
    ("def predict(): return 'nothing'", {}, "nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "args", "want"), ASKED)
def test_predict_that_is_asked_for(source: str, args: Any, want: Any) -> None:
    texts = ((4, "__OW_ACTIVATION_ID", "id1"),)
    assert called(load(source, "predict"), args, texts=texts) == want


def test_predict_that_is_asked_for_is_a_function() -> None:
    model = load("def predict(args): return args", "predict")
    assert model.describe()["function"] is True
    assert model.exits
    named = load("def predict(x: int): return x", "predict")
    assert "function" not in named.describe()
    assert not named.exits


def test_predict_that_is_found_takes_its_arguments_by_name() -> None:
    assert called(load("def predict(x): return x"), {"x": 1}) == 1
    assert refused(load("def predict(args): return args"), {"x": 1}) == {
        "args": ["Missing data for required field."]
    }


@pytest.mark.parametrize("result", ["'text'", "3", "True", "{1}", "b'x'", "None"])
def test_main_must_return_a_dictionary_or_array(result: str) -> None:
    with pytest.raises(Failure) as caught:
        called(load(f"def main(args): return {result}"))
    assert caught.value.code == "no_answer"
    assert caught.value.msg == "The action did not return a dictionary or array."


@pytest.mark.parametrize("result", ["(1, 2)", "collections.namedtuple('N', 'a b')(1, 2)"])
def test_a_tuple_is_an_array(result: str) -> None:
    assert called(load(f"import collections\ndef main(args): return {result}")) == [1, 2]


def test_main_gets_one_dictionary() -> None:
    got = called(
        load("def main(args): return args"),
        {"a": 1, "b": 1, "c": 1, "f": "x"},
        texts=((2, "b", "form"), (1, "c", "query"), (2, "c", "form"), (1, "l", "1"), (1, "l", "2")),
        files=(("f", "x.png", "image/png", b"123"), ("g", "", "", b"1"), ("g", "", "", b"2")),
    )
    assert got == {
        "a": 1,
        "b": "form",
        "c": "query",
        "l": ["1", "2"],
        "f": base64.b64encode(b"123").decode(),
        "g": ["MQ==", "Mg=="],
    }


def test_main_refuses_other_arguments() -> None:
    assert refused(load("def main(args): return args"), "text") == {}
    assert refused(load("def main(args): return args"), 3) == {}


def test_the_environment_is_that_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("__OW_API_KEY", "before")
    model = load(
        "def main(args):\n"
        "    seen = [os.environ.get('__OW_API_KEY'), os.environ.get('__OW_DEADLINE')]\n"
        "    os.environ['__OW_DEADLINE'] = 'spoiled'\n"
        "    if args: raise ValueError\n"
        "    return seen\n"
    )
    texts = ((4, "__OW_API_KEY", "key"), (4, "__OW_DEADLINE", "17"), (4, "a=b", "x"), (4, "", "x"))
    assert called(model, texts=texts) == ["key", "17"]
    with pytest.raises(ValueError):
        called(model, {"a": 1}, texts=texts)
    assert os.environ["__OW_API_KEY"] == "before"
    assert "__OW_DEADLINE" not in os.environ
    assert called(model) == ["before", None]


# predict(…)

PNG = b"\x89PNG"
B64 = base64.b64encode(PNG).decode()
FILE = ("x", "a.png", "image/png", PNG)

#: annotation, default, what is given, what the function gets as repr
GIVEN: List[Any] = [
    ("str", {"x": "a"}, "'a'"),
    ("int", {"x": 3}, "3"),
    ("int", {"x": "3"}, "3"),
    ("int", {"x": 3.0}, "3"),
    ("int", {"x": 10**30}, str(10**30)),
    ("float", {"x": 1}, "1.0"),
    ("float", {"x": "1.5"}, "1.5"),
    ("bool", {"x": True}, "True"),
    ("bool", {"x": "off"}, "False"),
    ("bool", {"x": 1}, "True"),
    ("list", {"x": [1, "a"]}, "[1, 'a']"),
    ("List[int]", {"x": [1, "2"]}, "[1, 2]"),
    ("Sequence[float]", {"x": [1]}, "[1.0]"),
    ("Tuple[int, ...]", {"x": [1]}, "(1,)"),
    ("Set[int]", {"x": [1, 1]}, "{1}"),
    ("dict", {"x": {"a": 1}}, "{'a': 1}"),
    ("Dict[str, int]", {"x": {"a": "1"}}, "{'a': 1}"),
    ("Mapping[str, Any]", {"x": {"a": 1}}, "{'a': 1}"),
    ("Optional[int]", {"x": None}, "None"),
    ("Optional[int]", {"x": 3}, "3"),
    ("Union[int, str]", {"x": 3}, "3"),
    ("Union[int, str]", {"x": "3"}, "'3'"),
    ("Union[str, List[str]]", {"x": ["a"]}, "['a']"),
    ("Union[bool, int]", {"x": 1}, "1"),
    ("Literal['a', 3]", {"x": 3}, "3"),
    ("Color", {"x": "red"}, "<Color.RED: 'red'>"),
    ("Color", {"x": "BLUE"}, "<Color.BLUE: 'blue'>"),
    ("Odd", {"x": "PAIR"}, "<Odd.PAIR: (1, 2)>"),
    ("Any", {"x": {"a": [None]}}, "{'a': [None]}"),
    ("NoSuchName", {"x": 3}, "3"),
    ("int", {"x": 3, "unknown": 1, "__ow_path": "/"}, "3"),
    ("bytes", {"x": B64}, repr(PNG)),
    ("bytearray", {"x": B64}, repr(bytearray(PNG))),
    ("bytes", {"x": "data:image/png;base64," + B64}, repr(PNG)),
    ("bytes", {"x": {"data": B64, "filename": "a.png"}}, repr(PNG)),
    ("Optional[bytes]", {"x": B64}, repr(PNG)),
    ("Optional[bytes]", {"x": None}, "None"),
    ("List[bytes]", {"x": [B64, B64]}, repr([PNG, PNG])),
    ("datetime.date", {"x": "2026-01-02"}, "datetime.date(2026, 1, 2)"),
    ("datetime.datetime", {"x": "2026-01-02T03:04:05"}, "datetime.datetime(2026, 1, 2, 3, 4, 5)"),
]  # fmt: skip


@pytest.mark.parametrize(("note", "args", "want"), GIVEN)
def test_values_in_json(note: str, args: Any, want: str) -> None:
    assert called(load(f"def predict(x: {note}): return repr(x)"), args) == want


MOMENTS: List[Any] = [
    ("2026-01-02", "2026-01-02T00:00:00"),
    ("20260102", "2026-01-02T00:00:00"),
    ("2026-01-02T03", "2026-01-02T03:00:00"),
    ("2026-01-02T03:04", "2026-01-02T03:04:00"),
    ("2026-01-02 03:04:05", "2026-01-02T03:04:05"),
    ("20260102T030405", "2026-01-02T03:04:05"),
    ("2026-01-02T03:04:05.5", "2026-01-02T03:04:05.500000"),
    ("2026-01-02T03:04:05,25", "2026-01-02T03:04:05.250000"),
    ("2026-01-02T03:04:05.123456789", "2026-01-02T03:04:05.123456"),
    ("2026-01-02T03:04:00.5Z", "2026-01-02T03:04:00.500000+00:00"),
    ("2026-01-02t03:04:05z", "2026-01-02T03:04:05+00:00"),
    ("20260102T030405.5Z", "2026-01-02T03:04:05.500000+00:00"),
    ("2026-01-02T03:04:05+02:00", "2026-01-02T03:04:05+02:00"),
    ("2026-01-02T03:04:05-0330", "2026-01-02T03:04:05-03:30"),
    ("2026-01-02T03:04:05+05", "2026-01-02T03:04:05+05:00"),
    ("2026-01-02T03:04:05-00:00:30", "2026-01-02T03:04:05-00:00:30"),
    ("2024-02-29T23:59:59", "2024-02-29T23:59:59"),
]


@pytest.mark.parametrize(("value", "want"), MOMENTS)
def test_moments(value: str, want: str) -> None:
    model = load("def predict(x: datetime.datetime): return x.isoformat()")
    assert called(model, {"x": value}) == want
    assert called(model, texts=((1, "x", value),)) == want
    day = load("def predict(x: datetime.date): return x.isoformat()")
    if len(value) <= 10:
        assert called(day, {"x": value}) == want[:10]
    else:
        assert refused(day, {"x": value}) == {"x": ["Not a valid date."]}


NO_MOMENTS: List[Any] = [
    "", "2026", "2026-01", "2026-0102", "2026-13-02", "2025-02-29", "0000-01-02", "2026-1-2",
    "2026-W01-1", "2026-01-02T", "2026-01-02T24:00", "2026-01-02T03:60", "2026-01-02T03:04:60",
    "2026-01-02T0304:05", "2026-01-02T03:04:05.", "2026-01-02T03:04:05+24:00",
    "2026-01-02T03:04:05+01:60", "2026-01-02T03:04:05 Z", "2026-01-02Z", "2026-01-02\n",
    " 2026-01-02", "\u0662026-01-02", "2026-01-02x03:04:05", 20260102, 1.5, None, ["2026-01-02"],
]  # fmt: skip


@pytest.mark.parametrize("value", NO_MOMENTS)
def test_no_moments(value: Any) -> None:
    for note in ("date", "datetime"):
        model = load(f"def predict(x: datetime.{note}): return repr(x)")
        says = "Field may not be null." if value is None else f"Not a valid {note}."
        assert refused(model, {"x": value}) == {"x": [says]}


TEXTS: List[Any] = [
    ("str", ["a", "b"], "'a'"),
    ("int", ["3"], "3"),
    ("bool", ["true"], "True"),
    ("List[int]", ["1", "2"], "[1, 2]"),
    ("List[int]", ["1"], "[1]"),
    ("List[int]", ["[1, 2]"], "[1, 2]"),
    ("List[str]", ["[1"], "['[1']"),
    ("dict", ['{"a": 1}'], "{'a': 1}"),
    ("Optional[int]", [""], "None"),
    ("Optional[int]", ["5"], "5"),
    ("Optional[str]", ["a"], "'a'"),
    ("Optional[List[int]]", ["1", "2"], "[1, 2]"),
    ("Union[int, str]", ["5"], "5"),
    ("Union[int, str]", ["x"], "'x'"),
    ("Literal['a', 3]", ["3"], "3"),
    ("Color", ["red"], "<Color.RED: 'red'>"),
    ("Any", ["3"], "'3'"),
    ("bytes", ["data:," + "abc"], "b'abc'"),
]


@pytest.mark.parametrize(("note", "texts", "want"), TEXTS)
def test_values_in_texts(note: str, texts: List[str], want: str) -> None:
    model = load(f"def predict(x: {note}): return repr(x)")
    for origin in (1, 2):
        assert called(model, texts=tuple((origin, "x", text) for text in texts)) == want


WRONG: List[Any] = [
    ("str", 3, "Not a valid string."),
    ("str", None, "Field may not be null."),
    ("int", "a", "Not a valid integer."),
    ("int", 1.5, "Not a valid integer."),
    ("int", True, "Not a valid integer."),
    ("int", [1], "Not a valid integer."),
    ("int", "9" * 5000 + "x", "Not a valid integer."),
    ("float", "a", "Not a valid number."),
    ("float", "nan", "Special numeric values (nan or infinity) are not permitted."),
    ("float", 10**400, "Not a valid number."),
    ("bool", "maybe", "Not a valid boolean."),
    ("bool", 2, "Not a valid boolean."),
    ("list", "a", "Not a valid list."),
    ("list", None, "Field may not be null."),
    ("List[int]", [1, "a"], "1: Not a valid integer."),
    ("Set[list]", [[1]], "Not a valid list: its members cannot be in a set."),
    ("dict", [1], "Not a valid mapping type."),
    ("Dict[str, int]", {"a": "x"}, "a: Not a valid integer."),
    ("Literal['a', 3]", "b", "Must be one of: a, 3."),
    ("Color", "green", "Must be one of: red, blue."),
    ("Optional[int]", "a", "Not a valid integer."),
    ("bytes", "not base64!", "Not valid base64."),
    ("bytes", 3, "Must be an uploaded file."),
    ("bytes", None, "Field may not be null."),
    ("List[bytes]", ["?"], "0: Not valid base64."),
    ("datetime.date", "yesterday", "Not a valid date."),
]


@pytest.mark.parametrize(("note", "value", "says"), WRONG)
def test_wrong_values(note: str, value: Any, says: str) -> None:
    model = load(f"def predict(x: {note}): return repr(x)")
    assert refused(model, {"x": value}) == {"x": [says]}


def test_missing_and_several_wrong() -> None:
    model = load("def predict(a: int, b: str, c: int = 3): return [a, b, c]")
    assert refused(model) == {
        "a": ["Missing data for required field."],
        "b": ["Missing data for required field."],
    }
    assert refused(model, {"a": "x", "b": "y", "c": []}) == {
        "a": ["Not a valid integer."],
        "c": ["Not a valid integer."],
    }
    assert called(model, {"a": 1, "b": "y"}) == [1, "y", 3]
    assert refused(model, [1]) == {"json": ["Invalid input type."]}


def test_arguments_that_are_no_json() -> None:
    for raw in (b"{", b"NaN", b"[" * 100_000):
        for source in ("def predict(x): pass", "def main(args): pass"):
            with pytest.raises(Failure, match="Invalid JSON body"):
                load(source).parse("predict", Values(raw), Uploads())


FILES: List[Any] = [
    ("bytes", "x", PNG),
    ("bytearray", "bytes(x)", PNG),
    ("BinaryIO", "[x.read(), x.name]", [PNG, "a.png"]),
    ("IO[bytes]", "x.read()", PNG),
    ("io.BytesIO", "x.getvalue()", PNG),
    ("pathlib.Path", "[x.read_bytes(), x.suffix]", [PNG, ".png"]),
    ("Optional[bytes]", "x", PNG),
    ("Optional[pathlib.Path]", "x.read_bytes()", PNG),
    ("Union[bytes, str]", "x", PNG),
    ("List[bytes]", "x", [PNG]),
    ("Any", "x", PNG),
]


@pytest.mark.parametrize(("note", "gives", "want"), FILES)
def test_uploads(note: str, gives: str, want: Any) -> None:
    assert called(load(f"def predict(x: {note}): return {gives}"), files=(FILE,)) == want


def test_several_uploads_of_a_name() -> None:
    files = (FILE, ("x", "b.txt", "", b"2"))
    assert called(load("def predict(x: List[bytes]): return x"), files=files) == [PNG, b"2"]
    assert called(load("def predict(x: bytes): return x"), files=files) == PNG
    paths = load("def predict(x: List[pathlib.Path]): return [p.suffix for p in x]")
    assert called(paths, files=files) == [".png", ".txt"]
    assert called(paths, {"x": [B64, {"data": B64, "filename": "a.gif"}]}) == ["", ".gif"]


@pytest.mark.parametrize("note", ["str", "int", "float", "bool", "dict", "List[int]", "Color"])
def test_an_upload_for_what_is_no_file(note: str) -> None:
    model = load(f"def predict(x: {note}): return x")
    (says,) = refused(model, files=(FILE,))["x"]
    assert says.startswith("Not a valid")


def test_a_text_for_a_file() -> None:
    model = load("def predict(x: bytes): return x")
    assert refused(model, texts=((2, "x", "abc"),)) == {"x": ["Must be an uploaded file."]}


def test_where_an_argument_is_looked_for() -> None:
    model = load("def predict(x: Any): return x")
    texts = ((2, "x", "form"), (1, "x", "query"), (3, "x", "header"), (4, "x", "context"))
    assert called(model, {"x": "json"}, texts=texts, files=(FILE,)) == PNG
    assert called(model, {"x": "json"}, texts=texts) == "query"
    assert called(model, {"x": "json"}, texts=texts[:1]) == "form"
    assert called(model, {"x": "json"}, texts=texts[2:]) == "json"


def test_signatures() -> None:
    model = load("def predict(a, /, b=2, *args, c, **rest): return [a, b, c, rest]")
    got = called(model, {"a": 1, "c": 3, "d": 4, "__ow_method": "get"}, texts=((1, "e", "5"),))
    assert got == [1, 2, 3, {"d": 4, "e": "5"}]
    guessed = load("def predict(top=3, scale=1.5, name='x', flag=False): return [top, flag]")
    assert called(guessed, texts=((1, "top", "5"), (1, "flag", "yes"))) == [5, True]
    assert called(load("def predict(x: int = None): return x")) is None


def test_an_annotation_that_cannot_be_resolved_hides_no_other() -> None:
    model = load("def predict(a: Nowhere, b: 'List[int]', c: int = 1): return [a, b, c]")
    assert called(model, {"a": "x", "b": ["1"], "c": "2"}) == ["x", [1], 2]


def test_describe() -> None:
    model = load(
        "def predict(image: bytes, top: int = 3, color: Color = Color.RED, size: "
        "Optional[float] = None, kinds: List[str] = (), **more):\n"
        "    '''Say what is in a picture.'''\n"
        "def train(epochs: int): return epochs\n"
    )
    told = json.loads(json.dumps(model.describe()))
    assert told["metadata"] == {"description": "Say what is in a picture."}
    assert told["train"]["parameters"] == [
        {"name": "epochs", "type": "integer", "schema": {"type": "integer"}, "required": True}
    ]
    predict = told["predict"]
    assert predict["open"] is True
    assert "function" not in told
    by_name = {one["name"]: one for one in predict["parameters"]}
    assert list(by_name) == ["image", "top", "color", "size", "kinds"]
    assert by_name["image"] == {
        "name": "image",
        "type": "file",
        "schema": {"type": "string", "format": "binary"},
        "required": True,
    }
    assert by_name["top"]["default"] == 3
    assert by_name["color"]["choices"] == ["red", "blue"]
    assert by_name["color"]["default"] == "red"
    assert by_name["size"]["type"] == "number"
    assert by_name["size"]["schema"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert by_name["kinds"]["schema"]["items"] == {"type": "string"}
    main = load("def main(args): pass").describe()
    assert main["predict"] == {"parameters": [], "open": True}
    assert main["function"] is True
    assert main["train"] is None


# Annotated is in typing since Python 3.9; modules of 3.8 have one from elsewhere.
ANNOTATED = [
    "class Annotated(typing.List[int]):\n"
    "    __origin__, __metadata__ = int, ('how many',)\n"
    "    __class_getitem__ = classmethod(lambda cls, _: cls)\n"
]
if sys.version_info >= (3, 9):
    ANNOTATED.append("from typing import Annotated\n")


@pytest.mark.parametrize("source", ANNOTATED)
def test_annotated(source: str) -> None:
    model = load(source + "def predict(x: Annotated[int, 'how many']): return x")
    (one,) = model.describe()["predict"]["parameters"]
    assert (one["type"], one["description"]) == ("integer", "how many")
    assert called(model, {"x": "3"}) == 3


def test_other_functions_of_the_file() -> None:
    model = load(
        "def predict(): return state\nstate = 0\n"
        "def warm():\n    global state\n    state = 1\n"
        "def get_metadata(): return {'author': 'me', 'odd': {1}}\n"
        "async def train(n: int, f: bytes): return {'n': n, 'f': len(f)}\n"
    )
    assert called(model) == 0
    model.warm()
    assert called(model) == 1
    assert model.metadata() == {"author": "me", "odd": {1}}
    assert json.loads(json.dumps(model.describe()))["metadata"]["author"] == "me"
    values = Values(b'{"n": "2", "f": "eHh4"}')
    call = model.parse("train", values, Uploads())
    assert model.run("train", call) == {"n": 2, "f": 3}
    assert model.shown(call) == {"n": 2, "f": "<file>"}
    plain = load("def main(args): pass")
    plain.warm()
    assert plain.metadata() is None
    with pytest.raises(Failure) as caught:
        plain.parse("train", Values(), Uploads())
    assert (caught.value.code, caught.value.status) == ("unsupported", 501)


def test_a_function_without_signature() -> None:
    assert called(load("predict = dict"), {"a": 1}) == {"a": 1}
