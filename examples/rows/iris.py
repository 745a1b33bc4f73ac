"""Irises by the nearest mean: what a vectorised model looks like.

Each argument has the values of all rows, so that the work is done in a few steps for a
thousand of them: by numpy where it is installed, else by a loop.
"""

from __future__ import annotations

from typing import Dict, List

try:
    import numpy as np
except ImportError:
    np = None

#: The means of Fisher's measurements in centimetres, in the order of the arguments.
MEANS = {
    "setosa": (5.006, 3.428, 1.462, 0.246),
    "versicolor": (5.936, 2.770, 4.260, 1.326),
    "virginica": (6.588, 2.974, 5.552, 2.026),
}
NAMES = list(MEANS)


def predict(
    sepal_length: List[float],
    sepal_width: List[float],
    petal_length: List[float],
    petal_width: List[float],
) -> Dict[str, List]:
    """Return the species of each row, and its distance from the mean of that species."""
    columns = (sepal_length, sepal_width, petal_length, petal_width)
    if len({len(column) for column in columns}) > 1:
        raise ValueError("the lists must be equally long")
    squares = _with_numpy(columns) if np else _with_a_loop(columns)
    best = [min(range(len(NAMES)), key=row.__getitem__) for row in squares]
    return {
        "species": [NAMES[i] for i in best],
        "distance": [round(row[i] ** 0.5, 3) for row, i in zip(squares, best)],
    }


def _with_numpy(columns):
    rows = np.column_stack(columns)[:, None, :]
    return ((rows - np.array(list(MEANS.values()))) ** 2).sum(axis=2).tolist()


def _with_a_loop(columns):
    means = list(MEANS.values())
    return [[sum((a - b) ** 2 for a, b in zip(row, m)) for m in means] for row in zip(*columns)]
