import csv
import json
import unittest

from roman import to_int

FAILED = []


class Cases(unittest.TestCase):
    def test_all(self):
        with open("cases.csv", newline="") as file:
            cases = list(csv.DictReader(file))
        for case in cases:
            numeral, value = case["numeral"], case["value"]
            with self.subTest(numeral):
                kind, got = outcome(numeral)
                if value == "" and kind == "value":
                    FAILED.append({"kind": "refuse", "numeral": numeral, "expected": "a refusal", "got": got})
                elif value != "" and kind == "crash":
                    FAILED.append({"kind": "crash", "numeral": numeral, "expected": value, "got": got})
                elif value != "" and got != value:
                    FAILED.append({"kind": "value", "numeral": numeral, "expected": value, "got": got})
                else:
                    continue
                self.fail(f"{numeral}: expected {FAILED[-1]['expected']}, got {got}")
        Cases.count = len(cases)


def outcome(numeral):
    try:
        return "value", str(to_int(numeral))
    except ValueError as error:
        return "refused", f"ValueError: {error}"
    except Exception as error:
        return "crash", f"{type(error).__name__}: {error}"


def tearDownModule():
    first = FAILED[0] if FAILED else {"kind": "", "numeral": "", "expected": "", "got": ""}
    print(json.dumps({"cases": getattr(Cases, "count", 0), "failed": len(FAILED), **first}))