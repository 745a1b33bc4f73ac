"""The corpus against the launcher alone; the program's own tests send it over HTTP too."""

from __future__ import annotations

import base64
import json
import pathlib
import sys
import urllib.parse
from typing import Any, Dict, Iterator, List

import pytest
from deepfn_launcher import answer, compat, failure, load
from deepfn_launcher.uploads import Uploads
from deepfn_launcher.wire import Fill
from deepfn_launcher.words import (
    FROM_FORM,
    FROM_HEADER,
    FROM_QUERY,
    Failure,
    Setup,
    Text,
    Upload,
    Values,
)

HERE = pathlib.Path(__file__).resolve().parent
MODULES = HERE.parent / "modules"

REQUESTS: List[Dict[str, Any]] = json.loads((HERE / "requests.json").read_text())
MODELS: Dict[str, str] = json.loads((HERE / "models.json").read_text())
UPSTREAM: Dict[str, Dict[str, Any]] = json.loads((HERE / "upstream.json").read_text())
DIFFERENCES: Dict[str, Dict[str, Any]] = json.loads((HERE / "differences.json").read_text())

# The answers were recorded with deepaas, webargs 5 and aiohttp. Two need them: a list for
# a DelimitedList, which webargs 8 refuses, and an exception of aiohttp's.
RECORDED_WITH = {"kinds json words list", "results http"}


@pytest.fixture(scope="module", autouse=True)
def modules() -> Iterator[None]:
    sys.path.insert(0, str(MODULES))
    yield
    sys.path.remove(str(MODULES))


LOADED: Dict[str, Any] = {}


def model(name: str) -> Any:
    if name not in LOADED:
        LOADED[name] = load.load(Setup(name, module=MODELS[name]))
    return LOADED[name]


def values(request: Dict[str, Any]) -> Values:
    """Return what a front hands over of a request."""
    found = Values()
    for name, value in urllib.parse.parse_qsl(request.get("query", ""), keep_blank_values=True):
        found.texts.append(Text(FROM_QUERY, name, value))
    kind = ""
    for name, value in request.get("headers", []):
        if name.lower() == "content-type":
            kind = value.split(";")[0].strip().lower()
        elif name.lower() == "accept":
            found.accept = found.accept or value
        else:
            found.texts.append(Text(FROM_HEADER, name, value.strip()))
    body = request.get("body", "").encode() or base64.b64decode(request.get("body_base64", ""))
    if kind == "application/json" or kind.endswith("+json"):
        found.args = body
    elif kind == "application/x-www-form-urlencoded":
        for name, value in urllib.parse.parse_qsl(body.decode().rstrip(), keep_blank_values=True):
            found.texts.append(Text(FROM_FORM, name, value))
    for part in request.get("multipart", []):
        data = base64.b64decode(part["base64"]) if "base64" in part else part["text"].encode()
        if part.get("filename"):
            kind = part.get("content_type", "")
            found.files.append(Upload(part["name"], part["filename"], kind, memoryview(data)))
        else:
            found.texts.append(Text(FROM_FORM, part["name"], data.decode()))
    return found


def bytes_of(found: answer.Answer) -> bytes:
    if not isinstance(found.data, Fill):
        return bytes(found.data)
    room = bytearray(1 << 16)
    return bytes(room[: found.data.fill(memoryview(room))])


def status_of(err: Failure) -> int:
    if err.status:
        return err.status
    if err.code == "invalid":
        return 422 if err.fields else 400
    return {"unsupported": 501, "failed": 500}[err.code]


def observe(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the launcher makes of a request, as upstream.json has it."""
    store = Uploads()
    verb = "train" if request["path"].rstrip("/").endswith("/train") else "predict"
    try:
        one = model(request["module"])
        call = one.parse(verb, values(request), store)
        if verb == "train":
            return {"status": 200, "json": one.shown(call)}
        found = answer.encode(one.run("predict", call), call, one)
        data = bytes_of(found)
        found.close()
    except Failure as err:
        if err.msg.startswith("Invalid JSON body") and not err.fields:
            # The front looks at a body before the launcher does, and says this.
            return {"status": 400, "json": {"json": ["Invalid JSON body."]}}
        return {"status": status_of(err), "json": err.fields}
    except Exception as err:
        told = failure.of(err)
        return {"status": status_of(told), "json": told.fields}
    finally:
        store.close()
    if found.content_type != "application/json":
        return {"status": 200, "content_type": found.content_type, "data": data}
    value = json.loads(data)
    return {"status": 200, "json": value if found.whole else {"status": "OK", "predictions": value}}


def wanted(request: Dict[str, Any]) -> Dict[str, Any]:
    recorded = DIFFERENCES.get(request["name"], UPSTREAM[request["name"]])
    found: Dict[str, Any] = {"status": recorded["status"]}
    media_type = recorded.get("content_type", "").split(";")[0]
    if media_type == "application/json" and "body" in recorded:
        found["json"] = json.loads(recorded["body"])
        if "args" in found["json"] and request.get("ignore"):
            found["json"] = found["json"]["args"]
    elif recorded["status"] == 200:
        data = recorded.get("body", "").encode() or base64.b64decode(recorded["body_base64"])
        found.update(content_type=media_type, data=data)
    return found


def of_front(request: Dict[str, Any]) -> bool:
    """Say whether a request is about how the front reads a body, or about a route."""
    heads = {name.lower(): value for name, value in request.get("headers", [])}
    return (
        "server" in request
        or DIFFERENCES.get(request["name"], {}).get("front", False)
        or heads.get("content-type", "").startswith("multipart/")
    )


HANDLED = [
    r
    for r in REQUESTS
    if r["method"] == "POST"
    and not of_front(r)
    and r["path"] in [f"/v2/models/{r['module']}/{verb}/" for verb in ("predict", "train")]
    and (compat.has_deepaas() or r["name"] not in RECORDED_WITH)
]


@pytest.mark.parametrize("request_", HANDLED, ids=[r["name"] for r in HANDLED])
def test_answers_as_recorded(request_: Dict[str, Any]) -> None:
    want, got = wanted(request_), observe(request_)
    if "json" not in want:
        got.pop("json", None)
    assert got == want, request_["name"]


def test_every_difference_is_one() -> None:
    """A difference that has gone is to be taken off the list."""
    names = {r["name"] for r in REQUESTS}
    assert set(DIFFERENCES) <= names
    assert set(UPSTREAM) == names
    for name, difference in DIFFERENCES.items():
        upstream = UPSTREAM[name]
        assert difference["why"]
        same = all(
            difference.get(key) == upstream.get(key) for key in ("status", "body", "content_type")
        )
        assert not same or difference["more"], name
