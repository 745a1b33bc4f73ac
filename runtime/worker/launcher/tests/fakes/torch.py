"""As much of torch as the weights of a model need, with devices of a size that is given.

It keeps to torch's rules where they matter: tensors are views of storages, a storage is
freed when it is resized to nothing and gets another address when it comes back, copies that
do not wait are done at the next synchronization, and the cache holds what was freed until it
is emptied.
"""

from __future__ import annotations

import gc
import itertools
import types
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

strided = object()
sparse_coo = object()


class dtype:
    """A type of elements, by its size in bytes."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize


uint8 = dtype(1)
float16 = dtype(2)
float32 = dtype(4)


class device:
    """A device. Equal ones are equal."""

    def __init__(self, name: Any) -> None:
        self.type, _, index = str(name).partition(":")
        self.index = int(index or 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return self.type if self.type == "cpu" else f"{self.type}:{self.index}"


class OutOfMemoryError(RuntimeError):
    """There is no room on the device."""


class Memory:
    """What the devices and the host have, and what happened."""

    def __init__(self) -> None:
        self.room: Dict[str, int] = {"cuda:0": 1 << 20, "cuda:1": 1 << 20}
        self.used: Dict[str, int] = {}
        self.cached: Dict[str, int] = {}
        self.pending: List[Callable[[], None]] = []
        self.can_pin = True
        self.host_room = 1 << 40
        self.pinned = 0
        self.initialized = True
        self.events: List[str] = []

    def take(self, where: str, size: int) -> None:
        reused = min(size, self.cached.get(where, 0))
        used = self.used.get(where, 0) + size
        if (
            size
            and where in self.room
            and used + self.cached.get(where, 0) - reused > self.room[where]
        ):
            raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")
        self.used[where] = used
        self.cached[where] = self.cached.get(where, 0) - reused

    def give(self, where: str, size: int) -> None:
        self.used[where] -= size
        self.cached[where] = self.cached.get(where, 0) + size


memory = Memory()
_addresses = itertools.count(0x1000, 0x1000)


class UntypedStorage:
    """Bytes on a device."""

    def __init__(self, size: int, where: device, fixed: bool = False) -> None:
        self.device, self._fixed = where, fixed
        self._bytes = bytearray()
        self._address = 0
        self._grow(size)

    def _grow(self, size: int) -> None:
        memory.take(str(self.device), size)
        # What is not written is not zero.
        self._bytes = bytearray(b"\xa5" * size)
        self._address = next(_addresses) if size else 0

    def nbytes(self) -> int:
        return len(self._bytes)

    def data_ptr(self) -> int:
        return self._address

    def resizable(self) -> bool:
        return not self._fixed

    def resize_(self, size: int) -> None:
        if self._fixed:
            raise RuntimeError("Trying to resize storage that is not resizable")
        if memory.pending:
            raise AssertionError("a storage is resized while a copy is under way")
        if size == len(self._bytes):
            return
        if size != 0 and self._bytes:
            raise AssertionError("only whole storages are given up")
        freed = len(self._bytes)
        if freed:
            self._bytes, self._address = bytearray(), 0
            memory.give(str(self.device), freed)
        if size:
            self._grow(size)


class Tensor:
    """A view of a storage, of one dimension or more."""

    layout: Any = strided

    def __init__(
        self,
        storage: UntypedStorage,
        kind: dtype,
        offset: int,
        shape: Tuple[int, ...],
        strides: Tuple[int, ...],
    ) -> None:
        self._storage, self.dtype, self._offset = storage, kind, offset
        self.shape, self._strides = shape, strides
        self.requires_grad = False
        self.grad: Optional[Tensor] = None

    @property
    def device(self) -> device:
        return self._storage.device

    def untyped_storage(self) -> UntypedStorage:
        return self._storage

    def storage_offset(self) -> int:
        return self._offset

    def stride(self) -> Tuple[int, ...]:
        return self._strides

    def data_ptr(self) -> int:
        return self._storage.data_ptr() + self._offset * self.dtype.itemsize

    def numel(self) -> int:
        n = 1
        for length in self.shape:
            n *= length
        return n

    def set_(
        self, storage: UntypedStorage, offset: int, shape: Tuple[int, ...], strides: Tuple[int, ...]
    ) -> Tensor:
        self._storage, self._offset, self.shape, self._strides = storage, offset, shape, strides
        return self

    def __getitem__(self, part: slice) -> Tensor:
        assert len(self.shape) == 1
        assert self._strides == (1,)
        begin, end, step = part.indices(self.shape[0])
        assert step == 1
        return Tensor(self._storage, self.dtype, self._offset + begin, (end - begin,), (1,))

    def _range(self) -> Tuple[int, int]:
        begin = self._offset * self.dtype.itemsize
        return begin, begin + self.numel() * self.dtype.itemsize

    def tobytes(self) -> bytes:
        """Return the bytes below; only here, to look at them."""
        begin, end = self._range()
        if end > self._storage.nbytes():
            raise RuntimeError("setStorage: out of bounds for storage")
        return bytes(self._storage._bytes[begin:end])

    def copy_(self, other: Tensor, non_blocking: bool = False) -> Tensor:
        assert self.numel() == other.numel()

        def copy() -> None:
            begin, end = self._range()
            assert end <= self._storage.nbytes()
            self._storage._bytes[begin:end] = other.tobytes()

        if non_blocking and "cuda" in (self.device.type, other.device.type):
            memory.pending.append(copy)
        else:
            copy()
        return self


class Parameter(Tensor):
    """A tensor that is a weight."""


def tensor(data: bytes, where: str = "cuda", kind: dtype = uint8, fixed: bool = False) -> Tensor:
    """Return a tensor of these bytes; only here."""
    storage = UntypedStorage(len(data), device(where), fixed)
    storage._bytes[:] = data
    length = len(data) // kind.itemsize
    return Tensor(storage, kind, 0, (length,), (1,))


def empty(
    length: int, dtype: dtype = float32, device: Any = "cpu", pin_memory: bool = False
) -> Tensor:
    size = length * dtype.itemsize
    if pin_memory and not memory.can_pin:
        raise RuntimeError("CUDA error: out of memory")
    if str(device) == "cpu" and memory.used.get("cpu", 0) + size > memory.host_room:
        raise RuntimeError(f"[enforce fail at alloc_cpu.cpp] can't allocate memory: {size}")
    if pin_memory:
        memory.pinned += size
    storage = UntypedStorage(size, globals()["device"](device))
    return Tensor(storage, dtype, 0, (length,), (1,))


class no_grad:
    def __enter__(self) -> None:
        memory.events.append("no_grad")

    def __exit__(self, *_: object) -> None:
        pass


class Module:
    """A module with parameters, buffers, and others below it."""

    def __init__(self, **members: Any) -> None:
        for name, value in members.items():
            setattr(self, name, value)

    def _members(self, recurse: bool, seen: Set[int]) -> Iterator[Tensor]:
        for value in vars(self).values():
            if isinstance(value, Module) and recurse:
                yield from value._members(recurse, seen)
            elif isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield value

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        return (t for t in self._members(recurse, set()) if isinstance(t, Parameter))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (t for t in self._members(recurse, set()) if not isinstance(t, Parameter))


class _Graph:
    """A captured graph."""


def _synchronize(where: Any = None) -> None:
    memory.events.append(f"synchronize {where}")
    while memory.pending:
        memory.pending.pop(0)()


def _empty_cache() -> None:
    memory.events.append("empty_cache")
    memory.cached = dict.fromkeys(memory.cached, 0)


def _empty_host_cache() -> None:
    gc.collect()
    memory.events.append("host_emptyCache")


nn = types.SimpleNamespace(Module=Module, Parameter=Parameter)
cuda = types.SimpleNamespace(
    is_initialized=lambda: memory.initialized,
    synchronize=_synchronize,
    empty_cache=_empty_cache,
    CUDAGraph=_Graph,
    OutOfMemoryError=OutOfMemoryError,
)
_C = types.SimpleNamespace(_host_emptyCache=_empty_host_cache)
