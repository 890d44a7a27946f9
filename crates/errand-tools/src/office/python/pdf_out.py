"""Writes PDF. Fonts are embedded; those for Chinese, Japanese and Korean are the reader's."""

import importlib.util
import os
from xml.sax.saxutils import escape, quoteattr

from common import Writing

MARGIN = 62
SIZES = {1: 20, 2: 16, 3: 13.5, 4: 12, 5: 11, 6: 11}
CELL_CHARACTERS_MAX = 4_000
FONTS = {"Sans": "DejaVuSans", "Sans-Bold": "DejaVuSans-Bold", "Sans-Oblique": "DejaVuSans-Oblique",
         "Sans-BoldOblique": "DejaVuSans-BoldOblique", "Mono": "DejaVuSansMono"}


def write(path, blocks, about):
    from reportlab.lib.pagesizes import A4, LETTER, landscape
    from reportlab.platypus import SimpleDocTemplate

    paper = {"a4": A4, "letter": LETTER}[about["page"]]
    paper = landscape(paper) if about["landscape"] else paper
    # A frame keeps six points on each side for itself.
    writer = Writer(paper[0] - 2 * MARGIN - 12, paper[1] - 2 * MARGIN - 12)
    story = writer.blocks(blocks, 0)
    with Writing(path) as place:
        document = SimpleDocTemplate(
            place, pagesize=paper, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN,
            title=about["title"], author=about["author"], lang=about["language"], invariant=1, creator="Errand",
        )
        document.build(story or [writer.gap(1)], onFirstPage=footer, onLaterPages=footer)
    return writer.notes()


def footer(canvas, document):
    canvas.setFont("Sans", 8)
    canvas.drawCentredString(document.pagesize[0] / 2, MARGIN / 2, str(document.page))


class Fonts:
    """Which font has a character."""

    EAST = (("HeiseiMin-W3", (0x3040, 0x30FF)), ("HYSMyeongJo-Medium", (0xAC00, 0xD7AF)), ("HYSMyeongJo-Medium", (0x1100, 0x11FF)),
            ("STSong-Light", (0x2E80, 0x9FFF)), ("STSong-Light", (0xF900, 0xFAFF)), ("STSong-Light", (0xFF00, 0xFFEF)),
            ("STSong-Light", (0x3000, 0x303F)))

    def __init__(self):
        from reportlab.lib.fonts import addMapping
        from reportlab.pdfbase import pdfmetrics
        from reportlab.pdfbase.ttfonts import TTFont

        package = importlib.util.find_spec("matplotlib").submodule_search_locations[0]
        folder = os.path.join(package, "mpl-data", "fonts", "ttf")
        for name, file in FONTS.items():
            pdfmetrics.registerFont(TTFont(name, os.path.join(folder, f"{file}.ttf")))
        for bold in (0, 1):
            for italic in (0, 1):
                style = ("Bold" if bold else "") + ("Oblique" if italic else "")
                addMapping("Sans", bold, italic, f"Sans-{style}" if style else "Sans")
                addMapping("Mono", bold, italic, "Mono")
        self.has = pdfmetrics.getFont("Sans").face.charToGlyph
        self.registered, self.missing, self.is_eastern, self.is_rtl = set(), set(), False, False

    def pieces(self, text):
        """The text in pieces, each with the font it needs beside the usual one."""
        current, piece = None, []
        for character in text:
            font = self.font(character)
            if font != current and piece:
                yield current, "".join(piece)
                piece = []
            current = font
            piece.append(character if font != "" else "\u25a1")
        if piece:
            yield current or None, "".join(piece)

    def font(self, character):
        """None is the usual one, "" is none at all."""
        code = ord(character)
        if 0x0590 <= code <= 0x08FF:
            self.is_rtl = True
        # Beyond the first plane the library writes what readers cannot turn into text again.
        if code <= 0xFFFF and code in self.has or character in "\n\t\u00a0":
            return None
        if code in (0x200B, 0x200D, 0xFE0E, 0xFE0F, 0xFEFF):
            return None
        for font, (first, last) in self.EAST:
            if first <= code <= last:
                if font not in self.registered:
                    from reportlab.pdfbase import pdfmetrics
                    from reportlab.pdfbase.cidfonts import UnicodeCIDFont

                    pdfmetrics.registerFont(UnicodeCIDFont(font))
                    self.registered.add(font)
                self.is_eastern = True
                return font
        self.missing.add(character)
        return ""


class Writer:
    def __init__(self, width, height):
        from reportlab.lib.colors import HexColor
        from reportlab.lib.styles import ParagraphStyle

        self.width, self.height, self.fonts = width, height, Fonts()
        self.base = ParagraphStyle("text", fontName="Sans", fontSize=10, leading=14.5, spaceAfter=6, splitLongWords=1)
        self.cell = ParagraphStyle("cell", parent=self.base, fontSize=8.5, leading=11.5, spaceAfter=0)
        self.mono = ParagraphStyle("code", parent=self.base, fontName="Mono", fontSize=8, leading=11, backColor=HexColor("#f3f3f3"),
                                   borderPadding=5, spaceBefore=6, spaceAfter=10)

    def notes(self):
        fonts, told = self.fonts, []
        if fonts.missing:
            shown = " ".join(sorted(fonts.missing)[:20])
            told.append(f"the fonts of the PDF lack {len(fonts.missing)} of its characters, shown as \u25a1: {shown}")
        if fonts.is_eastern:
            told.append("Chinese, Japanese and Korean text in the PDF is shown with the reader's own fonts")
        if fonts.is_rtl:
            told.append("right-to-left text is not set properly in PDF: write DOCX or HTML for it")
        return told

    def blocks(self, blocks, depth):
        return [flowable for block in blocks for flowable in getattr(self, block[0])(block, depth)]

    def gap(self, points):
        from reportlab.platypus import Spacer
        return Spacer(1, points)

    def style(self, **changes):
        from reportlab.lib.styles import ParagraphStyle
        return ParagraphStyle("own", parent=self.base, **changes)

    def paragraph(self, spans, style, width=None):
        """Text and pictures in their order: pictures stand for themselves."""
        from reportlab.platypus import Paragraph

        flowables, part = [], []
        for span in [*spans, None]:
            if span is None or span[0] == "picture":
                if any(one[0] == "text" and one[1].strip() for one in part):
                    flowables.append(Paragraph(self.markup(part), style))
                part = []
                if span is not None:
                    flowables.append(self.picture(span[1], width or self.width))
            else:
                part.append(span)
        return flowables

    def picture(self, picture, width):
        from reportlab.platypus import Image

        # 96 points of a picture are an inch.
        scale = min(0.75, width / picture.width, self.height / picture.height)
        return Image(picture.file(), picture.width * scale, picture.height * scale)

    def markup(self, spans):
        return "".join("<br/>" if span[0] == "break" else self.span(span) for span in spans if span[0] != "picture")

    def span(self, span):
        _, text, styles, address = span
        shown = "".join(self.piece(font, piece) for font, piece in self.fonts.pieces(text))
        for style, tag in (("struck", "strike"), ("italic", "i"), ("bold", "b")):
            if style in styles:
                shown = f"<{tag}>{shown}</{tag}>"
        if "code" in styles:
            shown = f'<font name="Mono" size="8.5">{shown}</font>'
        return f"<a href={quoteattr(address)} color=\"#0563c1\">{shown}</a>" if address else shown

    def piece(self, font, text):
        text = escape(text)
        return f'<font name="{font}">{text}</font>' if font else text

    def heading(self, block, depth):
        size = SIZES[block[1]]
        style = self.style(fontName="Sans-Bold", fontSize=size, leading=size * 1.25, spaceBefore=size * 0.7, spaceAfter=6, keepWithNext=1)
        return self.paragraph(block[2], style)

    def text(self, block, depth):
        return self.paragraph(block[1], self.style(leftIndent=16 * depth), self.width - 16 * depth)

    def list(self, block, depth):
        _, start, items = block
        flowables = []
        for index, blocks in enumerate(items):
            mark = "\u2022" if start is None else f"{start + index}."
            style = self.style(leftIndent=16 * (depth + 1) + (8 if start is not None else 0), bulletIndent=16 * depth + 4, spaceAfter=3)
            first, rest = (blocks[0][1], blocks[1:]) if blocks and blocks[0][0] == "text" else ([("text", "\u00a0", frozenset(), None)], blocks)
            made = self.paragraph(first, style, self.width - 16 * (depth + 1))
            from reportlab.platypus import Paragraph
            if made and isinstance(made[0], Paragraph):
                made[0] = Paragraph(f'<bullet>{mark}</bullet>{self.markup([span for span in first if span[0] != "picture"])}', style)
            flowables.extend([*made, *self.blocks(rest, depth + 1)])
        return flowables

    def quote(self, block, depth):
        from reportlab.lib.colors import HexColor

        flowables = []
        for inner in block[1]:
            if inner[0] == "text":
                style = self.style(leftIndent=16 * (depth + 1), textColor=HexColor("#555555"), fontName="Sans-Oblique")
                flowables.extend(self.paragraph(inner[1], style, self.width - 16 * (depth + 1)))
            else:
                flowables.extend(self.blocks([inner], depth + 1))
        return flowables

    def code(self, block, depth):
        from reportlab.pdfbase.pdfmetrics import stringWidth
        from reportlab.platypus import Paragraph

        fits = max(20, int((self.width - 16 * depth - 12) / stringWidth("m", "Mono", 8)))
        lines = [line[at:at + fits] for line in block[1].expandtabs(4).split("\n") for at in range(0, max(1, len(line)), fits)]
        from reportlab.lib.styles import ParagraphStyle
        style = ParagraphStyle("own", parent=self.mono, leftIndent=16 * depth)
        shown = (self.markup([("text", line.replace(" ", "\u00a0") or "\u00a0", frozenset(), None)]) for line in lines)
        return [Paragraph("<br/>".join(shown), style)]

    def rule(self, block, depth):
        from reportlab.lib.colors import grey
        from reportlab.platypus import HRFlowable
        return [HRFlowable(width="100%", thickness=0.7, color=grey, spaceBefore=8, spaceAfter=8)]

    def table(self, block, depth):
        from reportlab.lib.colors import HexColor
        from reportlab.lib.styles import ParagraphStyle
        from reportlab.platypus import Table

        _, aligns, header, rows = block
        sides = {"left": 0, "center": 1, "right": 2}
        size = 8.5 if len(header) <= 8 else max(5, 8.5 * 8 / len(header))
        widths = self.widths([header, *rows], len(header))

        def cell(spans, index, is_head):
            style = ParagraphStyle("own", parent=self.cell, alignment=sides[aligns[index]], fontSize=size, leading=size * 1.35,
                                   fontName="Sans-Bold" if is_head else "Sans")
            return self.paragraph(shortened(spans), style, widths[index] - 8) or ""

        data = [[cell(spans, index, number == 0) for index, spans in enumerate(row)] for number, row in enumerate([header, *rows])]
        grid = HexColor("#bbbbbb")
        table = Table(data, colWidths=widths, repeatRows=1, splitInRow=1, style=[
            ("GRID", (0, 0), (-1, -1), 0.5, grid), ("BACKGROUND", (0, 0), (-1, 0), HexColor("#eeeeee")),
            ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 4), ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ])
        return [self.gap(4), table, self.gap(8)]

    def widths(self, rows, columns):
        """As wide as their texts want, within the page."""
        from markdown import plain

        wanted = [max([4] + [min(60, len(plain(row[index]))) for row in rows[:500] if index < len(row)]) for index in range(columns)]
        least = min(40, self.width / columns)
        spare = self.width - least * columns
        return [least + spare * want / sum(wanted) for want in wanted]


def shortened(spans):
    """No cell is longer than a page can hold."""
    left, kept = CELL_CHARACTERS_MAX, []
    for span in spans:
        if span[0] != "text":
            kept.append(span)
            continue
        kept.append(("text", span[1][:left] + ("…" if len(span[1]) > left else ""), *span[2:]))
        left -= len(span[1])
        if left <= 0:
            break
    return kept
