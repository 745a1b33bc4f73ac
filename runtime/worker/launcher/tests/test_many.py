"""predict-many against predict: a row gets what it would get alone."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import signal
from typing import Any, Callable, Dict, Iterator, List

import parent
import pytest
from parent import Answer, Parent

Starter = Callable[..., Parent]

DOES = """
import asyncio, datetime, io, os, sys, time
def predict(do: str, x: bytes = b"", n: int = 0):
    scope = {"x": x, "n": n, "result": None}
    exec(do, globals(), scope)
    return scope["result"]
"""

MODULE = """
from marshmallow import Schema
from webargs import fields, validate
def get_predict_args():
    return {
        "n": fields.Int(required=True, validate=validate.Range(min=1)),
        "word": fields.Str(load_default="none"),
        "many": fields.List(fields.Float()),
        "accept": fields.Str(validate=validate.OneOf(["application/json", "image/png"])),
    }
schema = {"twice": fields.Int(required=True)}
def predict(**kwargs):
    if kwargs["word"] == "png":
        return b"\\x89PNG\\r\\n\\x1a\\n"
    if kwargs["word"] == "wrong":
        return {"other": 1}
    return {"twice": 2 * kwargs["n"]}
"""

MAIN = """
import os, sys
calls = 0
async def later(args):
    return args
def main(args):
    global calls
    calls += 1
    if isinstance(args, dict) and "do" in args:
        return eval(args["do"])
    return args
"""


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Starter]:
    made: List[Parent] = []

    def begin(source: str, **more: Any) -> Parent:
        path = tmp_path / f"m{len(made)}.py"
        path.write_text(source)
        p = Parent(parent.launcher(), **more)
        made.append(p)
        ready = p.start({"model": "m", "path": str(path), "warm": True})
        assert ready.type == 3, (ready, p.stderr())
        return p

    yield begin
    for p in made:
        p.kill()


def alone(answer: Answer) -> Dict[str, Any]:
    """Return what predict-many has to say where predict gave an answer."""
    if answer.type == 6 and answer.media == "application/json":
        return {"value": answer.json, **({"whole": True} if answer.kind == 1 else {})}
    if answer.type == 6:
        data = base64.b64encode(answer.data).decode()
        return {"content_type": answer.media, "filename": answer.filename, "data": data}
    told = answer.error()
    return {"error": told.pop("msg"), **told}


ROWS: Dict[str, List[Any]] = {
    DOES: [
        {"do": "result = {'a': [1, 2.5, None, 'ä']}"},
        {"do": "result = float('nan')"},
        {"do": "result = b'%PDF-1.7'"},
        {"do": "result = io.BytesIO(b'abc')"},
        {"do": "result = iter([b'abc', b'def'])"},
        {"do": "result = (n for n in range(3))"},
        {"do": "result = x", "x": "aGVsbG8="},
        {"do": "result = x", "x": "no base64!"},
        {"do": "result = datetime.date(2026, 1, 2)"},
        {"do": "1 / 0"},
        {"do": "raise NotImplementedError"},
        {"do": "sys.exit(3)"},
        {"do": "raise KeyboardInterrupt"},
        {"do": "class E(Exception): status, reason = 418, 'teapot'\nraise E"},
        {"do": "result = {'a': object()}"},
        {"do": "result = n", "n": "7"},
        {"do": "result = n", "n": "seven"},
        {"do": "result = '\\ud800'"},
        {"do": "if os.fork() == 0: result = 'the copy'\nelse: os.wait(); result = 'the parent'"},
        {"do": "if os.fork() == 0: 1 / 0\nos.wait(); result = 'the parent'"},
        {},
        {"other": 1},
        None,
        7,
        [],
    ],
    MODULE: [
        {"n": 1},
        {"n": "2", "word": "x", "many": [1, 2]},
        {"n": 0},
        {},
        {"n": 1, "many": ["a"]},
        {"n": 1, "word": "png", "accept": "image/png"},
        {"n": 1, "word": "wrong"},
        {"n": 1, "unknown": 2},
        None,
        "text",
        [{"n": 1}],
    ],
    MAIN: [
        {"a": 1},
        [1, 2],
        {"do": "7"},
        {"do": "()"},
        {"do": "later({})"},
        {"do": "1/0"},
        None,
        3,
    ],
    "async def predict(n: int): return n + 1\n": [{"n": 1}, {"n": "x"}],
    "def predict(**kwargs): return kwargs\n": [{"n": 1}, {"__ow_x": 1}],
}


@pytest.mark.parametrize("source", ROWS, ids=["plain", "module", "main", "async", "open"])
@pytest.mark.parametrize("accept", ["", "image/png", "text/plain, */*"])
def test_a_row_gets_what_it_gets_alone(start: Starter, source: str, accept: str) -> None:
    rows = ROWS[source]
    p = start(source)
    want = [alone(p.call(raw=json.dumps(row).encode(), accept=accept)) for row in rows]
    assert p.call(rows, verb="predict-many", accept=accept).ok() == want
    assert p.call(rows * 20, verb="predict-many", accept=accept).ok() == want * 20


def test_the_list(start: Starter) -> None:
    p = start(MAIN)
    assert p.call([], verb="predict-many").ok() == []
    assert p.call(verb="predict-many").ok() == []
    for wrong in ({"a": 1}, 3, "text"):
        assert p.call(wrong, verb="predict-many").error()["code"] == "invalid"
    file = (("f", "a.txt", "text/plain", b"x"),)
    assert p.call([{}], verb="predict-many", files=file).error()["code"] == "invalid"
    assert p.call(raw=b"[{}, ", verb="predict-many").error()["code"] == "invalid"
    assert p.call({"do": "{'calls': calls}"}).ok() == {"calls": 1}


def test_an_answer_that_is_changed_afterwards(start: Starter) -> None:
    p = start("kept = {}\ndef main(args):\n    kept.update(args)\n    return kept\n")
    rows = [{"n": n} for n in range(3)]
    assert p.call(rows, verb="predict-many").ok() == [{"value": row} for row in rows]


def test_a_main_that_exits_fails_alone(start: Starter) -> None:
    p = start(MAIN)
    rows = [{"do": "sys.exit(3)"}, {"a": 1}]
    want = [{"error": "predict called sys.exit(3)", "code": "exited"}, {"value": {"a": 1}}]
    assert p.call(rows, verb="predict-many").ok() == want


def test_a_row_that_ends_the_process(start: Starter) -> None:
    p = start(MAIN)
    p.post(*parent.request([{"a": 1}, {"do": "os._exit(7)"}], verb="predict-many"))
    assert p.read() == ()
    assert p.proc.wait() == 7


def test_answers_over_the_limit(start: Starter) -> None:
    p = start(DOES)
    long = {"do": "result = 'x' * 600_000"}
    assert len(p.call([long], verb="predict-many").ok()) == 1
    assert p.call([long, long], verb="predict-many").error()["code"] == "too_large"
    told = p.call([{"do": "result = iter([b'x' * 2_000_000])"}], verb="predict-many").ok()
    assert told[0]["code"] == "too_large"


def test_cancel_ends_the_rest(start: Starter, tmp_path: pathlib.Path) -> None:
    for lanes in (1, 2):
        p = start(DOES, lanes=lanes)
        seen = tmp_path / f"seen-{lanes}"
        # A module that swallows everything is ended before its next row; what runs on a thread
        # is never interrupted.
        stays = {
            "do": f"open({str(seen)!r}, 'a').write('x')\n"
            f"while not os.path.exists({str(seen) + '.go'!r}): time.sleep(0.001)"
        }
        sleeps = {"do": f"open({str(seen)!r}, 'a').write('x')\ntime.sleep(50)"}
        row = stays if lanes == 2 else sleeps
        id_ = p.post(*parent.request([row] * 5, verb="predict-many"))
        while not seen.exists() or not seen.read_text():
            assert p.proc.poll() is None
        p.cancel(id_)
        (tmp_path / f"seen-{lanes}.go").touch()
        assert p.answer().error()["code"] == "canceled"
        assert seen.read_text() == "x"
        assert p.call({"do": "result = 1"}).ok() == 1


def test_uploads_of_each_row_are_removed(start: Starter, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    source = (
        "import pathlib, os\n"
        f"def predict(p: pathlib.Path): return [p.read_text(), len(os.listdir({str(folder)!r}))]\n"
    )
    p = start(source, env={"TMPDIR": str(folder)})
    row = {"p": base64.b64encode(b"123").decode()}
    assert p.call([row, row], verb="predict-many").ok() == [{"value": ["123", 1]}] * 2
    assert list(folder.iterdir()) == []


def test_the_trace_and_the_platform_are_those_of_the_call(start: Starter) -> None:
    p = start("import os\ndef main(args): return {'id': os.environ.get('__OW_ACTIVATION_ID')}\n")
    texts = ((4, "__OW_ACTIVATION_ID", "the id"),)
    told = p.call([{}, {}], verb="predict-many", texts=texts).ok()
    assert told == [{"value": {"id": "the id"}}] * 2


def test_a_signal_between_the_rows(start: Starter) -> None:
    p = start(MAIN)
    os.kill(p.proc.pid, signal.SIGUSR1)  # of a call that is over
    assert p.call([{"a": 1}] * 1000, verb="predict-many").ok() == [{"value": {"a": 1}}] * 1000
