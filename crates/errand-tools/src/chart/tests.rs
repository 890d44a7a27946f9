use super::{Chart, canvas, data};
use proptest::prelude::*;
use serde_json::{Value, json};

fn chart(mut value: Value) -> Chart {
    for (name, small) in [("path", json!("a")), ("width", json!(320)), ("height", json!(240))] {
        value.as_object_mut().unwrap().entry(name).or_insert(small);
    }
    serde_json::from_value(value).unwrap()
}

fn svg(value: Value) -> Result<String, String> {
    let chart = chart(value);
    chart.check().map_err(|error| error.to_string())?;
    let data = data::read(&chart, None).map_err(|error| error.to_string())?;
    let svg = canvas::svg((320, 240), |canvas| chart.compose(&data, canvas)).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(svg).unwrap())
}

/// The pixels of a PNG, three bytes each, and its width.
fn pixels(png: &[u8]) -> (Vec<u8>, usize) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(frame.color_type, png::ColorType::Rgb);
    (pixels, frame.width as usize)
}

/// How many pixels between two rows are dark: letters are, grids and bars are not.
fn dark(png: &[u8], rows: std::ops::Range<usize>) -> usize {
    let (pixels, width) = pixels(png);
    pixels[rows.start * width * 3..rows.end * width * 3].chunks(3).filter(|pixel| pixel.iter().all(|c| *c < 0x70)).count()
}

#[test]
fn a_png_shows_its_title_and_labels_without_any_font_of_the_host() {
    let png = |title: &str, name: &str| {
        let chart = chart(json!({"kind": "bar", "title": title, "x": [name], "series": [{"y": [5]}]}));
        chart.draw(None).unwrap().files[0].1.clone()
    };
    let titled = png("WWWWWW", "WWWW");
    let (pixels, width) = pixels(&titled);
    assert_eq!((width, pixels.len() / width / 3), (640, 480));
    let (title, labels) = (dark(&titled, 50..110), dark(&titled, 400..480));
    assert!(title > 500 && labels > 100, "{title} {labels}");
    // A dot is hardly anything: the letters are what is dark.
    assert!(dark(&png(".", "WWWW"), 50..110) < title / 10);
    assert!(dark(&png("WWWWWW", "."), 400..480) < labels / 4);
}

#[test]
fn a_bar_is_as_high_as_its_value() {
    let blue = |y: f64| {
        let chart = chart(json!({"kind": "bar", "x": ["a", "b"], "series": [{"y": [100, y]}]}));
        let (pixels, _) = pixels(&chart.draw(None).unwrap().files[0].1);
        pixels.chunks(3).filter(|pixel| pixel == &[0x00, 0x72, 0xb2]).count() as f64
    };
    let (none, half, full) = (blue(0.0), blue(50.0), blue(100.0));
    assert!((full / none - 2.0).abs() < 0.05 && (half / none - 1.5).abs() < 0.05, "{none} {half} {full}");
}

#[test]
fn an_svg_holds_the_words_and_no_markup_of_others() {
    let svg = svg(json!({"kind": "bar", "title": "A<script>&\u{1}", "x": ["Zürich"], "series": [{"y": [5]}]})).unwrap();
    assert!(svg.starts_with("<svg width=\"320\" height=\"240\" viewBox=\"0 0 1280 960\""), "{}", &svg[..200]);
    assert!(svg.contains("A&lt;script&gt;&amp;\n") && svg.contains("Zürich"), "{svg}");
}

#[test]
fn every_kind_is_drawn() {
    let two = json!([{"name": "one", "y": [1, -2, 3]}, {"name": "two", "y": [2, 2.5, 1e-9]}]);
    for (kind, x, series, words) in [
        ("bar", json!(["a", "b", "c"]), two.clone(), "one two a b c"),
        ("line", json!([2019, 2020, 2021]), two.clone(), "2019 2020 2021 two"),
        ("line", json!(["2026-01-01", "2026-01-02", "2026-01-03"]), two.clone(), "1 Jan|3 Jan|one"),
        ("line", json!(["mon", "tue", "wed"]), two.clone(), "mon tue wed"),
        ("scatter", json!([1, 2, 3]), two, "one two"),
        ("pie", json!(["a", "b"]), json!([{"y": [1, 3]}]), "a 25.0%|b 75.0%"),
        ("histogram", Value::Null, json!([{"y": [1, 1, 1, 2, 9]}]), "4"),
    ] {
        let drawn = svg(json!({"kind": kind, "x": x, "series": series})).unwrap();
        let words = if words.contains('|') { words.split('|').collect::<Vec<_>>() } else { words.split(' ').collect() };
        for word in words {
            assert!(drawn.contains(&format!(">\n{word}\n<")), "{kind}: {word}: {drawn}");
        }
    }
}

#[test]
fn data_that_does_not_fit_is_refused_before_anything_is_drawn() {
    let many: Vec<f64> = (0..20_001).map(f64::from).collect();
    for (value, why) in [
        (json!({"kind": "bar", "x": ["a"], "series": [{"y": [1]}], "csv": {"path": "p", "y": ["y"]}}), "not both"),
        (json!({"kind": "bar", "series": [{"y": [1]}]}), "`x` is missing"),
        (json!({"kind": "histogram", "x": [1], "series": [{"y": [1]}]}), "no `x`"),
        (json!({"kind": "line", "bins": 5, "series": [{"y": [1]}]}), "for a histogram only"),
        (json!({"kind": "line", "series": [{"y": [1]}, {"y": [2]}]}), "each needs a `name`"),
        (json!({"kind": "line", "series": [{"y": many}]}), "20001 points are too many"),
        (json!({"kind": "scatter", "x": ["a"], "series": [{"y": [1]}]}), "must all be numbers"),
        (json!({"kind": "pie", "x": ["a", "b"], "series": [{"y": [1, -1]}]}), "must not be negative"),
        (json!({"kind": "pie", "x": ["a", "b"], "series": [{"y": [0, 0]}]}), "nor all be zero"),
        (json!({"kind": "pie", "x": vec!["a"; 13], "series": [{"y": vec![1; 13]}]}), "13 slices are too many"),
        (json!({"kind": "bar", "x": vec!["a"; 201], "series": [{"y": vec![1; 201]}]}), "201 bars are too many"),
        (json!({"kind": "pie", "path": "charts/", "x": ["a"], "series": [{"y": [1]}]}), "names no file"),
        (json!({"kind": "line", "csv": {"path": "a.csv", "y": ["y"]}}), "`csv.x` is missing"),
    ] {
        let error = svg(value).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn csv_columns_become_numbers_dates_or_names() {
    let read = |text: &str, kind: &str| {
        let chart = chart(json!({"kind": kind, "csv": {"path": "in.csv", "x": "x", "y": ["y"]}}));
        data::read(&chart, Some(text.as_bytes())).map_err(|error| error.to_string())
    };
    let data = read("\u{feff}x,y\n1, 2\n3,\n5,n/a\n", "line").unwrap();
    assert_eq!(data.x, data::X::Numbers(vec![1.0, 3.0, 5.0]));
    assert_eq!(data.series[0].y, [Some(2.0), None, None]);
    assert_eq!(read("x,y\n1970-01-02,2\n", "line").unwrap().x, data::X::Days(vec![1.0]));
    assert_eq!(read("x,y\n2019,2\n", "bar").unwrap().x, data::X::Names(vec!["2019".into()]));
    assert!(read("x,y\n1,2,3\n", "line").unwrap_err().contains("cannot be read as CSV"));
    assert!(read("x,y\n1,inf\n", "line").unwrap_err().contains("row 1 of column \"y\" holds \"inf\""));
    assert!(read("x,y\n", "line").unwrap_err().contains("not a single value"));
    assert!(read("", "line").unwrap_err().contains("no column"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_numbers_make_a_chart_panic(
        kind in prop::sample::select(vec!["bar", "line", "scatter", "pie", "histogram"]),
        y in prop::collection::vec(prop_oneof![-1e300..1e300f64, -5.0..5f64, Just(0.0), Just(1e-300)], 1..20),
        x in prop::collection::vec(prop_oneof![(-1e300..1e300f64).prop_map(Value::from), ".{0,20}".prop_map(Value::from), Just(json!("2026-01-31"))], 1..20),
        words in ".{0,40}",
    ) {
        let count = x.len().min(y.len());
        let x = if kind == "histogram" { Value::Null } else { json!(x[..count]) };
        let _ = svg(json!({"kind": kind, "title": words, "x_label": words, "x": x, "series": [{"y": y[..count]}]}));
    }
}
