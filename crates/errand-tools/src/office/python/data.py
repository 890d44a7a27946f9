"""The tool `data`: SQL over files of the workspace, what is in them, and a few rows of them."""

import os
import re

import books
import tables
from common import Problem, Writing, beneath, count, main, size
from tables import first_lines, literal, quoted

CELL_SHOWN = 200
COLUMNS_SHOWN = 100


def work(request):
    base = tables.connect()
    import duckdb

    names = tables.open_all(base, request["files"])
    try:
        return {"sql": sql, "profile": profile, "sample": sample}[request["action"]](base, names, request)
    except Problem:
        raise
    except duckdb.OutOfMemoryException:
        text = "the data does not fit in the memory of the box: filter or aggregate first, or name fewer columns"
        raise Problem("out_of_memory", text) from None
    except duckdb.Error as error:
        raise told(error, base, names) from None


def told(error, base, names):
    """What DuckDB refuses, as whoever wrote the query can mend it."""
    import duckdb

    said = first_lines(error)
    if isinstance(error, duckdb.PermissionException) or "configuration has been locked" in said:
        text = f"{said}\nonly files of the workspace can be read and written, and nothing can be loaded or set"
        return Problem("sql_denied", text)
    if isinstance(error, (duckdb.ParserException, duckdb.SyntaxException)):
        return Problem("sql_invalid", said)
    if isinstance(error, (duckdb.BinderException, duckdb.CatalogException)):
        code = "column_unknown" if "Referenced column" in said or "does not have a column named" in said else "sql_invalid"
        return Problem(code, f"{said}\n{schema(base, names)}")
    if isinstance(error, duckdb.IOException) and "No files found" in said:
        return Problem("file_not_found", said)
    if isinstance(error, duckdb.InvalidInputException) and ("CSV Error" in said or "JSON" in said or "sniff" in said) or isinstance(error, duckdb.IOException):
        return Problem("table_unreadable", said)
    return Problem("sql_failed", said)


def schema(base, names):
    lines = []
    for name in names:
        columns = base.execute(f"DESCRIBE {quoted(name)}").fetchall()
        listed = ", ".join(f"{quoted(column[0])} {column[1]}" for column in columns[:COLUMNS_SHOWN])
        more = f" and {len(columns) - COLUMNS_SHOWN} more" if len(columns) > COLUMNS_SHOWN else ""
        lines.append(f"table {name} ({names[name]}): {listed}{more}")
    return "\n".join(lines) or "no file was named, so there is no table; files can be read as 'FILE.csv' too"


def sql(base, names, request):
    statements = base.extract_statements(request["query"])
    if not statements:
        raise Problem("sql_invalid", "the query holds no statement")
    for statement in statements[:-1]:
        base.execute(statement)
    output, most = request.get("output"), request["rows"]
    if output and os.path.splitext(output)[1].lower() not in WRITERS:
        raise Problem("sql_invalid", f"the ending of {output!r} is none of {', '.join(WRITERS)}")
    last = base.query(statements[-1].query)
    if last is None:
        if output:
            raise Problem("sql_invalid", f"the last statement gives no rows, so there is nothing to write to {output!r}")
        return f"done, {count(len(statements), 'statement')}; the last one gave no rows"
    # Made once, whatever is then done with it.
    last.create("errand_result")
    text = rows_of(base, "errand_result", most)
    return f"{write(base, output)}\n{text}" if output else text


WRITERS = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx")


def write(base, path):
    ending = os.path.splitext(path)[1].lower()
    rows = base.execute("SELECT count(*) FROM errand_result").fetchone()[0]
    if ending == ".xlsx":
        books.check_room(path, rows + 1, len(base.execute("DESCRIBE errand_result").fetchall()))
        books.write(path, [("Result", workbook_rows(base), [])])
    else:
        form = {
            ".csv": "FORMAT csv, HEADER", ".tsv": "FORMAT csv, HEADER, DELIMITER '\t'", ".json": "FORMAT json, ARRAY true",
            ".jsonl": "FORMAT json", ".parquet": "FORMAT parquet, COMPRESSION zstd",
        }[ending]
        with Writing(path) as place:
            base.execute(f"COPY errand_result TO {literal(place)} ({form})")
    path = beneath(path)
    return f"wrote {count(rows, 'row')} to {path} ({size(os.path.join('/workspace', path))})"


PLAIN = re.compile(r"(BOOLEAN|U?(TINY|SMALL|BIG)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)|DATE|TIMESTAMP|TIMESTAMP_(S|MS|NS)|VARCHAR)")


def workbook_rows(base):
    """Rows for a workbook; what it has no type for is text."""
    columns = base.execute("DESCRIBE errand_result").fetchall()
    chosen = []
    for name, kind, *_ in columns:
        as_is = PLAIN.fullmatch(kind)
        moment = kind.startswith("TIMESTAMP_")
        chosen.append(quoted(name) if as_is and not moment else f"CAST({quoted(name)} AS {'TIMESTAMP' if moment and as_is else 'VARCHAR'})")
    yield [name for name, *_ in columns]
    found = base.execute(f"SELECT {', '.join(chosen)} FROM errand_result")
    while rows := found.fetchmany(5_000):
        yield from rows


def rows_of(base, name, most):
    """The first rows of a table as Markdown, with what there is of them."""
    columns = base.execute(f"DESCRIBE {quoted(name)}").fetchall()
    total = base.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]
    shown = columns[:COLUMNS_SHOWN]
    casts = ", ".join(f"CAST({quoted(column[0])} AS VARCHAR)" for column in shown)
    rows = base.execute(f"SELECT {casts} FROM {quoted(name)} LIMIT {most}").fetchall()
    more = f", the first {most} are shown" if total > most else ""
    left = f", the first {COLUMNS_SHOWN} are shown" if len(columns) > COLUMNS_SHOWN else ""
    kinds = ", ".join(f"{column[0]} {column[1]}" for column in shown)
    lines = [f"{count(total, 'row')}{more}; {count(len(columns), 'column')}{left}: {kinds}"]
    lines.append("| " + " | ".join(cell(column[0]) for column in shown) + " |")
    lines.append("|" + "---|" * len(shown))
    lines.extend("| " + " | ".join(cell(value) for value in row) + " |" for row in rows)
    return "\n".join(lines)


def cell(value):
    if value is None:
        return ""
    text = value.replace("\\", "\\\\").replace("|", "\\|").replace("\r", "").replace("\n", "\\n")
    return text if len(text) <= CELL_SHOWN else text[:CELL_SHOWN] + "…"


def profile(base, names, request):
    """Types, empty cells, distinct values, the least and the greatest, quarters."""
    parts = []
    for name, path in names.items():
        rows = base.execute(f"SUMMARIZE {quoted(name)}").fetchall()
        total = rows[0][10] if rows else 0
        of = path if os.path.splitext(path)[1].lower() != ".xlsx" else f"{path}, table {name}"
        lines = [f"{of}: {count(total, 'row')}, {count(len(rows), 'column')}; in SQL it is {name}"]
        lines.append("| column | type | empty | distinct ≈ | min | 25 % | median | 75 % | max | mean | deviation |")
        lines.append("|" + "---|" * 11)
        for column, kind, least, most, distinct, mean, deviation, low, middle, high, _, empty in rows[:COLUMNS_SHOWN]:
            values = [column, kind, f"{empty:.2f} %".replace(".00", ""), str(min(distinct, total)), least, low, middle, high, most, mean, deviation]
            lines.append("| " + " | ".join(cell(figure(value))[:60] for value in values) + " |")
        if len(rows) > COLUMNS_SHOWN:
            lines.append(f"and {len(rows) - COLUMNS_SHOWN} more columns")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def figure(value):
    """A figure with six digits behind the point at most."""
    if value and re.fullmatch(r"-?\d+\.\d{7,}", value):
        return f"{float(value):.6f}".rstrip("0").rstrip(".")
    return value


def sample(base, names, request):
    """Rows drawn by chance, the same ones each time."""
    parts = []
    for name, path in names.items():
        total = base.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]
        drawn = f"SELECT * FROM {quoted(name)} USING SAMPLE reservoir({request['rows']} ROWS) REPEATABLE (1)"
        base.execute(f"CREATE OR REPLACE TEMP TABLE errand_sample AS {drawn}")
        text = rows_of(base, "errand_sample", request["rows"])
        parts.append(f"{path}: {count(total, 'row')}; in SQL it is {name}; drawn by chance:\n{text}")
    return "\n\n".join(parts)


main(work)
