"""The trace context of a call: https://www.w3.org/TR/trace-context/."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from typing import Any, Callable, Dict, Iterator, Mapping, Optional

#: The headers that a trace context is.
NAMES = ("traceparent", "tracestate")

_NONE: Mapping[str, str] = {}
_current: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("deepfn_trace")


def trace_context() -> Dict[str, str]:
    """Return the headers of the trace that the running call belongs to; {} if it has none."""
    return dict(_current.get(_NONE))


@contextlib.contextmanager
def attached(trace: Mapping[str, str]) -> Iterator[None]:
    """Make a trace the current one, for OpenTelemetry too if the model has imported it."""
    token = _current.set(trace)
    detach = _attach(trace)
    try:
        yield
    finally:
        if detach is not None:
            detach()
        _current.reset(token)


def _attach(trace: Mapping[str, str]) -> Optional[Callable[[], Any]]:
    """Make what the trace names the parent of the spans to come; return what ends that."""
    if "opentelemetry" not in sys.modules:
        return None
    try:
        from opentelemetry import context
        from opentelemetry.trace.propagation import tracecontext

        propagator = tracecontext.TraceContextTextMapPropagator()
        token = context.attach(propagator.extract(carrier=trace))
    except Exception:  # only a part of it is installed; a trace is not worth a request
        return None
    return lambda: context.detach(token)
