"""A module that trains, and does not predict much."""

from webargs import fields, validate


def get_train_args():
    return {
        "epochs": fields.Int(load_default=3, validate=validate.Range(min=1)),
        "rate": fields.Float(required=True),
        "layers": fields.List(fields.Int(), load_default=[8, 8]),
        "renamed": fields.Str(data_key="name-on-the-wire"),
    }


def train(**kwargs):
    return {"trained": sorted(kwargs)}


def predict():
    return "nothing"
