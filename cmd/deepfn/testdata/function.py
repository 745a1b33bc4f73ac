"""A plain function with annotations, and a file that is stored."""

from pathlib import Path
from typing import List, Optional


def predict(
    name: str,
    times: int = 1,
    sizes: Optional[List[int]] = None,
    file: Optional[Path] = None,
):
    """Greet somebody, and look at a file."""
    answer = {"greeting": "hello " * times + name, "sizes": sizes}
    if file is not None:
        answer["suffix"] = "".join(Path(file).suffixes)
        answer["text"] = Path(file).read_text()
    return answer
