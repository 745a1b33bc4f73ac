"""A model that can be trained, and whose training waits for who watches it."""

import os
import subprocess
import time
from pathlib import Path
from typing import Optional


def predict(n: int = 0):
    """Echo a number."""
    return {"n": n, "pid": os.getpid()}


def train(steps: int, file: Optional[Path] = None, gate: str = "", fault: str = ""):
    """Train until the file gate is there, or fail."""
    print("training starts")
    print("deepfn-progress: 0.5 half")
    child = subprocess.Popen(["sleep", "600"])
    print("pids", os.getpid(), child.pid, flush=True)
    if fault == "raise":
        raise ValueError("the data are empty")
    if fault == "die":
        os._exit(7)
    while gate and not os.path.exists(gate):
        time.sleep(0.01)
    child.kill()
    child.wait()
    print("training ends")
    text = Path(file).read_text() if file else None
    return {"steps": steps, "text": text, "kept": os.environ["DEEPFN_MODEL_DIR"]}
