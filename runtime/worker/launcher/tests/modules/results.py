"""What predict may return, and raise."""

from webargs import fields


def get_predict_args():
    return {"kind": fields.Str(required=True)}


def predict(kind):
    if kind == "http":
        from aiohttp import web

        raise web.HTTPBadRequest(reason="The picture is too small")
    if kind == "value":
        raise ValueError("no such label")
    if kind == "unimplemented":
        raise NotImplementedError("not here")
    return {
        "dict": {"a": [1, 2.5, None, True]},
        "list": [1, "two"],
        "text": "text",
        "number": 3,
        "none": None,
        "empty": {},
        "unicode": {"ü": "日本"},
        "nested": {"a": {"b": {"c": []}}},
    }[kind]
