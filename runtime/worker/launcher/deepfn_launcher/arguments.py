"""What a caller gave → what predict and train are called with.

The rules are those of webargs 5.5, which the published server parses with, over the
marshmallow that the module itself imports:

- an argument's name on the wire is the field's ``data_key``, else its key; predict gets it
  under its key;
- ``location`` in the field's metadata names the only part of the request that is looked
  into; without it the query string, the form and the JSON body are, in this order, and the
  first that has the name wins;
- a List field collects all values of a repeated name, every other field takes the first;
- names that no field declares are ignored.

Beyond them, an object may be text in JSON where there is nothing but text, because a query
string and a form have no other way to hold one; and a file may come in JSON (see
incoming.from_json), because a platform that invokes with JSON has no other way. For the
same reason, arguments in such an invocation are found in JSON whatever their location.
"""

from __future__ import annotations

import copy
import http.cookies
import sys
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from . import accept as negotiation
from . import jsonable
from .failure import fields_of, sentence, with_article
from .incoming import Incoming, NotAFile, deliver, from_json, incoming, is_data_uri
from .words import (
    FROM_CONTEXT,
    FROM_FORM,
    FROM_HEADER,
    FROM_QUERY,
    Call,
    Decoded,
    Failure,
    RawJSON,
    Store,
    Values,
)

_QUERY, _FORM, _JSON, _HEADERS, _COOKIES, _PATH = (
    "query",
    "form",
    "json",
    "headers",
    "cookies",
    "path",
)
_EVERYWHERE = (_QUERY, _FORM, _JSON)
#: How modules call the parts of a request.
_LOCATIONS = {
    "query": _QUERY,
    "querystring": _QUERY,
    "form": _FORM,
    "files": _FORM,
    "json": _JSON,
    "headers": _HEADERS,
    "cookies": _COOKIES,
    "path": _PATH,
    "match_info": _PATH,
}
_ABSENT = object()

# Whether a field takes files: never, a file or text, or nothing but files.
_NO_FILE, _MAYBE_FILE, _FILE = 0, 1, 2


def metadata(field: Any) -> Mapping[str, Any]:
    """Return the metadata of a field, {} when it has none."""
    found = getattr(field, "metadata", None)
    return found if isinstance(found, Mapping) else {}


def wire_name(key: str, field: Any) -> str:
    """Return the name that callers use for the field under ``key``."""
    return getattr(field, "data_key", None) or key


def location(field: Any) -> str:
    """Return the only part of a request that a field is looked for in, "" for no limit."""
    named = metadata(field).get("location")
    return _LOCATIONS.get(named, "") if isinstance(named, str) else ""


def has_base(value: Any, name: str) -> bool:
    """Whether an object's class is, or inherits from, a class of marshmallow's or webargs'."""
    return any(
        c.__name__ == name and c.__module__.split(".")[0] not in ("builtins", "typing")
        for c in type(value).__mro__
    )


def is_file(field: Any) -> bool:
    """Whether a field is said to be a file, by itself or as the items of a list."""
    about = metadata(field)
    if about.get("type") == "file" or about.get("format") == "binary":
        return True
    inner = getattr(field, "inner", None) if has_base(field, "List") else None
    return inner is not None and is_file(inner)


def may_be_file(field: Any) -> bool:
    """Whether a field takes an upload as it is: a plain field that is read from a form."""
    if is_file(field):
        return True
    inner = getattr(field, "inner", None) if has_base(field, "List") else None
    plain = field if inner is None else inner
    return type(plain).__name__ in ("Field", "Raw") and location(field) == _FORM


class _Spec:
    """A field, and how its value is looked for."""

    def __init__(self, key: str, field: Any) -> None:
        self.key = key
        self.field = field
        self.wire = wire_name(key, field)
        where = location(field)
        self.located = bool(where)
        self.places: Tuple[str, ...] = (where,) if where else _EVERYWHERE
        self.multiple = has_base(field, "List") and not has_base(field, "DelimitedList")
        self.nested_many = has_base(field, "Nested") and bool(getattr(field, "many", False))
        nested = has_base(field, "Nested") and not self.nested_many
        self.object = nested or has_base(field, "Mapping")
        self.file = _FILE if is_file(field) else _MAYBE_FILE if may_be_file(field) else _NO_FILE


class Sources:
    """The parts of a request, each a dictionary of lists."""

    def __init__(self, values: Values, store: Store) -> None:
        self.query: Dict[str, List[Any]] = {}
        self.form: Dict[str, List[Any]] = {}
        self.headers: Dict[str, List[Any]] = {}
        self.platform = False
        self.json = _decode(values.args)
        for upload in values.files:
            self.form.setdefault(upload.name, []).append(incoming(upload, store))
        by_origin = {FROM_QUERY: self.query, FROM_FORM: self.form}
        for text in values.texts:
            if text.origin == FROM_HEADER:
                self.headers.setdefault(text.name.lower(), []).append(text.value)
            elif text.origin == FROM_CONTEXT:
                self.platform = True
            elif text.origin in by_origin:
                by_origin[text.origin].setdefault(text.name, []).append(text.value)
        self._cookies: Optional[Dict[str, List[Any]]] = None

    def cookies(self) -> Dict[str, List[Any]]:
        """Return the cookies, which the header Cookie holds."""
        if self._cookies is None:
            self._cookies = {}
            jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
            for header in self.headers.get("cookie", []):
                try:
                    jar.load(header)
                except http.cookies.CookieError:
                    continue
            for name, morsel in jar.items():
                self._cookies[name] = [morsel.value]
        return self._cookies

    def find(self, spec: _Spec) -> Tuple[str, Any]:
        """Return the place and the value of an argument, _ABSENT when it is not there."""
        places: Iterable[str] = spec.places
        if spec.located and _JSON not in spec.places and (self.platform or spec.file):
            places = (*spec.places, _JSON)
        for place in places:
            value = self._from_json(spec) if place == _JSON else self._from_texts(place, spec)
            if value is not _ABSENT:
                return place, value
        return "", _ABSENT

    def _from_texts(self, place: str, spec: _Spec) -> Any:
        name = spec.wire
        if place == _QUERY:
            found = self.query.get(name)
        elif place == _FORM:
            found = self.form.get(name)
        elif place == _HEADERS:
            found = self.headers.get(name.lower())
        elif place == _COOKIES:
            found = self.cookies().get(name)
        else:
            found = None
        if not found:
            return _ABSENT
        return found if spec.multiple else found[0]

    def _from_json(self, spec: _Spec) -> Any:
        data = self.json
        if not isinstance(data, dict):
            # A list is the value of a nested field with many, whatever its name.
            return data if spec.nested_many and isinstance(data, list) else _ABSENT
        value = data.get(spec.wire, _ABSENT)
        if value is _ABSENT or value is None or not spec.multiple:
            return value
        return value if isinstance(value, list) else [value]

    def rest(self, known: Iterable[str]) -> Dict[str, Any]:
        """Return everything under other names than the known ones."""
        names = set(known)
        found: Dict[str, Any] = {}
        if isinstance(self.json, dict):
            found.update(self.json)
        for texts in (self.form, self.query):
            found.update({k: v[0] if len(v) == 1 else v for k, v in texts.items()})
        return {k: v for k, v in found.items() if k not in names and not k.startswith("__ow_")}


def _decode(given: Optional[Union[RawJSON, Decoded]]) -> Any:
    """Return the JSON value of a request; {} when there is none. Raises Failure."""
    if given is None or (not isinstance(given, Decoded) and len(given) == 0):
        return {}
    value = jsonable.arguments(given)
    return {} if value is None else value


class Arguments:
    """The arguments that a verb declares.

    ``declared`` is what get_predict_args returned: a dictionary of fields, a Schema, or an
    instance of one. With ``negotiates`` the field named accept takes part in content
    negotiation, as it does for predict.
    """

    def __init__(self, declared: Any, negotiates: bool) -> None:
        self.open = False
        self.choices: List[str] = []
        self._schema = _schema(declared)
        fields = {} if self._schema is None else dict(self._schema.fields)
        self.fields: Dict[str, Any] = fields
        self._specs = [_Spec(key, field) for key, field in fields.items()]
        self._nested_many = any(spec.nested_many for spec in self._specs)
        #: Defaults that predict could change under the next request's hands.
        self._shared = _shared_defaults(fields)
        self._accept: Optional[_Spec] = None
        if self._schema is None:
            return
        given = declared if _is_schema(declared) else None
        self.open = given is not None and str(self._schema.unknown) == "include"
        for spec in self._specs:
            if spec.key == "accept" and negotiates:
                self._accept = spec
                self.choices = _choices(spec.field)
                if self.choices:
                    spec.field.load_default = self.choices[0]

    def parse(self, values: Values, store: Store) -> Call:
        """Return the call that a request asks for. Raises Failure.

        The code is "invalid" with fields for arguments that are wrong; "unsupported" with
        status 406 when the Accept header has none of the module's media types.
        """
        sources = Sources(values, store)
        bulk = self._nested_many and isinstance(sources.json, list)
        if not bulk and not isinstance(sources.json, dict):
            raise _invalid({"json": ["Invalid input type."]})
        parsed, wrong, objects = self._collect(sources, store)
        content_type = self._negotiate(parsed, sources, values.accept)
        given = {**parsed, **objects}
        kwargs = self._load(parsed, wrong, objects)
        for name in [k for k in kwargs if isinstance(k, str) and k.startswith("__ow_")]:
            del kwargs[name]
        delivered = {k: deliver(v) for k, v in kwargs.items()}
        return Call(delivered, content_type, self._offers(content_type), given)

    def _offers(self, content_type: str) -> bool:
        """Whether the module names a media type, or its main type, among its own."""
        wanted, *named = (
            media.split(";", 1)[0].strip().lower() for media in (content_type, *self.choices)
        )
        main = wanted.split("/", 1)[0]
        return main != "*" and (wanted in named or main + "/*" in named)

    def _collect(
        self, sources: Sources, store: Store
    ) -> Tuple[Dict[str, Any], Dict[str, List[str]], Dict[str, Any]]:
        """Find the value of each field.

        Return them, what is wrong with files, and the objects that texts among them hold.
        """
        parsed: Dict[str, Any] = {}
        wrong: Dict[str, List[str]] = {}
        objects: Dict[str, Any] = {}
        for spec in self._specs:
            place, value = sources.find(spec)
            if value is _ABSENT:
                continue
            if spec.file:
                try:
                    value = _files(spec, place, value, store)
                except NotAFile as err:
                    wrong[spec.wire] = [str(err)]
                    continue
            if value is not _ABSENT:
                parsed[spec.wire] = value
            if spec.object and place != _JSON and isinstance(value, str):
                found = _object(value)
                if found is not None:
                    objects[spec.wire] = found
        if self.open:
            parsed.update(sources.rest(spec.wire for spec in self._specs))
        return parsed, wrong, objects

    def _negotiate(self, parsed: Dict[str, Any], sources: Sources, header: str) -> str:
        """Put the media type for predict among the arguments; return the answer's."""
        spec = self._accept
        if spec is None:
            return negotiation.ANY
        asked = parsed.get(spec.wire, _ABSENT)
        if asked is _ABSENT or "headers" in spec.places:
            # Not every module reads the parameter; every caller may use it.
            anywhere = copy.copy(spec)
            anywhere.places, anywhere.located = _EVERYWHERE, False
            _, parameter = sources.find(anywhere)
            header = header or ", ".join(sources.headers.get("accept", []))
            asked = parameter if parameter is not _ABSENT else _ABSENT
        if not self.choices:
            return _without_choices(parsed, spec.wire, asked, header)
        if asked is not _ABSENT:
            return self._negotiate_parameter(parsed, spec.wire, asked)
        match = negotiation.negotiate(header, self.choices)
        if match is None:
            msg = "the model answers {}, none of which the Accept header allows: {}"
            msg = msg.format(", ".join(self.choices), header[:200])
            raise Failure("unsupported", msg, status=406)
        parsed[spec.wire] = match.choice
        return match.content_type

    def _negotiate_parameter(self, parsed: Dict[str, Any], wire: str, asked: Any) -> str:
        """Negotiate with the argument accept; what is wrong with it the field will say."""
        if asked in self.choices:
            parsed[wire] = asked
            return str(asked)
        match = None
        if isinstance(asked, str) and negotiation.parse(asked):
            match = negotiation.negotiate(asked, self.choices)
        if match is None:
            parsed[wire] = asked
            return negotiation.ANY
        parsed[wire] = match.choice
        return match.content_type

    def _load(
        self, parsed: Dict[str, Any], wrong: Dict[str, List[str]], objects: Mapping[str, Any]
    ) -> Dict[str, Any]:
        """Let the fields check and convert; return the arguments by key.

        ``objects`` are what texts in ``parsed`` may be instead, if their fields refuse text.
        """
        if self._schema is None:
            return {}
        # A module may read the text itself, and may do so in place.
        loaded, refused = self._checked(dict(parsed))
        instead = {name: objects[name] for name in objects if name in refused}
        if instead:
            try:
                loaded, refused = self._checked({**parsed, **instead})
            except Exception:  # its own field wants text, and has said what is wrong with it
                loaded = None
        if refused:
            raise _invalid({**refused, **wrong})
        if wrong:
            raise _invalid(wrong)
        if not isinstance(loaded, Mapping):
            kind = with_article(type(loaded).__name__)
            raise Failure("failed", f"the schema of the arguments loads {kind}, not a dict")
        kwargs = dict(loaded)
        for name, default in self._shared:
            if kwargs.get(name, _ABSENT) is default:
                kwargs[name] = copy.deepcopy(default)
        return kwargs

    def _checked(self, parsed: Dict[str, Any]) -> Tuple[Any, Dict[str, List[str]]]:
        """Return what the fields make of the values, or what is wrong with them by name."""
        try:
            return self._schema.load(parsed), {}
        except Exception as err:
            if not hasattr(err, "messages") or not has_base(err, "ValidationError"):
                raise
            return None, fields_of(err.messages) or {"_schema": ["Invalid input."]}


def _object(text: str) -> Optional[Dict[str, Any]]:
    """Return the JSON object that a text is, None for any other text."""
    if not text.lstrip(" \t\r\n").startswith("{"):
        return None
    try:
        value = jsonable.loads(text.encode("utf-8", "surrogatepass"))
    except Failure:
        return None
    return value if isinstance(value, dict) else None


def _shared_defaults(fields: Mapping[str, Any]) -> List[Tuple[str, Any]]:
    """Return the defaults that are objects which can be changed, and copied."""
    found = []
    for key, field in fields.items():
        default = getattr(field, "load_default", None)
        if callable(default) or isinstance(default, (str, bytes, int, float, type(None))):
            continue
        try:
            copied = copy.deepcopy(default)
        except Exception:
            continue  # it is the module's own affair
        if copied is not default:
            found.append((getattr(field, "attribute", None) or key, default))
    return found


def _without_choices(parsed: Dict[str, Any], wire: str, asked: Any, header: str) -> str:
    """Negotiate for a module that does not say what it offers: the caller decides."""
    if asked is not _ABSENT:
        parsed[wire] = asked
        wanted = asked
    elif header:
        concrete = [r for r in negotiation.parse(header) if r.concrete() and r.weight > 0]
        if not concrete:
            return negotiation.ANY
        best = max(concrete, key=lambda r: r.weight)
        wanted = parsed[wire] = best.type + "/" + best.subtype
    else:
        return negotiation.ANY
    ranges = negotiation.parse(wanted) if isinstance(wanted, str) else []
    return wanted if len(ranges) == 1 else negotiation.ANY


def _files(spec: _Spec, place: str, value: Any, store: Store) -> Any:
    """Turn what was given for a file field into files. Raises NotAFile."""
    if not isinstance(value, list) or not spec.multiple:
        return _file(spec, place, value, store)
    items = [_file(spec, place, item, store) for item in value]
    return [item for item in items if item is not _ABSENT] or _ABSENT


def _file(spec: _Spec, place: str, value: Any, store: Store) -> Any:
    if isinstance(value, Incoming):
        # A form without a chosen file sends an empty part without a filename.
        empty = not value.filename and len(value._upload.data) == 0
        return _ABSENT if empty and spec.file == _FILE else value
    if value is None:
        return None
    if spec.file == _MAYBE_FILE:
        if is_data_uri(value) or (isinstance(value, dict) and isinstance(value.get("data"), str)):
            try:
                return incoming(from_json(spec.wire, value), store)
            except NotAFile:
                if isinstance(value, dict):
                    raise
        return value
    if place != _JSON:
        if value == "":
            return _ABSENT
        if not is_data_uri(value):
            raise NotAFile("Must be an uploaded file.")
    return incoming(from_json(spec.wire, value), store)


def _invalid(fields: Mapping[str, List[str]]) -> Failure:
    return Failure("invalid", sentence(fields), fields=fields)


def _choices(field: Any) -> List[str]:
    """Return the media types that a field accept offers, [] when it does not say."""
    for validator in getattr(field, "validators", ()) or ():
        choices = getattr(validator, "choices", None)
        if has_base(validator, "OneOf") and choices is not None:
            return [choice for choice in choices if isinstance(choice, str)]
    return []


def _is_schema(value: Any) -> bool:
    mro = value.__mro__ if isinstance(value, type) else type(value).__mro__
    return any(c.__name__ == "Schema" and c.__module__.endswith(".schema") for c in mro)


def _schema(declared: Any) -> Any:
    """Return an instance of the schema of declared arguments, None for no arguments.

    Raises Failure for what is neither a dictionary of fields nor a schema.
    """
    if declared is None:
        return None
    if _is_schema(declared):
        return declared() if isinstance(declared, type) else declared
    if not isinstance(declared, Mapping):
        kind = with_article(type(declared).__name__)
        raise Failure("failed", f"it returned {kind}, not a dict of fields")
    library = None
    for key, field in declared.items():
        found = _library(field)
        if found is None:
            kind = field.__name__ + ", a class" if isinstance(field, type) else type(field).__name__
            raise Failure("failed", f"argument {key!r} is not a field but {kind}")
        library = library or found
    if library is None:
        return None
    # A dictionary of bound fields, as Schema().fields is, is bound anew.
    return library.Schema.from_dict({str(k): copy.copy(f) for k, f in declared.items()})()


def _library(field: Any) -> Any:
    """Return the marshmallow that a field comes from; None when it is no field."""
    for c in type(field).__mro__:
        if c.__name__ == "Field" and c.__module__.endswith(".fields"):
            return sys.modules.get(c.__module__[: -len(".fields")])
    return None
