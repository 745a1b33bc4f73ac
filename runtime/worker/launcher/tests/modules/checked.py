"""A module with a schema for its answers."""

from webargs import fields

schema = {
    "status": fields.Str(required=True),
    "labels": fields.List(fields.Str()),
    "score": fields.Float(),
}


def get_metadata():
    raise NotImplementedError


def get_predict_args():
    return {"kind": fields.Str(load_default="good")}


def predict(kind):
    if kind == "good":
        return {"status": "OK", "labels": ["cat", "dog"], "score": 0.5}
    if kind == "missing":
        return {"labels": []}
    if kind == "unknown":
        return {"status": "OK", "more": 1}
    return ["not", "an", "object"]
