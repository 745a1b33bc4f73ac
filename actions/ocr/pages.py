"""Pages: their pictures, and the lines of text on them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, List

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

#: Colours of the frames, by turns.
_COLOURS = ("#d81b60", "#1e88e5", "#2e7d32", "#f57c00", "#6a1b9a")

# Dots that a side has at least and at most when lines are looked for.
_SMALLEST = 64
_LARGEST = 2000


@dataclass(frozen=True)
class Line:
    """A line of text, how certain it is (0 to 1), and its box.

    The box is four points [x, y], clockwise from where the text begins.
    """

    text: str
    score: float
    box: List[List[float]]


def upright(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB as it is meant to be seen: turned, and on white paper.

    Raises OSError, SyntaxError or ValueError when its data are damaged.
    """
    turned = ImageOps.exif_transpose(picture) or picture
    if turned.mode in ("I", "I;16", "I;16B", "F"):
        light = np.asarray(turned, dtype=np.float64)
        if not np.isfinite(light).all():
            raise ValueError("it has points that are not numbers")
        span = max(float(light.max() - light.min()), 1e-9)
        grey = ((light - light.min()) / span * 255.0).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if turned.has_transparency_data:
        rgba = turned.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return turned.convert("RGB")


def sample(text: str) -> Image.Image:
    """Return a small page that says ``text``."""
    picture = Image.new("RGB", (320, 96), "white")
    ImageDraw.Draw(picture).text((32, 24), text, fill="black", font=ImageFont.load_default(40))
    return picture


@dataclass(frozen=True)
class View:
    """A picture as the networks get it.

    ``dots`` are height x width x 3 bytes in the order blue, green, red.
    """

    dots: np.ndarray
    scale_x: float
    scale_y: float
    left: int
    top: int

    def back(self, box: Any) -> List[List[float]]:
        """Return where in the picture the points of a box in the view are."""
        return [
            [(float(x) - self.left) / self.scale_x, (float(y) - self.top) / self.scale_y]
            for x, y in box
        ]


def view(picture: Image.Image) -> View:
    """Return an RGB picture shrunk to what is looked at, and with paper around a narrow one.

    Detection enlarges what is small until its shorter side has some hundred dots, so a
    strip of one dot by thousands would not fit into memory, and a line on its own would
    take longer than a page.
    """
    scale = min(1.0, _LARGEST / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    if (width, height) != picture.size:
        small = picture.resize((width, height), Image.Resampling.BOX)
    else:
        small = picture
    dots = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])
    scales = width / picture.width, height / picture.height
    page_height = max(height, width // 2, _SMALLEST)
    page_width = max(width, height // 2, _SMALLEST)
    left, top = (page_width - width) // 2, (page_height - height) // 2
    if (page_height, page_width) == (height, width):
        return View(dots, *scales, 0, 0)
    edge = np.concatenate([dots[0], dots[-1], dots[:, 0], dots[:, -1]])
    page = np.empty((page_height, page_width, 3), dtype=np.uint8)
    page[:] = np.median(edge, axis=0).astype(np.uint8)
    page[top : top + height, left : left + width] = dots
    return View(page, *scales, left, top)


def marked(picture: Image.Image, lines: List[Line]) -> bytes:
    """Return a PNG of the picture with each line framed and numbered from 1."""
    copy = picture.copy()
    draw = ImageDraw.Draw(copy)
    for number, line in enumerate(lines, 1):
        colour = _COLOURS[number % len(_COLOURS)]
        corners = [(x, y) for x, y in line.box]
        height = _distance(line.box[0], line.box[3])
        draw.line([*corners, corners[0]], fill=colour, width=max(1, round(height / 12)))
        size = max(9.0, height * 0.5)
        font = ImageFont.load_default(size)
        x, y = corners[0]
        label = draw.textbbox((x, y), str(number), font=font, anchor="ls")
        draw.rectangle(label, fill=colour)
        draw.text((x, y), str(number), fill="white", font=font, anchor="ls")
    out = io.BytesIO()
    copy.save(out, "PNG")
    return out.getvalue()


def _distance(one: List[float], other: List[float]) -> float:
    return float(np.hypot(one[0] - other[0], one[1] - other[1]))
