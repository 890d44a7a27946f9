"""Reads the CSV file of the workspace, with the standard library alone."""

import csv
import os

MISSING = {"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-", "?"}
MADE = {"clean.csv", "summary.csv"}


def read(path=None):
    path = path or sorted(name for name in os.listdir(".") if name.lower().endswith(".csv") and name not in MADE)[0]
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        text = file.read()
    try:
        dialect = csv.Sniffer().sniff(text[:20000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    lines = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), dialect) if any(row)]
    header = lines[0]
    return path, header, [(row + [""] * len(header))[: len(header)] for row in lines[1:]]


def number(cell):
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


def column(rows, index):
    return [row[index] for row in rows if row[index] not in MISSING]


def numeric(header, rows):
    """Columns of measurements: numbers, and not a running count."""
    found = []
    for index in range(len(header)):
        cells = column(rows, index)
        values = [number(cell) for cell in cells]
        good = [value for value in values if value is not None]
        if len(good) < max(10, 0.9 * len(cells)) or len(cells) < 0.5 * len(rows):
            continue
        different = sorted(set(good))
        counts = different == [different[0] + step for step in range(len(different))] and different[0] in (0, 1)
        if len(different) >= 8 and not counts:
            found.append(index)
    return found


def groups(header, rows):
    """Columns that sort rows into 2 to 12 kinds."""
    found = []
    measures = set(numeric(header, rows))
    for index in range(len(header)):
        cells = column(rows, index)
        kinds = set(cells)
        if index in measures or not 2 <= len(kinds) <= 12 or len(cells) < 0.8 * len(rows):
            continue
        if min(cells.count(kind) for kind in kinds) >= 3:
            found.append(index)
    return found