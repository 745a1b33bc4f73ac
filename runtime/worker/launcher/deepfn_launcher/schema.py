"""Fields → JSON Schema (2020-12) and the parameters of actions.Description.

It informs people and generators of clients; the fields themselves decide. So nothing here
fails, and what cannot be said in JSON Schema is left out: a value that the fields take is
never refused by the schema for a reason that the module did not write down, except that a
number as text, which fields take too, is described as the number that it is.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from .arguments import Arguments, has_base, is_file, location, may_be_file, metadata, wire_name

JSONSchema = Dict[str, Any]

_UNIT = "In {}."
_MAX_DEPTH = 12


def signature(arguments: Arguments) -> Dict[str, Any]:
    """Return actions.Signature for the arguments of a verb."""
    parameters = []
    for key, field in arguments.fields.items():
        if getattr(field, "dump_only", False):
            continue
        parameter = _parameter(key, field)
        if key == "accept" and arguments.choices:
            parameter["required"] = False
            parameter["default"] = arguments.choices[0]
        parameters.append(parameter)
    found: Dict[str, Any] = {"parameters": parameters}
    if arguments.open:
        found["open"] = True
    return found


def _parameter(key: str, field: Any) -> Dict[str, Any]:
    """Return actions.Parameter for one field."""
    described = value_schema(field)
    parameter: Dict[str, Any] = {
        "name": wire_name(key, field),
        "type": _argument_type(field, described),
        "schema": described,
    }
    text = described.pop("description", "")
    if text:
        parameter["description"] = text
    if getattr(field, "required", False) is True:
        parameter["required"] = True
    if "default" in described:
        parameter["default"] = described["default"]
    if isinstance(described.get("enum"), list):
        parameter["choices"] = described["enum"]
    where = location(field)
    if where in ("query", "form", "json", "headers", "cookies"):
        parameter["location"] = where
    types = metadata(field).get("content_types") or metadata(field).get("accept")
    if parameter["type"] == "file" and isinstance(types, (list, tuple)):
        parameter["content_types"] = [t for t in types if isinstance(t, str)]
    return parameter


def _argument_type(field: Any, described: JSONSchema) -> str:
    """Return the actions.ArgumentType of a field."""
    if may_be_file(field):
        return "file"
    kind = described.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), None) if len(kind) == 2 else None
    known = ("string", "integer", "number", "boolean", "array", "object")
    return kind if kind in known else "any"


def document_schema(schema: Any) -> JSONSchema:
    """Return the JSON Schema of the documents that a marshmallow schema loads."""
    try:
        found = _object(schema, ())
        return {"type": "array", "items": found} if schema.many else found
    except Exception as err:
        return {"description": f"{type(schema).__name__}: {type(err).__name__}"}


def value_schema(field: Any) -> JSONSchema:
    """Return the JSON Schema of the values that a field takes; it never fails."""
    return _value(field, ())


def _value(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    try:
        return _described(field, above)
    except Exception:
        return {"description": type(field).__name__}


def _described(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    if is_file(field) or (not above and may_be_file(field)):
        schema = _file(field)
    else:
        schema = _typed(field, above)
        for validator in getattr(field, "validators", None) or ():
            _narrow(schema, validator)
    about = metadata(field)
    _annotate(schema, field, about)
    if getattr(field, "allow_none", False):
        _allow_null(schema)
    return schema


def _file(field: Any) -> JSONSchema:
    binary: JSONSchema = {"type": "string", "format": "binary"}
    return {"type": "array", "items": binary} if has_base(field, "List") else binary


def _typed(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    """Return what the nearest class says that is one of marshmallow's or webargs'."""
    if len(above) > _MAX_DEPTH:
        return {}
    for c in type(field).__mro__:
        make = _TYPES.get(c.__name__)
        if make is not None and c.__module__.endswith(".fields"):
            own = _converts(type(field), c)
            schema = {} if own and c.__name__ in ("Field", "Raw") else make(field, above)
            if own:  # a class of the module converts in its own way
                return _loose(schema, type(field).__name__)
            return schema
    return {"description": type(field).__name__}


def _converts(own: type, library: type) -> bool:
    """Whether a class between a field's and the library's converts in its own way."""
    for c in own.__mro__:
        if c is library:
            return False
        if c.__module__ in ("marshmallow.fields", "webargs.fields"):
            continue
        if "deserialize" in vars(c) or "_deserialize" in vars(c):
            return True
    return False


def _loose(schema: JSONSchema, name: str) -> JSONSchema:
    """Return the description of a value that a class of the module converts itself."""
    # It may take more than its base: text for a date, an object for a string.
    kept = {"x-base-type": schema["type"]} if "type" in schema else {}
    return {"description": name, **kept}


def _of(kind: str, **more: Any) -> Callable[[Any, Tuple[Any, ...]], JSONSchema]:
    return lambda field, above: {"type": kind, **more}


def _anything(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    return {}


def _list(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    return {"type": "array", "items": _value(field.inner, (*above, field))}


def _delimited(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    text = "Values with {!r} between them.".format(getattr(field, "delimiter", ","))
    return {"type": ["string", "array"], "description": text}


def _tuple(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    items = [_value(inner, (*above, field)) for inner in field.tuple_fields]
    length = len(items)
    return {"type": "array", "prefixItems": items, "minItems": length, "maxItems": length}


def _mapping(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    schema: JSONSchema = {"type": "object"}
    if getattr(field, "value_field", None) is not None:
        schema["additionalProperties"] = _value(field.value_field, (*above, field))
    return schema


def _nested(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    schema = field.schema
    if any(type(schema) is seen for seen in above):
        return {"type": "object", "description": type(schema).__name__ + ", as above."}
    inner = _object(schema, (*above, type(schema)))
    many = getattr(field, "many", False) or getattr(schema, "many", False)
    return {"type": "array", "items": inner} if many else inner


def _pluck(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    inner = _value(field.schema.fields[field.field_name], (*above, field))
    return {"type": "array", "items": inner} if getattr(field, "many", False) else inner


def _object(schema: Any, above: Tuple[Any, ...]) -> JSONSchema:
    """Return the JSON Schema of an instance of a marshmallow schema."""
    properties: JSONSchema = {}
    required: List[str] = []
    for key, field in schema.fields.items():
        if getattr(field, "dump_only", False):
            continue
        name = wire_name(key, field)
        properties[name] = _value(field, (*above, type(schema)))
        partial = getattr(schema, "partial", None)
        if getattr(field, "required", False) is True and not partial:
            required.append(name)
    found: JSONSchema = {"type": "object", "properties": properties}
    if required:
        found["required"] = required
    if str(getattr(schema, "unknown", "")) == "raise":
        found["additionalProperties"] = False
    return found


def _enum(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    if not field.by_value:
        return {"type": "string", "enum": list(field.enum.__members__)}
    values = _plain_list([member.value for member in field.enum])
    return {} if values is None else {"enum": values}


def _datetime(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    form = getattr(field, "format", None)
    if form is None or form in ("iso", "iso8601"):
        return {"type": "string", "description": "A date and time as in ISO 8601."}
    if form in ("timestamp", "timestamp_ms"):
        return {
            "type": "number",
            "description": _UNIT.format("seconds since 1970")
            if form == "timestamp"
            else _UNIT.format("milliseconds since 1970"),
        }
    return {"type": "string", "description": f"A date and time as {form}."}


def _time_delta(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    return {"type": "number", "description": _UNIT.format(getattr(field, "precision", "seconds"))}


def _dated(what: str, form: str) -> Callable[[Any, Tuple[Any, ...]], JSONSchema]:
    def make(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
        own = getattr(field, "format", None)
        if own in (None, "iso", "iso8601"):
            return (
                {"type": "string", "format": form}
                if form == "date"
                else {"type": "string", "description": what}
            )
        return {"type": "string", "description": f"{what} as {own}"}

    return make


def _boolean(field: Any, above: Tuple[Any, ...]) -> JSONSchema:
    return {"type": "boolean"} if type(field).truthy is field.truthy else {}


_TYPES: Dict[str, Callable[[Any, Tuple[Any, ...]], JSONSchema]] = {
    "Field": _anything,
    "Raw": _anything,
    "Inferred": _anything,
    "Method": _anything,
    "Function": _anything,
    "Constant": _anything,
    "String": _of("string"),
    "UUID": _of("string", format="uuid"),
    "Url": _of("string", format="uri"),
    "Email": _of("string", format="email"),
    "IP": _of("string"),
    "IPv4": _of("string", format="ipv4"),
    "IPv6": _of("string", format="ipv6"),
    "IPInterface": _of("string"),
    "Number": _of("number"),
    "Integer": _of("integer"),
    "Float": _of("number"),
    "Decimal": _of("number"),
    "Boolean": _boolean,
    "DateTime": _datetime,
    "Date": _dated("A date", "date"),
    "Time": _dated("A time of the day, hh:mm:ss.", "time"),
    "TimeDelta": _time_delta,
    "Enum": _enum,
    "List": _list,
    "DelimitedList": _delimited,
    "DelimitedTuple": _delimited,
    "Tuple": _tuple,
    "Mapping": _mapping,
    "Dict": _mapping,
    "Nested": _nested,
    "Pluck": _pluck,
}


def _narrow(schema: JSONSchema, validator: Any) -> None:
    """Add what a validator of marshmallow asks for to the schema of its value."""
    if has_base(validator, "And"):
        for part in getattr(validator, "validators", ()):
            _narrow(schema, part)
        return
    c = type(validator)
    make = _VALIDATORS.get(c.__name__)
    if make is not None and c.__module__.endswith(".validate"):
        make(schema, validator)


def _one_of(schema: JSONSchema, validator: Any) -> None:
    values = _plain_list(validator.choices)
    if values is None or not values:
        return
    if isinstance(schema.get("enum"), list):
        values = [v for v in schema["enum"] if v in values]
    schema["enum"] = values
    labels = [str(label) for label in getattr(validator, "labels", None) or ()]
    if labels:
        pairs = [f"{v} ({label})" for v, label in zip(values, labels)]
        schema["description"] = _join(schema.get("description"), "One of " + ", ".join(pairs) + ".")


def _none_of(schema: JSONSchema, validator: Any) -> None:
    values = _plain_list(validator.iterable)
    if values:
        schema["not"] = {"enum": values}


def _contains_only(schema: JSONSchema, validator: Any) -> None:
    values = _plain_list(validator.choices)
    if values and schema.get("type") == "array":
        schema["items"] = {**schema.get("items", {}), "enum": values}


def _contains_none_of(schema: JSONSchema, validator: Any) -> None:
    values = _plain_list(validator.iterable)
    if values and schema.get("type") == "array":
        schema["items"] = {**schema.get("items", {}), "not": {"enum": values}}


def _range(schema: JSONSchema, validator: Any) -> None:
    for bound, word, exclusive in (
        (validator.min, "minimum", "exclusiveMinimum"),
        (validator.max, "maximum", "exclusiveMaximum"),
    ):
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or bound - bound != 0:
            continue  # no bound, a date, or an infinity
        inclusive = getattr(validator, word[:3] + "_inclusive", True)
        schema[word if inclusive else exclusive] = bound


def _length(schema: JSONSchema, validator: Any) -> None:
    words = {"string": "Length", "array": "Items", "object": "Properties"}
    word = words.get(str(schema.get("type")))
    if word is None:
        return
    equal = getattr(validator, "equal", None)
    for bound, side in ((validator.min, "min"), (validator.max, "max")):
        length = bound if equal is None else equal
        if isinstance(length, int):
            schema[side + word] = length


#: What Python's regular expressions have and ECMAScript's have not, or differently.
_PYTHON_ONLY = re.compile(r"\(\?[^:=!]|\\[AZzabdDwWsSBNxuUG]|[*+?}]\+|\$|\^|#")


def _regexp(schema: JSONSchema, validator: Any) -> None:
    regex = validator.regex
    if not isinstance(regex.pattern, str) or regex.flags & ~re.UNICODE:
        return
    if "|" in regex.pattern and ("^" in regex.pattern or "$" in regex.pattern):
        return
    # Python matches at the start; JSON Schema searches.
    body = regex.pattern[1:] if regex.pattern.startswith("^") else regex.pattern
    end = ""
    if body.endswith("$") and not body.endswith("\\$"):
        body, end = body[:-1], "$"
    if not _PYTHON_ONLY.search(body):
        schema["pattern"] = "^(?:" + body + ")" + end


def _equal(schema: JSONSchema, validator: Any) -> None:
    values = _plain_list([validator.comparable])
    if values is not None:
        schema["enum"] = values


_VALIDATORS: Dict[str, Callable[[JSONSchema, Any], None]] = {
    "OneOf": _one_of,
    "NoneOf": _none_of,
    "ContainsOnly": _contains_only,
    "ContainsNoneOf": _contains_none_of,
    "Range": _range,
    "Length": _length,
    "Regexp": _regexp,
    "Equal": _equal,
}


def _annotate(schema: JSONSchema, field: Any, about: Mapping[str, Any]) -> None:
    """Add what the field says for people: description, default, examples."""
    text = about.get("description")
    if text is not None:
        schema["description"] = _join(
            text if isinstance(text, str) else str(text), schema.get("description")
        )
    hints = _plain_list(about.get("enum")) if isinstance(about.get("enum"), (list, tuple)) else None
    if hints and "enum" not in schema:
        # It is a hint, which marshmallow does not check.
        said = ", ".join(v if isinstance(v, str) else json.dumps(v) for v in hints)
        schema["description"] = _join(schema.get("description"), "Choices: " + said + ".")
        schema["x-choices"] = hints
    examples = _plain_list(about.get("examples") or [about[w] for w in ("example",) if w in about])
    if examples:
        schema["examples"] = examples
    if getattr(field, "load_only", False) or about.get("format") == "password":
        schema["writeOnly"] = True
    if about.get("format") == "password":
        schema["format"] = "password"
    default = default_of(field)
    if default is not None:
        schema["default"] = default[0]


def default_of(field: Any) -> Optional[Tuple[Any]]:
    """Return the value that an absent argument has, in JSON's types, as a tuple of one.

    None when there is none, or it is made anew for each request, or JSON has no such value.
    """
    value = getattr(field, "load_default", None)
    if callable(value) or type(value).__name__ == "_Missing":
        return None
    if not hasattr(field, "load_default"):
        return None
    found = _plain_list([value])
    if found is None:
        try:
            found = _plain_list([field._serialize(value, "", {})])
        except Exception:
            return None
    return None if found is None else (found[0],)


def _allow_null(schema: JSONSchema) -> None:
    kind = schema.get("type")
    if isinstance(kind, str):
        schema["type"] = [kind, "null"]
    elif isinstance(kind, list) and "null" not in kind:
        schema["type"] = [*kind, "null"]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]


def _plain_list(values: Any) -> Optional[List[Any]]:
    """Return values as JSON has them, None when one of them is not JSON's."""
    try:
        found = json.loads(json.dumps(list(values), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _join(*texts: Optional[str]) -> str:
    return " ".join(text.strip() for text in texts if text and text.strip())
