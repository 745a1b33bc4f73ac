"""A build system that needs nothing: it makes a wheel of the file box.py beside it."""

import os
import zipfile

INFO = "box-1.0.dist-info/"
FILES = {
    INFO + "METADATA": "Metadata-Version: 2.1\nName: box\nVersion: 1.0\nSummary: Finds boxes\n",
    INFO + "WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    INFO + "entry_points.txt": "[deepaas.v2.model]\nbox = box\n",
    INFO + "RECORD": "",
}


def build_wheel(folder, config_settings=None, metadata_directory=None):
    """Make the wheel, as PEP 517 has it."""
    name = "box-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.write("box.py")
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
