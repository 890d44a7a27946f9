"""Writes Word documents."""

import datetime

from common import Writing

MONO = "DejaVu Sans Mono"
WIDTHS = {"a4": (210, 297), "letter": (215.9, 279.4)}
MARGIN_MM = 25


def write(path, blocks, about):
    import docx
    from docx.shared import Mm

    document = docx.Document()
    section = document.sections[0]
    width, height = WIDTHS[about["page"]]
    if about["landscape"]:
        from docx.enum.section import WD_ORIENT
        width, height, section.orientation = height, width, WD_ORIENT.LANDSCAPE
    section.page_width, section.page_height = Mm(width), Mm(height)
    section.left_margin = section.right_margin = section.top_margin = section.bottom_margin = Mm(MARGIN_MM)
    properties = document.core_properties
    properties.title, properties.author, properties.comments = about["title"], about["author"], ""
    properties.language = about["language"]
    # A document made again from the same is the same.
    properties.created = properties.modified = datetime.datetime(2000, 1, 1)
    Writer(document, Mm(width - 2 * MARGIN_MM)).blocks(blocks, document, 0)
    with Writing(path) as place:
        document.save(place)


class Writer:
    def __init__(self, document, width):
        self.document, self.width = document, width

    def blocks(self, blocks, into, depth):
        for block in blocks:
            getattr(self, block[0])(block, into, depth)

    def heading(self, block, into, depth):
        self.spans(into.add_paragraph(style=f"Heading {block[1]}"), block[2])

    def text(self, block, into, depth):
        self.indented(into.add_paragraph(), block[1], depth)

    def indented(self, paragraph, spans, depth):
        from docx.shared import Mm

        if depth:
            paragraph.paragraph_format.left_indent = Mm(7 * depth)
        self.spans(paragraph, spans)

    def list(self, block, into, depth):
        _, start, items = block
        level = min(depth, 2)
        style = ("List Bullet" if start is None else "List Number") + (f" {level + 1}" if level else "")
        number = None if start is None else self.numbering(style, start)
        for blocks in items:
            first, rest = (blocks[0][1], blocks[1:]) if blocks and blocks[0][0] == "text" else ([], blocks)
            paragraph = into.add_paragraph(style=style)
            if number is not None:
                # Its own count, which begins where this list does.
                paragraph._p.get_or_add_pPr().get_or_add_numPr().get_or_add_numId().val = number
            self.spans(paragraph, first)
            self.blocks(rest, into, depth + 1)

    def numbering(self, style, start):
        numbers = self.document.part.numbering_part.element
        known = self.document.styles[style].element.pPr.numPr.numId.val
        abstract = numbers.num_having_numId(known).abstractNumId.val
        number = numbers.add_num(abstract)
        number.add_lvlOverride(ilvl=0).add_startOverride(min(start, 32_767))
        return number.numId

    def quote(self, block, into, depth):
        for inner in block[1]:
            if inner[0] == "text":
                self.spans(into.add_paragraph(style="Quote"), inner[1])
            else:
                self.blocks([inner], into, depth + 1)

    def code(self, block, into, depth):
        from docx.oxml import OxmlElement
        from docx.oxml.ns import qn
        from docx.shared import Pt

        paragraph = into.add_paragraph()
        shade = OxmlElement("w:shd")
        for name, value in (("val", "clear"), ("color", "auto"), ("fill", "F2F2F2")):
            shade.set(qn(f"w:{name}"), value)
        paragraph._p.get_or_add_pPr().append(shade)
        for index, line in enumerate(block[1].split("\n")):
            run = paragraph.add_run()
            if index:
                run.add_break()
            run.add_text(line)
            run.font.name, run.font.size = MONO, Pt(9)

    def rule(self, block, into, depth):
        from docx.oxml import OxmlElement
        from docx.oxml.ns import qn

        borders, bottom = OxmlElement("w:pBdr"), OxmlElement("w:bottom")
        for name, value in (("val", "single"), ("sz", "6"), ("space", "1"), ("color", "AAAAAA")):
            bottom.set(qn(f"w:{name}"), value)
        borders.append(bottom)
        into.add_paragraph()._p.get_or_add_pPr().append(borders)

    def table(self, block, into, depth):
        from docx.enum.text import WD_ALIGN_PARAGRAPH
        from docx.oxml import OxmlElement
        from docx.oxml.ns import qn

        _, aligns, header, rows = block
        sides = {"left": WD_ALIGN_PARAGRAPH.LEFT, "right": WD_ALIGN_PARAGRAPH.RIGHT, "center": WD_ALIGN_PARAGRAPH.CENTER}
        table = into.add_table(rows=0, cols=len(header))
        table.style = "Table Grid"
        for number, cells in enumerate([header, *rows]):
            row = table.add_row()
            for index, (place, spans) in enumerate(zip(row.cells, cells)):
                paragraph = place.paragraphs[0]
                paragraph.alignment = sides[aligns[index]]
                self.spans(paragraph, spans, {"bold"} if number == 0 else set())
            if number == 0:
                # Repeated on each page.
                repeat = OxmlElement("w:tblHeader")
                repeat.set(qn("w:val"), "true")
                row._tr.get_or_add_trPr().append(repeat)
        into.add_paragraph()

    def spans(self, paragraph, spans, more=frozenset()):
        for span in spans:
            if span[0] == "break":
                paragraph.add_run().add_break()
            elif span[0] == "picture":
                self.picture(paragraph, span)
            else:
                self.run(paragraph, span, more)

    def picture(self, paragraph, span):
        from docx.shared import Emu

        picture, alt = span[1], span[2]
        width = min(self.width, Emu(picture.width * 9525))
        shape = paragraph.add_run().add_picture(picture.file(), width=width)
        shape._inline.docPr.set("descr", alt)

    def run(self, paragraph, span, more):
        from docx.oxml.ns import qn
        from docx.shared import RGBColor

        _, text, styles, address = span
        styles = set(styles) | set(more)
        run = paragraph.add_run(text)
        run.bold, run.italic = "bold" in styles or None, "italic" in styles or None
        if "struck" in styles:
            run.font.strike = True
        if "code" in styles:
            run.font.name = MONO
        if address:
            from docx.opc.constants import RELATIONSHIP_TYPE
            from docx.oxml import OxmlElement

            link = OxmlElement("w:hyperlink")
            link.set(qn("r:id"), paragraph.part.relate_to(address, RELATIONSHIP_TYPE.HYPERLINK, is_external=True))
            run.font.color.rgb, run.font.underline = RGBColor(0x05, 0x63, 0xC1), True
            link.append(run._r)
            paragraph._p.append(link)
