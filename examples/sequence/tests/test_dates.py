"""Checks of dates.py.

python3 -m unittest discover -s examples/sequence/tests
"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dates


def box(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def found(text):
    return [date["date"] for date in dates.main({"text": text})["dates"]]


class Dates(unittest.TestCase):
    def test_forms(self):
        for text in (
            "2026-03-14",
            "14.03.2026",
            "14/3/2026",
            "14 March 2026",
            "14th of nothing, 14March2026",
            "March 14, 2026",
            "Mar. 14th 2026",
        ):
            with self.subTest(text):
                self.assertEqual(found(text), ["2026-03-14"])

    def test_what_is_none(self):
        for text in (
            "31.02.2026",
            "2026-13-01",
            "12026-03-145",
            "1.2.3.4",
            "May be 2026",
            "no date",
        ):
            with self.subTest(text):
                self.assertEqual(found(text), [])

    def test_order(self):
        self.assertEqual(
            found("from 14 March 2026 to 2026-04-13\n01.05.2026"),
            ["2026-03-14", "2026-04-13", "2026-05-01"],
        )


class Totals(unittest.TestCase):
    def total(self, text):
        return dates.main({"text": text})["total"]

    def test_amounts(self):
        for text, amount, currency in (
            ("Total EUR 1,426.22", 1426.22, "EUR"),
            ("TOTAL: 1.426,22 €", 1426.22, "EUR"),
            ("Total$12.30", 12.3, "USD"),
            ("Amount due 1'000'000.00 CHF", 1000000.0, "CHF"),
            ("Total 12.30", 12.3, None),
            ("Total (19% VAT 2.00) 12.30", 12.3, None),
        ):
            with self.subTest(text):
                got = self.total(text)
                self.assertEqual((got["amount"], got["currency"]), (amount, currency))

    def test_what_is_none(self):
        for text in ("Total", "12.30", "Total 12", "Total 19.00%"):
            with self.subTest(text):
                self.assertIsNone(self.total(text))

    def test_subtotal_is_not_the_total(self):
        got = dates.main({"text": "Subtotal 10.00\nTotal 12.30\nSub-total 1.00"})
        self.assertEqual([t["amount"] for t in got["totals"]], [10.0, 12.3, 1.0])
        self.assertEqual(got["total"]["amount"], 12.3)


class Rows(unittest.TestCase):
    def test_beside_each_other(self):
        lines = [
            {"text": "12.30", "box": box(500, 103, 600, 135)},
            {"text": "Total", "box": box(10, 100, 100, 130)},
            {"text": "1.00", "box": box(500, 60, 600, 90)},
            {"text": "Tip", "box": box(10, 62, 100, 92)},
        ]
        self.assertEqual(
            list(dates._rows({"lines": lines, "text": "x"})), ["Tip 1.00", "Total 12.30"]
        )

    def test_nothing(self):
        for args in ({}, {"text": None}, {"text": " \n"}, {"lines": []}):
            with self.subTest(args):
                self.assertIn("error", dates.main(args))


if __name__ == "__main__":
    unittest.main()
