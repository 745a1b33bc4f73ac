from __future__ import annotations

import collections
import io
import json
import os
import pathlib
import tempfile
from typing import Any, Dict, Mapping, Optional, Tuple

import pytest
from deepfn_launcher import answer
from deepfn_launcher.incoming import incoming
from deepfn_launcher.uploads import Uploads
from deepfn_launcher.wire import Fill
from deepfn_launcher.words import Call, Failure, Model, Store, Upload, Values

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100
Returned = collections.namedtuple("Returned", "name filename content_type original_filename")
Returned.__new__.__defaults__ = (None, None, None, None)


class Fake(Model):
    def __init__(self, schema: bool = False) -> None:
        self.schema = schema

    def describe(self) -> Dict[str, Any]:
        return {}

    def metadata(self) -> Optional[Mapping[str, Any]]:
        return None

    def warm(self) -> None:
        pass

    def parse(self, verb: str, values: Values, store: Store) -> Call:
        return Call({})

    def run(self, verb: str, call: Call) -> Any:
        return None

    def shown(self, call: Call) -> Dict[str, Any]:
        return {}

    def whole(self) -> bool:
        return self.schema

    def check(self, result: Any) -> Any:
        if result == "bad":
            raise Failure("failed", "ERROR validating model response")
        return {"checked": result}


def encoded(
    result: Any,
    accept: str = "*/*",
    *,
    schema: bool = False,
    verb: str = "predict",
    room: int = 4096,
    offered: bool = True,
    given: Any = None,
) -> Tuple[str, bytes, str, bool]:
    """Return media type, bytes, filename and whole of an answer."""
    told = answer.encode(result, Call({}, accept, offered, given), Fake(schema), verb)
    data = told.data
    if isinstance(data, Fill):
        place = memoryview(bytearray(room))
        data = bytes(place[: data.fill(place)])
    told.close()
    return told.content_type, bytes(data), told.filename, told.whole


@pytest.fixture
def png(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "out.png"
    path.write_bytes(PNG)
    return str(path)


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json; q=0.5"])
@pytest.mark.parametrize("result", [{"a": 1}, [1], None, 3, 0.5, True, "text", "/etc/passwd", (1,)])
def test_json(result: Any, accept: str) -> None:
    assert encoded(result, accept) == ("application/json", json.dumps(result).encode(), "", False)


@pytest.mark.parametrize("result", [{"a": 1}, [1], 3])
def test_what_is_no_file_is_json_under_any_type(result: Any) -> None:
    assert encoded(result, "image/png")[:2] == ("application/json", json.dumps(result).encode())


def test_a_module_with_a_schema_answers_whole_documents() -> None:
    media, data, _, whole = encoded([1], schema=True)
    assert (media, data, whole) == ("application/json", b'{"checked": [1]}', True)
    with pytest.raises(Failure, match="ERROR validating"):
        encoded("bad", schema=True)
    assert encoded(PNG, schema=True)[3] is False
    assert encoded([1], schema=True, verb="train") == ("application/json", b"[1]", "", False)


BYTES: Any = [
    (PNG, "*/*", "image/png"),
    (PNG, "", "image/png"),
    (PNG, "image/*", "image/png"),
    (PNG, "application/json", "image/png"),
    (PNG, "image/tiff", "image/tiff"),
    (bytearray(PNG), "*/*", "image/png"),
    (memoryview(PNG), "*/*", "image/png"),
    (memoryview(PNG + PNG)[::2], "x/y", "x/y"),
    (io.BytesIO(PNG), "*/*", "image/png"),
    (b"plain", "*/*", "application/octet-stream"),
    (b"", "*/*", "application/octet-stream"),
    (b'{"a": 1}', "application/json", "application/json"),
    (b"{a: 1}", "application/json", "application/octet-stream"),
    (b"[NaN]", "application/json", "application/octet-stream"),
]


@pytest.mark.parametrize(("result", "accept", "media"), BYTES)
def test_bytes(result: Any, accept: str, media: str) -> None:
    want = result.getvalue() if isinstance(result, io.BytesIO) else bytes(result)
    assert encoded(result, accept)[:2] == (media, want)


MAGIC: Any = [
    (b"\xff\xd8\xff\xe0", "image/jpeg"),
    (b"GIF89a", "image/gif"),
    (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
    (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
    (b"XXXX\0\0\0\0WAVEfmt ", "application/octet-stream"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-1.7", "application/pdf"),
    (b"PK\3\4", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\0\0\0\x20ftypisom", "video/mp4"),
    (b"OggS", "audio/ogg"),
    (b"\x93NUMPY", "application/x-npy"),
    (b"", "application/octet-stream"),
]


@pytest.mark.parametrize(("head", "media"), MAGIC)
def test_sniff(head: bytes, media: str) -> None:
    assert answer.sniff(head) == media


def test_an_open_file(png: str) -> None:
    with open(png, "rb") as file:
        assert encoded(file) == ("image/png", PNG, "out.png", False)
        assert file.closed
    with open(png, "rb") as file:
        file.read(50)  # the published server opens it again
        assert encoded(file, "image/tiff")[:2] == ("image/tiff", PNG)
    with open(png, "rb", buffering=0) as raw:
        assert encoded(raw, "application/json")[:2] == ("image/png", PNG)


def test_a_file_that_was_closed_or_deleted(png: str) -> None:
    with open(png, "rb") as file:
        pass
    assert encoded(file)[1] == PNG
    file = open(png, "rb")  # noqa: SIM115 - the answer closes it
    os.unlink(png)
    assert encoded(file)[1] == PNG
    with pytest.raises(Failure, match="closed"):
        encoded(file)
    closed = io.BytesIO(PNG)
    closed.close()
    with pytest.raises(Failure, match="closed"):
        encoded(closed)


def test_a_temporary_file_that_was_just_written() -> None:
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(b"%PDF-1.7")
        assert encoded(file)[:2] == ("application/pdf", b"%PDF-1.7")
    with tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(PNG)
        assert encoded(spooled)[:2] == ("image/png", PNG)


def test_returned_files(png: str) -> None:
    assert encoded(Returned(filename=png)) == ("image/png", PNG, "out.png", False)
    got = encoded(Returned("x", png, "image/x-own", "a/mine.png"))
    assert got == ("image/x-own", PNG, "mine.png", False)
    assert encoded(Returned("x", png, "image/x-own"), "image/png")[0] == "image/png"
    assert encoded(Returned("x", png, "image/x-own"), "image/*")[0] == "image/x-own"
    assert encoded(Returned("x", png, "image/x\r\nSet-Cookie: a"))[0] == "image/png"
    for wrong in (Returned(), Returned(filename="/nowhere/x.png"), Returned(filename="a\0b")):
        with pytest.raises(Failure) as caught:
            encoded(wrong)
        assert caught.value.code == "failed"


def test_paths(png: str) -> None:
    assert encoded(pathlib.Path(png)) == ("image/png", PNG, "out.png", False)
    assert encoded(pathlib.Path("/nowhere"))[1] == b'"/nowhere"'


def test_a_text_is_a_path_only_under_a_type_that_is_no_text(png: str) -> None:
    assert encoded(png, "image/png") == ("image/png", PNG, "out.png", False)
    assert encoded(png, "application/zip")[:2] == ("application/zip", PNG)
    assert encoded(png, "image/*")[:2] == ("image/png", PNG)
    for accept in ("text/plain", "text/html", "image/svg+xml"):
        assert encoded(png, accept)[:2] == (accept, png.encode())
    for text in ("/nowhere", "x" * 100_000, "a\nb", "a\0b", "", os.path.dirname(png)):
        assert encoded(text, "image/png")[:2] == ("application/json", json.dumps(text).encode())


def as_text(text: str) -> Tuple[str, bytes]:
    return "application/json", json.dumps(text).encode()


def test_a_text_is_no_path_under_a_type_that_the_caller_chose(png: str) -> None:
    assert encoded(png, "application/pdf", offered=False)[:2] == as_text(png)


GIVEN: Any = [
    lambda png: {"x": png},
    lambda png: {"x": f" {png} "},
    lambda png: {"x": ["other.png," + png]},
    lambda png: {"x": {"deep": [{"y": {png: 1}}]}},
    lambda png: {"x": incoming(Upload("x", png, "", memoryview(b"")), Uploads())},
    lambda png: png,
]


@pytest.mark.parametrize("given", GIVEN)
def test_a_text_that_was_given_is_no_path(png: str, given: Any) -> None:
    assert encoded(png, "image/png", given=given(png))[:2] == as_text(png)
    assert encoded(png, "image/png", given={"x": 1, "y": ["other.png"]})[1] == PNG


def test_a_path_lies_where_modules_put_their_results(
    png: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {name: tmp_path / name for name in ("cwd", "temp", "data", "data-2")}
    for place in places.values():
        place.mkdir()
        (place / "out.png").write_bytes(PNG)
    (places["cwd"] / "link.png").symlink_to(png)
    (places["cwd"] / "own.png").symlink_to(places["temp"] / "out.png")
    monkeypatch.chdir(places["cwd"])
    monkeypatch.setattr(tempfile, "tempdir", str(places["temp"]))
    monkeypatch.setenv("DEEPFN_MODEL_DIR", str(places["data"]))
    inside = ["out.png", "own.png", *(str(places[n] / "out.png") for n in ("cwd", "temp", "data"))]
    for path in inside:
        assert encoded(path, "image/png")[:2] == ("image/png", PNG)
    assert capsys.readouterr().err == ""
    outside = ["link.png", "../out.png", png, str(places["data-2"] / "out.png"), "/etc/passwd"]
    for path in outside:
        assert encoded(path, "image/png")[:2] == as_text(path)
        assert path in capsys.readouterr().err
    # Neither the root nor an empty variable allows everything.
    monkeypatch.setenv("DEEPFN_MODEL_DIR", "")
    monkeypatch.chdir("/")
    assert encoded(png, "image/png")[:2] == as_text(png)


def test_texts() -> None:
    assert encoded("abc", "text/plain")[:2] == ("text/plain", b"abc")
    assert encoded("ä", "text/csv")[:2] == ("text/csv; charset=utf-8", "ä".encode())
    assert encoded("abc", "text/*")[:2] == ("text/plain", b"abc")
    assert encoded("a\ud800", "text/plain")[1] == b"a?"
    assert encoded(io.StringIO("abc"))[:2] == ("text/plain; charset=utf-8", b"abc")


def test_a_text_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b")
    with open(path) as file:
        assert encoded(file)[:3] == ("text/csv", b"a,b", "x.csv")


def test_a_json_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[1]")
    assert encoded(path)[:2] == ("application/json", b"[1]")
    path.write_text("[1")
    assert encoded(path)[:2] == ("application/octet-stream", b"[1")


def test_a_packed_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"zz")
    assert encoded(path)[0] == "application/gzip"


def test_nothing() -> None:
    assert encoded(None, "image/png")[:2] == ("image/png", b"")
    assert encoded(None, "image/*")[:2] == ("application/octet-stream", b"")
    assert encoded(None)[:2] == ("application/json", b"null")


def test_iterators() -> None:
    assert encoded(iter([PNG, b"1", bytearray(b"2")]))[:2] == ("image/png", PNG + b"12")
    assert encoded(iter([b"1", b"2"]), "x/y")[:2] == ("x/y", b"12")
    assert encoded(n for n in (1, 2))[:2] == ("application/json", b"[1, 2]")
    assert encoded(iter([]))[:2] == ("application/json", b"[]")
    with pytest.raises(Failure, match="gives str, not bytes"):
        encoded(iter([b"1", "2"]))


class Endless(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        room[:] = b"x" * len(room)
        return len(room)


class Reader:
    """A file that can only read."""

    def __init__(self, *chunks: Any) -> None:
        self.chunks = list(chunks)

    def read(self, size: int = -1) -> Any:
        return self.chunks.pop(0) if self.chunks else b""


def test_readers() -> None:
    assert encoded(Reader(b"1", b"2"), "x/y")[:2] == ("x/y", b"12")
    with pytest.raises(Failure, match="gives str, not bytes"):
        encoded(Reader("text"), "x/y")
    with pytest.raises(Failure, match="gives int, not bytes"):
        encoded(Reader(3), "x/y")


def endless() -> Any:
    while True:
        yield b"x" * 1000


@pytest.mark.parametrize(
    "result", [Endless(), endless(), Reader(b"x" * 5000), Reader(b"x" * 3000, b"x" * 3000)]
)
def test_what_is_too_long_is_not_read_to_its_end(result: Any) -> None:
    with pytest.raises(Failure) as caught:
        encoded(result, "x/y")
    assert caught.value.code == "too_large"
    assert "4096" in caught.value.msg


def test_the_size_of_a_file_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(Failure, match=r"has 5000 bytes.* 4096 bytes"):
        encoded(path)
    assert len(encoded(path, room=5000)[1]) == 5000
    growing = open(path, "rb")  # noqa: SIM115
    with pytest.raises(Failure):
        encoded(growing, room=4999)


def test_train_answers_json_only() -> None:
    assert encoded({"a": b"x"}, "image/png", verb="train")[:2] == (
        "application/json",
        b'{"a": "eA=="}',
    )
    with pytest.raises(Failure, match=r"train returned an object, .* at output"):
        encoded(object(), verb="train")
