"""Versions of a trained network on disk.

A version is a folder ``<folder>/<number>`` with the file ``network.npz``. It is written
beside its place and renamed, so that a reader sees all of it or nothing, and it is never
changed afterwards. Files are plain arrays: reading one executes no code, whoever wrote it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

_FILE = "network.npz"


@dataclass(frozen=True)
class Network:
    """One hidden layer with ReLU, then softmax.

    ``w1`` is 64 x hidden, ``b1`` hidden, ``w2`` hidden x 10, ``b2`` 10. ``about`` says how
    it was trained; it is JSON-able.
    """

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    about: Dict[str, Any]

    def __post_init__(self) -> None:
        hidden = self.b1.shape[0] if self.b1.ndim == 1 else 0
        shapes = [self.w1.shape, self.b1.shape, self.w2.shape, self.b2.shape]
        if hidden < 1 or shapes != [(64, hidden), (hidden,), (hidden, 10), (10,)]:
            raise ValueError(f"not a network for digits: its arrays have shapes {shapes}")

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Return n x 10 probabilities for n x 64 pixels from 0 to 16."""
        hidden = np.maximum(pixels / 16.0 @ self.w1 + self.b1, 0.0)
        logits = hidden @ self.w2 + self.b2
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


def data_folder(name: str) -> Path:
    """Return the folder that outlives the workers of the model ``name``.

    It is what DEEPFN_MODEL_DIR says, else a folder of the user's data
    ($XDG_DATA_HOME, ~/.local/share). It may not exist yet.
    """
    given = os.environ.get("DEEPFN_MODEL_DIR", "")
    if given:
        return Path(given)
    home = os.environ.get("XDG_DATA_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.local/share"))
    return base / "deepfn" / "models" / name


class Versions:
    """The versions in one folder, for any number of processes at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: Dict[int, Network] = {}

    def numbers(self) -> List[int]:
        """Return the numbers of the versions, oldest first; none when there is no folder."""
        try:
            names = os.listdir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [int(n) for n in names if n.isascii() and n.isdigit() and n[0] != "0"]
        return sorted(n for n in found if (self.folder / str(n) / _FILE).is_file())

    def load(self, number: int) -> Network:
        """Return a version; raise FileNotFoundError or ValueError (it is damaged)."""
        network = self._loaded.get(number)
        if network is None:
            network = _read(self.folder / str(number) / _FILE)
            while len(self._loaded) >= 4:
                self._loaded.pop(next(iter(self._loaded)), None)
            self._loaded[number] = network
        return network

    def newest(self) -> Optional[int]:
        """Return the number of the newest version that can be read, None without any."""
        for number in reversed(self.numbers()):
            try:
                self.load(number)
            except (OSError, ValueError) as err:
                print(f"digits: version {number} is skipped: {err}", file=sys.stderr)
            else:
                return number
        return None

    def save(self, network: Network, only_first: bool = False) -> Optional[int]:
        """Keep a network as the next version and return its number.

        With ``only_first`` it is kept as version 1, and None is returned when there is a
        version already. Raises OSError when the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=str(self.folder)))
        try:
            _write(new / _FILE, network)
            while True:
                number = max(self.numbers(), default=0) + 1
                if only_first and number > 1:
                    return None
                if self._publish(new, number):
                    return number
        finally:
            shutil.rmtree(str(new), ignore_errors=True)

    def _publish(self, new: Path, number: int) -> bool:
        """Give a finished folder its number; False when another process was faster."""
        place = self.folder / str(number)
        os.chmod(str(new), 0o755)
        try:
            # Renaming a folder fails when there is one with files in its place.
            os.rename(str(new), str(place))
        except OSError:
            if (place / _FILE).exists():
                return False
            raise
        _sync(self.folder)
        return True


def _write(path: Path, network: Network) -> None:
    arrays = {"w1": network.w1, "b1": network.b1, "w2": network.w2, "b2": network.b2}
    with open(path, "wb") as file:
        np.savez(file, about=np.array(json.dumps(network.about)), **arrays)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _read(path: Path) -> Network:
    try:
        with np.load(str(path), allow_pickle=False) as file:
            arrays = [np.asarray(file[name], dtype=np.float64) for name in ("w1", "b1", "w2", "b2")]
            return Network(*arrays, about=json.loads(str(file["about"])))
    except OSError:
        raise
    except Exception as err:  # the archive's, numpy's and json's errors have no common class
        raise ValueError(f"{path} is damaged: {err}") from err


def _sync(folder: Path) -> None:
    fd = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
