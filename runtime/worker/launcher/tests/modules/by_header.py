"""Media types, asked for by the header Accept."""

import io
import tempfile

from webargs import fields, validate

PNG = b"\x89PNG\r\n\x1a\n sample"


def get_predict_args():
    return {
        "kind": fields.Str(load_default="bytes"),
        "accept": fields.Str(
            load_default="application/json",
            metadata={"location": "headers", "description": "The media type of the answer"},
            validate=validate.OneOf(["application/json", "image/png", "text/plain"]),
        ),
    }


def predict(kind, accept):
    if accept == "image/png":
        if kind == "stream":
            return io.BytesIO(PNG)
        if kind == "file":
            with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as f:
                f.write(PNG)
            return open(f.name, "rb")
        return PNG
    if accept == "text/plain":
        return "plain text"
    return {"accept": accept}
