"""Checks of the model digits, in the environment of its requirements.

python -m unittest discover -s examples/digits/tests
"""

import contextlib
import io
import json
import multiprocessing
import os
import stat
import sys
import tempfile
import unittest
import warnings
from collections import namedtuple
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE.parents[1] / "actions" / "digits"))

import api  # noqa: E402
import numpy as np  # noqa: E402
import pictures  # noqa: E402
import store  # noqa: E402
import training  # noqa: E402
from marshmallow import Schema, ValidationError  # noqa: E402
from PIL import Image  # noqa: E402

Upload = namedtuple("Upload", "name filename content_type original_filename")

FEW = {**training.DEFAULTS, "epochs": 1, "hidden": 4}


def upload(path):
    return Upload("image", str(path), "image/png", "picture.png")


def tiny(value=0.0):
    return store.Network(
        np.full((64, 4), value), np.zeros(4), np.zeros((4, 10)), np.zeros(10), {"value": value}
    )


def save_one(folder, value):
    return store.Versions(Path(folder)).save(tiny(value))


class Case(unittest.TestCase):
    """Gives each test a folder of its own for versions, and collects what is printed."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "versions"
        self.out, self.err = io.StringIO(), io.StringIO()
        self.restart()
        for manager in (
            contextlib.redirect_stdout(self.out),
            contextlib.redirect_stderr(self.err),
        ):
            manager.__enter__()
            self.addCleanup(manager.__exit__, None, None, None)

    def restart(self):
        """Forget what a worker keeps in memory."""
        for name, value in (("_versions", store.Versions(self.folder)), ("_unsaved", None)):
            patch = mock.patch.object(api, name, value)
            patch.start()
            self.addCleanup(patch.stop)


class Predict(Case):
    def test_first_start(self):
        api.warm()
        self.assertEqual(api.get_metadata()["trained_versions"], [1])
        for digit in (3, 7):
            answer = json.loads(json.dumps(api.predict(image=upload(HERE / f"{digit}.png"))))
            self.assertEqual(answer["digit"], digit)
            self.assertEqual(answer["version"], 1)
            self.assertAlmostEqual(sum(answer["scores"].values()), 1)
            self.assertEqual(max(answer["scores"], key=answer["scores"].get), str(digit))

    def test_without_warm(self):
        self.assertEqual(api.predict(image=upload(HERE / "3.png"))["version"], 1)

    def test_sizes_and_formats(self):
        api.warm()
        picture = Image.open(HERE / "7.png").convert("L")
        white_on_clear = Image.new("RGBA", picture.size, (255, 255, 255, 0))
        white_on_clear.putalpha(picture.point(lambda light: 255 - light))
        cases = {
            "large": picture.resize((1000, 1000)),
            "small": picture.resize((24, 24)),
            "light on dark": picture.point(lambda light: 255 - light),
            "faint": picture.point(lambda light: 200 + light // 8),
            "palette": picture.convert("P"),
            "16 bits": picture.convert("I").point(lambda light: light * 257),
            "transparent": white_on_clear,
        }
        for name, variant in cases.items():
            with self.subTest(name):
                file = io.BytesIO()
                variant.save(file, "PNG")
                file.seek(0)
                scores = api._network(None)[1].scores(pictures.read(file).reshape(1, 64))
                self.assertEqual(scores.argmax(), 7)

    def test_jpeg_with_margin(self):
        api.warm()
        page = Image.new("RGB", (640, 480), "white")
        page.paste(Image.open(HERE / "3.png").convert("RGB"), (300, 40))
        file = io.BytesIO()
        page.save(file, "JPEG")
        file.seek(0)
        scores = api._network(None)[1].scores(pictures.read(file).reshape(1, 64))
        self.assertEqual(scores.argmax(), 3)

    def test_pixels_as_held_out(self):
        _, pixels, _, digits = training.split(0.25, 0)
        answers = [api.predict(pixels=p.reshape(8, 8).tolist())["digit"] for p in pixels]
        self.assertGreater((np.array(answers) == digits).mean(), 0.95)

    def test_bad_pictures(self):
        api.warm()
        blank = io.BytesIO()
        Image.new("L", (50, 50), 255).save(blank, "PNG")
        huge = io.BytesIO()
        Image.new("1", (5000, 5000)).save(huge, "PNG")
        whole = (HERE / "3.png").read_bytes()
        cases = {
            "one colour": blank.getvalue(),
            "too many points": huge.getvalue(),
            "empty": b"",
            "text": b"three",
            "cut off": whole[: len(whole) // 2],
        }
        for name, data in cases.items():
            with self.subTest(name), tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                with self.assertRaises(ValidationError) as caught:
                    api.predict(image=upload(file.name))
                self.assertEqual(list(caught.exception.messages), ["image"])

    def test_bad_arguments(self):
        api.warm()
        schema = Schema.from_dict(api.get_predict_args())()
        cases = {
            "few rows": {"pixels": [[0] * 8] * 7},
            "long row": {"pixels": [[0] * 8] * 7 + [[0] * 9]},
            "too much ink": {"pixels": [[0] * 8] * 7 + [[0] * 7 + [17]]},
            "version 0": {"version": 0},
            "version is text": {"version": "new"},
        }
        for name, args in cases.items():
            with self.subTest(name), self.assertRaises(ValidationError):
                schema.load(args)
        for name, args in {
            "nothing": {},
            "both": {"image": upload(HERE / "3.png"), "pixels": [[0] * 8] * 8},
            "text for a file": {"image": "3.png"},
            "unknown version": {"pixels": [[0] * 8] * 8, "version": 9},
        }.items():
            with self.subTest(name), self.assertRaises(ValidationError):
                api.predict(**args)

    def test_arguments_have_defaults(self):
        schema = Schema.from_dict(api.get_predict_args())()
        self.assertEqual(schema.load({}), {"version": None})
        self.assertEqual(Schema.from_dict(api.get_train_args())().load({}), training.DEFAULTS)


class Train(Case):
    def test_train_makes_a_version(self):
        api.warm()
        done = json.loads(json.dumps(api.train(**{**training.DEFAULTS, "seed": 5})))
        self.assertEqual(done["version"], 2)
        self.assertGreater(done["accuracy"], 0.95)
        self.assertGreater(done["accuracy_of_pictures"], 0.95)
        self.assertEqual(done["test_digits"] + done["train_digits"], 1797)
        lines = [line for line in self.out.getvalue().splitlines() if "progress" in line]
        self.assertEqual(len(lines), 2 * training.DEFAULTS["epochs"])
        self.assertRegex(lines[-1], r"^deepfn-progress: 1\.00 epoch 20 of 20, accuracy 0\.9\d+$")
        # A prediction sees the new version and can name the old one, also after a restart.
        for _ in range(2):
            picture = upload(HERE / "3.png")
            self.assertEqual(api.predict(image=picture)["version"], 2)
            self.assertEqual(api.predict(image=picture, version=1)["version"], 1)
            self.restart()

    def test_seed(self):
        one, again, other = (
            training.train(progress=api._say, **{**FEW, "seed": seed}) for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one.w1, again.w1)
        self.assertFalse(np.array_equal(one.w1, other.w1))

    def test_batch_larger_than_the_data(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            training.train(progress=api._say, **{**FEW, "batch_size": 1024, "test_fraction": 0.5})

    def test_folder_that_cannot_be_made(self):
        self.folder.parent.joinpath("versions").write_text("in the way")
        api.warm()
        self.assertIn("in memory only", self.err.getvalue())
        self.assertEqual(api.predict(image=upload(HERE / "3.png"))["version"], 0)
        self.assertEqual(self.out.getvalue().count("epoch 1 of"), 1)
        with self.assertRaises(OSError):
            api.train(**FEW)


class Versions(Case):
    def test_damaged_version_is_skipped(self):
        versions = store.Versions(self.folder)
        for value in (1.0, 2.0):
            versions.save(tiny(value))
        path = self.folder / "2" / "network.npz"
        whole = path.read_bytes()
        cases = {
            "empty": b"",
            "cut off": whole[:100],
            "not an archive": b"x" * 1000,
            "other arrays": self.archive(w1=np.zeros(3)),
            "wrong shapes": self.archive(
                w1=np.zeros((64, 3)), b1=np.zeros(2), w2=np.zeros(1), b2=np.zeros(1), about="{}"
            ),
            "objects": self.archive(
                w1=np.array([{}]), b1=np.zeros(2), w2=np.zeros(1), b2=np.zeros(1), about="{}"
            ),
        }
        for name, data in cases.items():
            with self.subTest(name):
                path.write_bytes(data)
                self.restart()
                self.assertEqual(api.predict(pixels=[[0] * 8] * 8)["version"], 1)
                with self.assertRaises(ValidationError):
                    api.predict(pixels=[[0] * 8] * 8, version=2)

    @staticmethod
    def archive(**arrays):
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    def test_other_names_are_no_versions(self):
        versions = store.Versions(self.folder)
        versions.save(tiny())
        for name in (".new-left", "01", "latest", "²", "7"):
            (self.folder / name).mkdir()
        self.assertEqual(versions.numbers(), [1])
        # An empty folder in the way, as 7 is not, takes no number.
        self.assertEqual(versions.save(tiny()), 2)

    def test_only_first(self):
        versions = store.Versions(self.folder)
        self.assertEqual(versions.save(tiny(1.0), only_first=True), 1)
        self.assertIsNone(versions.save(tiny(2.0), only_first=True))
        self.assertEqual(versions.load(1).about, {"value": 1.0})
        self.assertEqual(os.listdir(self.folder), ["1"])

    def test_many_at_once(self):
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            numbers = pool.starmap(save_one, [(str(self.folder), float(i)) for i in range(24)])
        self.assertEqual(sorted(numbers), list(range(1, 25)))
        versions = store.Versions(self.folder)
        for value, number in enumerate(numbers):
            self.assertEqual(versions.load(number).about, {"value": float(value)})
        self.assertEqual(len(os.listdir(self.folder)), 24)

    def test_saved_for_others_to_read(self):
        number = store.Versions(self.folder).save(tiny())
        mode = stat.S_IMODE((self.folder / str(number)).stat().st_mode)
        self.assertEqual(mode, 0o755)

    def test_folder_by_environment(self):
        cases = [
            ({"DEEPFN_MODEL_DIR": "/data/x", "XDG_DATA_HOME": "/y", "HOME": "/h"}, "/data/x"),
            ({"XDG_DATA_HOME": "/y", "HOME": "/h"}, "/y/deepfn/models/digits"),
            ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/deepfn/models/digits"),
            ({"HOME": "/h"}, "/h/.local/share/deepfn/models/digits"),
        ]
        for env, want in cases:
            with self.subTest(env=env), mock.patch.dict(os.environ, env, clear=True):
                self.assertEqual(str(store.data_folder("digits")), want)


if __name__ == "__main__":
    unittest.main()
