"""A field of each kind, without a location."""

import enum

import echo
from webargs import fields


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


def get_metadata():
    return {
        "name": "kinds",
        "author": "The deepfn authors",
        "license": "Apache-2.0",
        "description": "One argument of each kind",
        "version": "1.0",
    }


def get_predict_args():
    return {
        "text": fields.Str(metadata={"description": "Any text"}),
        "integer": fields.Int(),
        "strict": fields.Int(strict=True),
        "number": fields.Float(),
        "nan": fields.Float(allow_nan=True),
        "decimal": fields.Decimal(),
        "flag": fields.Bool(),
        "uuid": fields.UUID(),
        "url": fields.Url(),
        "email": fields.Email(),
        "datetime": fields.DateTime(),
        "date": fields.Date(),
        "time": fields.Time(),
        "delta": fields.TimeDelta(),
        "texts": fields.List(fields.Str()),
        "integers": fields.List(fields.Int(), load_default=[1, 2]),
        "flags": fields.List(fields.Bool()),
        "pair": fields.Tuple((fields.Str(), fields.Int())),
        "table": fields.Dict(),
        "scores": fields.Dict(keys=fields.Str(), values=fields.Float()),
        "nested": fields.Nested({"a": fields.Int(required=True), "b": fields.Str()}),
        "colour": fields.Enum(Colour),
        "colour_value": fields.Enum(Colour, by_value=True),
        "ip": fields.IP(),
        "raw": fields.Raw(),
        "words": fields.DelimitedList(fields.Str()),
        "nullable": fields.Int(allow_none=True),
        "nothing": fields.Str(load_default=None),
        "made": fields.List(fields.Int(), load_default=list),
        "secret": fields.Str(load_only=True, metadata={"format": "password"}),
        "constant": fields.Constant("always"),
    }


def predict(**kwargs):
    return echo.answer(**kwargs)
