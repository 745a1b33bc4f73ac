"""A model that does, when it is asked to, what no model should do."""

import ctypes
import datetime
import os
import resource
import signal
import subprocess
import sys
import time
from typing import List, Optional


class Unprintable:
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def circular():
    ring = {"a": []}
    ring["a"].append(ring)
    return ring


def deep(n):
    nested = []
    for _ in range(n):
        nested = [nested]
    return nested


def raises():
    raise ValueError("the picture is upside down")


def raises_unprintable():
    raise UnprintableError


def recurses():
    return recurses()


def flood():
    line = "x" * 1023
    for _ in range(100 * 1024):
        print(line)
    return {"printed": 100 * 1024 * 1024}


def forks():
    """Leave two children behind: a copy of this process, and a program."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    sleeper = subprocess.Popen(["sleep", "600"])
    return {"left": [child, sleeper.pid]}


def copy_returns():
    """Let a copy of this process return from predict, too."""
    return {"copy": os.fork() == 0}


def closes_stdout():
    os.close(1)
    return {"closed": 1}


def closes_everything():
    os.closerange(3, 64)
    return {"closed": "all"}


def no_memory():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
    try:
        return {"size": len(bytearray(4 << 30))}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def replaces_stdout():
    sys.stdout = None
    return {"stdout": None}


def numpy_array():
    import numpy

    return {
        "boxes": numpy.array([[1, 2], [3, 4]]),
        "score": numpy.float32(0.5),
        "n": numpy.int64(3),
    }


def numpy_scalar():
    import numpy

    return numpy.int64(7)


def numpy_nan():
    import numpy

    return numpy.array([1.0, float("nan")])


def generator():
    yield 1
    raise ValueError("in the middle")


async def answer_later():
    return {"later": True}


def spin():
    while True:
        pass


FAULTS = {
    "": lambda: {"pid": os.getpid()},
    "raises": raises,
    "raises-unprintable": raises_unprintable,
    "recurses": recurses,
    "exit": lambda: sys.exit(3),
    "_exit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "keyboard": lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(600),
    "terminated": lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(600),
    "memory": no_memory,
    "flood": flood,
    "forks": forks,
    "copy": copy_returns,
    "close-1": closes_stdout,
    "close-all": closes_everything,
    "no-stdout": replaces_stdout,
    "nan": lambda: {"a": float("nan"), "b": [float("inf"), -float("inf")], "c": 1.5},
    "array": numpy_array,
    "scalar": numpy_scalar,
    "array-nan": numpy_nan,
    "datetime": lambda: {
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "day": datetime.date(2026, 1, 2),
    },
    "set": lambda: {"labels": {"b", "a"}},
    "circular": circular,
    "unprintable": lambda: {"a": [1, Unprintable()]},
    "object": lambda: {"a": [1, object()]},
    "surrogate": lambda: {"text": "a\ud800b"},
    "deep": lambda: deep(5000),
    "large": lambda: "x" * (200 << 20),
    "big-integer": lambda: 2**70,
    "none": lambda: None,
    "text": lambda: "plain",
    "generator": generator,
    "coroutine": answer_later,
    "keys": lambda: {1: "a", (2, 3): "b", None: "c"},
    "hangs": lambda: time.sleep(600),
    "spins": spin,
    "stops": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def predict(
    fault: str = "",
    n: int = 0,
    items: Optional[List[int]] = None,
    data: bytes = b"",
    text: str = "",
    any=None,
):
    """Do what fault says, or echo."""
    if fault:
        return FAULTS[fault]()
    return {
        "pid": os.getpid(),
        "n": n,
        "items": len(items or []),
        "data": len(data),
        "text": text,
        "any": any,
    }
