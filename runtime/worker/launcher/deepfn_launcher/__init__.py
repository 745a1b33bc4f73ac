"""The Python side of a deepfn worker: loads a model and answers requests.

It runs in the module's own interpreter and needs nothing but the standard library of
Python 3.8 or later; marshmallow is the module's own, where it brings one.
"""
