"""The text of a page: where its lines are, and what they say.

A module of the DEEPaaS V2 API. Detection, direction and recognition are PP-OCR's networks,
which the package rapidocr brings with their weights, so nothing is fetched at run time.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from typing import Any, Dict, List, Optional

import pages
import pdf
from marshmallow import ValidationError, fields, validate
from PIL import Image, UnidentifiedImageError

_JSON = "application/json"
_PNG = "image/png"
_PDF = "application/pdf"

_MAX_POINTS = 64 << 20

_engine: Any = None
# The engine keeps a request's settings in itself: one page at a time.
_lock = threading.Lock()


def get_metadata() -> Dict[str, Any]:
    """Return what the model is."""
    return {
        "name": "ocr",
        "title": "Read a page of printed text",
        "summary": "Finds the lines of text in a picture and reads them.",
        "version": "PP-OCRv6 small, rapidocr 3.10.0",
        "author": "The PaddleOCR authors, the RapidOCR authors",
        "license": "Apache-2.0",
        "source": "https://github.com/RapidAI/RapidOCR",
    }


def get_predict_args() -> Dict[str, Any]:
    """Return the arguments of predict."""
    return {
        "image": fields.Raw(
            required=True,
            metadata={
                "type": "file",
                "location": "form",
                "description": "A picture of a page (PNG, JPEG, TIFF, WebP, …).",
            },
        ),
        "min_score": fields.Float(
            load_default=0.5,
            validate=validate.Range(min=0, max=1),
            metadata={"description": "Leave out lines that are less certain than this."},
        ),
        "upside_down": fields.Bool(
            load_default=True,
            metadata={"description": "Look for lines that are upside down, too."},
        ),
        "accept": fields.Str(
            load_default=_JSON,
            validate=validate.OneOf([_JSON, _PNG, _PDF]),
            metadata={
                "location": "headers",
                "description": "The lines as JSON, the picture with the lines marked, or a "
                "PDF of the picture whose text can be searched and copied.",
            },
        ),
    }


def warm() -> None:
    """Load the networks and read one small picture, so that the first page is not slow."""
    _read(pages.sample("warm"), 0.5, True)


def predict(**kwargs: Any) -> Any:
    """Return the lines in the order of reading, as the media type in ``accept``.

    JSON is {"width", "height", "text", "lines": [{"text", "score", "box"}]}; a box is
    four points [x, y] of the picture, clockwise from where the text begins. Raises
    marshmallow.ValidationError for a file that is not a picture that can be read.
    """
    picture = _open(kwargs["image"])
    lines = _read(picture, kwargs.get("min_score", 0.5), kwargs.get("upside_down", True))
    accept = kwargs.get("accept", _JSON)
    if accept == _PNG:
        return io.BytesIO(pages.marked(picture, lines))
    if accept == _PDF:
        return io.BytesIO(pdf.page(picture, lines))
    return {
        "width": picture.width,
        "height": picture.height,
        "text": "\n".join(line.text for line in lines),
        "lines": [{"text": x.text, "score": x.score, "box": x.box} for x in lines],
    }


def _open(image: Any) -> Image.Image:
    """Return the uploaded picture, upright and in RGB."""
    if not hasattr(image, "filename"):
        raise ValidationError({"image": ["Not an uploaded file."]})
    too_large = ValidationError({"image": [f"The picture has more than {_MAX_POINTS} points."]})
    try:
        with warnings.catch_warnings():
            # The limit below is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(image.filename) as picture:
                if picture.width * picture.height > _MAX_POINTS:
                    raise too_large
                return pages.upright(picture)
    except Image.DecompressionBombError:
        raise too_large from None
    except UnidentifiedImageError:
        raise ValidationError({"image": ["Not a picture that can be read."]}) from None
    except (OSError, SyntaxError, ValueError) as err:
        raise ValidationError({"image": [f"The picture cannot be read: {err}"]}) from None


def _read(picture: Image.Image, min_score: float, upside_down: bool) -> List[pages.Line]:
    global _engine
    with _lock:
        if _engine is None:
            _engine = _new_engine()
        view = pages.view(picture)
        found = _engine(view.dots, use_cls=upside_down, text_score=min_score)
    if found.boxes is None or found.txts is None:
        return []
    return [
        pages.Line(text, float(score), view.back(box))
        for box, text, score in zip(found.boxes, found.txts, found.scores)
        if text.strip() and score >= min_score
    ]


def _new_engine() -> Any:
    # Most of the time of a start is in this import.
    from rapidocr import RapidOCR

    params: Dict[str, Any] = {"Global.log_level": "error"}
    threads = _threads()
    if threads is not None:
        params["EngineConfig.onnxruntime.intra_op_num_threads"] = threads
    return RapidOCR(params=params)


def _threads() -> Optional[int]:
    """Return how many threads numeric libraries were told to use; ONNX Runtime is not told."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else None
