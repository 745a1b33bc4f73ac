from __future__ import annotations

import os
import pathlib
from typing import Any, Dict, Iterator, List, Tuple

import parent
import pytest
from deepfn_launcher.trace import attached, trace_context
from parent import Parent

FAKES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fakes")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SOURCE = """
IMPORTS
import sys
from deepfn_tiers import trace_context

async def predict(fail: bool = False):
    if fail:
        raise ValueError("no")
    telemetry = sys.modules.get("opentelemetry.context")
    current = telemetry.get_current() if telemetry else None
    yield {"trace": trace_context(), "telemetry": current}
"""


@pytest.fixture
def workers(tmp_path: pathlib.Path) -> Iterator[List[Parent]]:
    made: List[Parent] = []
    yield made
    for p in made:
        p.kill()


def begin(workers: List[Parent], folder: pathlib.Path, imports: str, **more: Any) -> Parent:
    path = folder / f"f{len(workers)}.py"
    path.write_text(SOURCE.replace("IMPORTS", imports))
    p = Parent(parent.launcher(), env={"PYTHONPATH": FAKES}, **more)
    workers.append(p)
    assert p.start({"model": "m", "path": str(path)}).type == 3, p.stderr()
    return p


def texts(**trace: str) -> Tuple[Tuple[int, str, str], ...]:
    return tuple((5, name, value) for name, value in trace.items())


def ask(p: Parent, **trace: str) -> Dict[str, Any]:
    found: Dict[str, Any] = p.call({}, texts=texts(**trace)).ok()[0]
    return found


def test_the_trace_of_a_call(workers: List[Parent], tmp_path: pathlib.Path) -> None:
    p = begin(workers, tmp_path, "")
    assert ask(p) == {"trace": {}, "telemetry": None}
    both = {"traceparent": PARENT, "tracestate": "a=b"}
    assert ask(p, **both) == {"trace": both, "telemetry": None}
    assert ask(p, traceparent=PARENT, later="x")["trace"] == {"traceparent": PARENT}
    assert ask(p) == {"trace": {}, "telemetry": None}


@pytest.mark.parametrize("lanes", [1, 2])
def test_opentelemetry(workers: List[Parent], tmp_path: pathlib.Path, lanes: int) -> None:
    p = begin(workers, tmp_path, "import opentelemetry.context", lanes=lanes)
    given = {"traceparent": PARENT}
    assert ask(p, **given) == {"trace": given, "telemetry": {"extracted": given}}
    assert p.call({"fail": True}, texts=texts(**given)).error()["code"] == "failed"
    # What a call has attached ends with it.
    assert ask(p) == {"trace": {}, "telemetry": {}}


def test_a_trace_is_not_worth_a_request(workers: List[Parent], tmp_path: pathlib.Path) -> None:
    p = begin(workers, tmp_path, "import opentelemetry.context")
    given = {"traceparent": "broken"}
    assert ask(p, **given) == {"trace": given, "telemetry": {}}
    p = begin(workers, tmp_path, "import sys, types\nsys.modules['opentelemetry'] = types")
    assert ask(p, **given)["trace"] == given


def test_attached_is_nested() -> None:
    assert trace_context() == {}
    with attached({"traceparent": "a"}):
        with pytest.raises(ValueError, match="inside"), attached({"traceparent": "b"}):
            assert trace_context() == {"traceparent": "b"}
            raise ValueError("inside")
        assert trace_context() == {"traceparent": "a"}
    assert trace_context() == {}
