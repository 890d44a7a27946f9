use super::*;
use serde::de::DeserializeOwned;

/// None if it is taken, else what is wrong.
fn refused<T: DeserializeOwned>(
    arguments: Value,
    check: impl Fn(&T) -> Result<(), crate::arguments::Refused>,
) -> Option<String> {
    let parsed: T = serde_json::from_value(arguments).unwrap();
    check(&parsed).err().map(|refused| refused.to_string())
}

#[test]
fn arguments_of_data_that_do_not_go_together_are_refused() {
    for (arguments, problem) in [
        (json!({"action": "sql", "query": "select 1"}), None),
        (json!({"action": "sql", "query": "select 1", "output": "a/B.XLSX"}), None),
        (json!({"action": "profile", "files": ["a.csv"]}), None),
        (json!({"action": "sql"}), Some("`query` is missing")),
        (json!({"action": "sql", "query": " "}), Some("`query` is missing")),
        (json!({"action": "sample"}), Some("`files` is missing")),
        (json!({"action": "sample", "files": ["a.csv"], "query": "x"}), Some("`query` is for the action sql only")),
        (json!({"action": "profile", "files": ["a.csv"], "output": "x.csv"}), Some("`output` is for the action sql")),
        (json!({"action": "profile", "files": ["a.csv"], "rows": 5}), Some("`rows` is for")),
        (json!({"action": "sql", "query": "select 1", "output": "a.docx"}), Some("must end with one of .csv")),
        (json!({"action": "sql", "query": "select 1", "output": ".csv"}), Some("must end with")),
    ] {
        let said = refused::<Data>(arguments.clone(), Data::check);
        match problem {
            None => assert_eq!(said, None, "{arguments}"),
            Some(problem) => assert!(said.as_deref().is_some_and(|said| said.contains(problem)), "{arguments}: {said:?}"),
        }
    }
}

#[test]
fn arguments_of_document_that_do_not_go_together_are_refused() {
    let sheet = json!([{"name": "A", "columns": ["x"], "rows": [[1], [""], ["=1+1"]]}]);
    for (arguments, problem) in [
        (json!({"to": ["a.pdf", "a.docx", "a.html"], "markdown": "# A"}), None),
        (json!({"to": ["a.xlsx"], "markdown": "|a|\n|-|\n|1|"}), None),
        (json!({"to": ["a.xlsx"], "sheets": sheet}), None),
        (json!({"to": ["a.xlsx", "b.pdf"], "sheets": sheet, "from": "b.md"}), None),
        (json!({"to": ["a.pdf"]}), Some("the text is missing")),
        (json!({"to": ["a.xlsx"]}), Some("the tables are missing")),
        (json!({"to": ["a.xlsx", "b.pdf"], "sheets": sheet}), Some("the text is missing")),
        (json!({"to": ["a.pdf"], "markdown": "x", "from": "a.md"}), Some("not both")),
        (json!({"to": ["a.pdf"], "markdown": "x", "sheets": sheet}), Some("`sheets` is for a workbook")),
        (json!({"to": ["a.odt"], "markdown": "x"}), Some("must end with one of .docx")),
        (json!({"to": ["a.pdf", "a.pdf"], "markdown": "x"}), Some("twice")),
        (json!({"to": ["a.xlsx"], "sheets": [{"name": "A"}]}), Some("sheet \"A\": give either `from`")),
        (json!({"to": ["a.xlsx"], "sheets": [{"name": "A", "from": "a.csv", "rows": []}]}), Some("give either `from`")),
        (
            json!({"to": ["a.xlsx"], "sheets": [{"name": "A", "columns": ["x"], "rows": [[1, 2]]}]}),
            Some("row 1 has more cells"),
        ),
    ] {
        let said = refused::<Document>(arguments.clone(), Document::check);
        match problem {
            None => assert_eq!(said, None, "{arguments}"),
            Some(problem) => assert!(said.as_deref().is_some_and(|said| said.contains(problem)), "{arguments}: {said:?}"),
        }
    }
}

#[test]
fn a_program_that_ends_without_an_answer_is_told_and_its_words_are_bounded() {
    let done = |exit, stdout: &str, stderr: &str| {
        let output =
            |text: &str| errand_sandbox::Output { kept: text.into(), total_bytes: text.len() as u64, ..Default::default() };
        ExecOutcome { exit, stdout: output(stdout), stderr: output(stderr), ..outcome() }
    };
    let of = |exit, stdout: &str, stderr: &str| {
        let told = told(&done(exit, stdout, stderr));
        (told.code, told.text)
    };
    assert_eq!(of(Exit::Code(0), r#"{"text": "fine"}"#, "noise"), (None, "fine\n".to_owned()));
    assert_eq!(of(Exit::Code(0), r#"{"error": "sql_denied", "text": "no"}"#, ""), (Some("sql_denied"), "no\n".to_owned()));
    assert_eq!(of(Exit::OutOfMemory, "", "").0, Some("out_of_memory"));
    assert_eq!(of(Exit::TimedOut, r#"{"text": "half"}"#, "").0, Some("timed_out"));
    for stdout in ["", "{", r#"{"error": "made_up", "text": "x"}"#, r#"{"text": 5}"#] {
        let (code, text) = of(Exit::Code(0), stdout, &format!("first\n{}", "x".repeat(5_000)));
        assert!(code == Some("office_failed") && text.len() < 1_200 && text.contains("xxx"), "{text}");
    }
    let (code, text) = of(Exit::Code(1), r#"{"text": "a lie"}"#, "Traceback\nImportError: docx");
    assert!(code == Some("office_failed") && text.ends_with("ImportError: docx\n"), "{text}");
}

fn outcome() -> ExecOutcome {
    ExecOutcome {
        exit: Exit::Code(0),
        stdout: Default::default(),
        stderr: Default::default(),
        wall: Duration::from_millis(5),
        cpu: Duration::ZERO,
        memory_peak_bytes: None,
        oom_kills: 0,
        workspace_bytes: 0,
        workspace_files: 0,
        had_way_out: false,
    }
}

#[test]
fn endings_are_those_of_the_last_name() {
    for (path, wanted) in [("a.b/c.CSV", ".csv"), ("a.b/c", ""), (".csv", ""), ("x.tar.gz", ".gz"), ("", "")] {
        assert_eq!(ending(path), wanted, "{path}");
    }
}
