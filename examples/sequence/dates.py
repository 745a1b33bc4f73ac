"""Find the dates and the totals in what the model ocr has read.

An action for OpenWhisk, the second one of a sequence: its arguments are the answer of
ocr, {"text", "lines": [{"text", "box"}]}. A text alone will do.
"""

import datetime
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

MONTHS = "january february march april may june july august september october november december"
_MONTH = {name[:3]: number for number, name in enumerate(MONTHS.split(), 1)}
_NAME = r"(?P<name>" + "|".join(_MONTH) + r")[a-z]*\.?"
_DATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<!\d)(?P<year>\d{4})\s?[-/.]\s?(?P<month>\d{1,2})\s?[-/.]\s?(?P<day>\d{1,2})(?!\d)",
        r"(?<!\d)(?P<day>\d{1,2})\s?[-/.]\s?(?P<month>\d{1,2})\s?[-/.]\s?(?P<year>\d{4})(?!\d)",
        r"(?<!\d)(?P<day>\d{1,2})(?:st|nd|rd|th)?\.?\s*" + _NAME + r",?\s*(?P<year>\d{4})(?!\d)",
        _NAME + r"\s*(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s*(?P<year>\d{4})(?!\d)",
    )
]
_TOTAL = re.compile(r"sub\s?-?\s?total|total|amount due|balance due|summe|gesamt", re.IGNORECASE)
_AMOUNT = re.compile(r"(?<![\d.,])\d{1,3}(?:[ .,']?\d{3})*[.,]\d{2}(?![\d.,]|\s?%)")
_CURRENCY = re.compile(r"EUR|USD|GBP|CHF|€|\$|£")
_SIGNS = {"€": "EUR", "$": "USD", "£": "GBP"}


def main(args: Dict[str, Any]) -> Dict[str, Any]:
    """Return {"dates", "totals", "total"}; an error if there is no text."""
    rows = list(_rows(args))
    if not rows:
        return {"error": "there is no text: want the answer of ocr, with text or lines"}
    totals = [total for row in rows for total in _total(row)]
    final = [total for total in totals if not total["label"].lower().startswith("sub")]
    print(f"{len(rows)} rows, {len(totals)} totals")
    return {
        "dates": [found for row in rows for found in _dates(row)],
        "totals": totals,
        "total": final[-1] if final else None,
    }


def _rows(args: Dict[str, Any]) -> Iterator[str]:
    """Yield the texts that stand beside each other as one, from the top down.

    A label on the left and its amount on the right are two lines for ocr.
    """
    lines = [line for line in args.get("lines") or [] if line.get("box")]
    if not lines:
        yield from (row for row in str(args.get("text") or "").splitlines() if row.strip())
        return
    row: List[Tuple[float, str]] = []
    bottom = 0.0
    for top, left, height, text in sorted(_places(lines)):
        if row and top + height / 2 > bottom:
            yield _joined(row)
            row = []
        if not row:
            bottom = top + height
        row.append((left, text))
    yield _joined(row)


def _places(lines: List[Dict[str, Any]]) -> Iterator[Tuple[float, float, float, str]]:
    for line in lines:
        xs, ys = [x for x, _ in line["box"]], [y for _, y in line["box"]]
        yield min(ys), min(xs), max(ys) - min(ys), str(line.get("text", ""))


def _joined(row: List[Tuple[float, str]]) -> str:
    return " ".join(text for _, text in sorted(row))


def _dates(row: str) -> List[Dict[str, str]]:
    found: Dict[Tuple[int, int], Dict[str, str]] = {}
    for pattern in _DATES:
        for match in pattern.finditer(row):
            day = _date(match)
            apart = all(match.end() <= start or end <= match.start() for start, end in found)
            if day and apart:
                found[match.span()] = {"date": day, "text": match.group()}
    return [found[span] for span in sorted(found)]


def _date(match: "re.Match[str]") -> Optional[str]:
    """Return the ISO form, or None for a day that there is not, such as 31.02.2026."""
    parts = match.groupdict()
    month = _MONTH[parts["name"][:3].lower()] if parts.get("name") else int(parts["month"])
    try:
        return datetime.date(int(parts["year"]), month, int(parts["day"])).isoformat()
    except ValueError:
        return None


def _total(row: str) -> Iterator[Dict[str, Any]]:
    label, amounts = _TOTAL.search(row), _AMOUNT.findall(row)
    if label and amounts:
        sign = _CURRENCY.search(row)
        currency = _SIGNS.get(sign.group(), sign.group()) if sign else None
        yield {"label": label.group(), "amount": _number(amounts[-1]), "currency": currency}


def _number(text: str) -> float:
    """Return 1426.22 for 1,426.22 and for 1.426,22."""
    return float(re.sub(r"\D", "", text[:-3]) + "." + text[-2:])
