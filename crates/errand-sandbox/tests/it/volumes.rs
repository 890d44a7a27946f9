//! Workspaces with a hard bound: file systems of their own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use errand_sandbox::{
    Cell, Engine, EngineConfig, Exec, ExecOutcome, Exit, Language, Limits, Session, SessionOptions, Sessions, Strength,
    VolumeSize,
};

use crate::world;

const MIB: u64 = 1 << 20;
const ROOT: &str = "ERRAND_SANDBOX_VOLUME_ROOT";

fn of(bytes: u64, files: u64) -> SessionOptions {
    SessionOptions { volume: Some(VolumeSize { bytes, files }), ..SessionOptions::default() }
}

/// None, after saying why, where none can be made.
fn volume(sessions: &Sessions, id: &str) -> Option<Session> {
    match sessions.create_with(id, &of(16 * MIB, 200)) {
        Ok(session) => Some(session),
        Err(error) => {
            let has_all = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
            assert!(error.code() == "sandbox_no_volume" && !has_all, "{error}");
            println!("skipped: {error}");
            assert!(sessions.list().unwrap().is_empty(), "what could not be made is not there");
            None
        }
    }
}

/// Whether a loop device of this host is over a file below the folder.
fn has_loop_devices(root: &Path) -> bool {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let files = devices.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.into_iter().any(|file| Path::new(file.trim()).starts_with(root))
}

/// The kernel lets go of a device a moment after the last mount.
fn loses_loop_devices(root: &Path) -> bool {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while has_loop_devices(root) && std::time::Instant::now() < patience {
        std::thread::yield_now();
    }
    !has_loop_devices(root)
}

const FILL: &str = "import errno
def fill(name, size):
    count = 0
    try:
        while True:
            with open(f'{name}{count}', 'wb') as file:
                file.write(b'x' * size)
            count += 1
    except OSError as error:
        print(errno.errorcode[error.errno], count)
";

#[test]
fn a_full_volume_is_an_error_for_the_code_and_loses_nothing() {
    let Some(world) = world() else { return };
    let sessions = Sessions::at(world.root.path().join("volumes")).unwrap();
    let Some(session) = volume(&sessions, "v") else { return };
    if !world.has_python() {
        return;
    }
    assert_eq!((session.workspace_quota(), world.session.workspace_quota()), (Strength::Hard, Strength::Soft));
    session.put_file("kept", b"from outside").unwrap();
    let run = |code: &str| -> ExecOutcome { world.engine.run(&session, Exec::python(format!("{FILL}{code}"))).unwrap() };
    let outcome = run("fill('large', 1 << 20)");
    let said = outcome.stdout.text();
    let count: u64 = said.trim().strip_prefix("ENOSPC ").unwrap_or_else(|| panic!("{outcome:?}")).parse().unwrap();
    assert!((12..16).contains(&count) && outcome.exit == Exit::Code(0), "{said}: nobody is killed");
    // What fitted is whole, and the runner hears of the full file system as well.
    let outcome = run("print(open('kept').read(), open('large3').read() == 'x' * (1 << 20))");
    assert_eq!(outcome.stdout.text(), "from outside True\n", "{outcome:?}");
    let error = session.put_file("more", &vec![b'x'; 2 << 20]).unwrap_err();
    assert_eq!(error.code(), "sandbox_io");
    assert!(session.stat("more").unwrap().is_none());
    // Room that was freed is there again; names are bounded as bytes are.
    assert!(world.engine.run(&session, Exec::shell("rm large*")).unwrap().success());
    let outcome = run("fill('small', 1)");
    let count: u64 =
        outcome.stdout.text().trim().strip_prefix("ENOSPC ").unwrap_or_else(|| panic!("{outcome:?}")).parse().unwrap();
    assert!((150..=216).contains(&count), "{count}");
    let outcome = world.engine.run(&session, Exec::shell("rm small*; truncate -s 1T sparse; rm -f sparse; ls -a")).unwrap();
    assert_eq!(outcome.stdout.text(), ".\n..\nkept\n", "{outcome:?}");
    // Nothing of it is mounted where others see it.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/volumes/"), "{mounts}");
    // A kernel has it too, and so does the next who opens the session.
    let session = Arc::new(session);
    let mut kernel = world.engine.kernel(&session, Language::Python, &Limits::default()).unwrap();
    assert_eq!(kernel.run(Cell::new("open('cell', 'w').write('1')")).unwrap().value.as_deref(), Some("1"));
    drop((kernel, session));
    assert!(loses_loop_devices(world.root.path()));
    let session = sessions.open("v").unwrap();
    assert_eq!(session.workspace_quota(), Strength::Hard);
    assert_eq!(
        session.list("", true, 10).unwrap().iter().map(|one| one.path.as_str()).collect::<Vec<_>>(),
        ["cell", "kept"]
    );
    for engine in crate::oci::engines() {
        let outcome =
            engine.run(&session, Exec::shell("cat kept; head -c 20000000 /dev/zero >big || echo full; rm -f big")).unwrap();
        assert!(outcome.stdout.text().ends_with("outsidefull\n"), "{outcome:?}");
    }
    sessions.destroy(session).unwrap();
    assert!(sessions.list().unwrap().is_empty() && loses_loop_devices(world.root.path()));
    assert_eq!(std::fs::read_dir(world.root.path().join("volumes")).unwrap().count(), 0);
}

#[test]
fn volumes_of_no_sense_are_refused_and_what_the_disk_cannot_hold_is_not_promised() {
    let Some(world) = world() else { return };
    let sessions = Sessions::at(world.root.path().join("volumes")).unwrap();
    for (bytes, files) in [(0, 100), (MIB, 100), (11 << 30, 100), (16 * MIB, 0), (16 * MIB, u64::MAX)] {
        assert_eq!(sessions.create_with("v", &of(bytes, files)).unwrap_err().code(), "sandbox_limit_out_of_range");
    }
    assert!(sessions.list().unwrap().is_empty());
}

/// Not a test by itself: the runner that the test below kills.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the test below talks to the copy of itself that it starts")]
fn runner_with_a_volume() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let engine = Engine::start(&EngineConfig::default()).unwrap();
    let session = Sessions::at(root).unwrap().open("v").unwrap();
    let mut exec = Exec::shell("echo kept >file; sync; echo ready; exec sleep 1000");
    exec.on_output = Some(Box::new(|_, bytes| println!("said {}", String::from_utf8_lossy(bytes))));
    let outcome = engine.run(&session, exec).unwrap();
    panic!("the box ended by itself: {outcome:?}");
}

#[test]
fn a_killed_runner_leaves_no_mount_and_no_device() {
    let Some(world) = world() else { return };
    let root = world.root.path().join("killed");
    let sessions = Sessions::at(&root).unwrap();
    drop(volume(&sessions, "v"));
    if sessions.list().unwrap().is_empty() {
        return;
    }
    let mut runner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "volumes::runner_with_a_volume", "--nocapture"])
        .env(ROOT, &root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(runner.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("said ready")), "the box did not start");
    assert!(has_loop_devices(world.root.path()));
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert!(loses_loop_devices(world.root.path()), "a device or mount is left");
    let session = sessions.open("v").unwrap();
    assert_eq!(session.read_file("file", 0, 10).unwrap().bytes, b"kept\n");
}
