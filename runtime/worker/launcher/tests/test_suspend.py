from __future__ import annotations

import json
import os
import pathlib
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

import parent
import pytest
from deepfn_launcher import suspend
from deepfn_launcher.suspend import Tier
from deepfn_launcher.tiers import Unchanged
from deepfn_launcher.words import Call, Failure, Model, Store, Values
from parent import Answer, Parent

FAKES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fakes")

#: A DEEPaaS module with hooks, which keeps what happened.
HOOKS = """
import os, time
events = []
fail = {}
result = None

def act(name):
    events.append(name)
    print(name, "was called")
    exec(fail.get(name, ""), globals())

def suspend():
    act("suspend")
    return result

def resume():
    act("resume")

def get_predict_args():
    return {}

def predict(**kwargs):
    events.append("predict")
    return {"events": list(events)}
"""

#: A function that may change what the hooks do, and says what they did.
FUNCTION = HOOKS.replace("def get_predict_args():\n    return {}\n", "").replace(
    "def predict(**kwargs):\n",
    "def predict(set: dict = None, to: int = None):\n"
    "    global result\n    fail.update(set or {})\n    result = to\n",
)

Starter = Callable[..., Parent]


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Starter]:
    made: List[Parent] = []

    def begin(source: str, *, ok: bool = True, **more: Any) -> Parent:
        path = tmp_path / f"f{len(made)}.py"
        path.write_text(source)
        setup = {"model": "m", "path": str(path), "warm": True, **more.pop("setup", {})}
        p = Parent(parent.launcher(), **more)
        made.append(p)
        ready = p.start(setup)
        assert ready.type == (3 if ok else 4), (ready, p.stderr())
        p.told = ready.json  # type: ignore[attr-defined]
        return p

    yield begin
    for p in made:
        p.kill()


def move(p: Parent, verb: str) -> Answer:
    return p.call(verb=verb)


def events(p: Parent, **args: Any) -> List[str]:
    found: List[str] = p.call(args).ok()["events"]
    return found


def test_hooks_of_a_function(start: Starter) -> None:
    p = start(FUNCTION)
    assert p.told["suspend"] == "hooks"  # type: ignore[attr-defined]
    assert events(p, to=7 << 30) == ["predict"]
    assert move(p, "resume").ok() == {"host_bytes": 0}
    for _ in range(2):
        assert move(p, "suspend").ok() == {"host_bytes": 7 << 30}
    for _ in range(2):
        assert move(p, "resume").ok() == {"host_bytes": 0}
    assert events(p) == ["predict", "suspend", "resume", "predict"]
    assert p.close() == 0


def test_hooks_of_a_module(start: Starter) -> None:
    p = start(HOOKS)
    assert p.told["suspend"] == "hooks"  # type: ignore[attr-defined]
    assert move(p, "suspend").ok()["host_bytes"] >= 0
    assert move(p, "resume").ok() == {"host_bytes": 0}
    assert events(p) == ["suspend", "resume", "predict"]


def test_hooks_of_an_object(start: Starter) -> None:
    source = """
class Api:
    def __init__(self): self.n = 0
    def get_predict_args(self): return {}
    def predict(self): return self.n
    async def suspend(self):
        self.n += 1
        return 5.0
    async def resume(self): self.n += 10
"""
    p = start(source)
    assert move(p, "suspend").ok() == {"host_bytes": 5}
    assert move(p, "resume").ok() == {"host_bytes": 0}
    assert p.call().ok() == 11


def test_a_call_resumes_first(start: Starter) -> None:
    p = start(FUNCTION)
    move(p, "suspend").ok()
    assert p.call(verb="metadata").type == 6
    assert events(p) == ["suspend", "resume", "predict"]


def test_a_call_of_what_cannot_be_resumed(start: Starter) -> None:
    p = start(FUNCTION)
    assert events(p, set={"resume": "raise NotImplementedError('the device is gone')"})
    move(p, "suspend").ok()
    for _ in range(2):
        told = p.call({}).error()
        assert told["code"] == "unavailable"
        assert "could not be resumed" in told["msg"]
        assert "the device is gone" in told["msg"]
    assert "Traceback" in p.stderr()


@pytest.mark.parametrize("verb", ["suspend", "resume"])
@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        # What says nothing has happened is not believed of what an exception says.
        ("raise NotImplementedError", "does not implement"),
        ("sys = __import__('sys'); sys.exit(3)", "sys.exit(3)"),
    ],
)
def test_hooks_that_fail(start: Starter, verb: str, act: str, says: str) -> None:
    p = start(FUNCTION)
    events(p, set={verb: act})
    if verb == "resume":
        move(p, "suspend").ok()
    told = move(p, verb).error()
    assert told["code"] == "failed"
    assert told["msg"].startswith(verb + ": ")
    assert says in told["msg"]


def test_hooks_that_change_nothing(start: Starter) -> None:
    p = start(FUNCTION)
    raising = "import deepfn_tiers; raise deepfn_tiers.Unchanged('not now')"
    events(p, set={"suspend": raising, "resume": raising})
    assert move(p, "suspend").error() == {"code": "unsupported", "msg": "suspend: not now"}
    assert events(p, set={"suspend": ""}) == ["predict", "suspend", "predict"]
    move(p, "suspend").ok()
    assert move(p, "resume").error() == {"code": "unavailable", "msg": "resume: not now"}
    assert p.call({}).error()["code"] == "unavailable"


def test_hooks_that_end_the_process(start: Starter) -> None:
    p = start(FUNCTION)
    events(p, set={"suspend": "os._exit(7)"})
    p.post(*parent.request(verb="suspend"))
    assert p.read() == ()
    assert p.close() == 7


def test_hooks_that_fork(start: Starter) -> None:
    p = start(FUNCTION)
    events(p, set={"suspend": "os.fork()", "resume": "os.fork()"})
    move(p, "suspend").ok()
    move(p, "resume").ok()
    assert events(p) == ["predict", "suspend", "resume", "predict"]


def begun(p: Parent, line: str) -> None:
    """Wait until a line was printed."""
    end = time.monotonic() + 60
    while line not in p.stdout():
        assert time.monotonic() < end
        time.sleep(0.002)


SLOW = "import time; print('begins', flush=True); time.sleep(0.3); events.append('whole')"


def test_neither_is_broken_off(start: Starter) -> None:
    p = start(FUNCTION)
    events(p, set={"suspend": SLOW})
    id_ = p.post(*parent.request(verb="suspend"))
    begun(p, "begins")
    p.cancel(id_)
    assert p.answer().ok()["host_bytes"] >= 0
    assert events(p) == ["predict", "suspend", "whole", "resume", "predict"]


def test_who_leaves_while_the_model_comes_back(start: Starter) -> None:
    p = start(FUNCTION)
    events(p, set={"resume": SLOW})
    move(p, "suspend").ok()
    id_ = p.post(*parent.request({}))
    begun(p, "begins")
    p.cancel(id_)
    assert p.answer().error()["code"] == "canceled"
    assert events(p) == ["predict", "suspend", "resume", "whole", "predict"]


def test_several_calls_resume_once(start: Starter) -> None:
    p = start(FUNCTION, lanes=4)
    events(p, set={"resume": "import time; time.sleep(0.1)"})
    move(p, "suspend").ok()
    for lane in range(4):
        p.post(*parent.request({}), lane=lane)
    for _ in range(4):
        assert p.answer().type == 6
    assert events(p).count("resume") == 1


@pytest.mark.parametrize(
    ("source", "way"),
    [
        ("def main(args): return {}", ""),
        (FUNCTION, "none"),
        (FUNCTION.replace("def resume()", "def other()"), ""),
        (FUNCTION.replace("def suspend()", "def suspend(to)"), ""),
        ("suspend = resume = 3\ndef main(args): return {}", ""),
        ("def main(args): return {}", "torch"),  # but it was not imported
    ],
)
def test_what_cannot_be_suspended(start: Starter, source: str, way: str) -> None:
    p = start(source, setup={"suspend": way})
    assert p.told["suspend"] == ("torch" if way == "torch" else None)  # type: ignore[attr-defined]
    assert move(p, "suspend").error()["code"] == "unsupported"
    assert p.call({}).type == 6


def test_hooks_that_are_asked_for_and_missing(start: Starter) -> None:
    p = start("def main(args): return {}", ok=False, setup={"suspend": "hooks"})
    assert "suspend: hooks needs suspend() and resume()" in p.told["msg"]  # type: ignore[attr-defined]


#: A model with weights on a device.
NETWORK = """
import sys
if "torch" in sys.modules: raise AssertionError("the launcher has imported torch")
import torch
torch.memory.initialized = INITIALIZED
model = torch.Module(weight=torch.tensor(b"weights!"))

def main(args):
    torch.memory.initialized = True
    torch.memory.room["cuda:0"] = args.get("room", 1 << 20)
    return {"weights": model.weight.tobytes().decode(), "used": torch.memory.used["cuda:0"]}
"""


@pytest.mark.parametrize("way", ["", "torch"])
def test_torch(start: Starter, way: str) -> None:
    source = NETWORK.replace("INITIALIZED", "True")
    p = start(source, env={"PYTHONPATH": FAKES}, setup={"suspend": way})
    assert p.told["suspend"] == "torch"  # type: ignore[attr-defined]
    for _ in range(2):
        assert move(p, "suspend").ok() == {"host_bytes": 8}
        assert move(p, "resume").ok() == {"host_bytes": 0}
        assert p.call({}).ok() == {"weights": "weights!", "used": 8}
    move(p, "suspend").ok()
    assert p.call({"room": 3}).ok()["weights"] == "weights!"  # it has resumed by itself
    move(p, "suspend").ok()
    told = move(p, "resume").error()
    assert told["code"] == "unavailable"
    assert "the device has no room for the weights" in told["msg"]


def test_torch_that_uses_no_device_yet(start: Starter) -> None:
    p = start(NETWORK.replace("INITIALIZED", "False"), env={"PYTHONPATH": FAKES})
    assert p.told["suspend"] is None  # type: ignore[attr-defined]
    assert move(p, "suspend").error()["code"] == "unsupported"
    p.call({}).ok()
    assert move(p, "suspend").ok() == {"host_bytes": 8}


def test_torch_is_the_second_choice(start: Starter) -> None:
    source = (
        NETWORK.replace("INITIALIZED", "True") + "def suspend(): return 1\ndef resume(): pass\n"
    )
    p = start(source, env={"PYTHONPATH": FAKES})
    assert move(p, "suspend").ok() == {"host_bytes": 1}
    p = start(source, env={"PYTHONPATH": FAKES}, setup={"suspend": "torch"})
    assert move(p, "suspend").ok() == {"host_bytes": 8}


def test_hooks_may_use_torch_weights(start: Starter) -> None:
    source = NETWORK.replace("INITIALIZED", "True") + (
        "from deepfn_tiers import TorchWeights\nweights = TorchWeights(model)\n"
        "suspend, resume = weights.suspend, weights.resume\n"
    )
    p = start(source, env={"PYTHONPATH": FAKES})
    assert p.told["suspend"] == "hooks"  # type: ignore[attr-defined]
    assert move(p, "suspend").ok() == {"host_bytes": 8}
    assert p.call({}).ok()["weights"] == "weights!"


def test_the_public_module_has_one_name(start: Starter) -> None:
    source = """
import sys
import deepfn_tiers

def predict():
    try:
        import tiers
    except ImportError:
        return [deepfn_tiers.__all__, [p for p in sys.path if "launcher" in p]]
"""
    p = start(source)
    names, places = p.call({}).ok()
    assert names == ["TorchWeights", "Unchanged", "trace_context"]
    assert places == []


class Fake(Model):
    """A model with hooks."""

    def __init__(self, hooks: Dict[str, Callable[..., Any]]) -> None:
        self.hooks = hooks

    def hook(self, name: str) -> Optional[Callable[..., Any]]:
        return self.hooks.get(name)

    def describe(self) -> Dict[str, Any]:
        raise NotImplementedError

    metadata = warm = whole = describe  # type: ignore[assignment]

    def parse(self, verb: str, values: Values, store: Store) -> Call:
        raise NotImplementedError

    def run(self, verb: str, call: Call) -> Any:
        raise NotImplementedError

    def shown(self, call: Call) -> Dict[str, Any]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("said", "host"),
    [
        *((5, 5), (0, 0), (7.9, 7), ("8", 8), (None, 1000), (True, 1000), (-1, 1000)),
        *((1 << 60, 1000), (float("nan"), 1000), (float("inf"), 1000), ("many", 1000), ([], 1000)),
    ],
)
def test_what_a_hook_returns(monkeypatch: pytest.MonkeyPatch, said: Any, host: int) -> None:
    sizes = iter((2000, 3000))
    monkeypatch.setattr(suspend, "resident", lambda: next(sizes))
    tier = Tier(Fake({"suspend": lambda: said, "resume": lambda: None}), "")
    assert tier.suspend() == host


def test_memory_that_shrinks_is_no_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter((3000, 2000))
    monkeypatch.setattr(suspend, "resident", lambda: next(sizes))
    tier = Tier(Fake({"suspend": lambda: None, "resume": lambda: None}), "")
    assert tier.suspend() == 0


def test_resident() -> None:
    before = suspend.resident()
    block = bytearray(os.urandom(1 << 20) * 32)
    assert suspend.resident() - before > len(block) // 2


def test_threads_move_once() -> None:
    calls: List[str] = []
    gate = threading.Barrier(8)

    def slow(name: str) -> None:
        calls.append(name)
        time.sleep(0.01)

    tier = Tier(Fake({"suspend": lambda: slow("s"), "resume": lambda: slow("r")}), "hooks")

    def both() -> None:
        gate.wait()
        tier.suspend()
        gate.wait()
        tier.resume()

    threads = [threading.Thread(target=both) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["s", "r"]


def test_unchanged_is_known() -> None:
    def refuse() -> int:
        raise Unchanged("not now")

    tier = Tier(Fake({"suspend": refuse, "resume": lambda: None}), "")
    with pytest.raises(Failure) as caught:
        tier.suspend()
    assert (caught.value.code, tier.suspended) == ("unsupported", False)
    assert json.dumps(tier.way()) == '"hooks"'
