"""Checks of the model ocr, in the environment of its requirements.

python -m unittest discover -s examples/ocr/tests
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import unittest
import zlib
from collections import namedtuple
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE.parents[1] / "actions" / "ocr"), str(HERE)]

import api  # noqa: E402
import make_page  # noqa: E402
import pages  # noqa: E402
import pdf  # noqa: E402
from marshmallow import Schema, ValidationError  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

Upload = namedtuple("Upload", "name filename content_type original_filename")

PAGE = Upload("image", str(HERE / "page.png"), "image/png", "page.png")
WORDS = [make_page.TITLE, *(line for line in make_page.TEXT if line)]


def read(picture, kind="PNG", **kwargs):
    """Predict with a picture, or with bytes that pretend to be one."""
    with tempfile.NamedTemporaryFile() as file:
        if isinstance(picture, bytes):
            file.write(picture)
        else:
            picture.save(file, kind)
        file.flush()
        return api.predict(image=Upload("image", file.name, "image/png", "x"), **kwargs)


def dots(picture):
    """Return the dots of an RGB picture as triples."""
    data = picture.tobytes()
    return zip(data[::3], data[1::3], data[2::3])


class Read(unittest.TestCase):
    def test_page(self):
        answer = json.loads(json.dumps(api.predict(image=PAGE)))
        self.assertEqual(answer["text"].splitlines(), WORDS)
        self.assertEqual((answer["width"], answer["height"]), (1240, 1000))
        for line, word in zip(answer["lines"], WORDS):
            self.assertEqual(line["text"], word)
            self.assertGreater(line["score"], 0.9)
            self.assertLessEqual(line["score"], 1)
        # The title begins at (100, 70) of a page that was then turned by a degree.
        (x0, y0), (x1, _), _, (_, y3) = answer["lines"][0]["box"]
        self.assertLess(abs(x0 - 105), 12)
        self.assertLess(abs(y0 - 65), 12)
        self.assertGreater(x1 - x0, 600)
        self.assertGreater(y3 - y0, 35)

    def test_the_picture_is_what_the_script_makes(self):
        again = make_page.scanned(make_page.draw_page())
        self.assertEqual(again.tobytes(), Image.open(PAGE.filename).convert("L").tobytes())

    def test_formats(self):
        page = pages.sample("warm 2026")
        light = page.convert("L")
        clear = Image.new("RGBA", page.size, (0, 0, 0, 0))
        clear.putalpha(light.point(lambda value: 255 - value))
        exif = Image.Exif()
        exif[0x0112] = 3  # turned by 180 degrees
        turned = io.BytesIO()
        page.rotate(180).save(turned, "JPEG", exif=exif)
        cases = {
            "JPEG": (page, "JPEG"),
            "WebP": (page, "WEBP"),
            "TIFF": (page, "TIFF"),
            "grey": (light, "PNG"),
            "one bit": (page.convert("1"), "PNG"),
            "palette": (page.convert("P"), "GIF"),
            "CMYK": (page.convert("CMYK"), "TIFF"),
            "16 bits": (light.convert("I").point(lambda value: value * 257), "TIFF"),
            "transparent": (clear, "PNG"),
            "light on dark": (page.point(lambda value: 255 - value), "PNG"),
            "turned by the camera": (turned.getvalue(), ""),
        }
        for name, (picture, kind) in cases.items():
            with self.subTest(name):
                self.assertEqual(read(picture, kind)["text"], "warm 2026")

    def test_upside_down(self):
        page = Image.new("RGB", (700, 120), "white")
        font = ImageFont.load_default(40)
        ImageDraw.Draw(page).text((30, 30), "Serverless models", fill="black", font=font)
        self.assertEqual(read(page.rotate(180), upside_down=True)["text"], "Serverless models")
        self.assertNotEqual(read(page.rotate(180), upside_down=False)["text"], "Serverless models")

    def test_min_score(self):
        scores = [line["score"] for line in api.predict(image=PAGE, min_score=0.0)["lines"]]
        limit = sorted(scores)[len(scores) // 2]
        left = api.predict(image=PAGE, min_score=limit)["lines"]
        self.assertEqual([x["score"] for x in left], [x for x in scores if x >= limit])
        self.assertEqual(len(api.predict(image=PAGE, min_score=0.5)["lines"]), len(WORDS))

    def test_pages_without_text(self):
        for size in ((1, 1), (1, 500), (60000, 2), (400, 300)):
            with self.subTest(size=size):
                answer = read(Image.new("RGB", size, "white"))
                self.assertEqual((answer["text"], answer["lines"]), ("", []))
        for accept in ("image/png", "application/pdf"):
            with self.subTest(accept):
                self.assertTrue(read(Image.new("RGB", (1, 1)), accept=accept).read())

    def test_boxes_of_small_and_large_pictures(self):
        for scale in (1, 3, 10):
            with self.subTest(scale):
                page = pages.sample("one line")
                page = page.resize((page.width * scale, page.height * scale))
                (line,) = read(page)["lines"]
                self.assertEqual(line["text"], "one line")
                dark = page.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
                (x0, y0), _, (x1, y1), _ = line["box"]
                for got, want in zip((x0, y0, x1, y1), dark):
                    self.assertLess(abs(got - want), 16 * scale)

    def test_memory_of_a_strip(self):
        code = (
            "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
            "import api\nfrom PIL import Image\n"
            "api._read(Image.new('RGB', (4_000_000, 16), 'white'), 0.5, True)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, sys.path[0]], capture_output=True, text=True, check=True
        )
        self.assertLess(int(done.stdout), 1500, "MiB")

    def test_bad_pictures(self):
        bomb = io.BytesIO()
        Image.new("1", (10000, 10000)).save(bomb, "PNG")
        larger = io.BytesIO()
        Image.new("1", (20000, 20000)).save(larger, "PNG")
        whole = Path(PAGE.filename).read_bytes()
        cases = {
            "empty": b"",
            "text": b"no picture",
            "cut off": whole[: len(whole) // 2],
            "too many points": bomb.getvalue(),
            "far too many points": larger.getvalue(),
        }
        for name, data in cases.items():
            with self.subTest(name), self.assertRaises(ValidationError) as caught:
                read(data)
            self.assertEqual(list(caught.exception.messages), ["image"])
        with self.assertRaises(ValidationError):
            api.predict(image="page.png")

    def test_arguments(self):
        schema = Schema.from_dict(api.get_predict_args())()
        self.assertEqual(
            schema.load({"image": PAGE}),
            {"image": PAGE, "min_score": 0.5, "upside_down": True, "accept": "application/json"},
        )
        for args in (
            {},
            {"image": PAGE, "min_score": 1.1},
            {"image": PAGE, "min_score": -0.1},
            {"image": PAGE, "accept": "image/gif"},
        ):
            with self.subTest(args=args), self.assertRaises(ValidationError):
                schema.load(args)

    def test_many_threads(self):
        texts = ["one line", "another line", "the third", "and a fourth"]
        got = {}

        def work(text):
            got[text] = read(pages.sample(text))["text"]

        threads = [threading.Thread(target=work, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(got, {text: text for text in texts})

    def test_threads_by_environment(self):
        for value, want in (("3", 3), ("0", None), ("", None), ("many", None), ("²", None)):
            with self.subTest(value), mock.patch.dict(os.environ, OMP_NUM_THREADS=value):
                self.assertEqual(api._threads(), want)

    def test_warm_says_nothing(self):
        code = "import sys; sys.path.insert(0, sys.argv[1]); import api; api.warm()"
        folder = str(HERE.parents[1] / "actions" / "ocr")
        done = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout + done.stderr, "")


class Marked(unittest.TestCase):
    def test_frames(self):
        answer = Image.open(api.predict(image=PAGE, accept="image/png"))
        page = pages.upright(Image.open(PAGE.filename))
        self.assertEqual((answer.format, answer.size), ("PNG", page.size))
        coloured = sum(len(set(dot)) > 1 for dot in dots(answer))
        self.assertGreater(coloured, 10000)
        self.assertEqual(sum(len(set(dot)) > 1 for dot in dots(page)), 0)


class Pdf(unittest.TestCase):
    def text_of(self, data):
        """Return the lines of a PDF's text, as a viewer finds them."""
        streams = [
            zlib.decompress(body)
            for body in re.findall(
                rb"/FlateDecode /Length \d+ >>\nstream\n(.*?)\nendstream", data, re.S
            )
        ]
        content, table = streams
        pairs = re.findall(rb"<([0-9A-F]{4})> <([0-9A-F]+)>\n", table)
        characters = {code: bytes.fromhex(x.decode()).decode("utf-16-be") for code, x in pairs}
        codes = re.findall(rb"<([0-9A-F]*)> Tj", content)
        return [
            "".join(characters[line[i : i + 4]] for i in range(0, len(line), 4)) for line in codes
        ]

    def test_page(self):
        data = api.predict(image=PAGE, accept="application/pdf").read()
        self.assertEqual(self.text_of(data), WORDS)
        self.check_table(data)

    def check_table(self, data):
        """Check that the table of objects says where they are."""
        start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", data).group(1))
        self.assertTrue(data[start:].startswith(b"xref\n"))
        places = re.findall(rb"(\d{10}) 00000 n ", data[start:])
        self.assertEqual(len(places), 9)
        for number, place in enumerate(places, 1):
            self.assertTrue(data[int(place) :].startswith(b"%d 0 obj\n" % number))
        for length, body in re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", data, re.S):
            self.assertEqual(int(length), len(body))

    def test_any_language_and_many_characters(self):
        texts = ["naïve (café) \\ <tag>", "模型保持温暖", "𐌰 and 😀", "\ud800 alone"]
        texts += ["".join(chr(0x4E00 + i) for i in range(250))]
        box = [[0.0, 0.0], [50.0, 0.0], [50.0, 10.0], [0.0, 10.0]]
        lines = [pages.Line(text, 1.0, box) for text in texts]
        data = pdf.page(Image.new("RGB", (60, 60), "white"), lines)
        texts[3] = "? alone"
        self.assertEqual(self.text_of(data), texts)
        self.check_table(data)

    def test_place_of_a_line(self):
        # A line that runs upwards, 100 dots long and 20 high, 48/100 of a point each.
        box = [[30.0, 150.0], [30.0, 50.0], [50.0, 50.0], [50.0, 150.0]]
        data = pdf.page(Image.new("RGB", (200, 200), "white"), [pages.Line("abcd", 1.0, box)])
        content = zlib.decompress(re.search(rb"stream\n(.*?)\nendstream", data, re.S).group(1))
        self.assertIn(b"0.00000 1.00000 -1.00000 0.00000 24.000 24.000 Tm", content)
        # 4 characters of half their height, 9.6, make 19.2 of the 48 points.
        self.assertIn(b"/Text 9.600 Tf 250.000 Tz", content)

    def test_flat_boxes(self):
        box = [[5.0, 5.0]] * 4
        data = pdf.page(Image.new("RGB", (20000, 9), "white"), [pages.Line("x", 1.0, box)])
        self.assertIn(b"/MediaBox [0 0 9600.000 4.320]", data)
        self.assertEqual(self.text_of(data), ["x"])


if __name__ == "__main__":
    unittest.main()
