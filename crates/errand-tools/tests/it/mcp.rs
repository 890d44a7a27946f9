//! MCP servers over standard input and output: one that behaves, and all the ways not to.

use crate::support::{World, error, network, ok};
use errand_core::{Class, Outcome, ToolSpec};
use errand_engine::ports::{ToolReply, Tools};
use errand_tools::{AddedSettings, Registry, Secret, Vault};
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Keys;

impl Vault for Keys {
    fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        Ok((name == "TOKEN").then(|| Secret::new("hush-hush-hush")))
    }

    #[expect(clippy::disallowed_methods, reason = "the programs of this test are found by PATH")]
    fn variable(&self, name: &str) -> Option<OsString> {
        match name {
            "PATH" => std::env::var_os("PATH"),
            "HOME" => Some("/home/somebody".into()),
            "PASSED" => Some("passed on".into()),
            _ => None,
        }
    }
}

/// A world with one server, `s`, that is started with `modes`.
struct Peer {
    world: World,
    registry: Arc<Registry>,
    folder: PathBuf,
}

/// Whether servers of this test can be started here; says why not.
fn python() -> bool {
    let found = std::process::Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: there is no python3 here");
    }
    found
}

impl Peer {
    fn new(modes: &str, more: &str) -> Self {
        let world = World::new();
        let folder = world.folder.path().join("tools");
        std::fs::create_dir(&folder).unwrap();
        write(&folder, modes, more);
        Self::over(world, folder)
    }

    fn over(world: World, folder: PathBuf) -> Self {
        let registry = registry(&folder);
        let world = world.with(Arc::clone(&registry));
        Self { world, registry, folder }
    }

    async fn spec(&self, tool: &str) -> ToolSpec {
        self.registry.offer(Some(&[tool.to_owned()])).await.unwrap().remove(0)
    }

    async fn say(&self, index: u32, change: impl FnOnce(&mut ToolSpec)) -> ToolReply {
        let mut spec = self.spec("s_say").await;
        change(&mut spec);
        self.world.call_spec(index, &spec, json!({ "text": "hello" })).await
    }

    fn trace(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("state")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn count(&self, word: &str) -> usize {
        self.trace().iter().filter(|line| line.starts_with(word)).count()
    }

    /// Waits until the server has left a trace.
    async fn seen(&self, word: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.count(word) == 0 {
            assert!(Instant::now() < deadline, "no {word}: {:?}", self.trace());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn registry(folder: &Path) -> Arc<Registry> {
    Arc::new(
        Registry::with_added(&AddedSettings { folders: vec![folder.to_owned()], vault: Arc::new(Keys), network: network() })
            .unwrap(),
    )
}

fn write(folder: &Path, modes: &str, more: &str) {
    write_named("s", folder, modes, more);
}

fn write_named(name: &str, folder: &Path, modes: &str, more: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/peer.py");
    let modes: Vec<&str> = modes.split_whitespace().collect();
    let args = json!([["-u", script].as_slice(), &modes].concat());
    let state = json!(folder.join("state"));
    let text = format!(
        "kind = \"mcp\"\nname = {name:?}\n{more}\n[server]\ncommand = \"python3\"\nargs = {args}\n\
         [server.env]\nSTATE = {state}\nTOKEN = {{ secret = \"TOKEN\" }}\nPASSED = {{ variable = \"PASSED\" }}\n"
    );
    std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
}

fn is_alive(pid: &str) -> bool {
    // A process that has ended and was not waited for yet is still listed.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

async fn gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "{pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_is_started_once_and_given_what_it_is_to_have() {
    if !python() {
        return;
    }
    let peer = Peer::new("pages child", "");
    let specs = peer.registry.offer(None).await.unwrap();
    let spec = specs.iter().find(|spec| spec.definition.name == "s_say").unwrap();
    assert_eq!((spec.class, &*spec.taint_out), (Class::Effectful, ["mcp".to_owned()].as_slice()));
    assert_eq!(ok(&peer.say(0, |_| {}).await), "hello");
    let env = peer.world.call_spec(1, &peer.spec("s_env").await, json!({})).await;
    let folder = peer.folder.canonicalize().unwrap();
    let expected =
        json!({ "names": ["HOME", "PASSED", "PATH", "STATE", "TOKEN"], "token": "[secret TOKEN]", "folder": folder });
    assert_eq!(serde_json::from_str::<serde_json::Value>(ok(&env)).unwrap(), expected);
    assert_eq!((peer.count("start"), peer.count("list")), (1, 2), "{:?}", peer.trace());
    assert!(peer.trace().iter().any(|line| line.starts_with("key run_") && line.len() > 10), "{:?}", peer.trace());
    peer.registry.close().await;
    for line in peer.trace().iter().filter(|line| line.starts_with("start") || line.starts_with("child")) {
        gone(line.split(' ').nth(1).unwrap()).await;
    }
}

#[tokio::test]
async fn a_server_whose_name_begins_with_that_of_another_has_its_own_tools() {
    if !python() {
        return;
    }
    let Peer { world, folder, .. } = Peer::new("", "");
    write_named("s_t", &folder, "fails", "");
    let peer = Peer::over(world, folder);
    let named = async |name: &str| {
        let specs = peer.registry.offer(Some(&[name.to_owned()])).await.unwrap();
        specs.into_iter().map(|spec| spec.definition.name).collect::<Vec<_>>()
    };
    assert_eq!(named("s_t_*").await, ["s_t_say", "s_t_env"]);
    assert_eq!(peer.count("start"), 1);
    assert_eq!(named("s_*").await, ["s_say", "s_env"]);
    let reply = peer.world.call_spec(0, &peer.spec("s_t_say").await, json!({ "text": "hello" })).await;
    assert_eq!(error(&reply), ("tool_failed", "hello"));
    assert_eq!(ok(&peer.say(1, |_| {}).await), "hello");
}

#[tokio::test]
async fn servers_are_contacted_by_runs_that_may_use_them_only() {
    let peer = Peer::new("exits", "");
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(peer.registry.offer(names(&["python"]).as_deref()).await.unwrap().len(), 1);
    assert_eq!(peer.count("start"), 0);
    if python() {
        let error = peer.registry.offer(names(&["s_*"]).as_deref()).await.unwrap_err();
        assert_eq!(error.code(), "mcp_unreachable");
        let text = error.to_string();
        assert!(text.contains("\"s\"") && text.contains("s.toml") && text.contains("not today"), "{text}");
    }
    let optional = Peer::new("exits", "optional = true");
    assert!(!optional.registry.offer(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    if !python() {
        return;
    }
    let peer = Peer::new("deaf stays", "start_timeout_s = 0.7");
    let error = peer.registry.offer(None).await.unwrap_err();
    assert_eq!(error.code(), "mcp_unreachable");
    assert!(error.to_string().contains("did not start within 700ms"), "{error}");
    let started = peer.trace()[0].split(' ').nth(1).unwrap().to_owned();
    gone(&started).await;
}

#[tokio::test]
async fn a_call_that_hangs_is_cancelled_and_the_server_started_again() {
    if !python() {
        return;
    }
    let peer = Peer::new("hang stays", "timeout_s = 0.5");
    assert!(matches!(peer.say(0, |_| {}).await.outcome, Outcome::Unknown { reason } if reason.contains("within")));
    peer.seen("cancelled").await;
    let reply = peer.say(1, |spec| spec.class = Class::Pure).await;
    assert_eq!(error(&reply).0, "timed_out");
    assert_eq!(peer.count("start"), 2, "a server that gives no pong is started again: {:?}", peer.trace());
}

#[tokio::test]
async fn progress_does_not_buy_time() {
    if !python() {
        return;
    }
    let peer = Peer::new("progress", "timeout_s = 1\nclass = \"pure\"");
    let began = Instant::now();
    assert_eq!(error(&peer.say(0, |_| {}).await).0, "timed_out");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_came_of_an_effectful_call_that_killed_its_server_is_unknown() {
    if !python() {
        return;
    }
    let peer = Peer::new("die", "");
    let reply = peer.say(0, |_| {}).await;
    assert!(
        matches!(&reply.outcome, Outcome::Unknown { reason } if reason.contains("ended during the call") && reason.contains("no more of this")),
        "{reply:?}"
    );
    let reply = peer.say(1, |spec| spec.class = Class::Idempotent).await;
    assert_eq!(error(&reply).0, "mcp_died");
}

#[tokio::test]
async fn a_server_that_died_is_started_again_with_more_and_more_time_between() {
    if !python() {
        return;
    }
    let peer = Peer::new("die_once", "class = \"pure\"");
    assert_eq!(error(&peer.say(0, |_| {}).await).0, "mcp_died");
    assert_eq!(ok(&peer.say(1, |_| {}).await), "hello");
    assert_eq!(peer.count("start"), 2);

    let peer = Peer::new("die", "class = \"pure\"\nstart_timeout_s = 0.9");
    let spec = peer.spec("s_say").await;
    let mut last = None;
    for index in 0..4 {
        let mut spec = spec.clone();
        spec.timeout_ms = 900;
        let reply = peer.world.call_spec(index, &spec, json!({ "text": "x" })).await;
        last = Some(error(&reply).1.to_owned());
    }
    let last = last.unwrap();
    assert!(last.contains("tried again in"), "{last}");
    assert!(peer.count("start") <= 3, "{:?}", peer.trace());
}

#[tokio::test]
async fn floods_are_bounded() {
    if !python() {
        return;
    }
    let pure = "class = \"pure\"";
    let large = Peer::new("large", pure).say(0, |_| {}).await;
    assert_eq!(error(&large).0, "mcp_protocol");
    assert!(error(&large).1.contains("16777216 bytes"), "{large:?}");
    assert_eq!(ok(&Peer::new("flood", pure).say(0, |_| {}).await), "hello");
    let endless = Peer::new("endless", pure).say(0, |_| {}).await;
    assert_eq!(error(&endless).0, "mcp_protocol");
    assert!(error(&endless).1.contains("nobody asked for"), "{endless:?}");
    let many = Peer::new("many", "").registry.offer(None).await.unwrap_err();
    assert!(many.code() == "mcp_unreachable" && many.to_string().contains("10000 tools"), "{many}");
    let few = Peer::new("many", "include = [\"t1\", \"t22*\"]").registry.offer(None).await.unwrap();
    assert_eq!(few.iter().filter(|spec| spec.definition.name.starts_with("s_")).count(), 1 + 111);
}

#[tokio::test]
async fn rubbish_is_left_out_and_too_much_of_it_is_the_end() {
    if !python() {
        return;
    }
    assert_eq!(ok(&Peer::new("rubbish", "").say(0, |_| {}).await), "hello");
    let error = Peer::new("endless_rubbish", "").registry.offer(None).await.unwrap_err();
    assert_eq!(error.code(), "mcp_unreachable");
    assert!(error.to_string().contains("lines that are no messages"), "{error}");
    let malformed = Peer::new("malformed", "class = \"pure\"").say(0, |_| {}).await;
    assert!(
        matches!(&malformed.outcome, Outcome::Error { code, .. } if code == "mcp_protocol" || code == "tool_failed"),
        "{malformed:?}"
    );
}

#[tokio::test]
async fn tools_whose_schema_is_none_are_left_out_and_the_rest_stay() {
    if !python() {
        return;
    }
    let peer = Peer::new("broken", "");
    let listed = peer.registry.list().await.unwrap();
    let brought: Vec<&str> =
        listed.iter().filter(|tool| tool.kind == "mcp").map(|tool| tool.spec.definition.name.as_str()).collect();
    assert_eq!(brought, ["s_say", "s_env"]);
    assert_eq!(ok(&peer.say(0, |_| {}).await), "hello");
}

#[tokio::test]
async fn a_run_is_pinned_to_the_tools_it_began_with() {
    if !python() {
        return;
    }
    let peer = Peer::new("changing", "");
    let before = peer.spec("s_say").await;
    assert_eq!(ok(&peer.world.call_spec(0, &before, json!({ "text": "hello" })).await), "hello");
    // The notice comes before the answer, so the server has said by now that its tools changed.
    let reply = peer.world.call_spec(1, &before, json!({ "text": "hello" })).await;
    assert_eq!(error(&reply).0, "tool_changed");
    assert!(error(&reply).1.contains("start a new run"), "{reply:?}");
    let after = peer.spec("s_say").await;
    assert_eq!(after.definition.description, "Says it.");
    assert_eq!(ok(&peer.world.call_spec(2, &after, json!({ "text": "hello" })).await), "hello");

    // Another manifest is another tool.
    let Peer { world, folder, .. } = peer;
    write(&folder, "changing", "timeout_s = 7");
    let peer = Peer::over(world, folder);
    assert_eq!(error(&peer.world.call_spec(3, &after, json!({ "text": "hello" })).await).0, "tool_changed");
}

#[tokio::test]
async fn a_list_that_could_not_be_read_again_is_not_taken_for_a_fresh_one() {
    if !python() {
        return;
    }
    let peer = Peer::new("shy changing", "");
    let before = peer.spec("s_say").await;
    let say = async |index| peer.world.call_spec(index, &before, json!({ "text": "hello" })).await;
    assert_eq!(ok(&say(0).await), "hello");
    let unread = say(1).await;
    assert!(error(&unread).1.contains("not now"), "{unread:?}");
    assert_eq!(error(&say(2).await).0, "tool_changed");
    assert_eq!(peer.count("call"), 1);
}

#[tokio::test]
async fn what_came_of_an_effectful_call_without_a_proper_answer_is_unknown() {
    if !python() {
        return;
    }
    for (mode, shown, code) in [
        ("unformed", "does not have the form", "mcp_protocol"),
        ("malformed", "keep to the protocol", "mcp_protocol"),
        ("trips", "something broke", "tool_failed"),
    ] {
        let peer = Peer::new(mode, "");
        let reply = peer.say(0, |_| {}).await;
        assert!(matches!(&reply.outcome, Outcome::Unknown { reason } if reason.contains(shown)), "{mode}: {reply:?}");
        let reply = peer.say(1, |spec| spec.class = Class::Idempotent).await;
        assert_eq!(error(&reply).0, code);
        assert!(error(&reply).1.contains(shown), "{reply:?}");
    }
}

#[tokio::test]
async fn a_run_whose_tools_are_not_here_is_not_served() {
    if !python() {
        return;
    }
    let peer = Peer::new("", "");
    let spec = peer.spec("s_say").await;
    assert!(peer.registry.serves(std::slice::from_ref(&spec)));
    let bare = Arc::new(Registry::built_in().unwrap());
    assert!(!bare.serves(std::slice::from_ref(&spec)));
    let world = World::new().with(bare);
    let refused = world.tools.check(&spec, "{}", crate::support::NOW);
    assert!(
        matches!(&refused, errand_core::Verdict::Refused { code, error } if code == "tool_changed" && error.contains("--tool-dir")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_a_server_asks_of_its_client_is_declined() {
    if !python() {
        return;
    }
    assert_eq!(ok(&Peer::new("asks", "").say(0, |_| {}).await), "decline,error,result");
}

#[tokio::test]
async fn answers_and_refusals_reach_the_model() {
    if !python() {
        return;
    }
    let refused = Peer::new("refuses", "").say(0, |_| {}).await;
    assert_eq!(error(&refused), ("tool_failed", "no such text"));
    let failed = Peer::new("fails", "").say(0, |_| {}).await;
    assert_eq!(error(&failed), ("tool_failed", "hello"));
    let peer = Peer::new("picture", "");
    let picture = peer.say(0, |_| {}).await;
    assert_eq!(ok(&picture), "[image: 8 bytes, image/png, kept as received/s_say-2.0-1.png]");
    assert!(picture.workspace.is_some());
}
