from __future__ import annotations

import io
import sys
import urllib.error
from typing import Any, Dict, List

import pytest
from deepfn_launcher import failure
from deepfn_launcher.words import Failure


class HTTPException(Exception):
    """Looks like those of aiohttp, werkzeug and starlette."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("text of the exception")
        for name, value in attributes.items():
            setattr(self, name, value)


class HTTPBadRequest(HTTPException):
    pass


class Api(Exception):
    status_code = 429
    detail = "slow down"


class ClientError(Exception):
    pass


class FromAnother(ClientError):
    status = 404
    reason = "Not Found"


class ValidationError(Exception):
    def __init__(self, messages: Any) -> None:
        super().__init__(messages)
        self.messages = messages


class NoText(Exception):
    def __str__(self) -> str:
        raise SystemExit("broken")


class NoAttributes(Exception):
    @property
    def status(self) -> int:
        raise RuntimeError("broken")


CASES: List[Any] = [
    (ValueError("bad"), "failed", "ValueError: bad", 0),
    (ValueError(), "failed", "ValueError", 0),
    (KeyError("k"), "failed", "KeyError: 'k'", 0),
    (NoText(), "failed", "NoText: <its __str__ raised SystemExit>", 0),
    (NoAttributes("x"), "failed", "NoAttributes: x", 0),
    (SystemExit(3), "failed", "predict called sys.exit(3)", 0),
    (SystemExit(), "failed", "predict called sys.exit()", 0),
    (KeyboardInterrupt(), "failed", "predict was interrupted by KeyboardInterrupt", 0),
    (GeneratorExit(), "failed", "GeneratorExit", 0),
    (NotImplementedError(), "unsupported", "the model does not implement predict", 0),
    (NotImplementedError("no"), "unsupported", "the model does not implement predict: no", 0),
    (MemoryError(), "failed", "predict ran out of memory (MemoryError)", 0),
    (RecursionError("deep"), "failed", "RecursionError: deep", 0),
    (HTTPBadRequest(status=400, reason="no picture"), "invalid", "no picture", 400),
    (HTTPException(status=404, reason="Not Found"), "not_found", "Not Found", 404),
    (HTTPException(status=422, text="wrong", reason="Unpr"), "invalid", "wrong", 422),
    (HTTPException(status=400, text="400: Bad", reason="Bad"), "invalid", "Bad", 400),
    (HTTPException(status=501, reason="no"), "unsupported", "no", 501),
    (HTTPException(status=503, reason="later"), "unavailable", "later", 503),
    (HTTPException(status=500, reason="oops"), "failed", "oops", 500),
    (HTTPException(status=302, reason="Found"), "failed", "HTTPException: text of the", 0),
    (HTTPException(status="400", code=400, description="d"), "invalid", "d", 400),
    (HTTPException(status_code=418, detail={"a": 1}), "invalid", "{'a': 1}", 418),
    (HTTPException(code=400), "invalid", "HTTPException: text of the exception", 400),
    (HTTPException(status=True), "failed", "HTTPException: text", 0),
    (Api(), "invalid", "slow down", 429),
    (FromAnother("x"), "failed", "FromAnother: x", 0),
    (urllib.error.HTTPError("u", 404, "no", None, io.BytesIO()), "failed", "HTTPError", 0),  # type: ignore
]


@pytest.mark.parametrize(
    ("exc", "code", "msg", "status"), CASES, ids=[type(case[0]).__name__ for case in CASES]
)
def test_of(exc: BaseException, code: str, msg: str, status: int) -> None:
    got = failure.of(exc)
    assert (got.code, got.status) == (code, status)
    assert got.msg.startswith(msg)


def test_a_failure_is_passed_on() -> None:
    said = Failure("conflict", "m", fields={"a": ["b"]}, status=409)
    assert failure.of(said) is said


def test_the_verb_is_named() -> None:
    assert failure.of(SystemExit(1), "train").msg == "train called sys.exit(1)"


FIELDS: List[Any] = [
    ({"a": ["x", "y"]}, {"a": ["x", "y"]}),
    (["x"], {"_schema": ["x"]}),
    ("x", {"_schema": ["x"]}),
    ({"a": {0: ["x"], 2: {"b": ["y"]}}}, {"a": ["0: x", "2: b: y"]}),
    ({"a": "x"}, {"a": ["x"]}),
    ({3: [4]}, {"3": ["4"]}),
]


@pytest.mark.parametrize(("messages", "want"), FIELDS)
def test_validation_errors(messages: Any, want: Dict[str, List[str]]) -> None:
    got = failure.of(ValidationError(messages))
    assert (got.code, got.fields) == ("invalid", want)
    assert got.msg


def test_a_validation_error_of_marshmallow() -> None:
    import marshmallow

    got = failure.of(marshmallow.ValidationError({"a": ["Not a valid integer."]}))
    assert got.fields == {"a": ["Not a valid integer."]}
    got = failure.of(marshmallow.ValidationError("bad"))
    assert got.code == "invalid"
    assert got.msg == "_schema: bad"


def test_a_validation_error_without_messages_is_the_models_own() -> None:
    assert failure.of(ValidationError(None)).code == "failed"


@pytest.mark.stack("deepaas")
def test_exceptions_of_aiohttp() -> None:
    from aiohttp import web

    cases = [
        (web.HTTPBadRequest(reason="no picture"), "invalid", "no picture", 400),
        (web.HTTPBadRequest(text="long text"), "invalid", "long text", 400),
        (web.HTTPNotFound(), "not_found", "Not Found", 404),
        (web.HTTPException(reason="x"), "failed", "HTTPException", 0),
        (web.HTTPInternalServerError(reason="gpu"), "failed", "gpu", 500),
    ]
    for exc, code, msg, status in cases:
        got = failure.of(exc)
        assert (got.code, got.status) == (code, status)
        assert got.msg.startswith(msg) or status == 0


def test_messages_are_bounded() -> None:
    got = failure.of(ValueError("x" * 1_000_000))
    assert len(got.msg) < 5000
    assert "more characters" in got.msg
    got = failure.of(HTTPException(status=400, reason="y" * 1_000_000))
    assert len(got.msg) < 5000


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def test_report_prints_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    failure.report(raised(ValueError("bad")))
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):")
    assert said.endswith("ValueError: bad\n")
    assert "in raised" in said


def test_report_leaves_the_launchers_frames_out(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        failure._flat({"a": _Bad()}, "")
    except ZeroDivisionError as exc:
        assert exc.__traceback__ is not None
        exc.__traceback__ = exc.__traceback__.tb_next  # from the frame of the test
        failure.report(exc)
    said = capsys.readouterr().err
    assert "/failure.py" not in said
    assert "in __iter__" in said or "in items" in said


class _Bad(Dict[str, Any]):
    def items(self) -> Any:
        return 1 // 0


@pytest.mark.parametrize(
    "exc",
    [Failure("failed", "x"), HTTPException(status=400, reason="r"), ValidationError(["x"])],
)
def test_report_is_silent_about_what_the_caller_is_told(
    exc: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    failure.report(raised(exc))
    assert capsys.readouterr().err == ""


def test_report_survives_everything(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failure.report(raised(NoText()))
    monkeypatch.setattr(sys, "stderr", None)
    failure.report(raised(ValueError("said on the descriptor")))
    assert "said on the descriptor" in capfd.readouterr().err
