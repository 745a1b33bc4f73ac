"""Record what the published DEEPaaS server answers to the requests of this corpus.

    python record.py

The interpreter has to have deepaas installed. The server is started with the sample modules
in ../modules, each as a model of its own, once with each of the settings in servers.json;
each request of requests.json is sent to the one that it is for, and upstream.json gets its
answers: ``status``, ``content_type`` and ``body`` (or ``body_base64`` when it is not
UTF-8), ``location`` and ``allow`` when there are these headers; ``hangs`` when there was no
answer within ANSWER_TIME seconds, and ``closes`` when the connection was closed instead.

A request has a ``name``, the ``module`` it is for, ``method``, ``path``, ``query`` (as it
stands in the URL), ``headers`` (pairs), and one of ``body`` (text), ``body_base64`` and
``multipart``: parts with ``name``, ``text`` or ``base64``, and optionally ``filename`` and
``content_type``. ``ignore`` names members of the answer that are different each time.
``server`` is one of servers.json, "all" without it. In the path ``{uuid}`` stands for the
member uuid of the answer to the request that ``uuid_of`` names. A request with ``until``
is repeated until the answer has that status, as long as it is "running", and for no more
than ``seconds`` if it has these.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Tuple

HERE = pathlib.Path(__file__).resolve().parent
MODULES = HERE.parent / "modules"
BOUNDARY = "deepfn-corpus-boundary"
ANSWER_TIME = 5.0
START_TIME = 120.0


def encode_multipart(parts: List[Dict[str, Any]]) -> bytes:
    """Return the body of a form, with BOUNDARY between its parts."""
    body = b""
    for part in parts:
        head = 'Content-Disposition: form-data; name="{}"'.format(part["name"])
        if "filename" in part:
            head += '; filename="{}"'.format(part["filename"])
        if "content_type" in part:
            head += "\r\nContent-Type: {}".format(part["content_type"])
        data = base64.b64decode(part["base64"]) if "base64" in part else part["text"].encode()
        body += b"--" + BOUNDARY.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"
    return body + b"--" + BOUNDARY.encode() + b"--\r\n"


def body_of(request: Dict[str, Any]) -> Tuple[bytes, List[Tuple[str, str]]]:
    """Return the body of a request, and the headers that it needs."""
    if "multipart" in request:
        value = "multipart/form-data; boundary=" + BOUNDARY
        return encode_multipart(request["multipart"]), [("Content-Type", value)]
    if "body_base64" in request:
        return base64.b64decode(request["body_base64"]), []
    return request.get("body", "").encode(), []


def ask(port: int, request: Dict[str, Any], seconds: float = ANSWER_TIME) -> Dict[str, Any]:
    """Send a request and return the answer as upstream.json has it."""
    path = request["path"] + ("?" + request["query"] if request.get("query") else "")
    body, more = body_of(request)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.putrequest(request["method"], path, skip_accept_encoding=True)
        for name, value in [tuple(pair) for pair in request.get("headers", [])] + more:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        data = answer.read()
    except socket.timeout:
        return {"hangs": True}
    except http.client.RemoteDisconnected:
        return {"closes": True}
    finally:
        connection.close()
    content_type = answer.getheader("Content-Type") or ""
    found: Dict[str, Any] = {"status": answer.status, "content_type": content_type}
    for name in ("Location", "Allow"):
        if answer.getheader(name) is not None:
            found[name.lower()] = answer.getheader(name)
    try:
        found["body"] = data.decode()
    except UnicodeDecodeError:
        found["body_base64"] = base64.b64encode(data).decode()
    return found


def declare(folder: pathlib.Path, points: Dict[str, str]) -> None:
    """Write the metadata of an installed package with these entry points."""
    info = folder / "deepfn_samples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deepfn-samples\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in sorted(points.items())]
    (info / "entry_points.txt").write_text("[deepaas.v2.model]\n" + "\n".join(lines) + "\n")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Return when the server answers; raise when it ends or START_TIME is over."""
    end = time.monotonic() + START_TIME
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with status {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start in {START_TIME} s")


def ask_until(port: int, request: Dict[str, Any], answers: Dict[str, Any]) -> Dict[str, Any]:
    """Send a request to a training, whose uuid is in an earlier answer, until it is over."""
    if "uuid_of" in request:
        uuid = json.loads(answers[request["uuid_of"]]["body"])["uuid"]
        request = dict(request, path=request["path"].replace("{uuid}", uuid))
    end = time.monotonic() + request.get("seconds", START_TIME)
    while True:
        answer = ask(port, request)
        state = json.loads(answer["body"])["status"] if "until" in request else ""
        if state != "running":
            return answer
        if time.monotonic() > end:
            if "seconds" in request:
                return answer
            raise RuntimeError(f"{request['name']} is still running")
        time.sleep(0.05)


def record(
    requests: List[Dict[str, Any]], points: Dict[str, str], flags: List[str]
) -> Dict[str, Any]:
    """Return the answers of a server with these models and flags."""
    port = free_port()
    answers: Dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        declare(pathlib.Path(folder), points)
        env = dict(os.environ, PYTHONPATH=os.pathsep.join([folder, str(MODULES)]))
        env["PYTHONWARNINGS"] = "ignore"
        command = [os.path.join(os.path.dirname(sys.executable), "deepaas-run")]
        command += ["--listen-port", str(port), *flags]
        with open(os.path.join(folder, "log"), "wb") as log:
            server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
            try:
                wait_for(port, server)
                for name in points:  # its process starts with the first request
                    path = f"/v2/models/{name}/predict/"
                    ask(port, {"method": "POST", "path": path}, START_TIME)
                for request in requests:
                    answers[request["name"]] = ask_until(port, request, answers)
            except BaseException:
                sys.stderr.write((pathlib.Path(folder) / "log").read_text()[-4000:])
                raise
            finally:
                server.kill()
                server.wait()
    return answers


def main() -> None:
    """Record the corpus."""
    requests = json.loads((HERE / "requests.json").read_text())
    points = json.loads((HERE / "models.json").read_text())
    servers = json.loads((HERE / "servers.json").read_text())
    answers: Dict[str, Any] = {}
    for name, server in servers.items():
        models = {model: points[model] for model in server.get("models", points)}
        chosen = [r for r in requests if r.get("server", "all") == name]
        answers.update(record(chosen, models, server["upstream"]))
    text = json.dumps(answers, indent=1, ensure_ascii=False, sort_keys=True)
    (HERE / "upstream.json").write_text(text + "\n")
    print("recorded", len(answers), "answers")


if __name__ == "__main__":
    main()
