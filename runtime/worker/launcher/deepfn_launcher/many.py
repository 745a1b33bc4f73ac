"""predict-many: predict for each of many rows, in one call.

The arguments are a list of the arguments of each row, the answer a list as long:
``{"value": …}`` of a row whose answer is JSON, with ``"whole": true`` of a module that has a
schema for it; ``{"content_type", "filename", "data"}`` of one whose answer is something else,
in base64; ``{"error", "code"}``, with ``fields`` and ``status`` where predict would say them,
of a row that failed. A row is parsed, predicted and written as predict does it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Callable, Dict, List

from . import answer, failure, jsonable
from .uploads import Uploads
from .wire import Fill
from .words import JSON_TYPE, Canceled, Decoded, Failure, Model, Values


class Rows:
    """How the rows of one call are predicted.

    ``limit`` is the most bytes that an answer may have. ``left`` raises Canceled when nobody
    waits for the answer any more; ``mine`` ends a copy of the process that the model made.
    """

    def __init__(
        self, model: Model, limit: int, left: Callable[[], None], mine: Callable[[], None]
    ) -> None:
        self._model = model
        self._limit = limit
        self._left = left
        self._mine = mine

    def predict(self, values: Values) -> answer.Answer:
        """Return the answer of the call.

        Raises a Failure "invalid" for arguments that are no list, and for files, which would be
        nobody's.
        """
        rows = [] if values.args is None else jsonable.arguments(values.args)
        if not isinstance(rows, list) or values.files:
            raise Failure("invalid", "predict-many takes a list of the arguments of each row")
        told: List[bytes] = []
        for number, row in enumerate(rows):
            self._left()
            rows[number] = None  # what a row was is not needed while others are predicted
            told.append(self._row(row, values))
        return answer.Answer(JSON_TYPE, b"[" + b",".join(told) + b"]")

    def _row(self, row: Any, values: Values) -> bytes:
        """Return what is told of a row: its answer, or its error."""
        store = Uploads()
        try:
            mine = Values(Decoded(row), values.texts, [], values.accept)
            call = self._model.parse("predict", mine, store)
            result = self._model.run("predict", call)
            self._mine()
            return self._shown(answer.encode(result, call, self._model))
        except Canceled:
            raise
        except BaseException as exc:
            self._mine()
            failure.report(exc)
            said = failure.of(exc)
            if isinstance(exc, SystemExit) and self._model.exits:
                # Alone it would end the process, which the other rows need.
                said = Failure("exited", said.msg)
            return _error(said)
        finally:
            store.close()

    def _shown(self, told: answer.Answer) -> bytes:
        try:
            data = told.data
            if isinstance(data, Fill):
                room = memoryview(bytearray(self._limit))
                data = room[: data.fill(room)]
        finally:
            told.close()
        if told.content_type == JSON_TYPE:
            end = b',"whole":true}' if told.whole else b"}"
            return b'{"value":' + bytes(data) + end
        about = {
            "content_type": told.content_type,
            "filename": told.filename,
            "data": base64.b64encode(data).decode("ascii"),
        }
        return json.dumps(about).encode("ascii")


def _error(said: Failure) -> bytes:
    about: Dict[str, Any] = {"error": said.msg, "code": said.code}
    if said.fields:
        about["fields"] = said.fields
    if said.status:
        about["status"] = said.status
    try:
        return json.dumps(about).encode("ascii")
    except (TypeError, ValueError, RecursionError):  # what a model puts into its own Failure
        return json.dumps({"error": str(said.msg), "code": str(said.code)}).encode("ascii")
