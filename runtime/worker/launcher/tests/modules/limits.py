"""Fields with validators, names and classes of their own."""

import echo
from webargs import ValidationError, fields, validate


class Box(fields.Field):
    """Four numbers with commas between them, as text, or a list of four."""

    def _deserialize(self, value, attr, data, **kwargs):
        parts = value.split(",") if isinstance(value, str) else value
        try:
            numbers = [float(part) for part in parts]
        except (TypeError, ValueError) as err:
            raise ValidationError("Not four numbers.") from err
        if len(numbers) != 4:
            raise ValidationError("Not four numbers.")
        return {"left": numbers[0], "top": numbers[1], "right": numbers[2], "bottom": numbers[3]}


class Upper(fields.Str):
    """Text in capitals."""

    def deserialize(self, value, attr=None, data=None, **kwargs):
        found = super().deserialize(value, attr, data, **kwargs)
        return found.upper() if isinstance(found, str) else found


def even(value):
    if value % 2:
        raise ValidationError("Must be even.")


def get_predict_args():
    return {
        "required": fields.Str(required=True, metadata={"description": "Has to be there"}),
        "ranged": fields.Int(load_default=5, validate=validate.Range(min=0, max=10)),
        "positive": fields.Float(validate=validate.Range(min=0, min_inclusive=False)),
        "short": fields.Str(validate=validate.Length(min=2, max=4)),
        "few": fields.List(fields.Int(), validate=validate.Length(max=2)),
        "exact": fields.List(fields.Int(), validate=validate.Length(equal=2)),
        "one": fields.Str(
            load_default="a",
            validate=validate.OneOf(["a", "b"], labels=["first", "second"]),
            metadata={"enum": ["a", "b"]},
        ),
        "one_number": fields.Int(validate=validate.OneOf([1, 2, 3])),
        "only": fields.List(fields.Str(), validate=validate.ContainsOnly(["x", "y"])),
        "not": fields.Str(validate=validate.NoneOf(["bad"])),
        "equal": fields.Int(validate=validate.Equal(7)),
        "pattern": fields.Str(validate=validate.Regexp(r"^[a-z]+-\d+$")),
        "both": fields.Int(validate=[validate.Range(min=0), even]),
        "box": Box(),
        "upper": Upper(),
        "renamed": fields.Int(data_key="other-name"),
        "hinted": fields.Str(metadata={"enum": ["p", "q"]}),
        "json_text": fields.Str(load_default='{"a": 1}'),
    }


def predict(**kwargs):
    return echo.answer(**kwargs)
