"""Where a model is: in the memory of its device, or suspended in that of the host."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from typing import Any, Callable, Optional, Tuple

from . import failure
from .module import completed
from .tiers import TorchWeights, Unchanged
from .words import Failure, Model

#: The ways to suspend a model, as the key suspend of an action names them.
HOOKS = "hooks"
TORCH = "torch"
NONE = "none"

_UNABLE = "the model has no suspend() and resume(), and no torch that uses a device"

Hooks = Tuple[Callable[[], Any], Callable[[], Any]]


class Tier:
    """Suspends and resumes a model.

    ``way`` is HOOKS (the model's own suspend and resume), TORCH (TorchWeights), NONE, or ""
    for the first of these that it has. Making one raises a Failure if the model has not the
    hooks that were asked for. Its methods may be called by several threads.
    """

    def __init__(self, model: Model, way: str) -> None:
        self._way = way
        self._hooks = None if way in (TORCH, NONE) else _hooks(model)
        if way == HOOKS and self._hooks is None:
            msg = "suspend: hooks needs suspend() and resume() without arguments in the model"
            raise Failure("failed", msg)
        self._weights = TorchWeights()
        self._lock = threading.RLock()
        self._host = 0
        #: Whether the model is suspended, as far as is known.
        self.suspended = False

    def way(self) -> Optional[str]:
        """Return how the model would be suspended now; None if it would not be."""
        if self._hooks is not None:
            return HOOKS
        if self._way == TORCH or (not self._way and _uses_cuda()):
            return TORCH
        return None

    def suspend(self) -> int:
        """Suspend the model; return how many bytes of the host's memory that takes.

        A second call does nothing and returns the same. Raises Failure: "unsupported" if
        nothing has happened, else "failed".
        """
        with self._lock:
            if self.suspended:
                return self._host
            way = self.way()
            if way is None:
                raise Failure("unsupported", _UNABLE)
            before = resident()
            try:
                said = completed(self._hooks[0]()) if self._hooks else self._weights.suspend()
            except Unchanged as exc:
                raise Failure("unsupported", f"suspend: {failure.text_of(exc)}") from exc
            except BaseException as exc:
                raise _failed(exc, "suspend") from exc
            self._host = _bytes(said)
            if self._host < 0:
                self._host = max(0, resident() - before)
            self.suspended = True
            return self._host

    def resume(self) -> None:
        """Take the model back into the memory of its device, if it is suspended.

        Raises Failure: "unavailable" if it is suspended still and may be resumed later,
        "unsupported" if it cannot be suspended either, else "failed".
        """
        with self._lock:
            if not self.suspended:
                if self.way() is None:
                    raise Failure("unsupported", _UNABLE)
                return
            try:
                if self._hooks:
                    completed(self._hooks[1]())
                else:
                    self._weights.resume()
            except Unchanged as exc:
                raise Failure("unavailable", f"resume: {failure.text_of(exc)}") from exc
            except BaseException as exc:
                raise _failed(exc, "resume") from exc
            self.suspended = False
            self._host = 0


def _hooks(model: Model) -> Optional[Hooks]:
    """Return suspend and resume of a model that has both, to be called without arguments."""
    suspend, resume = model.hook("suspend"), model.hook("resume")
    if suspend is None or resume is None or not (_bare(suspend) and _bare(resume)):
        return None
    return suspend, resume


def _bare(function: Callable[..., Any]) -> bool:
    """Whether a function can be called without arguments."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # of a builtin nobody knows
        return True
    return True


def _uses_cuda() -> bool:
    """Whether torch was imported and has begun to use a device."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    initialized = getattr(cuda, "is_initialized", None)
    return initialized is not None and bool(initialized())


def _failed(exc: BaseException, what: str) -> Failure:
    """Return the failure of a hook. It is never one that says that nothing has happened."""
    failure.report(exc)
    said = failure.of(exc, what)
    return Failure("failed", f"{what}: {said.msg}")


def _bytes(said: Any) -> int:
    """Return the number of bytes that a hook has returned; -1 if it is none."""
    if isinstance(said, bool) or said is None:
        return -1
    try:
        number = int(said)
    except (TypeError, ValueError, OverflowError):
        return -1
    return number if 0 <= number < 1 << 50 else -1


def resident() -> int:
    """Return how many bytes of this process are in memory; 0 if nobody says."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
