"""Tests of what is said of fields."""

from __future__ import annotations

import datetime
import enum
import json
from typing import Any, Dict

import marshmallow as ma
import pytest
from deepfn_launcher import schema
from deepfn_launcher.arguments import Arguments
from marshmallow import fields, validate
from webargs.fields import DelimitedList


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Own(fields.Field):  # type: ignore[misc]
    def _deserialize(self, value: Any, attr: Any, data: Any, **_: Any) -> Any:
        return value


class OwnString(fields.Str):  # type: ignore[misc]
    def _deserialize(self, value: Any, attr: Any, data: Any, **_: Any) -> Any:
        return str(value)


class SameString(fields.Str):  # type: ignore[misc]
    """A subclass that converts as its base does."""


class Tree(ma.Schema):
    name = fields.Str(required=True)
    children = fields.List(fields.Nested(lambda: Tree(only=("name", "children"))))


class Pair(ma.Schema):
    a = fields.Int(required=True)
    b = fields.Str(data_key="bee")
    c = fields.Str(dump_only=True)


STRING = {"type": "string"}
INTEGER = {"type": "integer"}
PAIR = {
    "type": "object",
    "properties": {"a": INTEGER, "bee": STRING},
    "required": ["a"],
    "additionalProperties": False,
}


def about(**metadata: Any) -> Dict[str, Any]:
    return {"metadata": metadata}


@pytest.mark.parametrize(
    ("field", "want"),
    [
        (fields.Raw(), {}),
        (fields.Str(), STRING),
        (SameString(), STRING),
        (fields.UUID(), {"type": "string", "format": "uuid"}),
        (fields.Url(), {"type": "string", "format": "uri"}),
        (fields.Email(), {"type": "string", "format": "email"}),
        (fields.IP(), STRING),
        (fields.IPv4(), {"type": "string", "format": "ipv4"}),
        (fields.IPv6(), {"type": "string", "format": "ipv6"}),
        (fields.IPInterface(), STRING),
        (fields.Int(), INTEGER),
        (fields.Float(), {"type": "number"}),
        (fields.Decimal(), {"type": "number"}),
        (fields.Bool(), {"type": "boolean"}),
        (fields.Bool(truthy={"ja"}), {}),
        (fields.Date(), {"type": "string", "format": "date"}),
        (fields.Dict(), {"type": "object"}),
        (
            fields.Dict(keys=fields.Str(), values=fields.Int()),
            {"type": "object", "additionalProperties": INTEGER},
        ),
        (fields.List(fields.Int()), {"type": "array", "items": INTEGER}),
        (
            fields.Tuple((fields.Str(), fields.Int())),
            {"type": "array", "prefixItems": [STRING, INTEGER], "minItems": 2, "maxItems": 2},
        ),
        (fields.Nested(Pair), PAIR),
        (fields.Nested(Pair, many=True), {"type": "array", "items": PAIR}),
        (fields.Pluck(Pair, "a"), INTEGER),
        (fields.Enum(Colour), {"type": "string", "enum": ["RED", "GREEN"]}),
        (fields.Enum(Colour, by_value=True), {"enum": [1, 2]}),
        (fields.Function(deserialize=str), {"writeOnly": True}),
        (fields.Constant(7), {"default": 7}),
        (Own(), {"description": "Own"}),
        (OwnString(), {"description": "OwnString", "x-base-type": "string"}),
        (fields.Int(allow_none=True), {"type": ["integer", "null"]}),
        (fields.Str(load_default=None), {"type": ["string", "null"], "default": None}),
        (
            fields.Str(allow_none=True, validate=validate.OneOf(["a"])),
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            fields.Str(validate=validate.OneOf(["a", "b"], labels=["first", "second"])),
            {"enum": ["a", "b"], "description": "One of a (first), b (second).", **STRING},
        ),
        (fields.Int(validate=validate.OneOf(range(3))), {"enum": [0, 1, 2], **INTEGER}),
        (fields.Date(validate=validate.OneOf([datetime.date.min])), {"format": "date", **STRING}),
        (fields.Int(validate=validate.Range(1, 5)), {"minimum": 1, "maximum": 5, **INTEGER}),
        (
            fields.Float(validate=validate.Range(0, 1, min_inclusive=False, max_inclusive=False)),
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        ),
        (
            fields.Float(validate=validate.Range(min=float("-inf"), max=float("nan"))),
            {"type": "number"},
        ),
        (
            fields.Date(validate=validate.Range(min=datetime.date.min)),
            {"type": "string", "format": "date"},
        ),
        (fields.Str(validate=validate.Length(1, 3)), {"minLength": 1, "maxLength": 3, **STRING}),
        (
            fields.List(fields.Int(), validate=validate.Length(equal=2)),
            {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2},
        ),
        (fields.Dict(validate=validate.Length(max=2)), {"type": "object", "maxProperties": 2}),
        (fields.Raw(validate=validate.Length(max=2)), {}),
        (
            fields.List(fields.Str(), validate=validate.ContainsOnly(["x"])),
            {"type": "array", "items": {"enum": ["x"], **STRING}},
        ),
        (
            fields.List(fields.Str(), validate=validate.ContainsNoneOf(["x"])),
            {"type": "array", "items": {"not": {"enum": ["x"]}, **STRING}},
        ),
        (fields.Str(validate=validate.NoneOf(["x"])), {"not": {"enum": ["x"]}, **STRING}),
        (fields.Int(validate=validate.Equal(7)), {"enum": [7], **INTEGER}),
        (fields.Str(validate=validate.Regexp("[a-z]{2}")), {"pattern": "^(?:[a-z]{2})", **STRING}),
        (fields.Str(validate=validate.Regexp("^a|b$")), STRING),
        (fields.Str(validate=validate.Regexp(r"(?P<x>a)")), STRING),
        (fields.Str(validate=validate.Regexp(r"\d+")), STRING),
        (fields.Str(validate=validate.Regexp("a", flags=2)), STRING),
        (fields.Str(validate=[validate.Length(min=1), lambda v: True]), {"minLength": 1, **STRING}),
        (
            fields.Int(validate=validate.And(validate.Range(min=0), validate.Range(max=9))),
            {"minimum": 0, "maximum": 9, **INTEGER},
        ),
        (fields.Str(**about(description=" Text ")), {"description": "Text", **STRING}),
        (fields.Str(**about(description=("odd",))), {"description": "('odd',)", **STRING}),
        (
            fields.Str(**about(enum=["a", "b"])),
            {"description": "Choices: a, b.", "x-choices": ["a", "b"], **STRING},
        ),
        (fields.Int(**about(example=3)), {"examples": [3], **INTEGER}),
        (fields.Int(**about(examples=[3, 4])), {"examples": [3, 4], **INTEGER}),
        (
            fields.Str(load_only=True, **about(format="password")),
            {"writeOnly": True, "format": "password", **STRING},
        ),
        (fields.Int(load_default=3), {"default": 3, **INTEGER}),
        (fields.Int(load_default=lambda: 3), INTEGER),
        (fields.Float(load_default=float("nan")), {"type": "number"}),
        (
            fields.Date(load_default=datetime.date(2026, 1, 2)),
            {"type": "string", "format": "date", "default": "2026-01-02"},
        ),
        (fields.Raw(load_default=object()), {}),
        (fields.Raw(**about(type="file")), {"type": "string", "format": "binary"}),
        (
            fields.List(fields.Raw(), **about(type="file")),
            {"type": "array", "items": {"type": "string", "format": "binary"}},
        ),
    ],
)
def test_value_schema(field: Any, want: Dict[str, Any]) -> None:
    got = schema.value_schema(field)
    json.dumps(got, allow_nan=False)
    assert got == want


@pytest.mark.parametrize(
    "field",
    [
        fields.DateTime(),
        fields.DateTime(format="timestamp"),
        fields.DateTime(format="timestamp_ms"),
        fields.DateTime(format="%Y"),
        fields.AwareDateTime(),
        fields.Time(),
        fields.TimeDelta(),
        fields.Time(format="%H"),
        DelimitedList(fields.Int()),
    ],
)
def test_value_schema_says_the_form(field: Any) -> None:
    got = schema.value_schema(field)
    assert got["type"] in ("string", "number", ["string", "array"])
    assert got["description"]


def test_nothing_fails() -> None:
    class Broken(fields.Field):  # type: ignore[misc]
        @property
        def metadata(self) -> Any:
            raise RuntimeError("no metadata")

        @metadata.setter
        def metadata(self, value: Any) -> None:
            pass

    class Odd(validate.Range):  # type: ignore[misc]
        pass

    odd = fields.Int(validate=Odd(min=1))
    odd.validators[0].min = object()
    assert schema.value_schema(Broken()) == {"description": "Broken"}
    assert schema.value_schema(odd) == INTEGER
    assert schema.value_schema(fields.Nested("NobodyKnowsIt")) == {"description": "Nested"}
    assert schema.value_schema(object()) == {"description": "object"}


def test_a_schema_in_itself_ends() -> None:
    got = schema.document_schema(Tree())
    inner = got["properties"]["children"]["items"]
    assert inner == {"type": "object", "description": "Tree, as above."}
    assert len(json.dumps(got)) < 500


def test_deep_nesting_ends() -> None:
    field: Any = fields.Int()
    for _ in range(200):
        field = fields.List(field)
    assert len(json.dumps(schema.value_schema(field))) < 2000


def test_signature() -> None:
    declared = {
        "n": fields.Int(
            required=True, validate=validate.Range(0, 9), **about(description="How many")
        ),
        "mode": fields.Str(load_default="a", validate=validate.OneOf(["a", "b"])),
        "image": fields.Raw(data_key="data", **about(type="file", location="form")),
        "either": fields.Raw(**about(location="form")),
        "token": fields.Str(data_key="X-Token", **about(location="headers")),
        "maybe": fields.Bool(allow_none=True),
        "shown": fields.Int(dump_only=True),
        "accept": fields.Str(
            required=True, validate=validate.OneOf(["a/b", "c/d"]), **about(location="headers")
        ),
    }
    found = schema.signature(Arguments(declared, negotiates=True))
    assert found == {
        "parameters": [
            {
                "name": "n",
                "type": "integer",
                "description": "How many",
                "required": True,
                "schema": {"minimum": 0, "maximum": 9, **INTEGER},
            },
            {
                "name": "mode",
                "type": "string",
                "default": "a",
                "choices": ["a", "b"],
                "schema": {"enum": ["a", "b"], "default": "a", **STRING},
            },
            {
                "name": "data",
                "type": "file",
                "location": "form",
                "schema": {"type": "string", "format": "binary"},
            },
            {
                "name": "either",
                "type": "file",
                "location": "form",
                "schema": {"type": "string", "format": "binary"},
            },
            {"name": "X-Token", "type": "string", "location": "headers", "schema": STRING},
            {"name": "maybe", "type": "boolean", "schema": {"type": ["boolean", "null"]}},
            {
                "name": "accept",
                "type": "string",
                "required": False,
                "default": "a/b",
                "choices": ["a/b", "c/d"],
                "location": "headers",
                "schema": {"enum": ["a/b", "c/d"], "default": "a/b", **STRING},
            },
        ]
    }
