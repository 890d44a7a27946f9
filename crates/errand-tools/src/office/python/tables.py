"""Tables: files that DuckDB reads as tables, and rows of CSV and JSON files."""

import datetime
import json
import os
import re

from books import sheets, shown
from common import Problem, readable

FILE_BYTES_MAX = 1 << 30
READERS = {
    ".csv": "read_csv", ".tsv": "read_csv", ".txt": "read_csv",
    ".parquet": "read_parquet",
    ".json": "read_json", ".jsonl": "read_json", ".ndjson": "read_json",
}


def connect():
    """A database in memory that sees the workspace and nothing else, and loads nothing."""
    import duckdb

    settings = {
        "memory_limit": "1200MB",
        "threads": str(max(1, min(4, len(os.sched_getaffinity(0))))),
        # What does not fit is told; a temporary file would fill the workspace.
        "temp_directory": "",
        # Nowhere: the home of a box is its workspace, where an extension could be put.
        "extension_directory": "/run/errand/nowhere",
        "secret_directory": "/run/errand/nowhere",
        "allow_persistent_secrets": "false",
        "allow_community_extensions": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    base = duckdb.connect(":memory:", config=settings)
    for setting in ("TimeZone = 'UTC'", "allowed_directories = ['/workspace/']", "enable_external_access = false",
                    "lock_configuration = true"):
        base.execute(f"SET {setting}")
    return base


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def open_all(base, paths):
    """Makes a table of each file, and of each sheet of a workbook. Gives their names, with the file each is of."""
    names = {}
    words = base.execute("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'").fetchall()
    reserved = {word for word, in words}
    for path in paths:
        ending = os.path.splitext(path)[1].lower()
        if ending in (".xlsx", ".xlsm"):
            for name, frame in workbook(path, {*names, *reserved}):
                base.register("errand_frame", frame)
                base.execute(f"CREATE TABLE {quoted(name)} AS SELECT * FROM errand_frame")
                base.unregister("errand_frame")
                names[name] = path
            continue
        if ending not in READERS:
            raise Problem("table_unreadable", f"{path!r} is read by its ending, which is none of {', '.join([*READERS, '.xlsx'])}")
        full = readable(path, FILE_BYTES_MAX, "table")
        if ending != ".parquet":
            check_text(path, full)
        name = fresh(os.path.splitext(os.path.basename(path))[0], {*names, *reserved})
        try:
            base.execute(f"CREATE VIEW {quoted(name)} AS SELECT * FROM {READERS[ending]}({literal(full)})")
        except Exception as error:
            raise unreadable(path, error) from None
        names[name] = path
    return names


def check_text(path, full):
    """DuckDB takes minutes over a large file of NULs."""
    with open(full, "rb") as file:
        start = file.read(65536)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Problem("table_unreadable", f"{path!r} is UTF-16: write it as UTF-8 first, with `python`")
    if b"\0" in start:
        raise Problem("table_unreadable", f"{path!r} cannot be read as a table: it holds NUL bytes, so it is no text")


def unreadable(path, error):
    text = first_lines(error)
    return Problem("table_unreadable", f"{path!r} cannot be read as a table: {text}")


def first_lines(error, most=1200):
    """What DuckDB says, without its own advice on how to call it."""
    return str(error).split("\n\nPossible fixes")[0].strip()[:most]


def fresh(stem, taken):
    name = re.sub(r"\W+", "_", stem).strip("_").lower() or "table"
    name = f"t_{name}" if name[0].isdigit() else name
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def workbook(path, taken):
    """The sheets of a workbook that hold something, as name and data frame. The first has the file's name."""
    import pandas

    taken = set(taken)
    stem = os.path.splitext(os.path.basename(path))[0]
    found = []
    for title, rows in sheets(path):
        if not rows:
            continue
        name = fresh(f"{stem}_{title}" if found else stem, taken)
        taken.add(name)
        columns = header(rows[0])
        width = len(columns)
        body = [list(row[:width]) + [None] * (width - len(row)) for row in rows[1:]]
        series = {column: typed([row[index] for row in body]) for index, column in enumerate(columns)}
        found.append((name, pandas.DataFrame(series, columns=columns)))
    if not found:
        raise Problem("table_unreadable", f"{path!r} has no sheet with anything in it")
    return found


def header(row):
    """Names of columns, each of them once."""
    names = []
    for index, cell in enumerate(row):
        name = str(cell).strip() if cell not in (None, "") else f"column_{index + 1}"
        number, free = 1, name
        while free.lower() in (known.lower() for known in names):
            number += 1
            free = f"{name}_{number}"
        names.append(free)
    return names


def typed(values):
    """A column as the one type that all its values have, else as text."""
    import pandas

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return pandas.array(values, dtype="boolean")
    if kinds <= {int} and kinds and all(value is None or abs(value) < 1 << 62 for value in values):
        return pandas.array(values, dtype="Int64")
    if kinds <= {int, float} and kinds:
        return pandas.array([None if value is None else float(value) for value in values], dtype="Float64")
    if kinds <= {datetime.datetime, datetime.date} and kinds:
        # A date outside of what fits stays as it is written.
        moments = pandas.to_datetime(pandas.Series(values, dtype="object"), errors="coerce")
        if int(moments.isna().sum()) == sum(value is None for value in values):
            days = all(value is None or not isinstance(value, datetime.datetime) or value.time() == datetime.time() for value in values)
            return moments.dt.date if days else moments
    return pandas.Series([None if value is None else shown(value) for value in values], dtype="object")


def from_csv(path):
    """Rows of a CSV file. What looks like a number is one, unless that would change it: 007 stays text."""
    import csv

    full = readable(path, 64 << 20, "table")
    with open(full, "rb") as file:
        raw = file.read()
    if b"\0" in raw:
        raise Problem("table_unreadable", f"{path!r} cannot be read as CSV: it holds NUL bytes")
    text = raw.decode("utf-8-sig", "replace")
    try:
        dialect = csv.Sniffer().sniff(text[:65536], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    csv.field_size_limit(1 << 20)
    try:
        rows = [[number(cell) for cell in row] for row in csv.reader(text.splitlines(keepends=True), dialect) if row]
    except csv.Error as error:
        raise Problem("table_unreadable", f"{path!r} cannot be read as CSV: {error}") from None
    if rows:
        rows[0] = [str(cell) if cell is not None else None for cell in rows[0]]
    return rows


NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,12})?([eE][+-]?\d{1,2})?")


def number(text):
    plain = text.strip()
    if not plain:
        return None
    if NUMBER.fullmatch(plain):
        return float(plain) if set(".eE") & set(plain) else int(plain)
    return text


def from_json(path):
    """Rows of a JSON file: a list of objects, or of lists whose first is the header."""
    full = readable(path, 64 << 20, "table")
    try:
        with open(full, encoding="utf-8-sig") as file:
            read = json.load(file)
    except (ValueError, RecursionError) as error:
        raise Problem("table_unreadable", f"{path!r} cannot be read as JSON: {str(error)[:300]}") from None
    if not isinstance(read, list) or not all(isinstance(row, (dict, list)) for row in read):
        raise Problem("table_unreadable", f"{path!r} holds no table: a list of objects is needed, or of lists")
    if not any(isinstance(row, dict) for row in read):
        return [[flat(cell) for cell in row] for row in read]
    columns = list(dict.fromkeys(name for row in read if isinstance(row, dict) for name in row))
    return [columns] + [[flat(row.get(name)) if isinstance(row, dict) else None for name in columns] for row in read]


def flat(value):
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
