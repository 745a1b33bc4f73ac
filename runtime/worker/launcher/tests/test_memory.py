"""Tests of what C's allocator keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Dict, Tuple

import pytest
from deepfn_launcher import memory

# Prints what keep_freed said, and how many page faults a call costs that makes and frees
# blocks of a few MiB, after the first ones.
PROGRAM = """
import resource
from deepfn_launcher import memory

def call():
    for _ in range(4):
        blocks = [bytes(b"x") * (3 << 20) for _ in range(3)]
        del blocks

said = memory.keep_freed()
call()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
call()
print(said, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**variables: str) -> Tuple[bool, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    env: Dict[str, str] = {
        **clean,
        "PYTHONPATH": os.path.dirname(os.path.dirname(memory.__file__)),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    said, faults = done.stdout.split()
    return said == "True", int(faults)


def test_freed_blocks_are_used_again_without_page_faults() -> None:
    said, faults = run()
    if said:  # glibc
        assert faults < 100  # of 9216 pages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=65536"),
    ],
)
def test_the_environment_counts(name: str, value: str) -> None:
    said, _ = run(**{name: value})
    assert not said


def test_other_tunables_do_not_matter() -> None:
    assert run(GLIBC_TUNABLES="glibc.pthread.rseq=0")[0] == run()[0]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed() is False
