from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any, Callable, Iterator, List

import parent
import pytest
from parent import Answer, Parent

#: A plain function that does what the argument "do" says: Python source that may set result.
DOES = """
import ctypes, datetime, os, signal, sys, threading, time
def predict(do: str, x: bytes = None, t: str = ""):
    scope = {"x": x, "t": t, "result": None}
    exec(do, globals(), scope)
    return scope["result"]
"""

Starter = Callable[..., Parent]


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Starter]:
    made: List[Parent] = []

    def begin(source: str = DOES, *, ok: bool = True, **more: Any) -> Parent:
        path = tmp_path / f"f{len(made)}.py"
        path.write_text(source)
        setup = {"model": "m", "path": str(path), "warm": True, **more.pop("setup", {})}
        p = Parent(parent.launcher(), **more)
        made.append(p)
        p.ready = p.start(setup)  # type: ignore[attr-defined]
        assert p.ready.type == (3 if ok else 4), (p.ready, p.stderr())  # type: ignore
        return p

    yield begin
    for p in made:
        p.kill()


def do(p: Parent, source: str, **more: Any) -> Answer:
    return p.call({"do": source}, **more)


def works(p: Parent) -> None:
    """Check that the worker lives and answers what it is asked."""
    assert do(p, "result = 41 + 1").ok() == 42


def waits(what: Callable[[], bool]) -> None:
    """Wait until something has happened, for a minute at most."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_conversation(start: Starter) -> None:
    p = start()
    assert p.flags == 1
    told = p.ready.json  # type: ignore[attr-defined]
    assert [one["name"] for one in told["predict"]["parameters"]] == ["do", "x", "t"]
    for n in range(20):
        answer = do(p, f"result = {n}")
        assert answer.ok() == n
        assert (answer.lane, answer.media, answer.kind) == (0, "application/json", 0)
        assert answer.run > 0
    assert p.close() == 0
    assert (p.stdout(), p.stderr()) == ("", "")


ERRORS: List[Any] = [
    ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
    ("sys.exit(3)", "failed", "predict called sys.exit(3)"),
    ("raise KeyboardInterrupt", "failed", "predict was interrupted by KeyboardInterrupt"),
    ("raise MemoryError", "failed", "predict ran out of memory"),
    ("raise NotImplementedError", "unsupported", "does not implement predict"),
    ("raise BaseException('odd')", "failed", "BaseException: odd"),
    ("f = lambda: f()\nglobals()['f'] = f\nf()", "failed", "RecursionError"),
    ("exec('1 +')", "failed", "SyntaxError"),
    ("result = object()", "failed", "object, which has no form in JSON at predictions"),
    ("a = []; a.append(a); result = {'a': a}", "failed", "circular structure at predictions.a"),
    ("class E(Exception):\n def __str__(s): raise ValueError\nraise E", "failed", "E: <its __str_"),
    ("result = b'x' * (2 << 20)", "too_large", "has 2097152 bytes: one call may use 1048"),
    ("result = 'x' * (2 << 20)", "too_large", "one call may use"),
    ("result = open('/dev/zero', 'rb')", "too_large", "longer than its limit"),
    ("class C:\n def __getattr__(s, n): raise RuntimeError(n)\nresult = C()", "failed", ""),
]


@pytest.mark.parametrize(("source", "code", "says"), ERRORS, ids=[e[0][:30] for e in ERRORS])
def test_an_error_ends_the_call_alone(start: Starter, source: str, code: str, says: str) -> None:
    p = start()
    told = do(p, source).error()
    assert told["code"] == code
    assert says in told["msg"]
    works(p)
    assert p.close() == 0


def test_the_trace_is_printed_and_not_sent(start: Starter) -> None:
    p = start()
    assert do(p, "1 / 0").error() == {
        "code": "failed",
        "msg": "ZeroDivisionError: division by zero",
    }
    said = p.stderr()
    assert said.startswith("Traceback (most recent call last):")
    assert "in predict" in said
    assert "serve.py" not in said


RESULTS: List[Any] = [
    ("result = [float('nan'), float('inf')]", b"[null, null]"),
    ("result = datetime.date(2026, 1, 2)", b'"2026-01-02"'),
    ("result = {3, 1}", b"[1, 3]"),
    ("result = x", b"123"),
    ("result = bytes(1000)", bytes(1000)),
    ("result = (b for b in (b'1', b'2'))", b"12"),
    ("import io; result = io.BytesIO(b'1')", b"1"),
    ("result = '\\ud800'", b'"\\ud800"'),
    ("result = 10**30", str(10**30).encode()),
    ("async def f(): return 5\nimport asyncio; result = asyncio.run(f())", b"5"),
]


@pytest.mark.parametrize(("source", "want"), RESULTS)
def test_results(start: Starter, source: str, want: bytes) -> None:
    p = start()
    answer = do(p, source, files=(("x", "", "", b"123"),))
    assert (answer.type, answer.data) == (6, want)


def test_a_megabyte_each_way(start: Starter) -> None:
    p = start(limit=4 << 20)
    data = os.urandom(1 << 20)
    assert do(p, "result = x[::-1]", files=(("x", "", "", data),)).data == data[::-1]


BAD_JSON: List[Any] = [
    (b'{"do": NaN}', "NaN is not a number of JSON"),
    (b'{"do": "pass", "do": "result = 2"}', 2),
    (b'{"do": "result = len(t)", "t": "\\ud800"}', 1),
    (b"[" * 10_000 + b"]" * 10_000, ""),
    (b'{"do": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    (b'{"x": ' + b"9" * 100 + b', "do": "result = 1"}', "Must be an uploaded file"),
    (b"\xff\xfe", "not UTF-8"),
    (b"{", "Expecting property name"),
    (b'"text"', "Invalid input type"),
]


@pytest.mark.parametrize(("raw", "want"), BAD_JSON, ids=lambda v: repr(v)[:25])
def test_arguments_as_they_came(start: Starter, raw: bytes, want: Any) -> None:
    p = start()
    answer = p.call(raw=raw)
    if isinstance(want, int):
        assert answer.ok() == want
    else:
        told = answer.error()
        assert told["code"] == "invalid"
        assert want in told["msg"]
    works(p)


STREAMS = [
    "print('x')",
    "os.close(1)",
    "os.close(2)",
    "os.close(1); os.close(2); os.close(0)",
    "sys.stdout.close()",
    "sys.stdout = sys.stderr = None",
    "sys.stdout = 3",
    "os.closerange(3, 90)",
    "import subprocess; subprocess.run(['sh', '-c', 'echo a; echo b >&2; echo c >&3'])",
    "ctypes.CDLL(None).puts(b'from C')",
    "threading.Thread(target=lambda: [print(n) for n in range(1000)]).start()",
    "os.write(1, bytes(range(256)) * 100)",
]


@pytest.mark.parametrize("source", STREAMS)
def test_what_is_printed_does_not_reach_the_protocol(start: Starter, source: str) -> None:
    p = start()
    assert do(p, source + "\nresult = 1").ok() == 1
    assert do(p, "print('printed'); result = 2").ok() == 2
    assert "printed" in p.stdout()
    works(p)
    assert p.close() == 0


def test_a_hundred_megabytes_of_print(start: Starter) -> None:
    p = start()
    source = "line = 'x' * 99\nfor _ in range(100): print('\\n'.join([line] * 10000))\nresult = 1"
    assert do(p, source).ok() == 1
    assert os.fstat(p.out.fileno()).st_size == 100 * 10000 * 100
    works(p)


def test_a_crash_in_native_code(start: Starter) -> None:
    p = start()
    p.post(*parent.request({"do": "ctypes.string_at(0)"}))
    assert p.read() == ()
    assert p.proc.wait() == -signal.SIGSEGV
    assert "Segmentation fault" in p.stderr()
    assert "in predict" in p.stderr()


def test_an_end_in_the_middle(start: Starter) -> None:
    p = start()
    p.post(*parent.request({"do": "os._exit(7)"}))
    assert p.read() == ()
    assert p.proc.wait() == 7


FORKS = [
    "if os.fork() == 0: result = 'the copy'\nelse: os.wait(); result = 'the parent'",
    "if os.fork() == 0: raise ValueError\nos.wait(); result = 'the parent'",
    "if os.fork() == 0: sys.exit(1)\nos.wait(); result = 'the parent'",
    "if os.fork() == 0: sys.stdout.write('said'); result = b'x' * 1000\n"
    "else: os.wait(); result = 'the parent'",
]


@pytest.mark.parametrize("source", FORKS)
def test_a_copy_of_the_process_does_not_answer(start: Starter, source: str) -> None:
    p = start()
    assert do(p, source).ok() == "the parent"
    works(p)
    assert p.close() == 0


def test_children_that_are_left_do_not_hold_up_the_end(start: Starter) -> None:
    p = start()
    source = "import subprocess; result = subprocess.Popen(['sleep', '1000']).pid"
    left = do(p, source).ok()
    try:
        works(p)
        assert p.close() == 0
        assert p.read() == ()  # the child does not hold the pipe
    finally:
        os.kill(left, signal.SIGKILL)


def test_threads_that_are_left_do_not_hold_up_the_end(start: Starter) -> None:
    p = start()
    do(p, "threading.Thread(target=time.sleep, args=(1000,)).start()")
    do(p, "import atexit; atexit.register(print, 'at the end')")
    assert p.close() == 0
    assert p.stdout() == "at the end\n"


def test_a_broken_exit_handler(start: Starter) -> None:
    p = start()
    do(p, "import atexit; atexit.register(lambda: 1 / 0)")
    p.close()
    assert "ZeroDivisionError" in p.stderr()


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_of_the_model(start: Starter, method: str) -> None:
    p = start()
    source = (
        "import multiprocessing\n"
        f"with multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "    result = pool.map(abs, [-1, -2])\n"
    )
    assert do(p, source).ok() == [1, 2]
    works(p)
    assert p.close() == 0


def test_a_generator_that_fails_midway(start: Starter) -> None:
    p = start()
    source = "def f():\n  yield b'1'\n  raise ValueError('midway')\nresult = f()"
    assert do(p, source).error()["msg"] == "ValueError: midway"
    works(p)


def test_uploads_are_removed(start: Starter, tmp_path: pathlib.Path) -> None:
    source = (
        "import pathlib, os\n"
        "def predict(p: pathlib.Path, fail: bool = False):\n"
        "    assert p.read_bytes() == b'123'\n"
        "    (p.parent / 'mine').write_text('x')\n"
        "    if fail: os.rename(p, p.parent / 'other'); 1 / 0\n"
        "    return open(p, 'rb')\n"
    )
    folder = tmp_path / "uploads"
    folder.mkdir()
    p = start(source, env={"TMPDIR": str(folder)})
    file = (("p", "a.nii.gz", "", b"123"),)
    answer = p.call(files=file)
    assert (answer.data, answer.media) == (b"123", "application/gzip")
    assert p.call({"fail": True}, files=file).error()["msg"].startswith("ZeroDivision")
    assert list(folder.iterdir()) == []


# Other verbs


def test_metadata_and_train(start: Starter) -> None:
    p = start(
        "n = 0\n"
        "def get_metadata():\n"
        "    global n\n"
        "    n += 1\n"
        "    return {'n': n}\n"
        "def predict(x: int = 0): pass\n"
        "def train(e: int, f: bytes = b''): return {'e': e}\n"
    )
    assert p.call(verb="metadata").ok() == {"n": 2}
    assert p.call({"e": "3", "f": "eHh4"}, verb="parse-train").ok() == {"e": 3, "f": "<file>"}
    assert p.call({"e": "x"}, verb="parse-train").error()["fields"] == {
        "e": ["Not a valid integer."]
    }
    assert p.call({"e": "3"}, verb="train").ok() == {"e": 3}
    assert p.call(verb="dance").error()["code"] == "unsupported"
    q = start("def main(args): return args")
    assert q.call(verb="metadata").ok() is None
    told = q.call(verb="train").error()
    assert (told["code"], told["status"]) == ("unsupported", 501)


# The start


STARTS: List[Any] = [
    ("def predict(): pass\ndef warm(): raise ValueError('no weights')", "warm: ValueError: no we"),
    ("def predict(): pass\ndef warm(): import sys; sys.exit(4)", "warm: warm called sys.exit(4)"),
    ("import sys\nsys.exit(5)", ""),
    ("import nowhere_at_all\ndef main(args): pass", "nowhere_at_all"),
    ("def main(args:", "SyntaxError"),
    ("x = 1", "neither"),
]


@pytest.mark.parametrize(("source", "says"), STARTS)
def test_a_model_that_does_not_load(start: Starter, source: str, says: str) -> None:
    p = start(source, ok=False)
    told = p.ready.error()  # type: ignore[attr-defined]
    assert says in told["msg"]
    assert told["code"] in ("failed", "not_found")
    assert p.read() == ()
    assert p.proc.wait() == 1


def test_metadata_that_fails_does_not_hinder_the_model(start: Starter) -> None:
    p = start("def predict(x: int = 0): return x\ndef get_metadata(): raise ValueError('meta')")
    assert "metadata" not in p.ready.json  # type: ignore[attr-defined]
    assert "ValueError: meta" in p.stderr()
    assert p.call().ok() == 0
    assert p.call(verb="metadata").error()["msg"] == "ValueError: meta"


def test_warm_is_called_when_it_is_wanted(start: Starter) -> None:
    source = "warmed = []\ndef warm(): warmed.append(1)\ndef predict(): return warmed\n"
    assert start(source).call().ok() == [1]
    assert start(source, setup={"warm": False}).call().ok() == []


def test_printing_while_loading(start: Starter) -> None:
    p = start("import os\nprint('loading')\nos.close(1)\ndef predict(): print('called')\n")
    assert p.call().ok() is None
    assert p.stdout() == "loading\ncalled\n"


def test_the_parent_ends_before_the_start() -> None:
    p = Parent(parent.launcher())
    try:
        p.read()
        assert p.close() == 0
        assert p.stderr() == ""
    finally:
        p.kill()


def test_a_parent_that_breaks_the_protocol(start: Starter) -> None:
    p = start()
    p.frame(type=5, id=1, parts=1, length=1 << 40)
    assert p.read() == ()
    assert p.proc.wait() == 1
    assert "the parent broke the protocol" in p.stderr()
    assert "Traceback" not in p.stderr()


def test_a_parent_that_stops_reading(start: Starter) -> None:
    p = start()
    os.close(p.from_child)
    p.from_child = -1
    p.post(*parent.request({"do": "pass"}))
    assert p.proc.wait() == 0


def test_the_launcher_hides_no_module_of_the_model(start: Starter, tmp_path: pathlib.Path) -> None:
    for name in ("wire", "schema", "answer", "load"):
        (tmp_path / f"{name}.py").write_text("mine = True")
    p = start(
        "import wire, schema, answer, load, sys\n"
        "def predict(): return [wire.mine and load.mine, sys.argv[1:]]\n"
    )
    assert p.call().ok() == [True, []]


# Cancel


def test_cancel_ends_python_code(start: Starter) -> None:
    p = start()
    source = "print('in'); sys.stdout.flush()\nwhile True: pass"
    for _ in range(3):
        before = len(p.stdout())
        id_ = p.post(*parent.request({"do": source}))
        waits(lambda before=before: len(p.stdout()) > before)
        p.cancel(id_)
        answer = p.answer()
        assert answer.id == id_
        assert answer.error()["code"] == "canceled"
        works(p)
    assert "Traceback" not in p.stderr()


SWALLOW: List[Any] = [
    "try:\n    while True: time.sleep(0.01)\nexcept Exception: result = 'swallowed'",
    "time.sleep(1000)",
    "import subprocess; subprocess.run(['sleep', '1000'])",
    "threading.Event().wait(1000)",
    "import asyncio; asyncio.run(asyncio.sleep(1000))",
    "def f():\n    while True: yield b'x' * 10\nresult = (time.sleep(1000) for _ in '1')",
]


@pytest.mark.parametrize("source", SWALLOW)
def test_cancel_ends_what_waits(start: Starter, source: str) -> None:
    p = start()
    id_ = p.post(*parent.request({"do": "print('in', flush=True)\n" + source}))
    waits(lambda: "in" in p.stdout())
    p.cancel(id_)
    assert p.answer().error()["code"] == "canceled"
    works(p)


def test_cancel_before_the_call_is_read(start: Starter) -> None:
    p = start()
    os.kill(p.proc.pid, signal.SIGSTOP)
    id_ = p.post(*parent.request({"do": "print('ran')"}))
    p.cancel(id_)
    os.kill(p.proc.pid, signal.SIGCONT)
    assert p.answer().error()["code"] == "canceled"
    assert p.stdout() == ""
    works(p)


def test_late_signals_hit_nobody(start: Starter) -> None:
    p = start()
    program = (
        "import os, signal, sys, time\n"
        "while True:\n"
        "    try: os.kill(int(sys.argv[1]), signal.SIGUSR1)\n"
        "    except OSError: break\n"
        "    time.sleep(0.0002)\n"  # a flood would leave the worker no time on a busy machine
    )
    noise = subprocess.Popen([sys.executable, "-c", program, str(p.proc.pid)])
    try:
        for n in range(1, 300):
            os.pwrite(p.req, p.last.to_bytes(8, "little"), 0)  # the call before has left
            assert do(p, f"result = {n}").ok() == n
    finally:
        noise.kill()
        noise.wait()
    assert p.close() == 0
    assert p.stderr() == ""


def test_cancel_at_every_moment_of_a_call(start: Starter) -> None:
    p = start()
    codes = []
    for n in range(200):
        id_ = p.post(*parent.request({"do": "result = sum(range(1000))"}))
        end = time.perf_counter() + n * 2e-6
        while time.perf_counter() < end:
            pass
        p.cancel(id_)
        answer = p.answer()
        assert answer.id == id_
        codes.append(answer.type)
    works(p)
    assert set(codes) <= {6, 7}
    assert p.close() == 0
    assert p.stderr() == ""


def test_an_import_is_not_broken_off(start: Starter, tmp_path: pathlib.Path) -> None:
    (tmp_path / "slow_import.py").write_text(
        "import time\nprint('importing', flush=True)\nend = time.monotonic() + 0.2\n"
        "while time.monotonic() < end: pass\nwhole = True\n"
    )
    p = start()
    id_ = p.post(*parent.request({"do": "import slow_import\nwhile True: pass"}))
    waits(lambda: "importing" in p.stdout())
    p.cancel(id_)
    assert p.answer().error()["code"] == "canceled"
    assert do(p, "import slow_import\nresult = slow_import.whole").ok() is True
    assert p.stdout().count("importing") == 1


def gated(gate: pathlib.Path) -> str:
    """Return Python that says that it runs, and goes on when the file is there."""
    return f"print('in', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.002)\n"


def test_a_signal_while_a_thread_is_started(start: Starter, tmp_path: pathlib.Path) -> None:
    """What the handler does to try again must not need the locks of threading."""
    held = (
        # As Thread.start holds it, before Python 3.10.
        "threading._active_limbo_lock = threading.Lock()\n"
        "with threading._active_limbo_lock:\n"
        + textwrap.indent(gated(tmp_path / "gate"), "    ")
        + "    signal.raise_signal(signal.SIGUSR1)\n"
        "print('survived', flush=True)\n"
    )
    source = "class Fragile:\n    def __del__(self):\n"
    source += textwrap.indent(held, " " * 8) + "Fragile()\nwhile True: pass\n"
    p = start()
    id_ = p.post(*parent.request({"do": source}))
    waits(lambda: "in" in p.stdout())
    os.pwrite(p.req, id_.to_bytes(8, "little"), 0)  # the caller has left
    (tmp_path / "gate").touch()
    assert p.answer().error()["code"] == "canceled"
    assert p.stdout() == "in\nsurvived\n"
    works(p)


def test_no_thread_can_be_started_to_try_again(start: Starter, tmp_path: pathlib.Path) -> None:
    """Then the call goes on, until the parent ends the worker."""
    source = (
        "import _thread\n"
        'def refuse(*_): raise RuntimeError("can\'t start new thread")\n'
        "kept, _thread.start_new_thread = _thread.start_new_thread, refuse\n"
        "class Fragile:\n    def __del__(self):\n"
    )
    ending = gated(tmp_path / "gate") + "signal.raise_signal(signal.SIGUSR1)\n"
    source += textwrap.indent(ending, " " * 8)
    source += "Fragile()\n_thread.start_new_thread = kept\nresult = 'whole'\n"
    p = start()
    id_ = p.post(*parent.request({"do": source}))
    waits(lambda: "in" in p.stdout())
    os.pwrite(p.req, id_.to_bytes(8, "little"), 0)
    (tmp_path / "gate").touch()
    assert p.answer().ok() == "whole"
    assert p.stderr() == ""
    works(p)


# More lanes than one


def test_calls_at_the_same_time(start: Starter) -> None:
    source = (
        "import threading\n"
        "together = threading.Barrier(3, timeout=60)\n"
        "def predict(n: int):\n"
        "    together.wait()\n"
        "    return [n, threading.current_thread() is threading.main_thread()]\n"
    )
    p = start(source, lanes=3)
    for _ in range(20):
        ids = {p.post(*parent.request({"n": lane}), lane=lane): lane for lane in range(3)}
        for _ in range(3):
            answer = p.answer()
            lane = ids.pop(answer.id)
            assert answer.lane == lane
            assert answer.ok() == [lane, False]
    assert p.close() == 0


#: Waits until the main thread waits for the other ones, as it does at the end.
ENDING = """
def joins():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code.co_name != "join":
        frame = frame.f_back
    return frame is not None
while not joins(): time.sleep(0.002)
result = 1
"""


def test_the_end_waits_for_the_calls_of_threads(start: Starter) -> None:
    p = start(DOES, lanes=2)
    p.post(*parent.request({"do": ENDING}), lane=1)
    os.close(p.to_child)
    p.to_child = -1
    assert p.answer().ok() == 1
    assert p.proc.wait() == 0


def test_errors_in_threads(start: Starter, tmp_path: pathlib.Path) -> None:
    p = start(DOES, lanes=2)
    for source, says in (("sys.exit(1)", "sys.exit(1)"), ("1/0", "ZeroDivision")):
        p.post(*parent.request({"do": source}), lane=1)
        assert says in p.answer().error()["msg"]
    p.post(*parent.request({"do": "if os.fork() == 0: result = 3\nelse: os.wait()"}), lane=0)
    assert p.answer().ok() is None
    # A thread is not interrupted: what it returns is the answer, though nobody reads it.
    id_ = p.post(*parent.request({"do": gated(tmp_path / "gate") + "result = 2"}), lane=0)
    waits(lambda: "in" in p.stdout())
    p.cancel(id_)
    (tmp_path / "gate").touch()
    assert p.answer().ok() == 2
    p.post(*parent.request({"do": "result = 2"}), lane=1)
    assert p.answer().ok() == 2


def test_a_load_of_ones_own() -> None:
    code = (
        "from deepfn_launcher import function, serve, wire\n"
        "model = function.find({'main': lambda args: {'setup': seen[0].model}})\n"
        "seen = []\n"
        "def load(setup):\n"
        "    seen.append(setup)\n"
        "    return model\n"
        "serve.finish(serve.run(wire.adopt(), load))\n"
    )
    p = Parent([sys.executable, "-c", code], env={"PYTHONPATH": os.path.dirname(parent.PACKAGE)})
    try:
        assert p.start({"model": "mine", "unknown": 1}).type == 3
        assert p.call().ok() == {"setup": "mine"}
        assert p.close() == 0
    finally:
        p.kill()


def test_many_fields_of_an_error(start: Starter) -> None:
    names = [f"a{n}" for n in range(300)]
    p = start(f"def predict({', '.join(names)}): pass")
    told = p.call().error()
    assert len(told["fields"]) == 300
    assert json.dumps(told)


@pytest.mark.parametrize(
    ("exits", "status"),
    [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('bye')", 1), ("raise SystemExit(257)", 1)],
)
def test_exit_in_main_ends_the_process(start: Starter, exits: str, status: int) -> None:
    p = start(
        "import atexit, sys\natexit.register(lambda: print('at exit'))\n"
        f"def main(args):\n    sys.stdout.write('said')\n    {exits}\n"
    )
    p.post(*parent.request({}))
    assert p.read() == ()  # it hangs up in place of an answer
    assert p.proc.wait() == status
    assert p.stdout() == "saidat exit\n"
    assert p.stderr().startswith("Traceback")
    assert "SystemExit" in p.stderr()


def test_exit_in_main_spares_the_other_calls(start: Starter) -> None:
    p = start("import sys\ndef main(args):\n    sys.exit(3)\n", lanes=2)
    told = p.call({}).error()
    assert (told["code"], told["msg"]) == ("failed", "predict called sys.exit(3)")
    assert p.call({}).error()["code"] == "failed"
    assert p.close() == 0


def test_no_answer(start: Starter) -> None:
    p = start("def main(args): return 'text'")
    assert p.call({}).error()["code"] == "no_answer"
    assert p.close() == 0
