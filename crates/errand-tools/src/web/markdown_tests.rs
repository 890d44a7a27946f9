use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn read(html: &str) -> Page {
    page(html, &"https://site.example/docs/page".parse().unwrap())
}

fn article() -> String {
    let paragraph = "<p>Errands are carried out as durable runs, and each run is kept in a log, so that nothing is lost, nothing is done twice, and all of it can be looked at later by whoever asks.</p>";
    format!(
        "<html><head><title> The  Title\n</title><style>p {{}}</style><script>var injected = 1;</script></head><body>\
         <nav><a href='/home'>Home</a><a href='/about'>About</a></nav>\
         <article><h1>Runs</h1>{}<p>See <a href='../next?x=1#y'>the next page</a> and <a href='javascript:alert(1)'>nothing</a>.</p>\
         <ul><li>one</li><li>two</li></ul><pre><code>let x = 1;</code></pre>\
         <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>\
         <p hidden>unseen attribute</p><p style='DISPLAY : none !important'>unseen style</p><p style='font-size:0px'>unseen size</p>\
         <img src='data:image/png;base64,AAAA'><img src='/a.png' alt='a picture'></article>\
         <footer>Imprint</footer></body></html>",
        paragraph.repeat(4)
    )
}

#[test]
fn the_main_content_becomes_markdown() {
    let page = read(&article());
    assert_eq!(page.title, "The Title");
    for wanted in
        ["Errands are carried out", "[the next page](https://site.example/next?x=1#y)", "let x = 1;", "two", "a picture"]
    {
        assert!(page.text.contains(wanted), "{wanted}: {}", page.text);
    }
    for unwanted in ["unseen", "injected", "javascript:", "base64", "<p", "Imprint", "About"] {
        assert!(!page.text.contains(unwanted), "{unwanted}: {}", page.text);
    }
}

#[test]
fn a_page_without_an_article_is_shown_whole() {
    let page = read(
        "<title>List</title><nav><a href=/x>Menu</a></nav><main><h2>Files</h2><ul><li><a href='a.txt'>a.txt</a></ul></main>",
    );
    assert!(page.text.contains("## Files") && page.text.contains("(https://site.example/docs/a.txt)"), "{}", page.text);
    assert!(!page.text.contains("Menu"), "{}", page.text);
    assert!(read("<nav><a href=/x>Menu</a></nav>").text.contains("Menu"));
}

#[test]
fn the_base_of_a_page_is_heeded() {
    let page = read("<base href='https://other.example/b/'><p><a href='c'>link</a></p>");
    assert!(page.text.contains("(https://other.example/b/c)"), "{}", page.text);
}

#[test]
fn styles_that_hide_are_known() {
    for style in
        ["display:none", "color: red; visibility : hidden", "opacity:0.0", "font-size: 0pt", "DISPLAY:NONE!important"]
    {
        assert!(is_unseen(style), "{style}");
    }
    for style in ["display:block", "opacity:0.5", "font-size:10px", "", ":", "x:0"] {
        assert!(!is_unseen(style), "{style}");
    }
}

#[test]
fn pages_made_to_exhaust_a_parser_are_read_all_the_same() {
    // Of this thread's own processor time: whatever else the machine does.
    let used = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    };
    let begun = used();
    let odd = [
        "<div>".repeat(200_000) + "deep",
        "<b>".repeat(100_000) + "deep",
        "<b><p>".repeat(20_000) + "deep",
        "<table>".repeat(20_000) + "deep",
        "<a href=x>".repeat(20_000) + "deep",
        "<b>x</b><p>".repeat(20_000) + "deep",
        "<svg><p>".repeat(5_000) + "deep",
        "<p>".repeat(50_000) + "deep",
        format!("<p>{}", "x ".repeat(1 << 20)) + "deep",
        format!("<p {}>", "a=b ".repeat(100_000)) + "deep",
        "<li>".repeat(50_000) + "deep",
        "<ul><li>".repeat(290) + "deep",
        "<blockquote>".repeat(590) + "deep",
        "<table><tr><td>".repeat(500) + "deep",
        "<script>".to_owned() + &"x".repeat(1 << 20),
        "<blockquote></x>".repeat(29_000) + "deep",
        "<svg>".to_owned() + &"<td>".repeat(29_000) + "deep",
        "<path>".repeat(29_000) + "deep",
        "<table><blockquote></table x".repeat(5_000) + ">deep",
        "<blockquote x='</blockquote>'>".repeat(3_000) + "deep",
        "<".repeat(100_000),
        "</".repeat(100_000),
        "&".repeat(100_000) + "deep",
    ];
    for html in &odd {
        let shown: String = html.chars().take(30).collect();
        let each = Instant::now();
        let text = read(html).text;
        assert!(text.contains("deep") || !html.ends_with("deep"), "{shown}: {}", text.len());
        println!("{shown}: {:?}", each.elapsed());
    }
    assert!(used() - begun < Duration::from_secs(60), "{:?}", used() - begun);
}

#[test]
fn how_deep_a_tree_is_does_not_depend_on_how_it_is_written() {
    for (html, is_small) in [
        ("<div>".repeat(5), true),
        ("<div></div>".repeat(5_000), true),
        ("<div><span></div>".repeat(5_000), true),
        (format!("<svg>{}</svg>", "<path d='M0 0'/>".repeat(5_000)), true),
        ("<blockquote></x>".repeat(DEPTH_MAX + 1), false),
        ("<div><table></div>".repeat(DEPTH_MAX), false),
        ("<path>".repeat(DEPTH_MAX + 1), false),
        ("<svg>".to_owned() + &"<tr>".repeat(DEPTH_MAX + 1), false),
        ("<br>".repeat(TAGS_MAX + 1), false),
    ] {
        assert_eq!(is_parsed(&html), is_small, "{}", &html[..20]);
    }
    let hidden = "<blockquote x='</blockquote>'>".repeat(DEPTH_MAX + 1);
    assert!(is_parsed(&hidden) && !is_flat(&Document::from(&*hidden)));
    assert!(is_flat(&Document::from(&*"<p><b>x</b><i>y</i></p>".repeat(1_000))));
}

#[test]
fn what_is_too_large_to_take_apart_is_freed_of_its_tags() {
    assert_eq!(without_tags("a<b>b</b><SCRIPT>x<y</script>c<style>d</style>\n e <!-- f"), "a b c\ne");
    assert_eq!(without_tags("<script>"), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_it_panic(html in "\\PC{0,300}") {
        read(&html);
        without_tags(&html);
    }

    #[test]
    fn no_soup_of_tags_makes_it_panic(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "<p>", "</p>", "<div>", "</div>", "<a href='x'>", "<a href='http://['>", "</a>", "<table>", "<tr>", "<td>", "</table>",
                "<li>", "<ul>", "</ul>", "<ol start=99999999999>", "<pre>", "<code>", "</code>", "<h1>", "</h9>", "<img src=x>", "<img src='data:x'>",
                "<br>", "<svg>", "<math>", "<template>", "<base href='::'>", "<title>", "<!--", "-->", "<![CDATA[", "&amp;", "&#0;",
                "&#xFFFFFFFF;", "<td colspan=999999>", "text, with words. ", "\u{0}", "ü", "<body>", "<html>", "<frameset>", "<select>", "<p style='display:none'>",
                "<noscript>", "<font>", "<blockquote>", "<hr>", "<b>", "</b>", "<article>", "<script type='application/ld+json'>{\"@context\":", "</script>",
            ]),
            0..80,
        )
    ) {
        read(&parts.concat());
    }
}

#[test]
fn a_tag_with_countless_attributes_is_not_parsed() {
    let many = |count: usize| {
        let attributes: String = (0..count).map(|number| format!(" a{number}=\"x y = z\"")).collect();
        format!("<p>before</p><div{attributes}>inside</div>")
    };
    assert!(is_parsed(&many(400)));
    assert!(!is_parsed(&many(300_000)));
    let url = Url::parse("https://a.example/").unwrap();
    assert!(page(&many(300_000), &url).text.contains("inside"));
    assert!(is_parsed(&format!("<div data-props='{}'>", "{\"a\": 1} ".repeat(5_000))));
}
