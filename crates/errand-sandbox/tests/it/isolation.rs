//! What code in a box must not reach, tried with ordinary tools; the probe tries far more.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use errand_sandbox::{ChunkStore, Exec, Limits, Node};
use sha2::Digest;

use crate::world;

#[test]
fn the_network_is_unreachable_but_the_box_may_talk_to_itself() {
    let Some(world) = world() else { return };
    if !world.has_python() {
        return;
    }
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let code = format!(
        "import socket, errno\n\
         def attempt(*address):\n    \
             try:\n        socket.create_connection(address, 2); return 'reached'\n    \
             except OSError as e: return errno.errorcode.get(e.errno, str(e))\n\
         print(attempt('127.0.0.1', {port}), attempt('192.0.2.1', 80), attempt('169.254.169.254', 80))\n\
         server = socket.create_server(('127.0.0.1', 0))\n\
         print(attempt(*server.getsockname()))\n"
    );
    let outcome = world.run(Exec::python(code));
    assert_eq!(outcome.stdout.text(), "ECONNREFUSED ENETUNREACH ENETUNREACH\nreached\n", "{outcome:?}");
}

#[test]
fn files_and_processes_of_the_host_are_out_of_sight() {
    let Some(world) = world() else { return };
    let bait = world.root.path().join("bait");
    std::fs::write(&bait, "host secret").unwrap();
    std::fs::set_permissions(&bait, PermissionsExt::from_mode(0o644)).unwrap();
    let script = format!("cat {}; cat /etc/shadow; ls /home /root /sys /boot", bait.display());
    let outcome = world.shell(&script);
    assert_eq!(outcome.stdout.text(), "", "{outcome:?}");
    // Init, the shell, and one that has just ended.
    let seen = world.prints("cd /proc; for p in [0-9]*; do echo $p; done");
    assert!(seen.lines().count() <= 3, "{seen}");
    assert_eq!(world.prints("tr -d '\\0' </proc/1/cmdline"), "", "init shows what the runner was called with");
}

#[test]
fn the_environment_is_clean() {
    let Some(world) = world() else { return };
    let seen = world.prints("env | cut -d= -f1 | sort | tr '\\n' ' '");
    let known = "HOME LANG OLDPWD PATH PWD PYTHONDONTWRITEBYTECODE SHLVL TMPDIR USER XDG_CACHE_HOME XDG_CONFIG_HOME _";
    let strange: Vec<&str> = seen.split_whitespace().filter(|name| !known.split(' ').any(|one| one == *name)).collect();
    assert_eq!(strange, Vec::<&str>::new());
    assert_eq!(world.prints("id -u; id -un; hostname 2>/dev/null || cat /etc/hostname"), "1000\nerrand\nerrand\n");
}

#[test]
fn what_it_plants_in_the_workspace_leads_nobody_out() {
    let Some(world) = world() else { return };
    world.prints("ln -s /etc/shadow shadow; ln -s / root; mkfifo fifo; echo plain > file; mkdir -p a/b; ln -s ../.. a/b/up");
    for path in ["shadow", "root/etc/shadow", "fifo", "a/b/up/file"] {
        assert_eq!(world.session.read_file(path, 0, 100).unwrap_err().code(), "sandbox_not_plain", "{path}");
    }
    let snapshot = world.session.snapshot(&Nothing, None, &Limits::default()).unwrap();
    let node = |path| snapshot.manifest.entries().find(|(name, _)| *name == path).map(|(_, node)| node.clone());
    assert_eq!(node("shadow"), Some(Node::Link { target: "/etc/shadow".into() }));
    assert_eq!(snapshot.skipped, ["fifo"]);
}

/// Keeps nothing.
struct Nothing;

impl ChunkStore for Nothing {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        Ok(sha2::Sha256::digest(bytes).into())
    }

    fn get(&self, _: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

#[test]
fn one_call_leaves_nothing_but_files_for_the_next() {
    let Some(world) = world() else { return };
    world.prints("echo canary > /tmp/canary; echo canary > /dev/shm/canary; export CANARY=1; echo kept > file");
    assert_eq!(world.prints("ls -A /tmp /dev/shm; echo \"[$CANARY]\"; cat file"), "/dev/shm:\n\n/tmp:\n[]\nkept\n");
    assert!(!world.shell("echo > /run/errand/cell.sh").success());
    assert!(!world.shell("echo > /usr/bin/new").success());
}
