"""Makes the modules beside the tests importable, and chooses the tests of this stack.

The tests run in two stacks: with the published server, "deepaas", and without it,
"current". The mark ``stack`` names the one that a test is for; in the other it is left out.
DEEPFN_TEST_STACK says which stack it is; without it, the installed distributions do.
"""

import importlib.metadata
import os
import sys
from typing import List

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def installed() -> str:
    """Return the stack that is installed in this interpreter."""
    try:
        importlib.metadata.version("deepaas")
    except importlib.metadata.PackageNotFoundError:
        return "current"
    return "deepaas"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stack(name): a test for one of the stacks")
    said, found = os.environ.get("DEEPFN_TEST_STACK", ""), installed()
    if said not in ("", found):
        raise pytest.UsageError(f"DEEPFN_TEST_STACK is {said}, and what is installed is {found}")


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    stack = installed()
    others = [i for i in items for m in i.iter_markers("stack") if m.args != (stack,)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
