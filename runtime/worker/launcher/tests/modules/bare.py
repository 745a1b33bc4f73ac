"""Only predict."""


def predict(**kwargs):
    return {"kwargs": sorted(kwargs)}
