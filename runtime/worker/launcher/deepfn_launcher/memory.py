"""The memory of a worker: blocks that a call has freed are kept for the next one."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

#: Blocks up to this size come from the heap, in bytes; glibc takes no more.
_FROM_HEAP = 32 << 20
#: How much of what was freed at the heap's end is kept, in bytes.
_KEPT = 64 << 20


def keep_freed() -> bool:
    """Let C's allocator keep what is freed; return whether it could be told so.

    A text of 1 MiB is made and freed a few times in a call. By default each time is a
    mapping of its own or a piece cut off from the heap's end, of which the system clears
    every page again: half of the time of such a call. The sizes are those that glibc comes
    to by itself once a model has freed a block of 32 MiB. What the variables of the
    environment say of the allocator counts; without glibc nothing is done.
    """
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
        return bool(mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
    except (OSError, AttributeError):
        return False
