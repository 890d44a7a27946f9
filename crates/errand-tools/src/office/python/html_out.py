"""Writes HTML: one file that needs no other, runs nothing and loads nothing."""

import base64
from html import escape

from common import Writing

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222}
h1,h2,h3{line-height:1.2}table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}
th,td{border:1px solid #bbb;padding:.3em .6em;vertical-align:top}th{background:#eee}
pre{background:#f5f5f5;padding:.8em;overflow-x:auto}code{font-family:ui-monospace,monospace;font-size:.92em}
blockquote{border-left:4px solid #ccc;margin-left:0;padding-left:1em;color:#555}img{max-width:100%}
@media print{body{margin:0;max-width:none}}"""
TAGS = (("code", "code"), ("struck", "s"), ("italic", "em"), ("bold", "strong"))


def write(path, blocks, about):
    author = f'<meta name="author" content="{escape(about["author"])}">\n' if about["author"] else ""
    page = f"""<!doctype html>
<html lang="{escape(about["language"])}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
{author}<title>{escape(about["title"])}</title>
<style>{STYLE}</style>
</head>
<body>
{render(blocks)}
</body>
</html>
"""
    with Writing(path) as place, open(place, "w", encoding="utf-8") as file:
        file.write(page)


def render(blocks):
    return "\n".join(block(one) for one in blocks)


def block(one):
    kind = one[0]
    if kind == "heading":
        return f"<h{one[1]}>{inline(one[2])}</h{one[1]}>"
    if kind == "text":
        return f"<p>{inline(one[1])}</p>"
    if kind == "list":
        tag, start = ("ul", "") if one[1] is None else ("ol", "" if one[1] == 1 else f' start="{one[1]}"')
        return f"<{tag}{start}>\n" + "\n".join(f"<li>{item(blocks)}</li>" for blocks in one[2]) + f"\n</{tag}>"
    if kind == "quote":
        return f"<blockquote>\n{render(one[1])}\n</blockquote>"
    if kind == "code":
        return f"<pre><code>{escape(one[1])}</code></pre>"
    if kind == "rule":
        return "<hr>"
    _, aligns, header, rows = one
    head = row("th", header, aligns)
    return f"<table>\n<thead>\n{head}\n</thead>\n<tbody>\n" + "\n".join(row("td", cells, aligns) for cells in rows) + "\n</tbody>\n</table>"


def item(blocks):
    """An item of one paragraph is that text alone."""
    if blocks and blocks[0][0] == "text":
        return inline(blocks[0][1]) + ("\n" + render(blocks[1:]) if blocks[1:] else "")
    return render(blocks)


def row(tag, cells, aligns):
    side = {"left": "", "right": ' style="text-align:right"', "center": ' style="text-align:center"'}
    return "<tr>" + "".join(f"<{tag}{side[aligns[index]]}>{inline(cell)}</{tag}>" for index, cell in enumerate(cells)) + "</tr>"


def inline(spans):
    return "".join(span(one) for one in spans)


def span(one):
    if one[0] == "break":
        return "<br>"
    if one[0] == "picture":
        picture = one[1]
        data = base64.b64encode(picture.data).decode()
        return f'<img src="data:image/{picture.kind.lower()};base64,{data}" alt="{escape(one[2])}" width="{picture.width}">'
    _, text, styles, address = one
    shown = escape(text, quote=False)
    for style, tag in TAGS:
        if style in styles:
            shown = f"<{tag}>{shown}</{tag}>"
    return f'<a href="{escape(address)}" rel="noreferrer">{shown}</a>' if address else shown
