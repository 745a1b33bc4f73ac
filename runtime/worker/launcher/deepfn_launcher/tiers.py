"""What a module may import from its worker, as ``deepfn_tiers``.

The launcher puts this module under that name, and under no other, into the process of a
model. It needs no torch: what is about torch looks for it where the model has imported it.

``TorchWeights`` takes the weights of torch modules out of the memory of a device and back.
A module with a ``suspend()`` of its own uses it for the part that is torch's::

    from deepfn_tiers import TorchWeights

    weights = TorchWeights(model)

    def suspend():
        cache.clear()
        return weights.suspend()

    def resume():
        weights.resume()

``trace_context()`` returns the trace that the running call belongs to.
"""

from __future__ import annotations

import gc
import sys
from typing import Any, Dict, Iterator, List, Tuple

from .trace import trace_context

__all__ = ["TorchWeights", "Unchanged", "trace_context"]

#: The name that models import this module by.
NAME = "deepfn_tiers"

#: The host's memory is taken in pieces of this many bytes. torch rounds each up to a power of
#: two, so that one piece for a tensor could take nearly twice as much.
_PIECE = 64 << 20


class Unchanged(Exception):
    """Why weights were not moved: they are where they were, and nothing else has happened."""


class TorchWeights:
    """The parameters and buffers of torch modules, with the gradients that they have.

    ``modules`` are the modules, with all in them; without any it is each module that there is
    in the process when ``suspend`` is called. ``device`` is the type of the devices whose memory
    is left. Calls must not come at the same time, nor while the model works, also in threads
    of its own.

    What moves is the memory below the tensors, not the tensors: each is the same object before
    and after, with its type, shape, strides and requires_grad, tensors that share memory share
    it still, and so do views that nobody knows of. The device's context stays, which takes some
    hundred megabytes. Tensors that are in no module stay too, and so does memory that torch
    does not own. Other libraries that were given the address of a weight have to be given it
    again: a module that does so needs hooks of its own.
    """

    def __init__(self, *modules: Any, device: str = "cuda") -> None:
        for module in modules:
            if not (hasattr(module, "parameters") and hasattr(module, "buffers")):
                raise TypeError(f"TorchWeights takes torch modules, not {type(module).__name__}")
        self._modules = modules
        self._device = device
        self._moved: List[Tuple[Any, int]] = []  # storages, and their sizes in bytes
        self._host = _Host()

    @property
    def suspended(self) -> bool:
        """Whether the weights are in the host's memory."""
        return bool(self._moved)

    def suspend(self) -> int:
        """Move the weights into the host's memory; return how many bytes they take there.

        The host's memory is pinned where that is possible. A second call does nothing and
        returns the same. Raises Unchanged when there is nothing to move, when the host has no
        room, and when the model has captured CUDA graphs, in which the addresses of weights
        are written down; anything else that torch raises means that a device is broken.
        """
        if self._moved:
            return self._host.size
        torch = sys.modules.get("torch")
        if torch is None:
            raise Unchanged("torch was not imported")
        storages = self._storages(torch)
        if not storages:
            raise Unchanged(f"no torch module has weights on a device of the type {self._device}")
        moved = [(storage, storage.nbytes()) for storage in storages]
        self._synchronize(torch, storages)
        with torch.no_grad():
            try:
                self._host.reserve(torch, sum(size for _, size in moved))
            except (MemoryError, RuntimeError) as exc:
                self._host.release(torch)
                raise Unchanged(f"the host has no room for the weights: {exc}") from exc
            self._copy(torch, moved, back=False)
        for storage, _ in moved:
            storage.resize_(0)
        self._moved = moved
        self._empty_cache(torch)
        return self._host.size

    def resume(self) -> None:
        """Move the weights back to where they were; do nothing if they are there.

        Raises Unchanged when a device has no room for them: they are in the host's memory
        still, and it may be tried again.
        """
        if not self._moved:
            return
        torch = sys.modules["torch"]
        taken: List[Any] = []
        try:
            for storage, size in self._moved:
                taken.append(storage)
                storage.resize_(size)
        except RuntimeError as exc:
            for storage in taken:
                storage.resize_(0)
            self._empty_cache(torch)
            raise Unchanged(f"the device has no room for the weights: {exc}") from exc
        with torch.no_grad():
            self._copy(torch, self._moved, back=True)
        self._moved = []
        self._host.release(torch)

    def _copy(self, torch: Any, moved: List[Tuple[Any, int]], back: bool) -> None:
        """Copy all storages to the host or back, and wait until they are there."""
        at = 0
        for storage, size in moved:
            raw = torch.empty(0, dtype=torch.uint8, device=storage.device)
            raw.set_(storage, 0, (size,), (1,))
            self._host.copy(raw, at, size, back)
            at += size
        self._synchronize(torch, [storage for storage, _ in moved])

    def _storages(self, torch: Any) -> List[Any]:
        """Return the memory below all weights on the device, each piece once."""
        found: Dict[int, Any] = {}
        for tensor in self._tensors(torch):
            storage = _storage(torch, tensor)
            if storage is not None and storage.device.type == self._device:
                found.setdefault(storage.data_ptr(), storage)
        return list(found.values())

    def _tensors(self, torch: Any) -> Iterator[Any]:
        """Yield parameters and buffers, and the gradients of parameters."""
        found, deep = _modules(torch), bool(self._modules)
        for module in self._modules or found:
            for parameter in module.parameters(recurse=deep):
                yield parameter
                if parameter.grad is not None:
                    yield parameter.grad
            yield from module.buffers(recurse=deep)

    def _synchronize(self, torch: Any, storages: List[Any]) -> None:
        """Wait until the devices have done what they were told."""
        if self._device == "cuda":
            for device in {storage.device for storage in storages}:
                torch.cuda.synchronize(device)

    def _empty_cache(self, torch: Any) -> None:
        """Give the memory that torch keeps back to the devices."""
        if self._device == "cuda":
            torch.cuda.empty_cache()


class _Host:
    """Memory of the host, in pieces, addressed as if it were one."""

    def __init__(self) -> None:
        self._pieces: List[Any] = []
        self.size = 0

    def reserve(self, torch: Any, size: int) -> None:
        """Take memory for size bytes, pinned if it can be."""
        self._pieces, self.size = [], size
        for at in range(0, size, _PIECE):
            length = min(_PIECE, size - at)
            try:
                piece = torch.empty(length, dtype=torch.uint8, pin_memory=True)
            except RuntimeError:  # the limit of the process, or no device that knows of it
                piece = torch.empty(length, dtype=torch.uint8)
            self._pieces.append(piece)

    def copy(self, raw: Any, at: int, size: int, back: bool) -> None:
        """Copy size bytes between a tensor and the place at; from there with back."""
        done = 0
        while done < size:
            number, offset = divmod(at + done, _PIECE)
            length = min(size - done, _PIECE - offset)
            here = self._pieces[number][offset : offset + length]
            there = raw[done : done + length]
            if back:
                there.copy_(here, non_blocking=True)
            else:
                here.copy_(there, non_blocking=True)
            done += length

    def release(self, torch: Any) -> None:
        """Give the memory back to the system, which torch would keep if it is pinned."""
        self._pieces = []
        self.size = 0
        empty = getattr(getattr(torch, "_C", None), "_host_emptyCache", None)
        if empty is not None:
            empty()


def _storage(torch: Any, tensor: Any) -> Any:
    """Return the memory below a tensor; None if it has none that can be given up."""
    try:
        if tensor.layout is not torch.strided:
            return None
        storage = tensor.untyped_storage()
        resizable = getattr(storage, "resizable", None)  # not in older versions
        if not storage.data_ptr() or (resizable is not None and not resizable()):
            return None
    except Exception:  # a tensor that is made of others, or not there yet
        return None
    return storage


def _modules(torch: Any) -> List[Any]:
    """Return all torch modules of the process. Raises Unchanged if there are CUDA graphs.

    What nobody uses any more is freed first, which may hold memory of a device.
    """
    module = torch.nn.Module
    graph = getattr(torch.cuda, "CUDAGraph", None)
    found = []
    # What was there when the model was loaded was hidden from the collector, see serve.
    gc.unfreeze()
    try:
        gc.collect()
        for thing in gc.get_objects():
            kind = type(thing)
            if issubclass(kind, module):
                found.append(thing)
            elif graph is not None and issubclass(kind, graph):
                raise Unchanged("the model has captured CUDA graphs")
    finally:
        gc.freeze()
    return found
