//! Data folders that cannot be used, and hosts that cannot make boxes.

use super::User;
use errand_core::{
    Budget, Limits, Making, ModelChoice, Nonce, Price, RunConfig, RunId, RunLog, Started, Timestamp, ToolSpec, WhenExceeded,
};
use errand_engine::ports::{Store, World};
use errand_store_local::{DataFolder, Mode, SystemWorld};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn with_a_run() -> User {
    let user = User::new();
    user.expect(0, &["run", "t", "--model", "scripted/hello"]);
    user
}

#[test]
fn no_folder_and_somebody_elses_folder() {
    let user = User::new();
    user.refused(1, "data_missing", &["runs"]);
    let stranger = user.path("stranger");
    std::fs::create_dir(&stranger).unwrap();
    std::fs::write(stranger.join("thesis.tex"), "x").unwrap();
    let folder = stranger.to_str().unwrap();
    user.refused(1, "data_not_errand", &["run", "t", "--model", "scripted/hello", "--data", folder]);
    assert_eq!(std::fs::read_dir(&stranger).unwrap().count(), 1);
    std::fs::write(user.path("file"), "x").unwrap();
    user.refused(1, "data_not_a_folder", &["run", "t", "--model", "scripted/hello", "--data", "file"]);
}

#[test]
fn a_damaged_database_is_left_alone() {
    let user = with_a_run();
    let database = user.data().join("errand.db");
    for name in ["errand.db-wal", "errand.db-shm"] {
        let _ = std::fs::remove_file(user.data().join(name));
    }
    std::fs::write(&database, b"this was a database").unwrap();
    user.refused(1, "data_corrupt", &["runs"]);
    user.refused(1, "data_corrupt", &["run", "t", "--model", "scripted/hello"]);
    assert_eq!(std::fs::read(&database).unwrap(), b"this was a database");
    assert_eq!(user.errand(&["doctor"]).code, Some(1));
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let user = with_a_run();
    // Offset 60 of the header holds the version that the application gives its schema.
    let database = user.data().join("errand.db");
    let _ = std::fs::remove_file(user.data().join("errand.db-wal"));
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[60..64].copy_from_slice(&999u32.to_be_bytes());
    std::fs::write(&database, &bytes).unwrap();
    user.refused(1, "data_newer", &["runs"]);
    user.refused(1, "data_newer", &["run", "t", "--model", "scripted/hello"]);
    assert_eq!(std::fs::read(&database).unwrap(), bytes);
}

#[test]
fn a_folder_that_cannot_be_written_to_can_be_read() {
    let user = with_a_run();
    let modes = |mode: u32| {
        for entry in std::fs::read_dir(user.data()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::set_permissions(&path, PermissionsExt::from_mode(if mode == 0 { 0o400 } else { 0o600 })).unwrap();
            }
        }
        std::fs::set_permissions(user.data(), PermissionsExt::from_mode(if mode == 0 { 0o500 } else { 0o700 })).unwrap();
    };
    modes(0);
    let is_root = std::fs::write(user.data().join("probe"), "x").is_ok();
    if !is_root {
        user.refused(1, "data_read_only", &["run", "t", "--model", "scripted/hello"]);
    }
    assert_eq!(user.json(0, &["runs"]).len(), 1);
    modes(1);
}

#[test]
fn a_clock_that_is_set_back_loses_nothing() {
    let user = with_a_run();
    let tomorrow = Timestamp::from_millis(SystemWorld.now().as_millis() + 86_400_000);
    let run = RunId::new(tomorrow, 1);
    begin(&user, run, tomorrow, "scripted/hello", Vec::new());
    let ended = user.expect(0, &["resume", &run.to_string()]);
    assert!(ended.stdout.contains("Hello!"), "{ended:#?}");
    let events = user.json(0, &["events", &run.to_string()]);
    let times: Vec<&str> = events.iter().map(|event| event["at"].as_str().unwrap()).collect();
    assert!(times.len() > 3 && times.is_sorted(), "{times:?}");
    user.expect(0, &["replay", &run.to_string()]);
}

#[test]
fn a_run_is_carried_on_at_its_own_endpoint_only() {
    let user = User::new();
    let now = SystemWorld.now();
    let run = RunId::new(now, 1);
    begin_at(&user, run, now, ("scripted/hello", Some("models.example")), Vec::new());
    user.refused(1, "model_elsewhere", &["resume", &run.to_string()]);
    let all = user.expect(0, &["resume"]);
    assert!(all.stderr.contains("1 run left alone") && all.stderr.contains(&run.to_string()), "{all:#?}");
    // Neither does another run take it along.
    user.expect(0, &["run", "t", "--model", "scripted/hello"]);
    let left = user.json(0, &["runs"]).into_iter().find(|listed| listed["run"] == run.to_string().as_str());
    assert_eq!(left.expect("the run is listed")["status"], "running");
}

/// Begins a run in the user's data folder as a process did that died then: at another time, or with tools that no
/// command line gives.
pub(super) fn begin(user: &User, run: RunId, at: Timestamp, model: &str, tools: Vec<ToolSpec>) {
    begin_at(user, run, at, (model, None), tools);
}

/// The same, with the endpoint that the run's model was at.
fn begin_at(user: &User, run: RunId, at: Timestamp, (model, endpoint): (&str, Option<&str>), tools: Vec<ToolSpec>) {
    let config = RunConfig {
        tenant: Default::default(),
        min_tier: None,
        fallbacks: Vec::new(),
        summarizers: Vec::new(),
        output: None,
        assistant: None,
        model: ModelChoice {
            image_tokens: 0,
            name: model.to_owned(),
            price: Some(Price::FREE),
            context_tokens: None,
            endpoint: endpoint.map(str::to_owned),
        },
        instructions: String::new(),
        tools,
        limits: Limits::default(),
        budget: Budget { usd: None, tokens: None, steps: 9, active_ms: 90_000, when_exceeded: WhenExceeded::End },
    };
    let task = "left over".to_owned();
    let started = Started {
        images: Vec::new(),
        config,
        task,
        files: Vec::new(),
        workspace: None,
        history: None,
        parent: None,
        withdrawn: None,
        given: Vec::new(),
        metadata: Default::default(),
        surface: None,
    };
    let log = RunLog::begin(run, started, at, Making { made_under: 0, attempt: 0, maker: Nonce(1) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mode = Mode::Own { command: "a test".to_owned() };
        let folder = DataFolder::open(&user.data(), mode, Arc::new(SystemWorld)).unwrap();
        folder.store().begin(run, &log.records, at).await.unwrap();
        folder.close().await.unwrap();
    });
}

#[test]
fn the_doctor_tells_what_works() {
    let user = with_a_run();
    let told = user.json(0, &["doctor"]).remove(0);
    assert_eq!(told["ready"], true);
    assert_eq!(told["sandbox"]["available"], true);
    assert!(told["sandbox"]["checks"].as_array().unwrap().len() > 50);
    assert_eq!(told["model"]["scripted"], true);
    let ended = user.expect(0, &["doctor"]);
    assert!(ended.stdout.contains("T1 ready"), "{ended:#?}");
    std::fs::write(user.path("broken.toml"), "x = [").unwrap();
    let ended = user.expect(1, &["doctor", "--config", "broken.toml"]);
    assert!(ended.stdout.contains("broken.toml cannot be used") && ended.stdout.contains("T1 ready"), "{ended:#?}");
}

/// Runs a shell script as root of a user namespace of its own, where it may mount and set limits.
fn confined(user: &User, script: &str, arguments: &[&str]) -> super::Ended {
    let command = user.command(arguments);
    let mut confined = std::process::Command::new("unshare");
    confined.args(["-Urm", "sh", "-c", script, command.get_program().to_str().unwrap()]).args(command.get_args());
    confined.env_clear().current_dir(user.path("")).stdin(std::process::Stdio::null());
    for (name, value) in command.get_envs() {
        confined.env(name, value.unwrap());
    }
    super::ended(confined)
}

#[test]
fn a_full_disk_ends_the_command_and_loses_nothing() {
    let user = User::new();
    std::fs::create_dir(user.data()).unwrap();
    let text = "x".repeat(30_000);
    let turn = format!(
        "[[turn]]\nid = \"again\"\nsay = \"filling\"\nnext = [{{ goto = \"again\" }}]\n[[turn.call]]\ntool = \"echo\"\narguments = {{ text = \"{text}\" }}\n"
    );
    user.script("fills", &turn);
    // Both runs in one mount: it goes away with the shell.
    let script = "mount -t tmpfs -o size=500k tmpfs \"$ERRAND_DATA\" || exit 99
        \"$0\" run first --model scripted/hello >/dev/null 2>&1 || exit 98
        timeout 60 \"$0\" \"$@\"; code=$?
        \"$0\" runs; exit $code";
    let ended = confined(&user, script, &["run", "t", "--model", "scripted/fills", "--tools", "echo"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    ended.is_refused_with("disk_full");
    assert!(ended.stdout.contains("done") && ended.stdout.contains("first"), "{ended:#?}");
}

#[test]
fn without_a_box_code_is_not_run_and_the_doctor_tells_why() {
    let user = User::new();
    // One more user namespace is allowed, and it is used up by becoming an ordinary user.
    let script = "echo 1 > /proc/sys/user/max_user_namespaces || exit 99
        exec unshare -U --map-user=1000 --map-group=1000 \"$0\" \"$@\"";
    user.script("code", &super::one_call("shell", "{ script = \"echo it ran\" }"));
    let ended = confined(&user, script, &["run", "t", "--model", "scripted/code"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("sandbox_unavailable") && !ended.stdout.contains("it ran\n"), "{ended:#?}");
    let ended = confined(&user, script, &["doctor"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stdout.contains("T1 not available") && ended.stdout.contains("repair: "), "{ended:#?}");
    // What needs no box works.
    user.script("sums", &super::one_call("calculate", "{ expression = \"6 * 7\" }"));
    let ended = confined(&user, script, &["run", "t", "--model", "scripted/sums"]);
    assert!(ended.stdout.contains("42"), "{ended:#?}");
}
