"""Workbooks: their sheets read, and new ones written."""

import datetime
import decimal
import re
import zipfile

from common import Problem, Writing, readable

FILE_BYTES_MAX = 1 << 30
# Once it is unpacked; all its texts lie in memory.
UNPACKED_BYTES_MAX = 512 << 20
CELLS_MAX = 3_000_000
ROWS_MAX, COLUMNS_MAX = 1_048_576, 16_384
CELL_CHARACTERS_MAX = 32_767
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def sheets(path):
    """Title and rows of each sheet."""
    import openpyxl

    full = readable(path, FILE_BYTES_MAX, "workbook")
    try:
        with zipfile.ZipFile(full) as archive:
            # What a part claims is the most that is read of it.
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > UNPACKED_BYTES_MAX:
            text = f"{path!r} has {unpacked:,} bytes unpacked, at most {UNPACKED_BYTES_MAX:,} are read: save it as CSV"
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


def write(path, all_sheets):
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


def shown(value):
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat(sep=" ") if isinstance(value, datetime.datetime) else value.isoformat()
    return value if isinstance(value, str) else str(value)
