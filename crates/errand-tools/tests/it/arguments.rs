use crate::support::World;
use errand_core::Verdict;

fn refused(tool: &str, arguments: &str) -> (String, String) {
    match World::new().check(tool, arguments) {
        Verdict::Refused { code, error } => (code, error),
        Verdict::Accepted { .. } => panic!("{tool} took {arguments}"),
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_would_be_right() {
    let cases = [
        ("python", "{\"code\": }", "arguments_not_json", "line 1, column 10"),
        ("python", "print(1)", "arguments_not_json", "send one JSON object and nothing else"),
        ("python", "{}", "arguments_invalid", "the arguments: \"code\" is missing"),
        ("python", "[]", "arguments_invalid", "the arguments: must be object, is an array"),
        ("python", r#"{"code": 5}"#, "arguments_invalid", "`code`: must be string, is 5"),
        ("python", r#"{"code": ""}"#, "arguments_invalid", "`code`: must have at least 1 characters"),
        ("python", r#"{"code": "1", "cod": 1}"#, "arguments_invalid", "\"cod\" is not known; there are code, files"),
        ("python", r#"{"code": "1", "files": [{"path": "a"}]}"#, "arguments_invalid", "`files.0`: \"text\" is missing"),
        (
            "python",
            r#"{"code": "1", "files": [{"path": "a", "text": "", "mode": 1}]}"#,
            "arguments_invalid",
            "\"mode\" is not known; there are path, text",
        ),
        (
            "files",
            r#"{"action": "delete"}"#,
            "arguments_invalid",
            r#"must be one of ["read","write","edit","list","search"]"#,
        ),
        ("files", r#"{"action": "read"}"#, "arguments_invalid", "the action `read` needs `path`"),
        ("files", r#"{"action": "write", "path": "a"}"#, "arguments_invalid", "the action `write` needs `text`"),
        ("files", r#"{"action": "list", "text": "a"}"#, "arguments_invalid", "`text` is not for the action `list`"),
        ("files", r#"{"action": "search", "pattern": "(", "regex": true}"#, "arguments_invalid", "no regular expression"),
        ("files", r#"{"action": "search", "pattern": "(a{999}){999}", "regex": true}"#, "arguments_invalid", "size limit"),
        (
            "files",
            r#"{"action": "read", "path": "a", "first_line": 0}"#,
            "arguments_invalid",
            "`first_line`: must be at least 1, is 0",
        ),
        ("files", r#"{"action": "read", "path": "a", "lines": 1.0}"#, "arguments_invalid", "expected u64"),
        ("chart", r#"{"kind": "bar", "path": "a"}"#, "arguments_invalid", "the data is missing"),
        (
            "chart",
            r#"{"kind": "bar", "path": "a", "x": ["a"], "series": [{"y": [1, 2]}]}"#,
            "arguments_invalid",
            "2 values for 1 x",
        ),
        ("wait", "{}", "arguments_invalid", "either `seconds` or `until`"),
        ("wait", r#"{"seconds": 315360001}"#, "arguments_invalid", "`seconds`: must be at most 315360000"),
    ];
    for (tool, arguments, code, error) in cases {
        let (found_code, found) = refused(tool, arguments);
        assert_eq!(found_code, code, "{arguments}: {found}");
        assert!(found.contains(error), "{arguments}: {found}");
    }
}

#[test]
fn a_tool_that_is_not_there_is_told_with_those_that_are() {
    let world = World::new();
    let mut spec = crate::support::spec("echo");
    spec.definition.name = "browser".to_owned();
    let verdict = errand_engine::ports::Tools::check(&*world.tools, &spec, "{}", crate::support::NOW);
    let Verdict::Refused { code, error } = verdict else { panic!("{verdict:?}") };
    assert_eq!(code, "unknown_tool");
    assert!(
        error.contains("python, shell, node, files, chart, document, data, calculate, search, fetch, http, graphql, ask_user, wait, echo"),
        "{error}"
    );
}

#[test]
fn waits_and_questions_say_until_when() {
    let world = World::new();
    let until = |verdict| match verdict {
        Verdict::Accepted { until, share: None, class: None } => until,
        other => panic!("{other:?}"),
    };
    assert_eq!(until(world.check("wait", r#"{"seconds": 60}"#)), Some(crate::support::NOW.plus(60_000)));
    assert_eq!(until(world.check("ask_user", r#"{"question": "Which one?"}"#)), None);
    assert_eq!(until(world.check("echo", r#"{"text": ""}"#)), None);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_arguments_make_a_check_panic(tool in 0usize..8, key in "[a-z_]{1,8}", value in "[-0-9a-z\"{}\\[\\],:.]{0,40}") {
        static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
        let world = WORLD.get_or_init(World::new);
        let tool = ["python", "shell", "files", "chart", "calculate", "ask_user", "wait", "echo"][tool];
        let _ = world.check(tool, &format!("{{\"{key}\": {value}}}"));
        let _ = world.check(tool, &value);
    }
}
