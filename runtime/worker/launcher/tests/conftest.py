"""Makes the modules beside the tests importable, whatever the working directory is."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
