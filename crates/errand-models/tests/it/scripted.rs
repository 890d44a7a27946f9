//! Scripts: what they say to a conversation. `play` is the smallest engine there is: it answers calls from a function.

use crate::support::Pieces;
use errand_core::{Finish, Message, ModelError, ModelErrorKind, ModelReply, ModelRequest, ToolDefinition, Usage};
use errand_engine::ports::Models;
use errand_models::ScriptedModels;

fn models(text: &str) -> ScriptedModels {
    let mut models = ScriptedModels::built_in();
    models.add("test", text).unwrap();
    models
}

fn ask(task: &str, tools: &[&str]) -> ModelRequest {
    let tool =
        |name: &&str| ToolDefinition { name: (*name).to_owned(), description: String::new(), parameters: "{}".to_owned() };
    ModelRequest {
        cache_key: String::new(),
        memo: errand_core::Memo::default(),
        output: None,
        model: "scripted/test".to_owned(),
        messages: vec![
            Message::System { text: "s".to_owned() },
            Message::User { images: Vec::new(), text: task.to_owned() },
        ],
        tools: tools.iter().map(tool).collect(),
        max_output_tokens: 1_000,
    }
}

async fn reply(models: &ScriptedModels, request: &ModelRequest) -> Result<ModelReply, ModelError> {
    models.call(request, &()).await
}

/// Adds a reply to the conversation, with what `observe` says to each of its calls.
fn answer(request: &mut ModelRequest, reply: &ModelReply, observe: &dyn Fn(&str, &str) -> String) {
    request.messages.push(Message::Assistant { opaque: None, text: reply.text.clone(), calls: reply.calls.clone() });
    for call in &reply.calls {
        let text = observe(&call.name, &call.arguments);
        let is_error = text.starts_with("error");
        request.messages.push(Message::Tool { call_id: call.id.clone(), name: call.name.clone(), text, is_error });
    }
}

/// Plays a script until it answers without a call, and gives back all its replies. Each reply comes from models made
/// anew, so none can rest on memory.
async fn play(text: &str, mut request: ModelRequest, observe: &dyn Fn(&str, &str) -> String) -> Vec<ModelReply> {
    let mut replies = Vec::new();
    loop {
        let reply = reply(&models(text), &request).await.unwrap();
        replies.push(reply.clone());
        if reply.calls.is_empty() {
            return replies;
        }
        answer(&mut request, &reply, observe);
        assert!(replies.len() < 20, "the script does not end: {replies:#?}");
    }
}

const LOOP: &str = r#"
about = "Mends until the test passes."
[[turn]]
id = "test"
say = "I run the tests."
[[turn.call]]
id = "run"
tool = "shell"
arguments = { script = "make test" }
bind.status = { regex = 'status (\d+)' }
bind.wrong = { regex = 'got (\w+)', default = "nothing" }
[[turn.next]]
when = "status == '0'"
goto = "done"

[[turn]]
say = "It got {{ wrong }}."
[[turn.call]]
tool = "files"
arguments = { action = "write", fix = "not {{ wrong }}", tries = { "$expr" = "status | int + 1" } }
[[turn.next]]
goto = "test"

[[turn]]
id = "done"
say = "All pass; the last run said: {{ calls.run.text }}"
"#;

#[tokio::test]
async fn a_script_goes_on_from_what_its_tools_said() {
    let runs = std::cell::Cell::new(0);
    let observe = |tool: &str, arguments: &str| match tool {
        "shell" => {
            runs.set(runs.get() + 1);
            ["status 2, got seven", "status 1", "status 0"][runs.get() - 1].to_owned()
        }
        _ => arguments.to_owned(),
    };
    let replies = play(LOOP, ask("mend it", &["shell", "files"]), &observe).await;
    let said: Vec<&str> = replies.iter().map(|reply| reply.text.as_str()).collect();
    let test = "I run the tests.";
    let last = "All pass; the last run said: status 0";
    assert_eq!(said, [test, "It got seven.", test, "It got nothing.", test, last]);
    assert_eq!(replies[1].calls[0].arguments, r#"{"action":"write","fix":"not seven","tries":3}"#);
    assert_eq!(replies[3].calls[0].id, "call_3_0");
}

#[tokio::test]
async fn the_example_told_to_authors_works() {
    let readme = include_str!("../../scripts/README.md");
    let example = readme.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let mended = std::cell::Cell::new(false);
    let observe = |tool: &str, _: &str| match (tool, mended.get()) {
        ("files", _) => {
            mended.set(true);
            "written".to_owned()
        }
        (_, false) => "AssertionError: 1 != 3\nstatus 1".to_owned(),
        (_, true) => "OK\nstatus 0".to_owned(),
    };
    let replies = play(example, ask("t", &["shell", "files"]), &observe).await;
    let said: Vec<&str> = replies.iter().map(|reply| reply.text.as_str()).collect();
    let test = "I run the tests.";
    assert_eq!(said, [test, "The test says that 1 came out. I mend it.", test, "All tests pass."]);
}

#[tokio::test]
async fn the_next_user_message_begins_a_new_pass() {
    let mut request = ask("one", &["echo"]);
    request.model = "scripted/echo".to_owned();
    let models = ScriptedModels::built_in();
    for (task, already) in [("one", 0), ("two", 2)] {
        if already > 0 {
            request.messages.push(Message::User { images: Vec::new(), text: task.to_owned() });
        }
        let first = reply(&models, &request).await.unwrap();
        assert_eq!(first.calls[0].arguments, format!(r#"{{"text":"{task}"}}"#));
        assert_eq!(first.calls[0].id, format!("call_{already}_0"));
        answer(&mut request, &first, &|_, arguments| arguments.to_uppercase());
        let second = reply(&models, &request).await.unwrap();
        assert_eq!(second.text, format!("The tool gave back: {{\"TEXT\":\"{}\"}}", task.to_uppercase()));
        answer(&mut request, &second, &|_, _| String::new());
    }
    let error = reply(&models, &request).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::BadRequest);
    assert!(error.message.contains("script `echo`: it is over"), "{error}");
}

#[tokio::test]
async fn what_is_undefined_fails_naming_script_turn_and_variable() {
    let script = "about = 'x'\n[[turn]]\nsay = 'a'\n[[turn.call]]\ntool = 'shell'\nbind.rows = { json = '/rows' }\n\
                  [[turn]]\nsay = '{{ rows }} rows'";
    let mut request = ask("t", &[]);
    let first = reply(&models(script), &request).await.unwrap();
    let mut found = request.clone();
    answer(&mut found, &first, &|_, _| "reading\n{\"rows\": 7}\n".to_owned());
    assert_eq!(reply(&models(script), &found).await.unwrap().text, "7 rows");
    answer(&mut request, &first, &|_, _| "no such file".to_owned());
    let error = reply(&models(script), &request).await.unwrap_err();
    let expected = "script `test`, turn 2: `rows` is undefined; bind it, or give the binding a default";
    assert_eq!((error.kind, error.message.as_str()), (ModelErrorKind::BadRequest, expected));
}

#[tokio::test]
async fn faults_are_what_they_say() {
    let fault = |turn: &str| models(&format!("about = 'x'\n[[turn]]\n{turn}"));
    let request = ask("t", &[]);

    let broken = fault("[[turn.call]]\ntool = 'nope'\narguments_raw = '{\"a\": {{ task }}'");
    let reply_ = reply(&broken, &request).await.unwrap();
    assert_eq!((reply_.calls[0].name.as_str(), reply_.calls[0].arguments.as_str()), ("nope", "{\"a\": t"));

    let endless = reply(&fault("endless = true\nsay = 'never '"), &request).await.unwrap();
    assert_eq!((endless.finish, endless.text.len()), (Finish::Length, 4_000));
    assert_eq!(endless.usage.unwrap().output_tokens, request.max_output_tokens);

    let refused = reply(&fault("say = 'no'\nfinish = 'refused'\nusage = false"), &request).await.unwrap();
    assert_eq!((refused.finish, refused.usage), (Finish::Refused, None));

    let limited = fault("error = { kind = 'rate_limited', retry_after_ms = 3600000 }");
    for _ in 0..3 {
        let error = reply(&limited, &request).await.unwrap_err();
        assert_eq!((error.kind, error.retry_after_ms), (ModelErrorKind::RateLimited, Some(3_600_000)));
    }
    let passing = fault("say = 'there'\nerror = { kind = 'unavailable', times = 2, may_be_charged = true }");
    assert!(reply(&passing, &request).await.unwrap_err().may_be_charged);
    assert!(reply(&passing, &request).await.is_err());
    assert_eq!(reply(&passing, &request).await.unwrap().text, "there");
}

#[tokio::test]
async fn an_empty_reply_is_known_by_the_note_it_gets() {
    let script = "about = 'x'\n[[turn]]\nempty = true\n[[turn]]\nsay = 'Sorry. {{ notice }}'";
    let mut request = ask("t", &[]);
    let first = reply(&models(script), &request).await.unwrap();
    assert!(first.text.is_empty() && first.calls.is_empty());
    request.messages.push(Message::User { images: Vec::new(), text: "[errand] Your reply was empty.".to_owned() });
    assert_eq!(reply(&models(script), &request).await.unwrap().text, "Sorry. [errand] Your reply was empty.");
}

#[tokio::test]
async fn tokens_are_counted_to_the_byte_and_priced() {
    let script =
        "about = 'x'\n[price]\ninput = 1.25\ncached_input = 0.125\noutput = 10\n[[turn]]\nreasoning = '12345'\nsay = '123'";
    let models = models(script);
    let price = models.facts("scripted/test").unwrap().price.unwrap();
    assert_eq!((price.input, price.cached_input, price.output), (1_250_000_000, 125_000_000, 10_000_000_000));
    // "s", "12345678", and the tool's name and parameters.
    let usage = reply(&models, &ask("12345678", &["abc"])).await.unwrap().usage.unwrap();
    assert_eq!(usage, Usage { input_tokens: 4, cached_input_tokens: 0, output_tokens: 2, reasoning_tokens: 2 });
}

#[tokio::test]
async fn text_comes_word_by_word() {
    let models = models("about = 'x'\n[[turn]]\nreasoning = 'let me see'\nsay = \"one two\\nthree\"");
    let pieces = Pieces::default();
    let reply = models.call(&ask("t", &[]), &pieces).await.unwrap();
    assert_eq!(pieces.count(), 6);
    assert_eq!(pieces.sums(), (reply.text, reply.reasoning, vec![]));
}

#[test]
fn broken_scripts_say_what_is_wrong_and_where() {
    for (text, expected) in [
        ("about = 'x'\nturn = []", "it has no turn"),
        ("about = 'x'\n[[turn]]\nsays = 'a'", "unknown field `says`"),
        ("about = 'x'\n[[turn]]\nid = 'a'", "turn 1: it has neither `say` nor a call"),
        ("about = 'x'\n[[turn]]\nsay = 'a'\nnext = [{ goto = 'b' }]", "turn 1: it goes to `b`, and no turn is called so"),
        ("about = 'x'\n[[turn]]\nid = 'end'\nsay = 'a'", "no turn can be called `end`"),
        ("about = 'x'\n[[turn]]\nid = 'a'\nsay = 'a'\n[[turn]]\nid = 'a'\nsay = 'a'", "two turns have the same id"),
        ("about = 'x'\n[[turn]]\n[[turn.call]]\ntool = 't'\nbind.x = { regex = 'a' }", "needs exactly one group"),
        ("about = 'x'\n[[turn]]\n[[turn.call]]\ntool = 't'\nbind.x = {}", "give either `json` or `regex`"),
        ("about = 'x'\n[[turn]]\n[[turn.call]]\ntool = 't'\narguments = {}\narguments_raw = ''", "both `arguments`"),
        ("about = 'x'\n[[turn]]\nerror = { kind = 'auth', times = 1 }", "needs a reply for afterwards"),
        ("about = 'x'\n[price]\ninput = -1\noutput = 1\n[[turn]]\nsay = 'a'", "a price is negative"),
    ] {
        let error = ScriptedModels::default().add("test", text).unwrap_err().to_string();
        assert!(error.starts_with("script `test`") && error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn scripts_of_a_folder_go_before_built_in_ones_and_fail_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hello.toml"), "about = 'mine'\n[[turn]]\nsay = 'mine'").unwrap();
    std::fs::write(folder.path().join("bad.toml"), "about = 1").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no script").unwrap();
    let mut models = ScriptedModels::built_in();
    models.add_folder(folder.path()).unwrap();
    let names: Vec<(&str, &str)> = models.list().collect();
    assert!(names.contains(&("hello", "mine")) && !names.iter().any(|(name, _)| *name == "notes"), "{names:?}");
    let mut request = ask("t", &[]);
    request.model = "scripted/hello".to_owned();
    assert_eq!(reply(&models, &request).await.unwrap().text, "mine");
    assert_eq!(models.facts("scripted/bad").unwrap_err().kind, ModelErrorKind::BadRequest);
    assert_eq!(models.facts("scripted/../bad").unwrap_err().kind, ModelErrorKind::UnknownModel);
}

#[tokio::test]
async fn the_assistant_reports_what_its_tools_found() {
    let models = ScriptedModels::built_in();
    let mut request = ask("sum it", &["python", "shell"]);
    request.model = "scripted/assistant".to_owned();
    let first = reply(&models, &request).await.unwrap();
    assert!(first.text.contains("I am a script"));
    let tools: Vec<&str> = first.calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(tools, ["shell", "python"]);
    let with = |observation: &'static str| {
        let mut request = request.clone();
        let listing = "./a.csv\nfiles: 2\n";
        answer(&mut request, &first, &|tool, _| if tool == "shell" { listing } else { observation }.to_owned());
        request
    };
    let found = with(concat!(
        "exit code 0\n",
        r#"{"files": [{"path": "a.csv", "bytes": 12, "lines": 3, "columns": ["x", "y"], "rows": 2}, "#,
        r#"{"path": "b.bin", "bytes": 5, "lines": null, "columns": [], "rows": null}], "more": 0}"#,
    ));
    let said = reply(&models, &found).await.unwrap().text;
    assert!(
        said.contains(
            "in the workspace (2 files):\n\n- a.csv: 12 bytes, 3 lines; 2 rows with the columns x, y\n- b.bin: 5 bytes\n"
        ),
        "{said}"
    );
    assert!(reply(&models, &with("{\"files\": [], \"more\": 0}")).await.unwrap().text.contains("holds no file"));
    assert!(reply(&models, &with("error box_unavailable: no")).await.unwrap().text.contains("errand doctor"));
    let failed = reply(&models, &with("exit code 1\nTraceback")).await.unwrap().text;
    assert!(failed.contains("errand doctor") && failed.contains("Traceback"), "{failed}");
    request.tools.clear();
    assert!(reply(&models, &request).await.unwrap().text.contains("not on offer"));
}
