"""Tables: files that DuckDB reads as tables, and workbooks in and out."""

import datetime
import decimal
import json
import os
import re
import zipfile

from common import Problem, Writing, readable

FILE_BYTES_MAX = 1 << 30
# Of a workbook once it is unpacked; all its texts lie in memory.
WORKBOOK_BYTES_MAX = 512 << 20
CELLS_MAX = 3_000_000
ROWS_MAX, COLUMNS_MAX = 1_048_576, 16_384
CELL_CHARACTERS_MAX = 32_767
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
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


def sheets(path):
    """Title and rows of each sheet."""
    import openpyxl

    full = readable(path, FILE_BYTES_MAX, "workbook")
    try:
        with zipfile.ZipFile(full) as archive:
            # What a part claims is the most that is read of it.
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > WORKBOOK_BYTES_MAX:
            text = f"{path!r} has {unpacked:,} bytes unpacked, at most {WORKBOOK_BYTES_MAX:,} are read: save it as CSV"
            raise Problem("file_too_large", text)
        book = openpyxl.load_workbook(full, read_only=True, data_only=True)
        cells = 0
        for sheet in book.worksheets:
            rows = []
            for row in sheet.iter_rows(values_only=True):
                cells += len(row)
                if cells > CELLS_MAX:
                    raise Problem("file_too_large", f"{path!r} has more than {CELLS_MAX:,} cells: save its sheets as CSV")
                rows.append(trimmed(row))
            while rows and not rows[-1]:
                rows.pop()
            while rows and not rows[0]:
                rows.pop(0)
            yield sheet.title, rows
    except (Problem, MemoryError):
        raise
    except Exception as error:
        raise Problem("table_unreadable", f"{path!r} cannot be read as a workbook: {type(error).__name__}: {str(error)[:300]}") from None


def trimmed(row):
    end = len(row)
    while end and row[end - 1] in (None, ""):
        end -= 1
    return row[:end]


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


def shown(value):
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat(sep=" ") if isinstance(value, datetime.datetime) else value.isoformat()
    return value if isinstance(value, str) else str(value)


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


def write_workbook(path, all_sheets):
    """Writes a workbook. A sheet is a title, rows of which the first is the header, and charts. Texts stay texts, also
    those that begin like a formula."""
    import openpyxl
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font, PatternFill
    from openpyxl.utils import get_column_letter

    book = openpyxl.Workbook(write_only=True)
    titles, cells, counts = set(), 0, []
    bold, grey = Font(bold=True), PatternFill("solid", fgColor="FFE7E6E6")
    for title, rows, charts in all_sheets:
        sheet = book.create_sheet(sheet_title(title, titles))
        rows = iter(rows)
        head = [str(cell) if cell is not None else "" for cell in next(rows, [])]
        first = list(take(rows, 200))
        check_room(path, 1, len(head))
        for index in range(len(head)):
            longest = max([len(head[index])] + [len(str(row[index])) for row in first if index < len(row) and row[index] is not None])
            sheet.column_dimensions[get_column_letter(index + 1)].width = min(60, max(8, longest + 2))
        sheet.freeze_panes = "A2"

        def cell(value, style=None):
            made = WriteOnlyCell(sheet, value=None)
            value = fit(value)
            if isinstance(value, str):
                # Set so, it is never taken for a formula.
                made._value, made.data_type = value, "s"
            elif value is not None:
                made.value = value
            if style:
                made.font, made.fill = style
            return made

        sheet.append([cell(name, (bold, grey)) for name in head])
        number = 1
        for row in chain(first, rows):
            number, cells = number + 1, cells + len(row)
            check_room(path, number, len(row), cells)
            sheet.append([cell(value) for value in row])
        if head and number > 1:
            sheet.auto_filter.ref = f"A1:{get_column_letter(len(head))}{number}"
        for index, chart in enumerate(charts):
            add_chart(sheet, chart, head, number, index)
        counts.append((sheet.title, number - 1))
    with Writing(path) as place:
        book.save(place)
    return counts


def check_room(path, rows, columns, cells=None):
    """Refuses what no workbook holds, or would take too long."""
    cells = rows * columns if cells is None else cells
    for number, most, what in ((rows, ROWS_MAX, "rows"), (columns, COLUMNS_MAX, "columns"), (cells, CELLS_MAX, "cells")):
        if number > most:
            raise Problem("result_too_large", f"{path!r} would have more than {most:,} {what}: write CSV or Parquet")


def take(rows, most):
    for _ in range(most):
        try:
            yield next(rows)
        except StopIteration:
            return


def chain(first, rest):
    yield from first
    yield from rest


def sheet_title(title, taken):
    """A title that a workbook can have."""
    plain = CONTROL.sub("", re.sub(r"[\[\]:*?/\\]", " ", title)).strip().strip("'")[:31] or "Sheet"
    number, free = 1, plain
    while free.lower() in taken:
        number += 1
        free = f"{plain[: 31 - len(str(number)) - 1]} {number}"
    taken.add(free.lower())
    return free


def fit(value):
    """A value that a cell can hold."""
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None if value != value else str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 53:
        return str(value)
    if isinstance(value, datetime.datetime) and value.tzinfo or isinstance(value, (datetime.datetime, datetime.date)) and value.year < 1900:
        return shown(value)
    if isinstance(value, (bool, int, float, datetime.datetime, datetime.date, datetime.time)) or value is None:
        return value
    return CONTROL.sub("", shown(value))[:CELL_CHARACTERS_MAX] or None


def add_chart(sheet, wanted, head, last, index):
    from openpyxl.chart import BarChart, LineChart, PieChart, Reference, ScatterChart, Series

    if last < 2:
        raise Problem("chart_data_invalid", f"sheet {sheet.title!r} has no rows to draw")
    place = {name: number for number, name in enumerate(head, 1)}
    for name in [wanted["x"], *wanted["y"]]:
        if name not in place:
            raise Problem("column_unknown", f"sheet {sheet.title!r} has no column {name!r}; it has {', '.join(head)}")
    chart = {"bar": BarChart, "line": LineChart, "pie": PieChart, "scatter": ScatterChart}[wanted["kind"]]()
    chart.title = wanted.get("title") or None
    labels = Reference(sheet, min_col=place[wanted["x"]], min_row=2, max_row=last)
    for name in wanted["y"]:
        values = Reference(sheet, min_col=place[name], min_row=1 if wanted["kind"] != "scatter" else 2, max_row=last)
        if wanted["kind"] == "scatter":
            series = Series(values, labels, title=name)
            series.marker.symbol, series.graphicalProperties.line.noFill = "circle", True
            chart.series.append(series)
        else:
            chart.add_data(values, titles_from_data=True)
    if wanted["kind"] != "scatter":
        chart.set_categories(labels)
    if wanted["kind"] != "pie":
        # Readers hide axes unless they are told not to.
        chart.x_axis.delete = chart.y_axis.delete = False
        chart.x_axis.title = wanted["x"]
    from openpyxl.utils import get_column_letter
    sheet.add_chart(chart, f"{get_column_letter(len(head) + 2)}{2 + 16 * index}")
