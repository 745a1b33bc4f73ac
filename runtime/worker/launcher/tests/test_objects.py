"""Objects in places that hold nothing but text: a query string, a form, a command line."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List

import pytest
from deepfn_launcher import failure
from deepfn_launcher.arguments import Arguments
from deepfn_launcher.uploads import Uploads
from deepfn_launcher.words import (
    FROM_CONTEXT,
    FROM_FORM,
    FROM_HEADER,
    FROM_QUERY,
    Failure,
    Text,
    Values,
)
from marshmallow import Schema, ValidationError, fields, pre_load


@pytest.fixture()
def store() -> Iterator[Uploads]:
    made = Uploads()
    yield made
    made.close()


class Inner(Schema):
    a = fields.Int(required=True)


class Own(fields.Dict):
    """A field that reads text itself, and nothing but text."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        found = json.loads(value)
        if "bad" in found:
            raise ValidationError("is bad.")
        return {"own": found}


class Prepared(Schema):
    table = fields.Dict()

    @pre_load
    def read(self, data: Any, **_: Any) -> Any:
        if "table" in data:
            data["table"] = {"prepared": json.loads(data["table"])}
        return data


FIELDS = {
    "table": fields.Dict(),
    "scores": fields.Dict(keys=fields.Str(), values=fields.Float()),
    "nested": fields.Nested(Inner, data_key="in"),
    "many": fields.Nested(Inner, many=True),
    "list": fields.List(fields.Dict()),
    "text": fields.Str(),
    "raw": fields.Raw(),
    "head": fields.Dict(metadata={"location": "headers"}),
    "own": Own(),
}


def parsed(declared: Any, store: Uploads, *texts: Any, args: bytes = b"") -> Dict[str, Any]:
    given = [Text(*text) for text in texts]
    call = Arguments(declared, negotiates=True).parse(Values(args, given, [], ""), store)
    return call.kwargs


def refused(declared: Any, store: Uploads, *texts: Any, args: bytes = b"") -> Dict[str, List[str]]:
    with pytest.raises(Failure) as caught:
        parsed(declared, store, *texts, args=args)
    assert caught.value.code == "invalid"
    assert caught.value.fields is not None
    return caught.value.fields


@pytest.mark.parametrize("origin", [FROM_QUERY, FROM_FORM])
def test_objects_in_text(origin: str, store: Uploads) -> None:
    cases = [
        ("table", '{"k": [1, {"x": null}]}', "table", {"k": [1, {"x": None}]}),
        ("table", " \n{}\t", "table", {}),
        ("scores", '{"x": "1.5"}', "scores", {"x": 1.5}),
        ("table", '{"k": "ü"}', "table", {"k": "ü"}),
        ("in", '{"a": "3"}', "nested", {"a": 3}),
        ("text", '{"a": 3}', "text", '{"a": 3}'),
        ("raw", '{"a": 3}', "raw", '{"a": 3}'),
        ("own", '{"a": 3}', "own", {"own": {"a": 3}}),
    ]
    for wire, text, key, want in cases:
        assert parsed(FIELDS, store, (origin, wire, text)) == {key: want}, text


def test_objects_in_headers_and_on_a_command_line(store: Uploads) -> None:
    assert parsed(FIELDS, store, (FROM_HEADER, "Head", '{"a": 1}')) == {"head": {"a": 1}}
    texts = ((FROM_CONTEXT, "__OW_ACTION_NAME", "m"), (FROM_FORM, "table", '{"a": 1}'))
    assert parsed(FIELDS, store, *texts) == {"table": {"a": 1}}


@pytest.mark.parametrize(
    "text", ["", "a", "{", "{a: 1}", '{"a": NaN}', '{"a": 1} x', "[1]", "null", "{" * 100000]
)
def test_text_that_is_no_object(text: str, store: Uploads) -> None:
    got = refused(FIELDS, store, (FROM_QUERY, "table", text))
    assert got == {"table": ["Not a valid mapping type."]}


def test_a_text_that_is_not_unicode_is_no_object(store: Uploads) -> None:
    got = refused(FIELDS, store, (FROM_QUERY, "table", '{"\udcff'))
    assert got == {"table": ["Not a valid mapping type."]}


def test_what_is_wrong_in_an_object(store: Uploads) -> None:
    texts = ((FROM_QUERY, "in", '{"b": 1}'), (FROM_QUERY, "scores", '{"x": "y"}'))
    got = refused(FIELDS, store, *texts, (FROM_QUERY, "table", "{}"))
    assert set(got) == {"in", "scores"}
    assert "a: Missing data for required field." in got["in"]
    assert got["scores"] == ["x: value: Not a valid number."]


def test_json_says_what_is_text(store: Uploads) -> None:
    body = json.dumps({"table": '{"a": 1}'}).encode()
    assert refused(FIELDS, store, args=body) == {"table": ["Not a valid mapping type."]}


def test_lists_are_as_they_were(store: Uploads) -> None:
    one = '{"a": 1}'
    got = refused(FIELDS, store, (FROM_QUERY, "list", one), (FROM_QUERY, "many", one))
    assert got["list"] == ["0: Not a valid mapping type."]
    assert "many" in got


def test_modules_that_read_the_text_themselves(store: Uploads) -> None:
    assert refused(FIELDS, store, (FROM_FORM, "own", '{"bad": 1}')) == {"own": ["is bad."]}
    got = parsed(Prepared, store, (FROM_FORM, "table", '{"a": 1}'))
    assert got == {"table": {"prepared": {"a": 1}}}


def test_given_has_what_an_object_holds(store: Uploads) -> None:
    texts = [Text(FROM_FORM, "table", '{"a": "\\u002ftmp"}')]
    call = Arguments(FIELDS, negotiates=True).parse(Values(b"", texts, [], ""), store)
    assert call.given == {"table": {"a": "/tmp"}}


def test_messages_are_joined_without_two_stops() -> None:
    fields_ = {"a": ["Too long.", "Too odd."], "b": ["Wrong"], "c": ["Missing."]}
    assert failure.sentence(fields_) == "a: Too long. Too odd; b: Wrong; c: Missing."
    assert failure.sentence({}) == ""


def test_articles() -> None:
    words = ["object", "Image", "int", "ndarray", "dict", "_thing"]
    got = [failure.with_article(word) for word in words]
    assert got == ["an object", "an Image", "an int", "a ndarray", "a dict", "a _thing"]
