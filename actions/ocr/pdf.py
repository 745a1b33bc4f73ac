"""A PDF of one page: a picture, and over it the text that was read, invisible.

The text is found by a search and can be selected and copied, because it stands where the
picture shows it. Its font has no shapes: nobody sees them. Each different character gets
a number, and a table in the file says which character that is, so that any language will do.
"""

from __future__ import annotations

import io
import math
import zlib
from typing import Dict, List

from pages import Line
from PIL import Image

# Points (1/72 inch) that one dot of a picture takes, where the picture does not say it.
_SCALE = 72.0 / 150.0
# The size that a PDF may have without extensions.
_LARGEST = 14400.0
# Width of a character in the font, in thousandths of its height.
_WIDTH = 500


def page(picture: Image.Image, lines: List[Line]) -> bytes:
    """Return a PDF with an RGB picture and its lines."""
    scale = min(_SCALE, _LARGEST / max(picture.size))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=90)
    numbers = _numbers(lines)
    width, height = picture.width * scale, picture.height * scale
    content = [f"q {width:.3f} 0 0 {height:.3f} 0 0 cm /Picture Do Q", "BT 3 Tr"]
    content += [_text(line, numbers, scale, height) for line in lines]
    content.append("ET")
    image = (
        f"/Type /XObject /Subtype /Image /Width {picture.width} /Height {picture.height} "
        "/ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode"
    )
    return _file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.3f} {height:.3f}] "
            "/Contents 4 0 R /Resources << /XObject << /Picture 5 0 R >> "
            "/Font << /Text 6 0 R >> >> >>".encode(),
            _stream("/Filter /FlateDecode", zlib.compress("\n".join(content).encode())),
            _stream(image, jpeg.getvalue()),
            b"<< /Type /Font /Subtype /Type0 /BaseFont /Invisible /Encoding /Identity-H "
            b"/DescendantFonts [7 0 R] /ToUnicode 9 0 R >>",
            b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Invisible "
            b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> "
            b"/FontDescriptor 8 0 R /DW %d >>" % _WIDTH,
            b"<< /Type /FontDescriptor /FontName /Invisible /Flags 4 /FontBBox [0 0 500 1000] "
            b"/ItalicAngle 0 /Ascent 1000 /Descent 0 /CapHeight 1000 /StemV 80 >>",
            _stream("/Filter /FlateDecode", zlib.compress(_characters(numbers))),
        ]
    )


def _numbers(lines: List[Line]) -> Dict[str, int]:
    numbers: Dict[str, int] = {}
    for line in lines:
        for character in line.text:
            numbers.setdefault(character, len(numbers) + 1)
    return numbers


def _text(line: Line, numbers: Dict[str, int], scale: float, page_height: float) -> str:
    """Return the operators that write a line over its box."""
    (x0, y0), (x1, y1), _, (x3, y3) = line.box
    length, height = math.hypot(x1 - x0, y1 - y0), math.hypot(x3 - x0, y3 - y0)
    size = max(height * scale, 0.1)
    angle = math.atan2(y0 - y1, x1 - x0)  # y of a picture goes down, of a page up
    stretch = 100.0 * length * scale / (len(line.text) * _WIDTH / 1000.0 * size)
    cos, sin = math.cos(angle), math.sin(angle)
    codes = "".join(f"{numbers[c]:04X}" for c in line.text)
    return (
        f"/Text {size:.3f} Tf {max(stretch, 0.1):.3f} Tz "
        f"{cos:.5f} {sin:.5f} {-sin:.5f} {cos:.5f} {x3 * scale:.3f} "
        f"{page_height - y3 * scale:.3f} Tm <{codes}> Tj"
    )


def _characters(numbers: Dict[str, int]) -> bytes:
    """Return the table of characters by number, a ToUnicode CMap."""
    entries = [
        f"<{number:04X}> <{character.encode('utf-16-be', 'replace').hex().upper()}>"
        for character, number in numbers.items()
    ]
    parts = [
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
        "1 begincodespacerange <0000> <FFFF> endcodespacerange",
    ]
    for start in range(0, len(entries), 100):
        block = entries[start : start + 100]
        parts += [f"{len(block)} beginbfchar", *block, "endbfchar"]
    parts.append("endcmap CMapName currentdict /CMap defineresource pop end end")
    return "\n".join(parts).encode()


def _stream(entries: str, data: bytes) -> bytes:
    head = f"<< {entries} /Length {len(data)} >>\nstream\n".encode()
    return head + data + b"\nendstream"


def _file(objects: List[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        out += b"%010d 00000 n \n" % place
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    out += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(out)
