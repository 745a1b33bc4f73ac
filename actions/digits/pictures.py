"""Pictures of one digit, as the 8 x 8 pixels that the network knows.

The training data are scanned digits of 32 x 32 black and white points that were counted
in blocks of 4 x 4, so a pixel is a number from 0 (paper) to 16 (ink). A picture of any
size is brought to the same form: ink is told from paper, cut out, and shrunk.
"""

from __future__ import annotations

import io
import warnings
from typing import BinaryIO, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

#: More points than a digit needs; a few bytes of PNG can stand for very many.
MAX_POINTS = 16 << 20

_SIDE = 8
# How much ink makes a point a part of the digit when it is cut out.
_CUT = 0.3


def read(source: Union[str, BinaryIO]) -> np.ndarray:
    """Return 64 pixels from 0 to 16 of the picture in a file.

    Raises ValueError when it is not a picture, too large, damaged, or empty.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as picture:
                return _pixels(_ink(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"The picture has more than {MAX_POINTS} points.") from None
    except UnidentifiedImageError:
        raise ValueError("Not a picture that can be read.") from None
    except (OSError, SyntaxError, EOFError) as err:
        raise ValueError(f"The picture cannot be read: {err}") from None


def _ink(picture: Image.Image) -> np.ndarray:
    """Return how much ink there is at each point, from 0 to 1."""
    if picture.width * picture.height > MAX_POINTS:
        raise ValueError(f"The picture has more than {MAX_POINTS} points.")
    if picture.mode in ("I", "I;16", "F"):
        light = np.asarray(picture, dtype=np.float64)
    else:
        rgba = picture.convert("RGBA")
        if rgba.getextrema()[3][0] < 255:
            light = np.asarray(_on_paper(rgba).convert("L"), dtype=np.float64)
        else:
            light = np.asarray(rgba.convert("L"), dtype=np.float64)
    if not np.isfinite(light).all():
        raise ValueError("The picture has points that are not numbers.")
    low, high = light.min(), light.max()
    if high <= low:
        raise ValueError("The picture has one colour only.")
    light = (light - low) / (high - low)
    # A digit does not fill its picture: what there is more of is paper.
    return light if np.median(light) < 0.5 else 1.0 - light


def _on_paper(rgba: Image.Image) -> Image.Image:
    """Put a picture with transparent points on black or white, whichever differs more."""
    alpha = np.asarray(rgba.getchannel("A"), dtype=np.float64)
    light = np.asarray(rgba.convert("L"), dtype=np.float64)
    seen = (light * alpha).sum() / max(alpha.sum(), 1.0)
    paper = Image.new("RGBA", rgba.size, "black" if seen > 127 else "white")
    return Image.alpha_composite(paper, rgba)


def _pixels(ink: np.ndarray) -> np.ndarray:
    if ink.shape == (_SIDE, _SIDE):
        return np.rint(ink * 16.0).reshape(64)
    rows, columns = np.nonzero(ink > _CUT)
    cut = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = cut.shape
    # The digit fills the height, as in the data; a wide one fills the width.
    side = max(height, width)
    square = np.zeros((side, side))
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = cut
    grey = Image.fromarray((square * 255.0).astype(np.uint8))
    small = grey.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.rint(np.asarray(small, dtype=np.float64) / 255.0 * 16.0).reshape(64)


def seen(pixels: np.ndarray) -> np.ndarray:
    """Return n x 64 pixels as they are when each digit comes as a larger picture."""
    again = np.empty_like(pixels)
    for i, row in enumerate(pixels):
        light = (255.0 - row.reshape(_SIDE, _SIDE) * 255.0 / 16.0).astype(np.uint8)
        picture = Image.fromarray(light).resize((32, 32), Image.Resampling.BICUBIC)
        again[i] = _pixels(_ink(picture))
    return again


def png(pixels: np.ndarray, scale: int = 16) -> bytes:
    """Return 64 pixels as a PNG of black ink on white paper, ``scale`` points a pixel."""
    light = (255.0 - np.asarray(pixels).reshape(_SIDE, _SIDE) * 255.0 / 16.0).astype(np.uint8)
    picture = Image.fromarray(light).resize(
        (_SIDE * scale, _SIDE * scale), Image.Resampling.BICUBIC
    )
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
