"""Fields that are looked for in one part of the request only."""

import echo
from webargs import fields


def get_predict_args():
    return {
        "anywhere": fields.Str(),
        "q": fields.Str(metadata={"location": "query"}),
        "qs": fields.List(fields.Str(), metadata={"location": "querystring"}),
        "f": fields.Str(metadata={"location": "form"}),
        "j": fields.Raw(metadata={"location": "json"}),
        "h": fields.Str(data_key="X-Sample", metadata={"location": "headers"}),
        "hs": fields.List(fields.Str(), data_key="X-Samples", metadata={"location": "headers"}),
        "c": fields.Str(metadata={"location": "cookies"}),
    }


def predict(**kwargs):
    return echo.answer(**kwargs)
