"""The current context."""

from __future__ import annotations

from typing import Any, List

stack: List[Any] = [{}]


def attach(context: Any) -> int:
    stack.append(context)
    return len(stack) - 1


def detach(token: int) -> None:
    assert token == len(stack) - 1
    stack.pop()


def get_current() -> Any:
    return stack[-1]
