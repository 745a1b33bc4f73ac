"""Runs a worker: ``python FOLDER/deepfn_launcher``, or ``python -m deepfn_launcher``."""

from __future__ import annotations

import os
import sys

if not __package__:
    # Python has put this folder first on the path, where its modules would stand before
    # those of the model that have the same names.
    _home = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = os.path.dirname(_home)
    import deepfn_launcher.serve as serve

    sys.path.pop(0)
else:
    from . import serve

if __name__ == "__main__":
    serve.main()
