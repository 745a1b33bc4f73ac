"""What the sample modules answer: their arguments, as JSON shows them."""

import hashlib


def plain(value):
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else {"type": "float", "text": str(value)}
    if isinstance(value, tuple) and hasattr(value, "original_filename"):
        with open(value.filename, "rb") as f:
            data = f.read()
        return {
            "type": type(value).__name__,
            "name": value.name,
            "content_type": value.content_type,
            "original_filename": value.original_filename,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__] + [plain(v) for v in value]
    return {"type": type(value).__name__, "text": str(value)}


def answer(**kwargs):
    return {key: plain(kwargs[key]) for key in sorted(kwargs)}
