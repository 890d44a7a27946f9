//! `document` and `data` in real boxes, over the image that `cargo xtask python` makes. What they write is opened by others: the
//! standard library of Python, pypdf and Pillow.

use crate::support::{World, boxes, error, ok};
use errand_core::Snapshot;
use errand_engine::ports::ToolReply;
use errand_sandbox::{Images, ImagesConfig};
use errand_tools::BoxSettings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A run that goes on from call to call.
struct Desk {
    world: World,
    workspace: std::sync::Mutex<Option<Snapshot>>,
    calls: AtomicU32,
}

/// None, after saying why, where the image is not there.
fn desk() -> Option<Desk> {
    if !boxes() {
        return None;
    }
    let program = std::env::current_exe().unwrap();
    let folder = program.ancestors().nth(3).unwrap().join("images");
    let images = folder.is_dir().then(|| Images::at(&folder, ImagesConfig::default()).unwrap());
    let Some(images) = images.filter(|images| images.named("data").is_ok() && images.holds("data", &["reportlab"])) else {
        println!("skipped: there is no image `data` in {}; run `cargo xtask python` first", folder.display());
        return None;
    };
    let image = Some("data".to_owned());
    let world = World::with_boxes(BoxSettings { images: Some(Arc::new(images)), image, ..BoxSettings::default() });
    Some(Desk { world, workspace: Default::default(), calls: AtomicU32::new(0) })
}

impl Desk {
    async fn call(&self, tool: &str, arguments: Value) -> ToolReply {
        let workspace = *self.workspace.lock().unwrap();
        let reply = self.world.call(self.calls.fetch_add(1, Ordering::Relaxed), tool, arguments, workspace).await;
        if reply.workspace.is_some() {
            *self.workspace.lock().unwrap() = reply.workspace;
        }
        reply
    }

    async fn write(&self, path: &str, text: &str) {
        ok(&self.call("files", json!({"action": "write", "path": path, "text": text})).await);
    }

    /// What a cell of Python gives.
    async fn python(&self, code: &str) -> String {
        let reply = self.call("python", json!({"code": code})).await;
        ok(&reply).to_owned()
    }

    async fn data(&self, arguments: Value) -> ToolReply {
        self.call("data", arguments).await
    }

    async fn sql(&self, query: &str) -> ToolReply {
        self.data(json!({"action": "sql", "query": query})).await
    }

    /// The call fails so, and says this.
    async fn fails(&self, tool: &str, arguments: Value, code: &str, says: &str) {
        let reply = self.call(tool, arguments.clone()).await;
        let (found, text) = error(&reply);
        assert!(found == code && text.contains(says), "{arguments}: {found}: {text}");
    }
}

const SALES: &str = "region,month,amount,note\nNorth,2026-01-31,1200.50,\"a, b\"\nSouth,2026-01-31,800,\n\
    North,2026-02-28,1310.25,x|y\nSouth,2026-02-28,,\"line\ntwo\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn sql_goes_over_files_of_every_kind_and_results_are_files() {
    let Some(desk) = desk() else { return };
    desk.write("in/Sales 2026.csv", SALES).await;
    let query = "select region, sum(amount) as total from sales_2026 group by all order by 1";
    for output in ["t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet", "out/t.xlsx"] {
        let reply = desk
            .data(json!({"action": "sql", "files": ["in/Sales 2026.csv"], "query": query, "output": output, "rows": 1}))
            .await;
        let text = ok(&reply);
        assert!(text.starts_with(&format!("wrote 2 rows to {output} (")), "{text}");
        assert!(
            text.contains("2 rows, the first 1 are shown; 2 columns: region VARCHAR, total DOUBLE\n| region | total |"),
            "{text}"
        );
        assert!(text.contains("| North | 2510.75 |") && text.contains("files created: "), "{text}");
        let stem = output.trim_start_matches("out/");
        let reply = desk.data(json!({"action": "sql", "files": [output], "query": "select * from t order by 1"})).await;
        assert!(ok(&reply).contains("| North | 2510.75 |\n| South | 800"), "{stem}: {reply:?}");
    }
    // Files need not be opened as tables, and joins go over all kinds.
    let reply = desk
        .sql("select count(*) as n from 't.parquet' a join 't.json' b using (region) join 't.csv' c using (region)")
        .await;
    assert!(ok(&reply).contains("| 2 |"), "{reply:?}");
    // Read by others.
    let seen = desk
        .python(
            "import csv, json, zipfile, xml.etree.ElementTree as tree\n\
             book = zipfile.ZipFile('out/t.xlsx')\n\
             sheet = tree.fromstring(book.read('xl/worksheets/sheet1.xml'))\n\
             ns = {'m': 'http://schemas.openxmlformats.org/spreadsheetml/2006/main'}\n\
             cells = [(c.get('t'), ''.join(c.itertext())) for c in sheet.iterfind('.//m:c', ns)]\n\
             [json.load(open('t.json'))[0]['total'], list(csv.reader(open('t.tsv'), delimiter='\\t'))[1], cells[2:4]]",
        )
        .await;
    assert!(seen.contains("value: [2510.75, ['North', '2510.75'], [("), "{seen}");
    assert!(seen.contains("'North')") && seen.contains("'2510.75')"), "{seen}");
    // Statements before the last are carried out, and one without rows says so.
    let reply = desk.sql("create table a as select 1 as n; insert into a values (2); select sum(n) as s from a").await;
    assert!(ok(&reply).contains("| 3 |"), "{reply:?}");
    let reply = desk.sql("create table a as select 1 as n").await;
    assert!(ok(&reply).contains("1 row") || ok(&reply).contains("gave no rows"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_and_samples_tell_what_is_in_a_table() {
    let Some(desk) = desk() else { return };
    desk.write("sales.csv", SALES).await;
    desk.write(
        "order.json",
        r#"[{"id": 1, "at": "2026-01-01T10:00:00", "tags": ["a"]}, {"id": 2, "at": null, "tags": []}]"#,
    )
    .await;
    let sheets = json!([
        {"name": "People", "columns": ["name", "born", "name"], "rows": [["Ann", "007", 1.5], ["Bob", "", 2]]},
        {"name": "More", "from": "sales.csv"},
    ]);
    ok(&desk.call("document", json!({"to": ["book.xlsx"], "sheets": sheets})).await);
    let reply = desk.data(json!({"action": "profile", "files": ["sales.csv", "order.json", "book.xlsx"]})).await;
    let text = ok(&reply);
    for part in [
        "sales.csv: 4 rows, 4 columns; in SQL it is sales",
        "| amount | DOUBLE | 25 % | 3 | 800.0 | 900.125 | 1200.5 | 1282.8125 | 1310.25 | 1103.583333 | 268.576611 |",
        "| month | DATE | 0 % | 2 | 2026-01-31 |",
        "in SQL it is order_2",
        "book.xlsx, table book: 2 rows, 3 columns; in SQL it is book",
        "| born | VARCHAR | 50 % | 1 | 007 |",
        "| name_2 | DOUBLE | 0 % | 2 | 1.5 |",
        "book.xlsx, table book_more: 4 rows, 4 columns",
    ] {
        assert!(text.contains(part), "{part}\nin {text}");
    }
    let reply = desk.data(json!({"action": "sample", "files": ["sales.csv"], "rows": 2})).await;
    let again = desk.data(json!({"action": "sample", "files": ["sales.csv"], "rows": 2})).await;
    assert_eq!(ok(&reply), ok(&again), "a sample is the same each time");
    assert!(ok(&reply).contains("sales.csv: 4 rows") && ok(&reply).lines().count() == 6, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sql_must_not_do_is_refused_and_what_is_wrong_in_it_is_told() {
    let Some(desk) = desk() else { return };
    desk.write("sales.csv", SALES).await;
    ok(&desk
        .call("shell", json!({"script": "ln -s /etc/passwd link.csv; ln -s /etc dir; mkfifo pipe.csv; mkdir folder.csv"}))
        .await);
    // Variables of the interpreter are there still after calls that failed.
    desk.python("kept = 5").await;
    for query in [
        "select * from read_text('/etc/passwd')",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('../etc/passwd')",
        "select * from glob('/etc/*')",
        "copy (select 1) to '/tmp/out.csv'",
        "copy (select 1) to '/workspace/../tmp/out.csv'",
        "attach '/tmp/other.db'",
        "install httpfs",
        "load httpfs",
        "select * from read_csv('https://example.com/a.csv')",
        "select * from 's3://bucket/a.parquet'",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "set memory_limit = '64GB'",
        "export database '/tmp/all'",
    ] {
        desk.fails("data", json!({"action": "sql", "query": query}), "sql_denied", "only files of the workspace").await;
    }
    let of = |query: &str| json!({"action": "sql", "files": ["sales.csv"], "query": query});
    desk.fails("data", of("selec 1"), "sql_invalid", "syntax error").await;
    desk.fails("data", of("   ;  "), "sql_invalid", "no statement").await;
    desk.fails("data", of("select * from nowhere"), "sql_invalid", "table sales (sales.csv): \"region\" VARCHAR").await;
    desk.fails("data", of("select nope from sales"), "column_unknown", "\"amount\" DOUBLE").await;
    desk.fails("data", of("select cast(region as integer) from sales"), "sql_failed", "North").await;
    desk.fails("data", of("select * from 'nope.csv'"), "file_not_found", "nope.csv").await;
    let read = |path: &str| json!({"action": "profile", "files": [path]});
    desk.fails("data", read("nope.csv"), "file_not_found", "there are dir, folder.csv, link.csv, pipe.csv, sales.csv").await;
    desk.fails("data", read("link.csv"), "sandbox_path_refused", "leads over a link").await;
    desk.fails("data", read("dir/passwd.csv"), "sandbox_path_refused", "leads over a link").await;
    desk.fails("data", read("../x.csv"), "sandbox_path_refused", "no path of a file in the workspace").await;
    desk.fails("data", read("/etc/passwd.csv"), "sandbox_path_refused", "no path").await;
    desk.fails("data", read("pipe.csv"), "file_not_plain", "no plain file").await;
    desk.fails("data", read("folder.csv"), "is_a_folder", "name a file in it").await;
    desk.fails("data", read("sales.docx"), "table_unreadable", "by its ending").await;
    let to = |output: &str| json!({"action": "sql", "query": "select 1 as n", "output": output});
    desk.fails("data", to("../x.csv"), "sandbox_path_refused", "no path").await;
    desk.fails("data", to("dir/x.csv"), "sandbox_path_refused", "link").await;
    desk.fails("data", to("sales.csv/x.csv"), "sandbox_path_refused", "sales.csv/x.csv").await;
    desk.fails("data", to("folder.csv"), "is_a_folder", "folder").await;
    assert!(desk.python("kept, __import__('os').path.exists('.errand/making')").await.contains("value: (5, False)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_claim_or_hide_too_much_are_told() {
    let Some(desk) = desk() else { return };
    let make = "import zipfile, os\n\
        open('nul.csv', 'wb').write(b'a,b\\n1,\\0\\0\\n' * 50)\n\
        open('wide.csv', 'wb').write('a,b\\n1,2\\n'.encode('utf-16'))\n\
        open('noise.parquet', 'wb').write(os.urandom(5000))\n\
        open('noise.xlsx', 'wb').write(os.urandom(5000))\n\
        open('deep.json', 'w').write('[' * 100000)\n\
        open('huge.csv', 'wb').truncate(100 << 20)\n\
        bomb = zipfile.ZipFile('bomb.xlsx', 'w', zipfile.ZIP_DEFLATED)\n\
        bomb.writestr('xl/workbook.xml', b'0' * 1000)\n\
        bomb.close()\n\
        raw = bytearray(open('bomb.xlsx', 'rb').read())\n\
        raw[(at := raw.rfind(b'PK\x01\x02') + 24):at + 4] = (600 << 20).to_bytes(4, 'little')\n\
        open('bomb.xlsx', 'wb').write(raw)\n\
        empty = zipfile.ZipFile('empty.xlsx', 'w'); empty.close()\n\
        'made'";
    assert!(desk.python(make).await.contains("made"));
    let read = |path: &str| json!({"action": "profile", "files": [path]});
    desk.fails("data", read("noise.parquet"), "table_unreadable", "noise.parquet").await;
    desk.fails("data", read("noise.xlsx"), "table_unreadable", "cannot be read as a workbook").await;
    desk.fails("data", read("empty.xlsx"), "table_unreadable", "cannot be read as a workbook").await;
    desk.fails("data", read("bomb.xlsx"), "file_too_large", "unpacked").await;
    desk.fails("data", read("deep.json"), "table_unreadable", "deep.json").await;
    // DuckDB would take minutes over them.
    for (path, says) in [("huge.csv", "NUL bytes"), ("nul.csv", "NUL bytes"), ("wide.csv", "UTF-16")] {
        desk.fails("data", read(path), "table_unreadable", says).await;
    }
    desk.fails(
        "document",
        json!({"to": ["a.xlsx"], "sheets": [{"name": "A", "from": "nul.csv"}]}),
        "table_unreadable",
        "NUL",
    )
    .await;
    desk.fails(
        "document",
        json!({"to": ["a.xlsx"], "sheets": [{"name": "A", "from": "huge.csv"}]}),
        "file_too_large",
        "huge.csv",
    )
    .await;
    // A result that no memory holds.
    let query = "select repeat('x', 1000000) || range as s from range(100000) order by hash(s)";
    desk.fails("data", json!({"action": "sql", "query": query}), "out_of_memory", "aggregate").await;
    let many = "select * from range(1100000)";
    let too_long = json!({"action": "sql", "query": many, "output": "long.xlsx"});
    desk.fails("data", too_long, "result_too_large", "write CSV or Parquet").await;
    let reply = desk.sql("select repeat('y', 10000) as wide, range from range(400)").await;
    assert!(ok(&reply).len() <= 16 << 10, "{}", ok(&reply).len());
}

const REPORT: &str = r#"# Report „Ümläut" – 漢字

Some *italic*, **bold**, ~~struck~~, `code <b>` and a [link](https://example.com/?a=1&b=2).
Raw: <script>alert(1)</script> <img src=x onerror=alert(1)> [bad](javascript:alert(1)) [file](file:///etc/passwd) [rel](other.md)

- one
  - nested
    1. deep
- two

3. three
4. four

> quoted

```python
print("<a>" + x)
```

| name | value |
|:--|--:|
| a | 1.5 |
| b \| c | =1+1 |

![drawn](charts/p.svg) ![far](https://example.com/x.png) ![local](file:///etc/passwd) ![gone](no.png) ![up](../../etc/x.png) ![bad](bad.png)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn markdown_becomes_documents_that_others_can_read() {
    let Some(desk) = desk() else { return };
    desk.write("report.md", REPORT).await;
    desk.write("bad.png", "no picture").await;
    let series = json!([{"y": [1.0, 3.0]}]);
    ok(&desk.call("chart", json!({"kind": "bar", "path": "charts/p", "x": ["a", "b"], "series": series})).await);
    let to = ["out/r.docx", "out/r.pdf", "out/r.html", "out/r.xlsx"];
    let reply = desk.call("document", json!({"to": to, "from": "report.md", "author": "A & B", "title": "T <1>"})).await;
    let text = ok(&reply).to_owned();
    for part in [
        "wrote out/r.docx (",
        "wrote out/r.pdf (",
        "with 2 rows)",
        "note: the picture 'https://example.com/x.png' was left out: only pictures of the workspace",
        "note: the picture 'no.png' was left out: the workspace has no file",
        "note: the picture 'bad.png' was left out: it cannot be read as a picture",
        "note: a link to 'other.md' became plain text",
        "files created: out, out/r.docx, out/r.html, out/r.pdf, out/r.xlsx",
    ] {
        assert!(text.contains(part), "{part}\nin {text}");
    }
    let docx = "import zipfile, xml.etree.ElementTree as tree\n\
        z = zipfile.ZipFile('out/r.docx'); assert z.testzip() is None\n\
        w = '{http://schemas.openxmlformats.org/wordprocessingml/2006/main}'\n\
        doc = tree.fromstring(z.read('word/document.xml'))\n\
        text = '|'.join(''.join(t.text or '' for t in p.iter(w + 't')) for p in doc.iter(w + 'p'))\n\
        styles = [s.get(w + 'val') for s in doc.iter(w + 'pStyle')]\n\
        links = z.read('word/_rels/document.xml.rels').decode()\n\
        pictures = [n for n in z.namelist() if n.startswith('word/media/')]\n\
        assert 'Report „Ümläut\" – 漢字' in text and '<script>alert(1)</script>' in text and '|b | c|=1+1|' in text, text\n\
        assert 'https://example.com/?a=1&amp;b=2' in links and 'javascript' not in links and 'passwd' not in links, links\n\
        assert styles[0] == 'Heading1' and 'ListBullet' in styles and 'ListBullet2' in styles and 'ListNumber3' in styles, styles\n\
        assert len(pictures) == 1 and b'T &lt;1&gt;' in z.read('docProps/core.xml'), pictures\n\
        'docx is fine'";
    assert!(desk.python(docx).await.contains("docx is fine"));
    let pdf = "import pypdf, io\n\
        from PIL import Image\n\
        reader = pypdf.PdfReader('out/r.pdf')\n\
        text = '\\n'.join(page.extract_text() for page in reader.pages)\n\
        links = [a.get_object()['/A']['/URI'] for p in reader.pages for a in p.get('/Annots', []) if '/A' in a.get_object()]\n\
        pictures = [Image.open(io.BytesIO(i.data)).size for p in reader.pages for i in p.images]\n\
        assert 'Report „Ümläut\" – 漢字' in text and '<script>alert(1)</script>' in text and 'nested' in text and '=1+1' in text, text\n\
        assert links == ['https://example.com/?a=1&b=2'] and pictures == [(1920, 1200)], (links, pictures)\n\
        assert (reader.metadata.title, reader.metadata.author) == ('T <1>', 'A & B')\n\
        assert b'JavaScript' not in open('out/r.pdf', 'rb').read()\n\
        'pdf is fine'";
    assert!(desk.python(pdf).await.contains("pdf is fine"));
    let html = "from html.parser import HTMLParser\n\
        class Seen(HTMLParser):\n    \
            tags, text = [], ''\n    \
            def handle_starttag(self, tag, attrs): self.tags.append((tag, dict(attrs)))\n    \
            def handle_data(self, data): self.text += data\n\
        seen = Seen(); seen.feed(open('out/r.html').read())\n\
        tags = [tag for tag, _ in seen.tags]\n\
        assert 'script' not in tags and tags.count('img') == 1 and tags.count('a') == 1, tags\n\
        assert all(not key.startswith('on') for _, attrs in seen.tags for key in attrs)\n\
        image = next(attrs for tag, attrs in seen.tags if tag == 'img')\n\
        assert image['src'].startswith('data:image/png;base64,iVBOR') and image['alt'] == 'drawn', image\n\
        assert next(attrs for tag, attrs in seen.tags if tag == 'a')['href'] == 'https://example.com/?a=1&b=2'\n\
        assert '<script>alert(1)</script>' in seen.text and 'code <b>' in seen.text and {'table', 'blockquote', 'pre', 'ol'} <= set(tags)\n\
        'html is fine'";
    assert!(desk.python(html).await.contains("html is fine"));
    // Made again from the same, PDF and HTML are the same to the byte.
    let digests = "import hashlib; [hashlib.sha256(open(f'out/r.{k}', 'rb').read()).hexdigest() for k in ('pdf', 'html')]";
    let before = desk.python(digests).await;
    ok(&desk.call("document", json!({"to": to, "from": "report.md", "author": "A & B", "title": "T <1>"})).await);
    let value = |text: &str| text.lines().find(|line| line.starts_with("value: ")).map(str::to_owned);
    assert_eq!(value(&desk.python(digests).await), value(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn workbooks_hold_numbers_as_numbers_texts_as_texts_and_charts() {
    let Some(desk) = desk() else { return };
    desk.write("zip.csv", "zip;n;formula\n0123;1,5;=cmd|' /C calc'!A0\n99999;2;+1\n").await;
    desk.write("rows.json", r#"[{"a": 1, "b": "x"}, {"b": ["y"], "c": true}]"#).await;
    let chart = json!([{"kind": "line", "x": "month", "y": ["sold", "made"], "title": "All"}, {"kind": "pie", "x": "month", "y": ["sold"]},
        {"kind": "scatter", "x": "made", "y": ["sold"]}, {"kind": "bar", "x": "month", "y": ["made"]}]);
    let rows = json!([["Jan", 5, 7.25], ["Feb", 6, ""], ["=1+1", -3, 1e100]]);
    let sheets = json!([
        {"name": "Sales/2026 [all]: the longest title there is", "columns": ["month", "sold", "made"], "rows": rows, "charts": chart},
        {"name": "zip", "from": "zip.csv"},
        {"name": "ZIP", "from": "rows.json"},
    ]);
    let reply = desk.call("document", json!({"to": ["b.xlsx"], "sheets": sheets})).await;
    assert!(ok(&reply).contains("with 3 rows, zip with 2 rows, ZIP 2 with 2 rows"), "{reply:?}");
    let look = "import zipfile, xml.etree.ElementTree as tree\n\
        z = zipfile.ZipFile('b.xlsx'); assert z.testzip() is None\n\
        ns = {'m': 'http://schemas.openxmlformats.org/spreadsheetml/2006/main'}\n\
        def cells(n):\n    \
            found = {}\n    \
            for c in tree.fromstring(z.read(f'xl/worksheets/sheet{n}.xml')).iterfind('.//m:c', ns):\n        \
                assert c.find('m:f', ns) is None, 'a formula'\n        \
                v = ''.join(c.itertext())\n        \
                found[c.get('r')] = v if c.get('t') == 'inlineStr' else (c.get('t'), v)\n    \
            return found\n\
        one, two, three = cells(1), cells(2), cells(3)\n\
        assert one['A1'] == 'month' and one['B2'] == ('n', '5') and one['C2'] == ('n', '7.25') and one['A4'] == '=1+1', one\n\
        assert two['A2'] == '0123' and two['A3'] == ('n', '99999') and two['C2'].startswith('=cmd') and two['C3'] == '+1', two\n\
        assert three['A1'] == 'a' and three['B3'] == '[\"y\"]' and three['C3'] == ('b', '1'), three\n\
        charts = sorted(n for n in z.namelist() if n.startswith('xl/charts/chart'))\n\
        kinds = [k for k in ('lineChart', 'pieChart', 'scatterChart', 'barChart') if any(k.encode() in z.read(c) for c in charts)]\n\
        assert len(charts) == 4 and len(kinds) == 4, (charts, kinds)\n\
        'book is fine'";
    assert!(desk.python(look).await.contains("book is fine"));
    let bad = json!([{"name": "A", "columns": ["x"], "rows": [[1]], "charts": [{"kind": "bar", "x": "x", "y": ["nope"]}]}]);
    desk.fails("document", json!({"to": ["c.xlsx"], "sheets": bad}), "column_unknown", "it has x").await;
    desk.fails("document", json!({"to": ["c.xlsx"], "markdown": "no table"}), "document_empty", "no table").await;
    desk.fails("document", json!({"to": ["c.pdf"], "markdown": "   "}), "document_empty", "no text").await;
    desk.fails("document", json!({"to": ["c.pdf"], "from": "none.md"}), "file_not_found", "none.md").await;
    desk.fails("document", json!({"to": ["c.pdf"], "from": "b.xlsx"}), "binary_file", "no text").await;
    desk.fails("document", json!({"to": ["../c.pdf"], "markdown": "x"}), "sandbox_path_refused", "no path").await;
    desk.fails("document", json!({"to": [".errand/c.pdf"], "markdown": "x"}), "sandbox_path_refused", "no path").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_made_to_break_writers_is_written() {
    let Some(desk) = desk() else { return };
    let wide = format!("|{}\n|{}\n|{}", "c|".repeat(60), "-|".repeat(60), "word |".repeat(60));
    let tall = format!("| a | b |\n|-|-|\n| {} | x |", "long ".repeat(9_000));
    let deep = "> ".repeat(200) + "deep\n\n" + &"- ".repeat(100) + "x";
    let odd = "\u{0}\u{1}\u{b} \u{202e}rtl\u{200b} <para><b>x</para> &nbsp; &#x1F600; 😀 \u{ffff} ]]> <?xml ?> ${x} {{ y }} %s \\u0000";
    let text = format!(
        "# {odd}\n\n{odd}\n\n{}\n\n{wide}\n\n{tall}\n\n{deep}\n\n```\n{}\n```\n",
        "x".repeat(20_000),
        "y".repeat(5_000)
    );
    let reply = desk
        .call("document", json!({"to": ["h.docx", "h.pdf", "h.html", "h.xlsx"], "markdown": text, "landscape": true}))
        .await;
    assert!(ok(&reply).contains("wrote h.pdf"), "{reply:?}");
    let look = "import pypdf, docx\n(len(pypdf.PdfReader('h.pdf').pages) > 3, len(docx.Document('h.docx').tables))";
    assert!(desk.python(look).await.contains("value: (True, 2)"));
}
