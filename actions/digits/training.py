"""Training on the digits that scikit-learn brings (1,797 of them, from UCI)."""

from __future__ import annotations

from typing import Callable, Tuple

import numpy as np
import pictures
from store import Network

#: What get_train_args has as defaults, and what a model without any version is trained with.
DEFAULTS = {
    "hidden": 128,
    "epochs": 20,
    "learning_rate": 0.005,
    "batch_size": 64,
    "test_fraction": 0.25,
    "seed": 0,
}

#: The part of the work that is done, from 0 to 1, and a few words.
Progress = Callable[[float, str], None]


def split(test_fraction: float, seed: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels to train with, pixels to test with, and the digits of both.

    Pixels are n x 64 from 0 to 16. All ten digits are in both parts.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, digits = load_digits(return_X_y=True)
    parts = train_test_split(
        pixels, digits, test_size=test_fraction, random_state=seed, stratify=digits
    )
    return parts[0], parts[1], parts[2], parts[3]


def train(
    hidden: int,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    test_fraction: float,
    seed: int,
    progress: Progress,
) -> Network:
    """Train a network; the same arguments give the same network on the same machine.

    Its ``about`` has the arguments and the accuracy on the digits that were held out.
    """
    # It takes most of a second to import, and who only predicts does without.
    from sklearn.neural_network import MLPClassifier

    train_x, test_x, train_y, test_y = split(test_fraction, seed)
    model = MLPClassifier(
        (hidden,),
        batch_size=batch_size,
        learning_rate_init=learning_rate,
        alpha=0.001,
        random_state=seed,
    )
    # A digit is learnt as it is in the data and as it looks when it comes as a picture.
    learn_x = np.vstack([train_x, pictures.seen(train_x)]) / 16.0
    learn_y = np.hstack([train_y, train_y])
    network = None
    for epoch in range(1, epochs + 1):
        model.partial_fit(learn_x, learn_y, classes=np.arange(10))
        network = Network(
            model.coefs_[0], model.intercepts_[0], model.coefs_[1], model.intercepts_[1], {}
        )
        accuracy = _accuracy(network, test_x, test_y)
        progress(epoch / epochs, f"epoch {epoch} of {epochs}, accuracy {accuracy:.3f}")
    assert network is not None, "there is at least one epoch"
    about = {
        "accuracy": accuracy,
        "accuracy_of_pictures": _accuracy(network, pictures.seen(test_x), test_y),
        "test_digits": len(test_y),
        "train_digits": len(train_y),
        "arguments": {
            "hidden": hidden,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "test_fraction": test_fraction,
            "seed": seed,
        },
    }
    return Network(network.w1, network.b1, network.w2, network.b2, about)


def _accuracy(network: Network, pixels: np.ndarray, digits: np.ndarray) -> float:
    return float((network.scores(pixels).argmax(axis=1) == digits).mean())
