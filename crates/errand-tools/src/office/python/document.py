"""The tool `document`: Markdown as DOCX, PDF and HTML, tables as workbooks."""

import os

import books
import tables
from common import Problem, beneath, main, readable, size
from markdown import Reader, plain, tables_of

MARKDOWN_BYTES_MAX = 4 << 20


def work(request):
    text, folder = source(request)
    reader = Reader(folder)
    blocks = reader.read(text) if text is not None else []
    about = about_it(request, blocks)
    told = []
    for path in request["to"]:
        ending = os.path.splitext(path)[1].lower()
        if ending == ".xlsx":
            counts = books.write(path, sheets(path, request, blocks))
            what = ", ".join(f"{title} with {rows:,} rows" for title, rows in counts)
        else:
            what = write(ending, path, blocks, about, reader)
        path = beneath(path)
        told.append(f"wrote {path} ({size(os.path.join('/workspace', path))}{', ' + what if what else ''})")
    return "\n".join([*told, *(f"note: {note}" for note in reader.notes)])


def source(request):
    """The Markdown, and the folder that its pictures are looked for in."""
    path = request.get("from")
    if path is None:
        return request.get("markdown"), ""
    with open(readable(path, MARKDOWN_BYTES_MAX, "text"), "rb") as file:
        raw = file.read()
    if b"\0" in raw[:8192]:
        raise Problem("binary_file", f"{path!r} is no text: Markdown is needed")
    return raw.decode("utf-8-sig", "replace"), os.path.dirname(beneath(path))


def about_it(request, blocks):
    heading = next((plain(block[2]) for block in blocks if block[0] == "heading"), "")
    first = os.path.splitext(os.path.basename(request["to"][0]))[0]
    return {
        "title": request.get("title") or heading[:200] or first,
        "author": request.get("author") or "",
        "language": request.get("language") or "en",
        "page": request.get("page") or "a4",
        "landscape": bool(request.get("landscape")),
    }


def write(ending, path, blocks, about, reader):
    if not blocks:
        raise Problem("document_empty", "there is no text to write: give `markdown` or `from`")
    try:
        if ending == ".html":
            import html_out
            html_out.write(path, blocks, about)
        elif ending == ".docx":
            import docx_out
            docx_out.write(path, blocks, about)
        else:
            import pdf_out
            for note in pdf_out.write(path, blocks, about):
                reader.note(note)
    except (Problem, MemoryError, OSError):
        raise
    except Exception as error:
        raise Problem("document_failed", f"{path!r} could not be written: {type(error).__name__}: {str(error)[:300]}") from None


def sheets(path, request, blocks):
    """What a workbook holds: the sheets that are asked for, else every table of the text."""
    wanted = request.get("sheets") or []
    if not wanted:
        found = [(heading or "Table", rows_of(table), []) for heading, table in tables_of(blocks)]
        if not found:
            raise Problem("document_empty", f"there is no table for {path!r}: give `sheets`, or Markdown with a table in it")
        return found
    return [(sheet["name"], rows(sheet), sheet.get("charts") or []) for sheet in wanted]


def rows(sheet):
    if "from" not in sheet:
        return [sheet["columns"], *sheet["rows"]]
    path = sheet["from"]
    ending = os.path.splitext(path)[1].lower()
    if ending == ".json":
        return tables.from_json(path)
    if ending in (".csv", ".tsv", ".txt"):
        return tables.from_csv(path)
    raise Problem("table_unreadable", f"{path!r} is read by its ending, which is none of .csv, .tsv, .txt, .json")


def rows_of(table):
    """The cells of a table of the text; what looks like a number is one."""
    _, _, header, body = table
    return [[plain(cell) for cell in header], *[[tables.number(plain(cell)) for cell in row] for row in body]]


main(work)
