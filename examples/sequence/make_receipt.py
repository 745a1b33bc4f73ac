"""Make receipt.png, a receipt with its labels on the left and its amounts on the right.

It needs Pillow only, whose own font it uses; run it from anywhere.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HEAD = ["Harbour Supplies", "Invoice 2026-118", "Date: 14 March 2026", "Due 2026-04-13"]
ROWS = [
    ("Rope, 12 mm", "48.00"),
    ("Anchor chain", "1,150.50"),
    ("Subtotal", "1,198.50"),
    ("VAT 19%", "227.72"),
    ("Total EUR", "1,426.22"),
]

WIDTH, HEIGHT = 900, 860


def draw_receipt() -> Image.Image:
    """Return the receipt."""
    page = Image.new("L", (WIDTH, HEIGHT), 255)
    draw = ImageDraw.Draw(page)
    draw.text((80, 60), HEAD[0], fill=0, font=ImageFont.load_default(48))
    font = ImageFont.load_default(34)
    for number, line in enumerate(HEAD[1:]):
        draw.text((80, 150 + 60 * number), line, fill=0, font=font)
    top = 380
    draw.line((80, top - 25, WIDTH - 80, top - 25), fill=0, width=2)
    for number, (label, amount) in enumerate(ROWS):
        y = top + 80 * number
        draw.text((80, y), label, fill=0, font=font)
        draw.text((WIDTH - 80 - draw.textlength(amount, font=font), y), amount, fill=0, font=font)
    return page


if __name__ == "__main__":
    draw_receipt().save(Path(__file__).with_name("receipt.png"), optimize=True)
