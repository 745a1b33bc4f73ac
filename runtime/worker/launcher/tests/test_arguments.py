"""Tests of what a request's values become; tests/corpus compares the rest with upstream."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import pathlib
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import marshmallow as ma
import pytest
from deepfn_launcher import answer, compat, module
from deepfn_launcher.arguments import Arguments
from deepfn_launcher.uploads import Uploads
from deepfn_launcher.words import (
    FROM_CONTEXT,
    FROM_FORM,
    FROM_HEADER,
    FROM_QUERY,
    Call,
    Failure,
    Text,
    Upload,
    Values,
)
from marshmallow import fields, validate

Pairs = Sequence[Tuple[str, str]]
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
PNG64 = base64.b64encode(PNG).decode()


@pytest.fixture()
def store() -> Iterator[Uploads]:
    made = Uploads()
    yield made
    made.close()


def values(
    args: Any = None,
    query: Pairs = (),
    form: Pairs = (),
    headers: Pairs = (),
    context: Pairs = (),
    files: Sequence[Upload] = (),
    accept: str = "",
) -> Values:
    texts = [
        Text(origin, name, value)
        for origin, pairs in (
            (FROM_QUERY, query),
            (FROM_FORM, form),
            (FROM_HEADER, headers),
            (FROM_CONTEXT, context),
        )
        for name, value in pairs
    ]
    raw = args if args is None or isinstance(args, bytes) else json.dumps(args).encode()
    return Values(raw, texts, list(files), accept)


def upload(
    name: str, data: bytes = PNG, filename: str = "a.png", kind: str = "image/png"
) -> Upload:
    return Upload(name, filename, kind, memoryview(data))


def parse(declared: Any, store: Uploads, predict: bool = True, **given: Any) -> Call:
    return Arguments(declared, negotiates=predict).parse(values(**given), store)


def kwargs(declared: Any, store: Uploads, **given: Any) -> Dict[str, Any]:
    return parse(declared, store, **given).kwargs


def wrong(declared: Any, store: Uploads, **given: Any) -> Dict[str, List[str]]:
    with pytest.raises(Failure) as caught:
        parse(declared, store, **given)
    assert caught.value.code == "invalid"
    assert caught.value.fields is not None
    for name in caught.value.fields:
        assert name in caught.value.msg
    return caught.value.fields


def at(place: str, **more: Any) -> Dict[str, Any]:
    return {"metadata": {"location": place, **more}}


FILE = {"metadata": {"type": "file", "location": "form"}}


# Declarations


def test_no_arguments_take_nothing(store: Uploads) -> None:
    for declared in ({}, None):
        assert kwargs(declared, store, args={"a": 1}, query=[("b", "2")]) == {}


class Pair(ma.Schema):
    a = fields.Int(required=True)
    b = fields.Int(data_key="bee", load_default=2)
    shown = fields.Int(dump_only=True)
    other = fields.Str(attribute="inner")

    @ma.validates_schema
    def in_order(self, data: Dict[str, Any], **_: Any) -> None:
        if data["a"] > data["b"]:
            raise ma.ValidationError("a is more than b")


class Open(Pair):
    class Meta:
        unknown = ma.INCLUDE


def test_schema_class_and_instance(store: Uploads) -> None:
    for declared in (Pair, Pair()):
        assert kwargs(declared, store, args={"a": 1, "other": "x", "more": 1}) == {
            "a": 1,
            "b": 2,
            "inner": "x",
        }
        assert wrong(declared, store, args={"a": 9}) == {"_schema": ["a is more than b"]}


def test_fields_of_a_schema_are_bound_anew(store: Uploads) -> None:
    declared = Pair().fields
    # The schema's own validation is lost, as it is upstream.
    assert kwargs(declared, store, args={"a": 9, "bee": "3"}) == {"a": 9, "b": 3}


def test_open_schema_takes_the_rest(store: Uploads) -> None:
    got = kwargs(
        Open,
        store,
        args={"a": 1, "more": [1], "__ow_method": "post"},
        query=[("q", "1"), ("q", "2"), ("r", "3"), ("__ow_path", "/")],
    )
    assert got == {"a": 1, "b": 2, "more": [1], "q": ["1", "2"], "r": "3"}
    assert Arguments(Open, negotiates=True).open
    assert not Arguments(Pair, negotiates=True).open


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ([1], "it returned a list, not a dict of fields"),
        ({"a": "text"}, "argument 'a' is not a field but str"),
        ({"a": fields.Str}, "argument 'a' is not a field but String, a class"),
        ({"a": fields.Str(), "b": None}, "argument 'b' is not a field but NoneType"),
    ],
)
def test_what_is_no_declaration(declared: Any, said: str) -> None:
    with pytest.raises(Failure) as caught:
        Arguments(declared, negotiates=True)
    assert (caught.value.code, caught.value.msg) == ("failed", said)


def test_a_schema_that_makes_objects_is_refused(store: Uploads) -> None:
    class Made(ma.Schema):
        @ma.post_load
        def make(self, data: Any, **_: Any) -> Any:
            return object()

    with pytest.raises(Failure, match="loads an object, not a dict"):
        parse(Made, store)


# Where values are found


def test_locations(store: Uploads) -> None:
    declared = {
        "q": fields.Str(**at("querystring")),
        "f": fields.Str(**at("form")),
        "h": fields.List(fields.Str(), data_key="X-H", **at("headers")),
        "c": fields.Str(**at("cookies")),
        "p": fields.Str(**at("match_info")),
        "odd": fields.Str(**at("somewhere")),
    }
    everywhere = [(n, "x") for n in ("q", "f", "X-H", "c", "p", "odd")]
    assert kwargs(declared, store, query=everywhere) == {"q": "x", "odd": "x"}
    assert kwargs(declared, store, form=everywhere) == {"f": "x", "odd": "x"}
    assert kwargs(declared, store, args=dict(everywhere)) == {"odd": "x"}
    got = kwargs(
        declared,
        store,
        headers=[("x-h", "1"), ("X-H", "2"), ("Cookie", "a=b; c=d"), ("cookie", 'e="f g"')],
    )
    assert got == {"h": ["1", "2"], "c": "d"}


def test_a_platform_has_only_json(store: Uploads) -> None:
    declared = {
        "q": fields.Int(**at("query")),
        "f": fields.Str(**at("form")),
        "h": fields.Str(data_key="X-H", **at("headers")),
    }
    given = {"q": 1, "f": "x", "X-H": "y", "__ow_headers": {}}
    assert kwargs(declared, store, args=given) == {}
    got = kwargs(declared, store, args=given, context=[("__OW_ACTIVATION_ID", "0")])
    assert got == {"q": 1, "f": "x", "h": "y"}


def test_platform_keys_never_reach_the_model(store: Uploads) -> None:
    declared = {"__ow_method": fields.Str(load_default="x"), "a": fields.Str()}
    assert kwargs(declared, store, args={"__ow_method": "post", "a": "b"}) == {"a": "b"}


@pytest.mark.parametrize("header", ["", ";;;", "a", "c=\x00", "=;=", "c"])
def test_broken_cookies_are_no_cookies(header: str, store: Uploads) -> None:
    assert kwargs({"c": fields.Str(**at("cookies"))}, store, headers=[("Cookie", header)]) == {}


def test_first_place_wins_and_lists_collect(store: Uploads) -> None:
    declared = {"a": fields.Str(), "xs": fields.List(fields.Int())}
    given: Dict[str, Any] = {
        "args": {"a": "j", "xs": 1},
        "form": [("a", "f"), ("xs", "2"), ("xs", "3")],
        "query": [("a", "q"), ("a", "r")],
    }
    assert kwargs(declared, store, **given) == {"a": "q", "xs": [2, 3]}
    assert kwargs(declared, store, args={"xs": 1}) == {"xs": [1]}
    assert wrong(declared, store, args={"xs": None}) == {"xs": ["Field may not be null."]}


def test_nested_many_takes_a_list_of_objects(store: Uploads) -> None:
    inner = ma.Schema.from_dict({"n": fields.Int(required=True)})
    declared = {"items": fields.Nested(inner, many=True)}
    assert kwargs(declared, store, args=[{"n": "1"}, {"n": 2}]) == {"items": [{"n": 1}, {"n": 2}]}
    assert wrong(declared, store, args=[{}])["items"] == ["0: n: Missing data for required field."]


@pytest.mark.parametrize("args", [b"[1]", b'"x"', b"3", b"true"])
def test_json_that_is_no_object(args: bytes, store: Uploads) -> None:
    assert wrong({"a": fields.Str()}, store, args=args) == {"json": ["Invalid input type."]}


@pytest.mark.parametrize("args", [b"", b"null", b"{}", None])
def test_no_json(args: Optional[bytes], store: Uploads) -> None:
    assert kwargs({"a": fields.Str()}, store, args=args) == {}


@pytest.mark.parametrize("args", [b"{", b"{'a': 1}", b"\xff", b"[" * 100000, b"{}{}"])
def test_what_is_not_json(args: bytes, store: Uploads) -> None:
    with pytest.raises(Failure, match="Invalid JSON body") as caught:
        parse({"a": fields.Str()}, store, args=args)
    assert (caught.value.code, caught.value.fields) == ("invalid", None)


def test_memory_of_a_request_is_read_in_place(store: Uploads) -> None:
    view = memoryview(bytearray(b'{"a": "x"}'))
    call = Arguments({"a": fields.Str()}, negotiates=True).parse(Values(view), store)
    assert call.kwargs == {"a": "x"}


# Conversion


def test_custom_fields_and_validators(store: Uploads) -> None:
    class Reversed(fields.Field):  # type: ignore[misc]
        def _deserialize(self, value: Any, attr: Any, data: Any, **_: Any) -> Any:
            return value[::-1]

    class Broken(fields.Field):  # type: ignore[misc]
        def _deserialize(self, value: Any, attr: Any, data: Any, **_: Any) -> Any:
            raise KeyError(value)

    def short(value: str) -> None:
        if len(value) > 3:
            raise ma.ValidationError({"length": ["Too long.", "Really."]})

    declared = {"a": Reversed(validate=[short, validate.NoneOf(["cba"])]), "b": Broken()}
    assert kwargs(declared, store, args={"a": "xyz"}) == {"a": "zyx"}
    assert wrong(declared, store, args={"a": "abcd"}) == {
        "a": ["length: Too long.", "length: Really."]
    }
    assert wrong(declared, store, args={"a": "abc"}) == {"a": ["Invalid input."]}
    with pytest.raises(KeyError):
        parse(declared, store, args={"b": "x"})


def test_defaults_are_made_for_each_request(store: Uploads) -> None:
    arguments = Arguments({"a": fields.List(fields.Int(), load_default=list)}, negotiates=True)
    first = arguments.parse(values(), store).kwargs["a"]
    first.append(1)
    assert arguments.parse(values(), store).kwargs == {"a": []}


def test_defaults_are_not_shared(store: Uploads) -> None:
    class Uncopied:
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError

    odd = Uncopied()
    declared = {
        "xs": fields.List(fields.Int(), load_default=[1]),
        "table": fields.Dict(load_default={"a": [1]}, attribute="named"),
        "constant": fields.Constant([1]),
        "fixed": fields.Raw(load_default=(1, 2)),
        "odd": fields.Raw(load_default=odd),
    }
    arguments = Arguments(declared, negotiates=True)
    want = {"xs": [1], "named": {"a": [1]}, "constant": [1], "fixed": (1, 2), "odd": odd}
    for _ in range(2):
        got = arguments.parse(values(), store).kwargs
        assert got == want
        got["xs"].append(2)
        got["named"]["a"].append(2)
        got["constant"].append(2)


def test_threads_do_not_mix(store: Uploads) -> None:
    declared = {
        "n": fields.Int(required=True),
        "xs": fields.List(fields.Int(), load_default=[]),
        **offers("a/b", "c/d"),
    }
    arguments = Arguments(declared, negotiates=True)

    def one(n: int) -> None:
        kind = "c/d" if n % 2 else "a/b"
        call = arguments.parse(values({"n": n, "xs": [n] * (n % 7)}, accept=kind), store)
        assert call.kwargs == {"n": n, "xs": [n] * (n % 7), "accept": kind}
        with pytest.raises(Failure) as caught:
            arguments.parse(values({"n": "x", "xs": [n, "y"]}), store)
        assert set(caught.value.fields or ()) == {"n", "xs"}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(400)))


def test_ten_thousand_items(store: Uploads) -> None:
    declared = {"xs": fields.List(fields.Float())}
    query = [("xs", str(i)) for i in range(10000)]
    assert len(kwargs(declared, store, query=query)["xs"]) == 10000
    assert len(kwargs(declared, store, args={"xs": list(range(10000))})["xs"]) == 10000
    assert len(wrong(declared, store, query=[("xs", "x")] * 10000)["xs"]) == 10000


# Files


def test_upload_becomes_uploaded_file(store: Uploads) -> None:
    declared = {"image": fields.Raw(data_key="data", **FILE)}
    found = kwargs(declared, store, files=[upload("data"), upload("data", b"second")])["image"]
    assert type(found) is compat.uploaded_file_class()
    assert (found.name, found.content_type, found.original_filename) == (
        "data",
        "image/png",
        "a.png",
    )
    assert pathlib.Path(found.filename).read_bytes() == PNG
    untyped = kwargs(declared, store, files=[upload("data", kind="")])["image"]
    assert untyped.content_type == "application/octet-stream"


def test_uploads_for_train(store: Uploads) -> None:
    call = parse({"data": fields.Raw(**FILE)}, store, predict=False, files=[upload("data")])
    assert pathlib.Path(call.kwargs["data"].filename).read_bytes() == PNG


def test_lists_of_files(store: Uploads) -> None:
    by_inner = {"xs": fields.List(fields.Raw(metadata={"type": "file"}), **at("form"))}
    by_itself = {"xs": fields.List(fields.Raw(), **FILE)}
    plain = {"xs": fields.List(fields.Raw(), **at("form"))}
    two = [upload("xs", b"1"), upload("xs", b"2")]
    for declared in (by_inner, by_itself, plain):
        found = kwargs(declared, store, files=two)["xs"]
        assert [pathlib.Path(f.filename).read_bytes() for f in found] == [b"1", b"2"]
    for declared in (by_inner, by_itself):
        found = kwargs(declared, store, args={"xs": [PNG64, {"data": PNG64}]})["xs"]
        assert [pathlib.Path(f.filename).read_bytes() for f in found] == [PNG, PNG]
        assert wrong(declared, store, args={"xs": [PNG64, "?"]}) == {"xs": ["Not valid base64."]}


@pytest.mark.parametrize(
    ("value", "filename", "kind", "data"),
    [
        (PNG64, "f.png", "image/png", PNG),
        (PNG64.rstrip("="), "f.png", "image/png", PNG),
        ("aGVs\nbG8=\n", "f", "application/octet-stream", b"hello"),
        ("-_-_", "f", "application/octet-stream", b"\xfb\xff\xbf"),
        ("", "f", "application/octet-stream", b""),
        ("data:image/png;base64," + PNG64, "f.png", "image/png", PNG),
        ("DATA:image/png;BASE64," + PNG64, "f.png", "image/png", PNG),
        ("data:,a%20b", "f", "application/octet-stream", b"a b"),
        ("data:;base64,aGk%3D", "f", "application/octet-stream", b"hi"),
        ("data:text/plain;charset=utf-8,%C3%BC", "f.txt", "text/plain;charset=utf-8", b"\xc3\xbc"),
        ({"data": "aGk=", "filename": "x.nii.gz"}, "x.nii.gz", None, b"hi"),
        ({"data": "aGk=", "content_type": "text/csv"}, "f.csv", "text/csv", b"hi"),
        ({"data": PNG64, "filename": None, "content_type": 3}, "f.png", "image/png", PNG),
    ],
)
def test_files_in_json(
    value: Any, filename: str, kind: Optional[str], data: bytes, store: Uploads
) -> None:
    found = kwargs({"f": fields.Raw(**FILE)}, store, args={"f": value})["f"]
    assert pathlib.Path(found.filename).read_bytes() == data
    assert found.original_filename == filename
    assert kind is None or found.content_type == kind


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no base64!", "Not valid base64."),
        ("aGVsb", "Not valid base64."),
        ("aGVs====", "Not valid base64."),
        ("aG=VsbG8", "Not valid base64."),
        ("aGk=ü", "Not valid base64."),
        ("data:;base64,!", "Not valid base64."),
        ("data:no-comma", "Not valid base64."),
        ("https://example.org/a.png", "Must be an uploaded file: a URL is not fetched."),
        (3, "Must be an uploaded file."),
        ([PNG64], "Must be an uploaded file."),
        ({}, "Must be an uploaded file: an object with the member data in base64."),
        ({"data": 3}, "Must be an uploaded file: an object with the member data in base64."),
        ({"data": "?"}, "Not valid base64."),
        (None, "Field may not be null."),
    ],
)
def test_bad_files_in_json(value: Any, said: str, store: Uploads) -> None:
    declared = {"f": fields.Raw(required=True, **FILE), "n": fields.Int()}
    assert wrong(declared, store, args={"f": value, "n": "x"}) == {
        "f": [said],
        "n": ["Not a valid integer."],
    }


def test_text_for_a_file(store: Uploads) -> None:
    declared = {"f": fields.Raw(load_default=None, **FILE)}
    assert wrong(declared, store, form=[("f", "text")]) == {"f": ["Must be an uploaded file."]}
    found = kwargs(declared, store, form=[("f", "data:text/plain,hi")])["f"]
    assert pathlib.Path(found.filename).read_bytes() == b"hi"
    # A form without a chosen file sends an empty text, or an empty part without a name.
    assert kwargs(declared, store, form=[("f", "")]) == {"f": None}
    assert kwargs(declared, store, files=[upload("f", b"", "", "")]) == {"f": None}
    assert kwargs(declared, store, args={"f": None}) == {"f": None}


def test_field_in_a_form_takes_text_and_files(store: Uploads) -> None:
    declared = {"f": fields.Raw(**at("form"))}
    assert kwargs(declared, store, form=[("f", "text")]) == {"f": "text"}
    assert kwargs(declared, store, args={"f": PNG64}) == {"f": PNG64}
    assert kwargs(declared, store, args={"f": "data:broken;base64,!"}) == {
        "f": "data:broken;base64,!"
    }
    for given in ("data:;base64," + PNG64, {"data": PNG64}):
        found = kwargs(declared, store, args={"f": given})["f"]
        assert pathlib.Path(found.filename).read_bytes() == PNG
    assert wrong(declared, store, args={"f": {"data": "?"}}) == {"f": ["Not valid base64."]}


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (fields.Str(), "Not a valid string."),
        (fields.Int(), "Not a valid integer."),
        (fields.Float(), "Not a valid number."),
        (fields.Bool(), "Not a valid boolean."),
        (fields.Dict(), "Not a valid mapping type."),
        (fields.Date(), "Not a valid date."),
        (fields.UUID(), "Not a valid UUID."),
        (fields.Nested(ma.Schema), "_schema: Invalid input type."),
        (fields.Str(validate=validate.OneOf(["a"])), "Not a valid string."),
    ],
)
def test_upload_for_another_field(field: Any, said: str, store: Uploads) -> None:
    assert wrong({"a": field}, store, files=[upload("a")]) == {"a": [said]}


def test_fields_see_what_the_server_shows_them(store: Uploads) -> None:
    seen: List[Any] = []

    class Image(fields.Field):  # type: ignore[misc]
        def _deserialize(self, value: Any, attr: Any, data: Any, **_: Any) -> Any:
            seen.append((value.name, value.filename, value.content_type, value.file.read(4)))
            seen.append(value.headers["Content-Type"])
            return {"file": value, "rest": [value]}

    found = kwargs({"a": Image()}, store, files=[upload("a")])["a"]
    assert seen == [("a", "a.png", "image/png", PNG[:4]), "image/png"]
    assert found["file"].original_filename == "a.png"
    assert found["rest"][0] == found["file"]


@pytest.mark.stack("deepaas")
def test_fields_may_ask_for_aiohttps_class(store: Uploads) -> None:
    from aiohttp import web

    def is_file(value: Any) -> None:
        if not isinstance(value, web.FileField):
            raise ma.ValidationError("no FileField")

    found = kwargs({"a": fields.Raw(validate=is_file)}, store, files=[upload("a")])["a"]
    assert found.filename != "a.png" and found.original_filename == "a.png"


# Accept


def offers(*types: str, **more: Any) -> Dict[str, Any]:
    return {"accept": fields.Str(validate=validate.OneOf(list(types)), **more)}


IN_HEADERS = at("headers")


@pytest.mark.parametrize("more", [{}, IN_HEADERS, {"load_default": "image/png"}])
@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, ("application/json", "application/json")),
        ({"accept": "image/png"}, ("image/png", "image/png")),
        ({"accept": "*/*"}, ("application/json", "application/json")),
        ({"accept": "video/mp4;q=0.1"}, ("video/*", "video/mp4")),
        ({"query": [("accept", "image/png")]}, ("image/png", "image/png")),
        ({"form": [("accept", "video/*")]}, ("video/*", "video/*")),
        ({"args": {"accept": "video/webm"}}, ("video/*", "video/webm")),
        (
            {"args": {"accept": "image/png"}, "accept": "application/json"},
            ("image/png", "image/png"),
        ),
        ({"query": [("accept", "*/*")], "accept": "text/html"}, ("application/json",) * 2),
        ({"headers": [("Accept", "image/png")]}, ("image/png", "image/png")),
    ],
)
def test_accept(more: Any, given: Any, want: Tuple[str, str], store: Uploads) -> None:
    declared = offers("application/json", "image/png", "video/*", **more)
    if given.keys() == {"headers"} and more is not IN_HEADERS:
        given = {"accept": given["headers"][0][1]}
    call = parse(declared, store, **given)
    assert (call.kwargs["accept"], call.accept) == want


ANYTHING: Dict[str, Any] = {"accept": fields.Str()}


@pytest.mark.parametrize(
    ("declared", "asked", "offered"),
    [
        (offers("image/png", "video/*"), "image/png", True),
        (offers("image/png", "video/*"), "video/mp4", True),
        (offers("Image/PNG; q=1", "image/*"), "Image/PNG; q=1", True),
        (offers("image/png"), "*/*", True),
        (offers("*/*"), "image/png", False),
        (offers("*/*"), "*/*", False),
        (ANYTHING, "image/png", False),
        (ANYTHING, "*/*", False),
    ],
)
def test_what_the_module_itself_offers(
    declared: Any, asked: str, offered: bool, store: Uploads
) -> None:
    assert parse(declared, store, args={"accept": asked}).offered is offered
    assert parse(declared, store, accept=asked.split(";")[0]).offered is offered


def test_an_echo_shows_no_file(tmp_path: pathlib.Path, store: Uploads) -> None:
    class Echo:
        accept: Any = fields.Str()

        @classmethod
        def get_predict_args(cls) -> Dict[str, Any]:
            return {"accept": cls.accept, "x": fields.Raw(), "y": fields.List(fields.Str())}

        @staticmethod
        def predict(x: Any = None, y: Any = None, **_: Any) -> str:
            return y[0].strip() if y else x if isinstance(x, str) else next(iter(x.values()))[0]

    path = tmp_path / "secret.pdf"
    path.write_bytes(b"%PDF-secret")
    for accept in (fields.Str(), fields.Str(validate=validate.OneOf(["application/pdf"]))):
        Echo.accept = accept
        model = module.DeepaasModule(Echo, "echo")
        for args in ({"x": str(path)}, {"x": {"a": [str(path)]}}, {"y": [f" {path} "]}):
            made = model.parse("predict", values({**args, "accept": "application/pdf"}), store)
            assert made.accept == "application/pdf"
            told = answer.encode(model.run("predict", made), made, model)
            assert (told.content_type, told.data) == (
                "application/json",
                json.dumps(str(path)).encode(),
            )


@pytest.mark.parametrize("more", [{}, IN_HEADERS])
@pytest.mark.parametrize("asked", ["text/html", "", "nonsense", 3, ["image/png"]])
def test_accept_argument_refused(more: Any, asked: Any, store: Uploads) -> None:
    declared = offers("application/json", "image/png", **more)
    (said,) = wrong(declared, store, args={"accept": asked})["accept"]
    assert said in ("Must be one of: application/json, image/png.", "Not a valid string.")


def test_accept_header_refused(store: Uploads) -> None:
    with pytest.raises(Failure, match="application/json, image/png") as caught:
        parse(offers("application/json", "image/png"), store, accept="text/html")
    assert (caught.value.code, caught.value.status) == ("unsupported", 406)


def test_accept_leaves_the_modules_field_alone() -> None:
    declared = offers("image/png", "application/json", load_default="application/json")
    Arguments(declared, negotiates=True)
    field = declared["accept"]
    assert field.load_default == "application/json"
    assert list(field.validate.choices) == ["image/png", "application/json"]


def test_accept_among_several_validators(store: Uploads) -> None:
    validators = [validate.Length(min=1), validate.OneOf(["a/b", "c/d"])]
    declared = {"accept": fields.Str(validate=validators)}
    assert parse(declared, store, accept="c/d").accept == "c/d"


def test_accept_without_choices(store: Uploads) -> None:
    declared = {"accept": fields.Str(load_default="application/json")}
    for given, want in (
        ({}, ("application/json", "*/*")),
        ({"accept": "*/*"}, ("application/json", "*/*")),
        ({"accept": "text/csv, a/b;q=0.2"}, ("text/csv", "text/csv")),
        ({"args": {"accept": "x/y"}}, ("x/y", "x/y")),
        ({"args": {"accept": "not a type"}}, ("not a type", "*/*")),
    ):
        call = parse(declared, store, **given)
        assert (call.kwargs["accept"], call.accept) == want


def test_no_accept_field_and_train(store: Uploads) -> None:
    assert parse({"a": fields.Str()}, store, accept="text/html").accept == "*/*"
    call = parse(offers("a/b", "c/d"), store, predict=False, accept="text/html")
    assert (call.kwargs, call.accept) == ({}, "*/*")
