"""Tests of content negotiation."""

from __future__ import annotations

from typing import List, Optional, Tuple

import pytest
from deepfn_launcher.accept import negotiate

JSON, PNG, ZIP, ANY_IMAGE = "application/json", "image/png", "application/zip", "image/*"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "choices", "want"),
    [
        ("", [JSON, PNG], (JSON, JSON)),
        ("*/*", [PNG, JSON], (PNG, PNG)),
        ("*", [PNG, JSON], (PNG, PNG)),
        (PNG, [JSON, PNG], (PNG, PNG)),
        ("IMAGE/PNG", [JSON, PNG], (PNG, PNG)),
        ("image/png; q=0.5, application/json; q=0.9", [PNG, JSON], (JSON, JSON)),
        ("image/png;q=0.5,application/json;Q=0.4", [PNG, JSON], (PNG, PNG)),
        ("application/json;q=0, */*", [JSON, PNG], (PNG, PNG)),
        ("*/*;q=0.1, image/*;q=0.5", [JSON, PNG], (PNG, PNG)),
        ("image/*, image/png;q=0", [PNG, "image/gif"], ("image/gif", "image/gif")),
        ("application/json, text/plain, */*", [ZIP, JSON], (JSON, JSON)),
        ("application/json, image/png", [PNG, JSON], (PNG, PNG)),
        ("application/json;version=1", [JSON], (JSON, JSON)),
        ('application/json;x="a,b;q=0"', [JSON], (JSON, JSON)),
        ('application/json;x="a\\"b,"', [JSON], (JSON, JSON)),
        ("image/jpeg", [JSON, ANY_IMAGE], (ANY_IMAGE, "image/jpeg")),
        ("image/*", [JSON, ANY_IMAGE], (ANY_IMAGE, ANY_IMAGE)),
        ("image/jpeg;q=0.2, image/webp;q=0.3", [ANY_IMAGE], (ANY_IMAGE, "image/webp")),
        ("audio/ogg", [JSON, "*/*"], ("*/*", "audio/ogg")),
        (BROWSER, [JSON, PNG], (JSON, JSON)),
        (BROWSER, [ZIP, ANY_IMAGE], (ZIP, ZIP)),
        (BROWSER, [JSON, "text/html"], ("text/html", "text/html")),
        ("text/html", [JSON, PNG], None),
        ("image/png;q=0", [PNG], None),
        ("image/png;q=0.000", [PNG], None),
        ("image/png;q=nonsense", [PNG], None),
        ("image/png;q=-1", [PNG], None),
        ("image/png;q=nan", [PNG], None),
        ("image/png;q=7", [PNG], (PNG, PNG)),
        ("image/jpeg;q=0", [ANY_IMAGE], None),
        ("*/png, /, image/, nonsense, ;q=1", [JSON], (JSON, JSON)),
        (", ,image/png,", [JSON, PNG], (PNG, PNG)),
        (PNG, [], None),
    ],
)
def test_negotiate(accept: str, choices: List[str], want: Optional[Tuple[str, str]]) -> None:
    got = negotiate(accept, choices)
    assert (None if got is None else (got.choice, got.content_type)) == want


def test_long_header_is_fast_enough() -> None:
    accept = ", ".join(f"image/x{i};q=0.5" for i in range(20000))
    got = negotiate(accept, ["image/x19999"])
    assert got is not None and got.choice == "image/x19999"
