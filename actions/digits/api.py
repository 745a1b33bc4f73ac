"""A handwritten digit, read by a network that is trained where it runs.

A module of the DEEPaaS V2 API. What was trained is kept in a folder that outlives the
process (store.data_folder), and every prediction uses the newest version there, also one
that another process has trained since.
"""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pictures
import store
import training
from marshmallow import ValidationError, fields, validate

NAME = "digits"

_versions = store.Versions(store.data_folder(NAME))
# What warm trained when the folder could not be written to; predictions call it version 0.
_unsaved: Optional[store.Network] = None


def get_metadata() -> Dict[str, Any]:
    """Return what the model is, and the versions that there are now, oldest first."""
    return {
        "name": NAME,
        "title": "Read a handwritten digit",
        "summary": "A small neural network for pictures of one digit. It can be trained here.",
        "version": "1.0.0",
        "author": "The deepfn authors",
        "license": "Apache-2.0",
        "data": "Optical Recognition of Handwritten Digits, UCI, as scikit-learn has it",
        "trained_versions": _versions.numbers(),
    }


def get_train_args() -> Dict[str, Any]:
    """Return the arguments of train."""
    ranges = {
        "hidden": (fields.Int, 4, 1024, "Neurons in the hidden layer."),
        "epochs": (fields.Int, 1, 500, "How often the network sees each digit."),
        "learning_rate": (fields.Float, 1e-5, 1.0, "Size of a step."),
        "batch_size": (fields.Int, 1, 1024, "Digits in a step."),
        "test_fraction": (fields.Float, 0.05, 0.5, "Part of the digits held out for the test."),
        "seed": (fields.Int, 0, 2**32 - 1, "Equal seeds give equal networks."),
    }
    return {
        name: field(
            load_default=training.DEFAULTS[name],
            validate=validate.Range(min=low, max=high),
            metadata={"description": description},
        )
        for name, (field, low, high, description) in ranges.items()
    }


def train(**kwargs: Any) -> Dict[str, Any]:
    """Train a network, keep it as the newest version and say how good it is.

    Raises OSError when the folder of the versions cannot be written to.
    """
    network = training.train(progress=_say, **kwargs)
    version = _versions.save(network)
    return {"version": version, **network.about}


def get_predict_args() -> Dict[str, Any]:
    """Return the arguments of predict: a picture, or the pixels themselves."""
    pixel = fields.Float(validate=validate.Range(min=0, max=16))
    row = fields.List(pixel, validate=validate.Length(equal=8))
    return {
        "image": fields.Raw(
            required=False,
            metadata={
                "type": "file",
                "location": "form",
                "description": "A picture of one digit (PNG, JPEG, …), of any size, "
                "dark on light or light on dark.",
            },
        ),
        "pixels": fields.List(
            row,
            required=False,
            validate=validate.Length(equal=8),
            metadata={"description": "Instead of a picture: 8 rows of 8 numbers, 0 paper, 16 ink."},
        ),
        "version": fields.Int(
            required=False,
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=1),
            metadata={"description": "A version that train reported; without it the newest."},
        ),
    }


def warm() -> None:
    """Have a network ready: the newest version, else train the first one (about a second)."""
    _network(None)


def predict(**kwargs: Any) -> Dict[str, Any]:
    """Return the digit, the probability of each digit, and the version that read it.

    Raises marshmallow.ValidationError for a picture or version that cannot be used.
    """
    pixels = _pixels(kwargs.get("image"), kwargs.get("pixels"))
    version, network = _network(kwargs.get("version"))
    scores = network.scores(pixels.reshape(1, 64))[0]
    return {
        "digit": int(scores.argmax()),
        "scores": {str(digit): float(score) for digit, score in enumerate(scores)},
        "version": version,
    }


def _pixels(image: Any, rows: Optional[List[List[float]]]) -> np.ndarray:
    if (image is None) == (rows is None):
        raise ValidationError({"image": ["Give either a picture or pixels."]})
    if rows is not None:
        return np.array(rows, dtype=np.float64)
    if not hasattr(image, "filename"):
        raise ValidationError({"image": ["Not an uploaded file."]})
    try:
        return pictures.read(image.filename)
    except ValueError as err:
        raise ValidationError({"image": [str(err)]}) from err


def _network(version: Optional[int]) -> Tuple[int, store.Network]:
    """Return a version; None stands for the newest, which is trained if there is none."""
    global _unsaved
    if version is not None:
        try:
            return version, _versions.load(version)
        except FileNotFoundError:
            known = ", ".join(str(n) for n in _versions.numbers()) or "none"
            message = f"There is no version {version}; there are: {known}."
            raise ValidationError({"version": [message]}) from None
        except (OSError, ValueError) as err:
            raise ValidationError({"version": [f"Version {version}: {err}"]}) from err
    newest = _versions.newest()
    if newest is None and _unsaved is None:
        network = training.train(progress=_say, **training.DEFAULTS)
        try:
            _versions.save(network, only_first=True)
        except OSError as err:
            print(f"{NAME}: the first version is kept in memory only: {err}", file=sys.stderr)
            _unsaved = network
        newest = _versions.newest()
    if newest is not None:
        return newest, _versions.load(newest)
    if _unsaved is None:
        raise RuntimeError(f"no version in {_versions.folder} can be read")
    return 0, _unsaved


def _say(done: float, text: str) -> None:
    print(f"deepfn-progress: {done:.2f} {text}", flush=True)
