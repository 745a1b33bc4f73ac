"""Checks of the model demo, in the environment of its requirements.

python -m unittest discover -s examples/demo/tests
"""

import contextlib
import io
import json
import sys
import tempfile
import unittest
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE.parents[1] / "actions" / "demo"))

import api  # noqa: E402
from marshmallow import Schema, ValidationError  # noqa: E402

Upload = namedtuple("Upload", "name filename content_type original_filename")

ALL = {
    "text": "naïve 模型",
    "choice": "third",
    "code": "abc",
    "password": "secret",
    "integer": "12",
    "percent": 100,
    "number": "1e3",
    "flag": "false",
    "integers": ["1", 2],
    "numbers": [1, 2.5],
    "texts": ["a", "b"],
    "mapping": {"a": 1},
    "point": {"x": 1.5},
    "url": "https://example.org/a?b=c",
    "email": "someone@example.org",
    "uuid": "12345678-1234-5678-1234-567812345678",
    "day": "2026-01-31",
    "moment": "2026-01-31T12:00:00+00:00",
    "nothing": None,
    "other-name": "renamed",
    "anything": {"deep": [1, None]},
}


def load(args, of=api.get_predict_args):
    """Parse arguments as a server does."""
    return Schema.from_dict(of())().load(args)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out, self.err = io.StringIO(), io.StringIO()
        for manager in (contextlib.redirect_stdout(self.out), contextlib.redirect_stderr(self.err)):
            manager.__enter__()
            self.addCleanup(manager.__exit__, None, None, None)

    def upload(self, data, name="a.txt", content_type="text/plain"):
        path = self.folder / f"upload-{len(list(self.folder.iterdir()))}"
        path.write_bytes(data)
        return Upload("file", str(path), content_type, name)


class Arguments(Case):
    def test_all_kinds(self):
        answer = json.loads(json.dumps(api.predict(**load(ALL))))
        want = {
            "text": ("str", "naïve 模型"),
            "choice": ("str", "third"),
            "code": ("str", "abc"),
            "password": ("str", "6 characters"),
            "integer": ("int", 12),
            "percent": ("int", 100),
            "number": ("float", 1000.0),
            "flag": ("bool", False),
            "integers": ("list", [1, 2]),
            "numbers": ("list", [1.0, 2.5]),
            "texts": ("list", ["a", "b"]),
            "mapping": ("dict", {"a": 1.0}),
            "point": ("dict", {"x": 1.5, "y": 0.0}),
            "url": ("str", "https://example.org/a?b=c"),
            "email": ("str", "someone@example.org"),
            "uuid": ("UUID", "12345678-1234-5678-1234-567812345678"),
            "day": ("date", "2026-01-31"),
            "moment": ("datetime", "2026-01-31T12:00:00+00:00"),
            "nothing": ("NoneType", None),
            "renamed": ("str", "renamed"),
            "anything": ("dict", {"deep": [1, None]}),
            "wait": ("float", 0.0),
        }
        self.assertEqual({k: (v["type"], v["value"]) for k, v in answer.items()}, want)

    def test_each_argument_is_shown(self):
        names = {field.data_key or name for name, field in api._values().items()}
        self.assertEqual(names, set(ALL))

    def test_defaults(self):
        answer = api.predict(**load({}))
        self.assertEqual(
            {name: x["value"] for name, x in answer.items()},
            {
                "text": "some text",
                "choice": "second",
                "integer": 1,
                "percent": 50,
                "number": 0.5,
                "flag": True,
                "numbers": [0.1, 0.2],
                "nothing": None,
                "wait": 0.0,
            },
        )

    def test_refused(self):
        cases = {
            "choice": "fourth",
            "code": "A",
            "password": "",
            "integer": "1.5",
            "percent": 101,
            "number": "x",
            "flag": "maybe",
            "integers": [1, "x"],
            "texts": ["x"] * 11,
            "mapping": {"a": "b"},
            "point": {"y": 1},
            "url": "example",
            "email": "example",
            "uuid": "1",
            "day": "31.1.2026",
            "moment": "now",
            "accept": "image/gif",
            "wait": -1,
            "http_error": 200,
        }
        for name, value in cases.items():
            with self.subTest(name), self.assertRaises(ValidationError) as caught:
                load({name: value})
            self.assertEqual(list(caught.exception.messages), [name])


class Answers(Case):
    def test_files(self):
        one, two = self.upload(b"one"), self.upload(b"\0\xff", "../b.bin", "application/x")
        answer = json.loads(json.dumps(api.predict(**load({"file": one, "files": [one, two]}))))
        want = [
            {"filename": "a.txt", "content_type": "text/plain", "size": 3},
            {"filename": "../b.bin", "content_type": "application/x", "size": 2},
        ]
        for item, data in zip(want, (b"one", b"\0\xff")):
            item["crc32"] = f"{zlib.crc32(data):08x}"
        self.assertEqual(answer["files"], {"type": "list", "value": want})
        self.assertEqual(answer["file"], {"type": "Upload", "value": want[0]})

    def test_zip(self):
        one, two = self.upload(b"one"), self.upload(b"two", "../../etc/passwd")
        none = self.upload(b"", None)
        args = load({**ALL, "file": one, "files": [two, none], "accept": "application/zip"})
        with zipfile.ZipFile(api.predict(**args)) as archive:
            names = archive.namelist()
            self.assertEqual(names, ["arguments.json", "1/a.txt", "2/passwd", "3/file"])
            self.assertEqual(archive.read("2/passwd"), b"two")
            self.assertEqual(json.loads(archive.read("arguments.json"))["integer"]["value"], 12)
            self.assertNotIn(b"secret", archive.read("arguments.json"))

    def test_text(self):
        text = api.predict(**load({"day": "2026-01-31", "accept": "text/plain"})).read().decode()
        self.assertIn('day: date "2026-01-31"\n', text)
        self.assertIn("nothing: NoneType null\n", text)

    def test_picture(self):
        data = api.predict(**load({"percent": 100, "accept": "image/png"})).read()
        self.assertEqual(data, api.shades(100))
        at = data.index(b"IDAT")
        length = int.from_bytes(data[at - 4 : at], "big")
        rows = zlib.decompress(data[at + 4 : at + 4 + length])
        self.assertEqual(rows, (b"\0" + bytes(range(256))) * 64)
        mine = self.upload(api.shades(30), "mine.png", "image/png")
        with api.predict(**load({"image": mine, "accept": "image/png"})) as answer:
            self.assertEqual(answer.read(), api.shades(30))
        for bad in (self.upload(b"GIF89a"), "text"):
            with self.assertRaises(ValidationError):
                api.predict(**load({"image": bad, "accept": "image/png"}))


class Behaviour(Case):
    def test_errors(self):
        with self.assertRaises(api.HTTPException) as caught:
            api.predict(**load({"http_error": 418}))
        self.assertEqual(caught.exception.status, 418)
        self.assertTrue(caught.exception.reason)
        with self.assertRaisesRegex(ValueError, "^so it is$"):
            api.predict(**load({"error": "so it is"}))
        with self.assertRaises(ValidationError) as refused:
            api.predict(**load({"bad_argument": "not this one"}))
        self.assertEqual(refused.exception.messages, {"bad_argument": ["not this one"]})

    def test_say_and_wait(self):
        with mock.patch("time.sleep") as sleep:
            api.predict(**load({"say": "hello", "wait": "1.5"}))
        sleep.assert_called_once_with(1.5)
        self.assertEqual((self.out.getvalue(), self.err.getvalue()), ("hello\n", "hello\n"))

    def test_train(self):
        file = self.upload(b"data")
        args = load({"epochs": 4, "seconds": 60, "data": file}, of=api.get_train_args)
        with mock.patch("time.sleep") as sleep:
            answer = json.loads(json.dumps(api.train(**args)))
            self.assertEqual(sleep.call_args_list, [mock.call(60.0)] * 4)
            self.assertEqual((answer["epochs"], answer["data"]["size"]), (4, 4))
            lines = self.out.getvalue().splitlines()
            self.assertEqual(len(lines), 5)
            self.assertEqual(lines[0], "deepfn-progress: 0.00 epoch 0 of 4")
            self.assertEqual(lines[-1], "deepfn-progress: 1.00 epoch 4 of 4")
            with self.assertRaisesRegex(RuntimeError, "after 2 epochs"):
                api.train(**load({"fail_after": 2}, of=api.get_train_args))


if __name__ == "__main__":
    unittest.main()
