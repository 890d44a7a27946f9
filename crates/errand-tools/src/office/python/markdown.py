"""Markdown as a tree of plain values, which each kind of file is written from. Raw HTML is text; what a link or a picture may
lead to is decided here, once.

Blocks are tuples: ("heading", level, spans), ("text", spans), ("list", start or None, items), ("quote", blocks), ("code", text),
("table", aligns, header, rows), ("rule",). Spans: ("text", text, styles, address or None), ("break",), ("picture", Picture, alt).
Styles are a set of "bold", "italic", "struck", "code".
"""

import io
import os
import re

from common import Problem, beneath, readable

PICTURE_BYTES_MAX = 20 << 20
PICTURES_BYTES_MAX = 60 << 20
PICTURES_MAX = 100
PIXELS_MAX = 50_000_000
DEPTH_MAX = 20
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]|[\ud800-\udfff]")
ADDRESS = re.compile(r"(https?://|mailto:)[^\s<>\"]+", re.IGNORECASE)
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff"}


class Picture:
    """A picture of the workspace, as PNG or JPEG, with its size in pixels."""

    def __init__(self, data, kind, width, height):
        self.data, self.kind, self.width, self.height = data, kind, width, height

    def file(self):
        return io.BytesIO(self.data)


class Reader:
    """Reads Markdown; `notes` says what could not be taken over."""

    def __init__(self, folder=""):
        self.folder = folder
        self.notes = []
        self.pictures = {}
        self.bytes = 0

    def read(self, text):
        from markdown_it import MarkdownIt
        from markdown_it.tree import SyntaxTreeNode

        parser = MarkdownIt("commonmark", {"html": False, "maxNesting": DEPTH_MAX}).enable(["table", "strikethrough"])
        tokens = parser.parse(CONTROL.sub("\ufffd", text))
        return self.blocks(SyntaxTreeNode(tokens).children)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def blocks(self, nodes):
        return [block for node in nodes for block in self.block(node)]

    def block(self, node):
        kind = node.type
        if kind == "heading":
            return [("heading", int(node.tag[1]), self.inline(node))]
        if kind == "paragraph":
            return [("text", self.inline(node))]
        if kind in ("bullet_list", "ordered_list"):
            start = int(node.attrs.get("start", 1)) if kind == "ordered_list" else None
            return [("list", start, [self.blocks(item.children) for item in node.children])]
        if kind == "blockquote":
            return [("quote", self.blocks(node.children))]
        if kind in ("fence", "code_block"):
            return [("code", node.content.rstrip("\n"))]
        if kind == "hr":
            return [("rule",)]
        if kind == "table":
            return [self.table(node)]
        return [("text", [("text", node.content, frozenset(), None)])] if getattr(node, "content", "") else []

    def table(self, node):
        rows = [row for part in node.children for row in part.children]
        cells = [[self.inline(cell) for cell in row.children] for row in rows]
        style = [str(cell.attrs.get("style", "")) for cell in rows[0].children]
        aligns = [next((side for side in ("center", "right") if side in one), "left") for one in style]
        return ("table", aligns, cells[0], cells[1:])

    def inline(self, node):
        spans = []
        for child in node.children:
            self.spans(child.children if child.type == "inline" else [child], frozenset(), None, spans)
        return spans

    def spans(self, nodes, styles, address, into):
        for node in nodes:
            kind = node.type
            if kind in ("text", "code_inline", "html_inline"):
                more = {"code"} if kind == "code_inline" else set()
                into.append(("text", node.content, styles | more, address))
            elif kind == "softbreak":
                into.append(("text", " ", styles, address))
            elif kind == "hardbreak":
                into.append(("break",))
            elif kind in ("strong", "em", "s"):
                style = {"strong": "bold", "em": "italic", "s": "struck"}[kind]
                self.spans(node.children, styles | {style}, address, into)
            elif kind == "link":
                self.spans(node.children, styles, self.address(str(node.attrs.get("href", ""))), into)
            elif kind == "image":
                self.picture(node, styles, into)

    def address(self, href):
        if ADDRESS.fullmatch(href):
            return href
        self.note(f"a link to {short(href)} became plain text: only http, https and mailto lead out of a document")
        return None

    def picture(self, node, styles, into):
        alt, source = text_of(node.children), str(node.attrs.get("src", ""))
        try:
            into.append(("picture", self.load(source), alt))
        except Problem as problem:
            self.note(f"the picture {short(source)} was left out: {problem}")
            into.append(("text", f"[{alt or 'picture'}]", styles | {"italic"}, None))

    def load(self, source):
        from urllib.parse import unquote

        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", source):
            raise Problem("sandbox_path_refused", "only pictures of the workspace are taken; fetch it into a file first")
        path = unquote(source.split("?")[0].split("#")[0])
        beside = os.path.join(self.folder, path) if self.folder and not path.startswith("/") else path
        path = beside if os.path.exists(os.path.join("/workspace", beneath(beside))) else path
        if path.lower().endswith(".svg"):
            # `chart` writes both.
            path = path[:-4] + ".png"
        if path not in self.pictures:
            if len(self.pictures) >= PICTURES_MAX:
                raise Problem("result_too_large", f"a document takes {PICTURES_MAX} pictures at most")
            picture = self.open(path)
            self.bytes += len(picture.data)
            if self.bytes > PICTURES_BYTES_MAX:
                raise Problem("result_too_large", f"the pictures have more than {PICTURES_BYTES_MAX:,} bytes together")
            self.pictures[path] = picture
        return self.pictures[path]

    def open(self, path):
        from PIL import Image

        full = readable(path, PICTURE_BYTES_MAX, "picture")
        Image.MAX_IMAGE_PIXELS = None
        try:
            with open(full, "rb") as file:
                data = file.read()
            with Image.open(io.BytesIO(data), formats=list(FORMATS)) as found:
                width, height = found.size
                if width * height > PIXELS_MAX:
                    raise Problem("file_too_large", f"it has {width:,} × {height:,} points, at most {PIXELS_MAX:,} are taken")
                kind = found.format
                # Read whole: a picture that breaks off is no picture.
                found.load()
                if kind in ("PNG", "JPEG") and found.mode in ("1", "L", "P", "RGB", "RGBA", "LA"):
                    return Picture(data, kind, width, height)
                again = io.BytesIO()
                found.convert("RGBA" if "A" in found.getbands() or "transparency" in found.info else "RGB").save(again, "PNG")
                return Picture(again.getvalue(), "PNG", width, height)
        except Problem:
            raise
        except Exception as error:
            raise Problem("file_unreadable", f"it cannot be read as a picture ({type(error).__name__})") from None


def text_of(nodes):
    return "".join(node.content if node.type in ("text", "code_inline") else text_of(node.children) for node in nodes or [])


def short(text):
    return repr(text if len(text) <= 80 else text[:80] + "…")


def plain(spans):
    """Spans as text alone."""
    parts = {"break": lambda _: "\n", "picture": lambda span: span[2], "text": lambda span: span[1]}
    return "".join(parts[span[0]](span) for span in spans)


def tables_of(blocks):
    """Every table, with the heading before it."""
    heading = None
    for block in blocks:
        if block[0] == "heading":
            heading = plain(block[2])
        elif block[0] == "table":
            yield heading, block
        elif block[0] == "quote":
            yield from tables_of(block[1])
        elif block[0] == "list":
            for item in block[2]:
                yield from tables_of(item)
