from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import sys
import uuid
from typing import Any, Dict, List

import pytest
from deepfn_launcher import jsonable
from deepfn_launcher.words import Failure

NAN, INF = float("nan"), float("inf")


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Box:
    label: str
    at: Any


Point = collections.namedtuple("Point", "x y")


class Tensor:
    """Looks like torch's."""

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def tolist(self) -> List[float]:
        return [1.0, NAN]


class Frame:
    """Looks like a DataFrame."""

    columns = ("a",)

    def to_dict(self, orient: str = "dict") -> Any:
        return [{"a": 1}] if orient == "records" else None


class Dumped:
    """Looks like a model of pydantic."""

    def model_dump(self) -> Dict[str, Any]:
        return {"when": datetime.date(2026, 1, 2)}


class Scalar:
    """Looks like numpy's."""

    def item(self) -> int:
        return 7


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class BadList:
    def tolist(self) -> List[float]:
        raise Broken_("x")


class Broken_(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


AS_JSON_DUMPS: List[Any] = [
    None,
    {},
    [],
    "",
    "ä\ud800",
    True,
    -1,
    10**40,
    0.1,
    1e300,
    {"a": [1, 2.5, {"b": None}]},
    {1: 2, None: 3, False: 4, 1.5: 5},
    (1, (2,)),
    Point(1, 2),
    Level.HIGH,
    {"k": Level.HIGH},
    collections.OrderedDict(b=1, a=2),
]


@pytest.mark.parametrize("value", AS_JSON_DUMPS, ids=repr)
def test_what_json_can_say_is_said_as_json_dumps_does(value: Any) -> None:
    assert jsonable.dumps(value) == json.dumps(value)


CONVERTED: List[Any] = [
    (NAN, None),
    ([1.0, INF, -INF], [1.0, None, None]),
    ({"a": {"b": NAN}}, {"a": {"b": None}}),
    (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset("b"), ["b"]),
    (b"\x00\x01", "AAE="),
    (bytearray(b"a"), "YQ=="),
    (memoryview(b"a"), "YQ=="),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("1.50"), 1.5),
    (decimal.Decimal("12"), 12),
    (decimal.Decimal("NaN"), None),
    (decimal.Decimal("1e999999"), None),
    (Color.RED, "red"),
    (Color.PAIR, [1, 2]),
    (Box("cat", {1}), {"label": "cat", "at": [1]}),
    (Point(1, NAN), [1, None]),
    (Tensor(), [1.0, None]),
    (Frame(), [{"a": 1}]),
    (Dumped(), {"when": "2026-01-02"}),
    (Scalar(), 7),
    ({Scalar(): 1}, {"7": 1}),
    ({(1, 2): 1}, {"(1, 2)": 1}),
    ({b"k": 1}, {"k": 1}),
    ({Color.RED: 1}, {"red": 1}),
    ({NAN: 1}, {"nan": 1}),
    ({datetime.date(2026, 1, 2): 1}, {"2026-01-02": 1}),
    (collections.deque([1]), [1]),
    (range(3), [0, 1, 2]),
    ({"a": 1}.keys(), ["a"]),
    ((x for x in (1, NAN)), [1, None]),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    (collections.UserDict(a={1}), {"a": [1]}),
    ({"mixed": {"a", 1}}, None),
]


@pytest.mark.parametrize(("value", "want"), CONVERTED, ids=lambda v: type(v).__name__)
def test_what_json_cannot_say_is_converted(value: Any, want: Any) -> None:
    got = json.loads(jsonable.dumps(value))
    if want is None and isinstance(value, dict):
        assert sorted(map(str, got["mixed"])) == ["1", "a"]
    else:
        assert got == want


def test_nan_is_said_once_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert jsonable.dumps({"a": [0, NAN, {"b c": INF}]}) == '{"a": [0, null, {"b c": null}]}'
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nan at predictions.a[1] and 1 more" in said


def circle() -> Any:
    inner: Dict[str, Any] = {}
    inner["a"] = [0, 1, 2, inner]
    return inner


def deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


class Itself:
    def tolist(self) -> Any:
        return self


REFUSED: List[Any] = [
    (circle(), "predict returned a circular structure at predictions.a[3]"),
    (deep(100_000), "predict returned something nested more than 200 deep at predictions[0][0]"),
    (object(), "predict returned an object, which has no form in JSON at predictions"),
    ({"a": [Broken()]}, "Broken, which has no form in JSON at predictions.a[0]"),
    ({"a": int}, "which has no form in JSON at predictions.a"),
    ({"x y": 1j}, "a complex, which has no form in JSON at predictions['x y']"),
    ({Broken(): 1}, "that is no text"),
    ({"t": BadList()}, "could not be made JSON (Broken_: <its __str__ raised RuntimeError>)"),
    (Itself(), "predict returned a circular structure at predictions"),
    ({"f": deep}, "a function, which has no form in JSON at predictions.f"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=[says[-20:] for _, says in REFUSED])
def test_what_has_no_form_is_refused_with_its_place(value: Any, says: str) -> None:
    with pytest.raises(Failure) as caught:
        jsonable.dumps(value)
    assert caught.value.code == "failed"
    assert says in caught.value.msg
    assert len(caught.value.msg) < 2000


def test_a_structure_may_hold_a_thing_twice() -> None:
    shared = {1}
    assert jsonable.dumps([shared, shared]) == "[[1], [1]]"


def test_an_integer_of_too_many_digits() -> None:
    if not hasattr(sys, "set_int_max_str_digits"):
        assert jsonable.dumps(10**5000) == str(10**5000)
        return
    with pytest.raises(Failure, match=r"an integer of \d+ bits at predictions.n"):
        jsonable.dumps({"n": 10**5000})


def test_numpy() -> None:
    numpy = sys.modules.get("numpy") or _numpy()
    if numpy is None:  # the stack without numpy converts what looks like it
        assert jsonable.dumps({"a": Scalar(), "t": Tensor()}) == '{"a": 7, "t": [1.0, null]}'
        return
    value = {
        "matrix": numpy.arange(4, dtype="float32").reshape(2, 2),
        "scalar": numpy.float32(0.5),
        "zero": numpy.array(3),
        "int": numpy.int64(2),
        "bool": numpy.bool_(True),
        "nan": numpy.array([1.0, numpy.nan]),
        "when": numpy.datetime64("2026-01-02"),
        "text": numpy.array(["a", "b"]),
        numpy.int64(5): numpy.str_("key"),
        "objects": numpy.array([{1}, None], dtype=object),
    }
    assert json.loads(jsonable.dumps(value)) == {
        "matrix": [[0.0, 1.0], [2.0, 3.0]],
        "scalar": 0.5,
        "zero": 3,
        "int": 2,
        "bool": True,
        "nan": [1.0, None],
        "when": "2026-01-02",
        "text": ["a", "b"],
        "5": "key",
        "objects": [[1], None],
    }


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


LOADED: List[Any] = [
    (b'{"a": 1}', {"a": 1}),
    (b'{"a": 1, "a": 2}', {"a": 2}),
    (b'"\\ud800"', "\ud800"),
    (b'"\xed\xa0\x80"', "\ud800"),
    (b"123456789012345678901234567890", 123456789012345678901234567890),
    (b"1e999", INF),
    (b" null ", None),
]


@pytest.mark.parametrize(("raw", "want"), LOADED, ids=lambda v: repr(v)[:20])
def test_loads(raw: bytes, want: Any) -> None:
    assert jsonable.loads(raw) == want
    assert jsonable.loads(memoryview(raw)) == want


NOT_JSON: List[Any] = [
    (b"NaN", "NaN is not a number of JSON"),
    (b'{"a": [-Infinity]}', "-Infinity is not a number of JSON"),
    (b"", "Expecting value"),
    (b"{'a': 1}", "line 1, column 2"),
    (b"[1] 2", "Extra data"),
    (b'"\xff"', "not UTF-8 at byte 1"),
    (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
    (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested too deeply"),
]


@pytest.mark.parametrize(("raw", "says"), NOT_JSON, ids=lambda v: repr(v)[:20])
def test_loads_refuses(raw: bytes, says: str) -> None:
    with pytest.raises(Failure) as caught:
        jsonable.loads(raw)
    assert caught.value.code == "invalid"
    assert caught.value.msg.startswith("Invalid JSON body")
    assert says in caught.value.msg


def test_loads_refuses_endless_integers() -> None:
    raw = b"1" * 5000
    if not hasattr(sys, "set_int_max_str_digits"):
        assert jsonable.loads(raw) == int(raw)
        return
    with pytest.raises(Failure, match="4300"):
        jsonable.loads(raw)


def test_loads_depth_10000_is_refused_or_read_whole() -> None:
    depth = 10_000
    try:
        value = jsonable.loads(b"[" * depth + b"]" * depth)
    except Failure as exc:
        assert "nested too deeply" in exc.msg
        return
    while value:
        value, depth = value[0], depth - 1
    assert depth == 1


LONG = "x" * jsonable._LONG


@pytest.mark.parametrize("code", [*range(0x81), 0xE9, 0xD800, 0x20AC, 0x1F600])
def test_a_long_text_is_written_as_json_writes_it(code: int) -> None:
    for text in (chr(code) + LONG, LONG + chr(code), LONG[1:] + chr(code) + LONG[1:]):
        assert jsonable.dumps(text) == json.dumps(text)
        assert jsonable.dumps({"text": text}) == json.dumps({"text": text})


def test_what_stands_for_itself_is_what_the_encoder_leaves() -> None:
    for code in range(0x300):
        same = json.dumps(chr(code)) == f'"{chr(code)}"'
        assert jsonable._stands_for_itself(chr(code)) == same, hex(code)


@pytest.mark.parametrize(
    "value",
    [
        {},
        LONG,
        [LONG],
        [LONG, []],
        {"": LONG, "b": {}, "c": []},
        {"a": {"b": {"c": {"d": {"e": LONG}}}}, "f": LONG},
        [[[[[LONG]]]], LONG],
        {
            "id": 1,
            "images": [{"name": "ä\n", "data": LONG}, {"data": LONG, "more": [1.5, None, True]}],
        },
        {1: LONG, None: LONG, 1.5: LONG},
        {"plain": {1: LONG}, 2: "x"},
        {str(n): LONG for n in range(jsonable._FEW + 1)},
        {"many": [LONG] * (jsonable._FEW + 1), "one": LONG},
        {LONG: LONG, 'quote"': LONG},
        {"long": LONG, "tuple": (1, 2), "empty": ()},
    ],
)
def test_results_with_long_texts_are_written_as_json_writes_them(value: Any) -> None:
    assert jsonable.dumps(value) == json.dumps(value)


def test_what_stands_beside_a_long_text_is_converted() -> None:
    class Shout(str):
        pass

    day = datetime.date(2026, 1, 2)
    got = jsonable.dumps(
        {"text": LONG, "day": day, "inner": {"b": b"ab", "t": LONG}, "s": Shout(LONG)}
    )
    want = {"text": LONG, "day": "2026-01-02", "inner": {"b": "YWI=", "t": LONG}, "s": LONG}
    assert got == json.dumps(want)


def test_faults_beside_a_long_text_have_their_place(capfd: pytest.CaptureFixture[str]) -> None:
    circle: Dict[str, Any] = {"text": LONG}
    circle["again"] = circle
    with pytest.raises(Failure, match=r"a circular structure at predictions\.again"):
        jsonable.dumps(circle)
    with pytest.raises(Failure, match=r"object, which has no form in JSON at predictions.a\[1\]"):
        jsonable.dumps({"text": LONG, "a": [LONG, object()]})
    assert json.loads(jsonable.dumps({"text": LONG, "n": [float("nan")]})) == {
        "text": LONG,
        "n": [None],
    }
    assert "predictions.n[0]" in capfd.readouterr().err
