//! The demos: the real engine and the real sandbox, and answers that follow from what the tools returned.

use super::User;
use std::fmt::Write;

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_data_demo_reports_on_the_penguins() {
    let user = User::new();
    let ended = user.expect(0, &["demo", "data"]);
    assert!(ended.stderr.contains("this is a script, not an AI"));
    assert!(ended.stdout.contains("342 of 344 rows were used"), "{ended:#?}");
    // As published: https://doi.org/10.1371/journal.pone.0090081, and as R's `aggregate` gives it.
    assert!(ended.stdout.contains("217.19") && ended.stdout.contains("189.95"), "{ended:#?}");
    let report = std::fs::read_to_string(user.path("errand-demo-data/report.md")).unwrap();
    assert!(report.contains("| Chinstrap penguin (Pygoscelis antarctica) | 68 | 195.82 |"), "{report}");
    let png = std::fs::read(user.path("errand-demo-data/means.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let svg = std::fs::read_to_string(user.path("errand-demo-data/means.svg")).unwrap();
    assert!(svg.contains("Flipper Length (mm)"));
    user.expect(0, &["replay", &user.newest()]);
    user.refused(2, "output_exists", &["demo", "data"]);
}

#[test]
fn other_data_gives_another_answer() {
    let user = User::new();
    let changed = fixture("penguins-raw.csv").replace(",Torgersen,", ",Atlantis,").lines().take(200).fold(
        String::new(),
        |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        },
    );
    std::fs::write(user.path("other.csv"), changed).unwrap();
    let ended = user.expect(0, &["demo", "data", "other.csv", "--output", "one"]);
    assert!(ended.stdout.contains("of 199 rows were used"), "{ended:#?}");
    let mut sales = String::from("shop;day;sales\n");
    for day in 0..40 {
        let (shop, sold) = if day % 2 == 0 { ("north", 100 + day) } else { ("south", 300 + day) };
        let _ = writeln!(sales, "{shop};d{day};{}", if day == 7 { "n/a".to_owned() } else { sold.to_string() });
    }
    std::fs::write(user.path("sales.csv"), sales).unwrap();
    let ended = user.expect(0, &["demo", "data", "sales.csv", "--output", "two"]);
    assert!(ended.stdout.contains("sales differs most by shop: south"), "{ended:#?}");
    assert!(ended.stdout.contains("39 of 40 rows") && ended.stdout.contains("1 × sales is not a number"), "{ended:#?}");
}

#[test]
fn the_code_demo_mends_what_its_tests_find() {
    let user = User::new();
    let ended = user.expect(0, &["demo", "code"]);
    assert!(ended.stdout.contains("passes all 10 cases"), "{ended:#?}");
    assert!(ended.stderr.contains("IV should be 4 and came out as 6"), "{ended:#?}");
    let program = std::fs::read_to_string(user.path("errand-demo-code/roman.py")).unwrap();
    assert!(program.contains("to_roman"), "{program}");
    std::fs::write(user.path("cases.csv"), "numeral,value\nI,1\nIIII,\n").unwrap();
    let ended = user.expect(0, &["demo", "code", "cases.csv", "--output", "other"]);
    assert!(ended.stdout.contains("passes all 2 cases"), "{ended:#?}");
    assert!(ended.stdout.contains("the refusal of what is no numeral"), "{ended:#?}");
    assert!(!ended.stdout.contains("smaller symbols"), "{ended:#?}");
    std::fs::write(user.path("cases.csv"), "numeral,value\nI,2\n").unwrap();
    let ended = user.expect(0, &["demo", "code", "cases.csv", "--output", "stuck"]);
    assert!(ended.stdout.contains("none helps here"), "{ended:#?}");
}

#[test]
fn the_web_demo_searches_reads_and_names_its_sources() {
    let user = User::new();
    let ended = user.expect(0, &["demo", "web"]);
    assert!(ended.stderr.contains("this is a script, not an AI"));
    let answer = &ended.stdout;
    for said in
        ["at 09:20 and at 16:40", "costs 23.2", "19.20 since 2 November, not 18.40", "/ferries/north.html", "/news.html"]
    {
        assert!(answer.contains(said), "{said}: {ended:#?}");
    }
    let run = user.newest();
    let fetched = user.json(0, &["events", &run]);
    let read = fetched.iter().filter(|event| event["type"] == "tool_result" && event["tool"] == "fetch");
    assert!(read.clone().count() >= 4);
    for page in read {
        let text = page["text"].as_str().unwrap();
        assert!(!text.contains("console.log") && !text.contains("Cookies"), "{text}");
    }
    user.expect(0, &["replay", &run]);
    user.refused(2, "arguments_invalid", &["demo", "web", "file.csv"]);
}
