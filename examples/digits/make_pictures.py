"""Make the pictures in this folder: digits that the first version was not trained with.

Run it with the model's own environment, from the repository's root:

    PYTHONPATH=actions/digits python examples/digits/make_pictures.py
"""

from pathlib import Path

import pictures
import training

_, pixels, _, digits = training.split(
    training.DEFAULTS["test_fraction"], int(training.DEFAULTS["seed"])
)
for wanted in (3, 7):
    first = digits.tolist().index(wanted)
    path = Path(__file__).with_name(f"{wanted}.png")
    path.write_bytes(pictures.png(pixels[first]))
