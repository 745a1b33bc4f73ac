"""Arguments that are files."""

import echo
from deepaas.model.v2.wrapper import UploadedFile
from webargs import fields

_FORM = {"type": "file", "location": "form"}


def get_predict_args():
    return {
        "files": fields.Field(data_key="data", metadata=dict(_FORM, description="A picture")),
        "raw": fields.Raw(metadata=dict(_FORM)),
        "plain": fields.Field(metadata={"location": "form"}),
        "text": fields.Str(),
        "number": fields.Int(),
        "texts": fields.List(fields.Str()),
    }


def predict(**kwargs):
    return {
        "uploaded": sorted(k for k, v in kwargs.items() if isinstance(v, UploadedFile)),
        "kwargs": echo.answer(**kwargs),
    }
