from __future__ import annotations

import os
import sys
from typing import Any, List

import parent
import pytest

SETUP = "import ctypes, os, sys\nfrom deepfn_launcher.streams import Streams\ns = Streams()\n"

#: What a module does to the streams, and what is printed after settle.
CASES: List[Any] = [
    ("nothing", "pass", "after\n", "after2\n"),
    ("an unfinished line", "print('x', end='')", "xafter\n", "after2\n"),
    ("closes fd 1", "os.close(1)", "after\n", "after2\n"),
    ("closes fd 2", "os.close(2)", "after\n", "after2\n"),
    ("closes both", "os.close(1); os.close(2)", "after\n", "after2\n"),
    ("closes low descriptors", "os.closerange(0, 90)", "after\n", "after2\n"),
    ("no stdout", "sys.stdout = None", "after\n", "after2\n"),
    ("no streams", "sys.stdout = sys.stderr = None", "after\n", "after2\n"),
    ("closed stdout", "sys.stdout.close()", "after\n", "after2\n"),
    ("closed stderr", "sys.stderr.close()", "after\n", "after2\n"),
    ("deleted", "sys.stdout = object(); sys.stdout = None", "after\n", "after2\n"),
    ("flush exits", "sys.stdout = type('T', (), {'flush': lambda s: sys.exit(1), "
     "'write': lambda s, t: os.write(1, t.encode())})()", "after\n", "after2\n"),
    ("C prints", "ctypes.CDLL(None).printf(b'from C ')", "from C after\n", "after2\n"),
    ("odd characters", r"print('\ud800 \xe4')", "\\ud800 ä\nafter\n", "after2\n"),
    ("a child prints", "import subprocess; subprocess.run(['echo', 'child'])",
     "child\nafter\n", "after2\n"),
    ("a thread prints", "import threading; t = threading.Thread(target=print, args=('t',)); "
     "t.start(); t.join()", "t\nafter\n", "after2\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("does", "out", "err"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_settle(does: str, out: str, err: str) -> None:
    code = (
        SETUP
        + does
        + "\ns.settle()\nprint('after')\nprint('after2', file=sys.stderr)\ns.settle()\nos._exit(0)"
    )
    p = parent.Parent(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.path.dirname(parent.PACKAGE), "PYTHONIOENCODING": "latin-1"},
    )
    try:
        assert p.close() == 0, p.stderr()
        assert p.stdout() == out
        assert p.stderr() == err
    finally:
        p.kill()


def test_a_replaced_stream_stays() -> None:
    code = (
        SETUP + "import io\nmine = sys.stdout = io.StringIO()\nprint('kept')\ns.settle()\n"
        "assert sys.stdout is mine\nos.write(1, mine.getvalue().encode())\nos._exit(0)"
    )
    p = parent.Parent(
        [sys.executable, "-c", code], env={"PYTHONPATH": os.path.dirname(parent.PACKAGE)}
    )
    try:
        assert p.close() == 0, p.stderr()
        assert p.stdout() == "kept\n"
    finally:
        p.kill()


def test_lines_come_out_at_once() -> None:
    code = SETUP + "print('line')\nos._exit(0)"
    p = parent.Parent(
        [sys.executable, "-c", code], env={"PYTHONPATH": os.path.dirname(parent.PACKAGE)}
    )
    try:
        assert p.close() == 0
        assert p.stdout() == "line\n"
    finally:
        p.kill()
