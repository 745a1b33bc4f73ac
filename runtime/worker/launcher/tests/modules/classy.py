"""A class whose functions need no object."""

import echo
from webargs import fields


class Classy:
    @staticmethod
    def get_metadata():
        return {"name": "classy"}

    @classmethod
    def get_predict_args(cls):
        return {"n": fields.Int(required=True)}

    @staticmethod
    def predict(**kwargs):
        return echo.answer(**kwargs)
