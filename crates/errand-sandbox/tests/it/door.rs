//! The door of a box: with it, and without, as tier T1 and as each runtime of tier T2 makes it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use errand_sandbox::{Cell, Exec, ExecOutcome, Language, Limits, OpenDoor, Session, Sessions, WayOut};

use crate::world;

/// Says the same to whoever comes to the door.
#[derive(Debug, Default)]
struct Greeter {
    opened: AtomicUsize,
    closed: Arc<AtomicBool>,
    fails: bool,
}

struct Closing(Arc<AtomicBool>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl WayOut for Greeter {
    fn environment(&self, door: SocketAddr) -> Vec<(String, String)> {
        vec![("DOOR".to_owned(), format!("/dev/tcp/{}/{}", door.ip(), door.port()))]
    }

    fn open(&self, listener: TcpListener) -> std::io::Result<OpenDoor> {
        if self.fails {
            return Err(std::io::Error::other("nobody attends"));
        }
        self.opened.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            // It ends with the first that comes; a box without a call never does.
            if let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"from outside\n");
            }
        });
        Ok(Box::new(Closing(Arc::clone(&self.closed))))
    }
}

fn session(greeter: &Arc<Greeter>) -> (Session, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let mut session = Sessions::at(root.path().join("sessions")).unwrap().create("test").unwrap();
    session.set_way_out(Arc::clone(greeter) as Arc<dyn WayOut>);
    (session, root)
}

/// Goes to the door, to a port of the host's loopback, and counts interfaces and what it could take over.
fn script(port: u16) -> Exec {
    Exec::shell(format!(
        "exec 3<>$DOOR && cat <&3\n\
         (exec 4<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo the host\n\
         grep -c : /proc/net/dev\n\
         ls -l /proc/self/fd /proc/1/fd 2>/dev/null | grep -c 'socket:'"
    ))
}

fn check(name: &str, outcome: &ExecOutcome, greeter: &Greeter) {
    let said = outcome.stdout.text();
    // The one socket is the connection to the door.
    assert!(said.starts_with("from outside\n1\n"), "{name}: {said}{}", outcome.stderr.text());
    assert!(!said.contains("the host") && said.trim_end().ends_with('1'), "{name}: {said}");
    assert!(outcome.had_way_out, "{name}");
    assert_eq!(greeter.opened.load(Ordering::SeqCst), 1, "{name}");
    assert!(greeter.closed.load(Ordering::SeqCst), "{name}: the door is closed when the call is over");
}

#[test]
fn a_call_that_is_sealed_has_no_door_whatever_its_session_was_granted() {
    let sealed =
        || Exec { is_sealed: true, ..Exec::shell("echo \"door: $DOOR\"; (exec 3<>/dev/tcp/127.0.0.1/3128) || echo none") };
    let check = |name: &str, outcome: &ExecOutcome, greeter: &Greeter| {
        assert_eq!(outcome.stdout.text(), "door: \nnone\n", "{name}: {outcome:?}");
        assert!(!outcome.had_way_out && greeter.opened.load(Ordering::SeqCst) == 0, "{name}");
    };
    if let Some(world) = world() {
        let greeter = Arc::new(Greeter::default());
        let (session, _root) = session(&greeter);
        // Also in a box that was made ahead.
        world.engine.is_ahead_within(std::time::Duration::from_secs(20));
        for _ in 0..2 {
            check("t1", &world.engine.run(&session, sealed()).unwrap(), &greeter);
        }
    }
    for engine in crate::oci::engines() {
        let greeter = Arc::new(Greeter::default());
        let (session, _root) = session(&greeter);
        // A runtime that can have no door runs it all the same.
        check(&format!("{:?}", engine.report().tier), &engine.run(&session, sealed()).unwrap(), &greeter);
    }
}

#[test]
fn a_box_of_either_tier_reaches_its_door_and_nothing_else() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    if let Some(world) = world() {
        let greeter = Arc::new(Greeter::default());
        let (session, _root) = session(&greeter);
        check("t1", &world.engine.run(&session, script(port)).unwrap(), &greeter);
    }
    for engine in crate::oci::engines() {
        let greeter = Arc::new(Greeter::default());
        let (session, _root) = session(&greeter);
        let name = format!("{:?}", engine.report().tier);
        match engine.run(&session, script(port)) {
            Ok(outcome) => check(&name, &outcome, &greeter),
            // A runtime that keeps a network of its own says so, and nothing runs.
            Err(error) => {
                assert_eq!(error.code(), "sandbox_egress_unavailable", "{error}");
                assert_eq!(greeter.opened.load(Ordering::SeqCst), 0);
                println!("skipped: {error}");
            }
        }
    }
}

/// A session without one has calls and kernels with one, and others beside them without.
#[test]
fn a_call_and_a_kernel_have_a_way_out_of_their_own() {
    let Some(world) = world() else { return };
    let greeter = Arc::new(Greeter::default());
    let way_out = || Arc::clone(&greeter) as Arc<dyn WayOut>;
    let root = tempfile::tempdir().unwrap();
    let session = Arc::new(Sessions::at(root.path().join("sessions")).unwrap().create("test").unwrap());
    let knock = "echo [$DOOR]; exec 3<>$DOOR && cat <&3";
    let outcome = world.engine.run(&session, Exec { way_out: Some(way_out()), ..Exec::shell(knock) }).unwrap();
    assert_eq!(outcome.stdout.text(), "[/dev/tcp/127.0.0.1/3128]\nfrom outside\n", "{}", outcome.stderr.text());
    assert!(outcome.had_way_out && !session.has_way_out());
    let bare = "(exec 3<>/dev/tcp/127.0.0.1/3128) 2>/dev/null; echo $? [$DOOR]";
    let outcome = world.engine.run(&session, Exec::shell(bare)).unwrap();
    assert_eq!((outcome.stdout.text().as_str(), outcome.had_way_out), ("1 []\n", false));
    let limits = Limits::default();
    let open = world.engine.kernel_with_way_out(&session, Language::Shell, &limits, way_out());
    let said = open.unwrap().run(Cell::new(knock)).unwrap().stdout.text();
    assert!(said.ends_with("from outside\n"), "{said}");
    let said = world.engine.kernel(&session, Language::Shell, &limits).unwrap().run(Cell::new(bare)).unwrap().stdout.text();
    assert_eq!(said, "1 []\n");
    for engine in crate::oci::engines() {
        let outcome = engine.run(&session, Exec { way_out: Some(way_out()), ..Exec::shell(knock) });
        match outcome {
            Ok(outcome) => assert!(outcome.had_way_out && outcome.stdout.text().ends_with("from outside\n"), "{outcome:?}"),
            Err(error) => assert_eq!(error.code(), "sandbox_egress_unavailable", "{error}"),
        }
    }
}

#[test]
fn without_a_way_out_there_is_no_door_and_without_somebody_to_attend_no_box() {
    let Some(world) = world() else { return };
    let knock = "(exec 3<>/dev/tcp/127.0.0.1/3128) 2>/dev/null; echo $?; echo \"[$DOOR]\"";
    assert_eq!(world.prints(knock), "1\n[]\n");
    assert!(!world.shell("true").had_way_out && !world.session.has_way_out());
    let greeter = Arc::new(Greeter { fails: true, ..Greeter::default() });
    let (session, _root) = session(&greeter);
    let error = world.engine.run(&session, Exec::new(["true"])).unwrap_err();
    assert_eq!(error.code(), "sandbox_io", "{error}");
}

#[test]
fn what_a_session_is_granted_is_kept_for_those_who_open_it_later_and_gives_nothing_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let sessions = Sessions::at(root.path().join("sessions")).unwrap();
    let made = sessions.create("kept").unwrap();
    assert_eq!(made.grant(), None);
    let grant = serde_json::json!({"hosts": ["a.example"]});
    made.keep_grant(grant.clone()).unwrap();
    assert_eq!(made.grant().as_ref(), Some(&grant));
    drop(made);
    let again = sessions.open("kept").unwrap();
    assert_eq!(again.grant(), Some(grant));
    assert!(!again.has_way_out());
}
