from __future__ import annotations

import gc
import importlib
import os
import sys
import weakref
from typing import Any, Iterator, List

import pytest
from deepfn_launcher import tiers
from deepfn_launcher.tiers import TorchWeights, Unchanged

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(os.path.join(HERE, "fakes"))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = importlib.import_module("torch")
    yield found
    monkeypatch.delitem(sys.modules, "torch")


def parameter(torch: Any, base: Any, offset: int, shape: Any, strides: Any) -> Any:
    """Return a parameter that is a view of what a tensor lies in."""
    return torch.Parameter(base.untyped_storage(), base.dtype, offset, shape, strides)


def network(torch: Any) -> Any:
    """Return modules whose weights share memory in every way, on two devices."""
    flat = torch.tensor(bytes(range(200)), "cuda:0", torch.float16)
    embedding = parameter(torch, torch.tensor(b"embedding!" * 10, "cuda:0"), 0, (100,), (1,))
    embedding.requires_grad = True
    embedding.grad = torch.tensor(b"gradient.." * 10, "cuda:0")
    return torch.Module(
        embed=torch.Module(weight=embedding),
        head=torch.Module(weight=embedding),  # tied
        rows=parameter(torch, flat, 10, (5, 6), (1, 5)),
        rest=parameter(torch, flat, 50, (50,), (1,)),
        mean=torch.tensor(b"a buffer", "cuda:1"),
        outside=[torch.Tensor(flat.untyped_storage(), flat.dtype, 0, (10,), (1,))],
        host=parameter(torch, torch.tensor(b"stays", "cpu"), 0, (5,), (1,)),
        foreign=torch.tensor(b"of another library", "cuda:0", fixed=True),
        nothing=torch.tensor(b"", "cuda:0"),
    )


def tensors(model: Any) -> List[Any]:
    found = [*model.parameters(), *model.buffers(), model.outside[0]]
    return [*found, *(t.grad for t in found if t.grad is not None)]


def look(model: Any) -> Any:
    """Return all that a model can see of its weights."""
    return [
        (
            *(id(t), t.tobytes(), t.dtype, t.shape, t.stride(), t.storage_offset()),
            *(t.requires_grad, t.device, id(t.untyped_storage())),
        )
        for t in tensors(model)
    ]


MOVED = 200 + 100 + 100 + len(b"a buffer")


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("piece", [64 << 20, 7, MOVED])
def test_there_and_back(
    torch: Any, monkeypatch: pytest.MonkeyPatch, found: bool, piece: int
) -> None:
    monkeypatch.setattr(tiers, "_PIECE", piece)
    model = network(torch)
    before = look(model)
    addresses = [t.data_ptr() for t in tensors(model) if t.device.type == "cuda"]
    gc.freeze()  # as the launcher does when the model is loaded
    weights = TorchWeights() if found else TorchWeights(model)
    for _ in range(2):
        assert not weights.suspended
        assert weights.suspend() == MOVED
        assert weights.suspended
        assert weights.suspend() == MOVED
        assert torch.memory.used["cuda:0"] == len(b"of another library")
        assert torch.memory.used["cuda:1"] == 0
        assert torch.memory.cached == {"cuda:0": 0, "cuda:1": 0, "cpu": 0}
        assert model.host.tobytes() == b"stays"
        with pytest.raises(RuntimeError, match="out of bounds"):
            model.embed.weight.tobytes()
        assert id(model.embed.weight) == before[0][0]
        weights.resume()
        weights.resume()
        assert look(model) == before
        assert model.head.weight is model.embed.weight
    assert addresses != [t.data_ptr() for t in tensors(model) if t.device.type == "cuda"]
    assert torch.memory.pinned == 2 * MOVED
    gc.unfreeze()


def test_the_hosts_memory_is_given_back(torch: Any) -> None:
    model = network(torch)
    weights = TorchWeights(model)
    weights.suspend()
    pieces = [weakref.ref(piece) for piece in weights._host._pieces]
    assert pieces
    weights.resume()
    gc.collect()
    assert [piece() for piece in pieces] == [None] * len(pieces)
    assert torch.memory.events[-1] == "host_emptyCache"


def test_no_room_on_the_device(torch: Any) -> None:
    model = network(torch)
    before = look(model)
    weights = TorchWeights(model)
    weights.suspend()
    # Somebody else has taken the memory: of the last storage alone, or of all.
    for room in ({"cuda:1": 5}, {"cuda:0": 0}):
        kept = dict(torch.memory.room)
        torch.memory.room.update(room)
        for _ in range(2):
            with pytest.raises(Unchanged, match="no room for the weights: CUDA out of memory"):
                weights.resume()
            assert weights.suspended
            assert weights.suspend() == MOVED
            assert torch.memory.used["cuda:0"] == len(b"of another library")
            assert sum(torch.memory.cached.values()) == 0
        torch.memory.room = kept
    weights.resume()
    assert look(model) == before


def test_memory_that_cannot_be_pinned(torch: Any) -> None:
    model = network(torch)
    before = look(model)
    torch.memory.can_pin = False
    weights = TorchWeights(model)
    assert weights.suspend() == MOVED
    weights.resume()
    assert look(model) == before
    assert torch.memory.pinned == 0


def test_no_room_on_the_host(torch: Any) -> None:
    model = network(torch)
    before = look(model)
    torch.memory.can_pin, torch.memory.host_room = False, 20
    weights = TorchWeights(model)
    for _ in range(2):
        with pytest.raises(Unchanged, match="the host has no room"):
            weights.suspend()
        assert not weights.suspended
        assert look(model) == before
    weights.resume()
    torch.memory.host_room = 1 << 40
    weights.suspend()
    weights.resume()
    assert look(model) == before


def test_a_broken_device_is_no_promise(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(where: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    weights = TorchWeights(network(torch))
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        weights.suspend()


def test_nothing_to_move(torch: Any) -> None:
    with pytest.raises(Unchanged, match="no torch module has weights"):
        TorchWeights(torch.Module(host=torch.tensor(b"stays", "cpu"))).suspend()
    with pytest.raises(Unchanged, match="no torch module has weights"):
        TorchWeights().suspend()


def test_what_is_no_module(torch: Any) -> None:
    with pytest.raises(TypeError, match="takes torch modules, not dict"):
        TorchWeights(network(torch), {"weight": torch.tensor(b"1")})


def test_weights_that_have_no_memory_of_their_own(torch: Any) -> None:
    class Lazy(torch.Parameter):  # type: ignore[misc]
        def untyped_storage(self) -> Any:
            raise ValueError("Attempted to use an uninitialized parameter")

    class Sparse(torch.Parameter):  # type: ignore[misc]
        layout = torch.sparse_coo

    plain = torch.tensor(b"1234")
    odd = [kind(plain.untyped_storage(), plain.dtype, 0, (4,), (1,)) for kind in (Lazy, Sparse)]
    model = torch.Module(lazy=odd[0], sparse=odd[1], weight=torch.tensor(b"123456"))
    weights = TorchWeights(model)
    assert weights.suspend() == 6
    weights.resume()
    assert (plain.tobytes(), model.weight.tobytes()) == (b"1234", b"123456")


@pytest.mark.parametrize("found", [True, False])
def test_captured_graphs(torch: Any, found: bool) -> None:
    model = network(torch)
    before = look(model)
    graph = torch.cuda.CUDAGraph()
    weights = TorchWeights() if found else TorchWeights(model)
    with pytest.raises(Unchanged, match="CUDA graphs"):
        weights.suspend()
    assert look(model) == before
    del graph
    assert weights.suspend() == MOVED


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    weights = TorchWeights()
    with pytest.raises(Unchanged, match="torch was not imported"):
        weights.suspend()
    weights.resume()
    assert "torch" not in sys.modules
