"""The headers of W3C."""

from __future__ import annotations

from typing import Any, Dict, Mapping


class TraceContextTextMapPropagator:
    """Reads the headers."""

    def extract(self, carrier: Mapping[str, str]) -> Dict[str, Any]:
        if "broken" in carrier["traceparent"]:
            raise ValueError("a broken propagator")
        return {"extracted": dict(carrier)}
