"""One file, without which there is no prediction."""

import echo
from webargs import fields


def get_predict_args():
    about = {"type": "file", "location": "form", "description": "What to look at"}
    return {"image": fields.Field(required=True, metadata=about)}


def predict(image):
    return echo.plain(image)
