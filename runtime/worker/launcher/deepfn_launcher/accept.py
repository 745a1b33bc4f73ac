"""Content negotiation (RFC 9110, section 12.5.1) over the media types that a module offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

ANY = "*/*"


@dataclass
class _Range:
    """One media range of an Accept header and its weight."""

    type: str
    subtype: str
    weight: float

    def covers(self, media_type: str) -> bool:
        """Whether a media type, or a pattern such as image/*, lies in the range."""
        main, sub = _split(media_type)
        if self.type == "*":
            return True
        return self.type == main and self.subtype in ("*", sub)

    def concrete(self) -> bool:
        """Whether the range is one media type."""
        return self.type != "*" and self.subtype != "*"

    def narrowness(self) -> int:
        """Return 2 for a media type, 1 for image/*, 0 for */*."""
        return (self.type != "*") + (self.subtype != "*")


@dataclass
class Match:
    """What was agreed on.

    ``choice`` is the module's own spelling; ``content_type`` is the type that the caller
    named when the choice is a pattern that it matches, else the choice.
    """

    choice: str
    content_type: str


def negotiate(accept: str, choices: Sequence[str]) -> Optional[Match]:
    """Return the best of the choices for an Accept header, None when none is acceptable.

    Choices stand in the module's order of preference, and may be patterns such as
    ``image/*``. An empty header, or one without any media range, accepts everything. Of
    choices of equal weight the first wins, but one that the caller named goes before one
    that only a wildcard covers.
    """
    if not choices:
        return None
    ranges = parse(accept)
    if not ranges:
        return Match(choices[0], choices[0])
    if _browser(ranges, choices) and _rate(choices[0], ranges)[0] > 0:
        return Match(choices[0], choices[0])
    best: Optional[Match] = None
    best_rank: Tuple[float, int] = (0.0, -1)
    for choice in choices:
        weight, narrowness, content_type = _rate(choice, ranges)
        if weight > 0 and (weight, narrowness) > best_rank:
            best, best_rank = Match(choice, content_type), (weight, narrowness)
    return best


def _browser(ranges: Sequence[_Range], choices: Sequence[str]) -> bool:
    """Whether a web browser asks, which names what it can show, not what it wants.

    It asks for a page first and takes anything at last.
    """
    pages = any(r.type == "text" and r.subtype == "html" and r.weight > 0 for r in ranges)
    anything = any(r.type == "*" and r.weight > 0 for r in ranges)
    offered = any(_split(choice) in (("text", "html"), ("text", "*")) for choice in choices)
    return pages and anything and not offered


def _rate(choice: str, ranges: Sequence[_Range]) -> Tuple[float, int, str]:
    """Return the weight of a choice, how narrow the range is that gave it, and its type."""
    main, sub = _split(choice)
    if main == "*" or sub == "*":
        named = [r for r in ranges if r.concrete() and (main == "*" or r.type == main)]
        if named:
            best = max(named, key=lambda r: r.weight)
            if best.weight > 0:
                return best.weight, 2, best.type + "/" + best.subtype
    covering = [r for r in ranges if r.covers(choice)]
    if not covering:
        return 0.0, -1, choice
    best = max(covering, key=lambda r: (r.narrowness(), r.weight))
    return best.weight, best.narrowness(), choice


def parse(accept: str) -> List[_Range]:
    """Return the media ranges of an Accept header; what is no media range is left out."""
    ranges = []
    for part in _split_outside_quotes(accept, ","):
        pieces = _split_outside_quotes(part, ";")
        main, slash, sub = pieces[0].strip().lower().partition("/")
        if pieces[0].strip() == "*":
            main, slash, sub = "*", "/", "*"
        if not slash or not main or not sub or (main == "*" and sub != "*"):
            continue
        ranges.append(_Range(main, sub, _weight(pieces[1:])))
    return ranges


def _weight(parameters: Sequence[str]) -> float:
    """Return the weight q among the parameters of a range, 1 when there is none."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "q":
            continue
        try:
            weight = float(value.strip())
        except ValueError:
            return 0.0
        return min(weight, 1.0) if weight >= 0 else 0.0
    return 1.0


def _split(media_type: str) -> Tuple[str, str]:
    """Return the two halves of a media type in lower case, without its parameters."""
    main, _, sub = media_type.split(";", 1)[0].strip().lower().partition("/")
    return main, sub


def _split_outside_quotes(text: str, separator: str) -> List[str]:
    """Split at a separator that does not stand in a quoted string."""
    if '"' not in text:
        return text.split(separator)
    parts, start, quoted, i = [], 0, False, 0
    while i < len(text):
        char = text[i]
        if char == "\\" and quoted:
            i += 1
        elif char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    parts.append(text[start:])
    return parts
