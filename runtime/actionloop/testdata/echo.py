"""Answers its arguments, and says first that it is ready."""

import json
import os
import sys

with os.fdopen(3, "w", encoding="utf-8") as reply:
    if "__OW_WAIT_FOR_ACK" in os.environ:
        print('{"ok":true}', file=reply, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print("in python", flush=True)
        print(json.dumps(request["value"]), file=reply, flush=True)
