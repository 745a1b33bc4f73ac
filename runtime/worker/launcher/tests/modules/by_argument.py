"""Media types, asked for by the argument accept."""

from webargs import fields, validate


def get_predict_args():
    return {
        "accept": fields.Str(
            load_default="application/zip",
            validate=validate.OneOf(["application/json", "application/zip", "image/*"]),
        ),
    }


def predict(accept):
    if accept == "application/zip":
        return b"PK\x05\x06" + bytes(18)
    if accept == "image/*":
        return b"GIF89a"
    return {"accept": accept}
