//! What a call takes and gives.

use errand_sandbox::{CancelToken, Exec, Exit, Stream};

use crate::world;

#[test]
fn python_prints_and_its_tracebacks_show_lines() {
    let Some(world) = world() else { return };
    if !world.has_python() {
        return;
    }
    world.session.put_file("helper.py", b"VALUE = 41\n").unwrap();
    let outcome = world.run(Exec::python("import helper\nprint(helper.VALUE + 1)\n1/0\n"));
    assert_eq!(outcome.exit, Exit::Code(1), "{outcome:?}");
    assert_eq!(outcome.stdout.text(), "42\n");
    assert!(outcome.stderr.text().contains("line 3") && outcome.stderr.text().contains("1/0"), "{}", outcome.stderr.text());
}

#[test]
fn node_runs_where_the_host_has_it() {
    let Some(world) = world() else { return };
    if !world.engine.interpreters().iter().any(|one| one.name == "node") {
        println!("skipped: this host has no node");
        return;
    }
    let outcome = world.run(Exec::node("console.log(6 * 7)"));
    assert_eq!((outcome.exit, outcome.stdout.text().as_str()), (Exit::Code(0), "42\n"), "{outcome:?}");
}

#[test]
fn input_variables_and_working_folder_arrive_and_files_stay() {
    let Some(world) = world() else { return };
    world.session.mkdirs("sub").unwrap();
    let mut exec = Exec::shell("pwd; echo \"$GREETING\"; wc -c; echo kept > file");
    exec.stdin = Some(vec![7; 5_000_000]);
    exec.env.push(("GREETING".into(), "good day".into()));
    exec.cwd = "sub".into();
    let outcome = world.run(exec);
    assert_eq!(outcome.stdout.text(), "/workspace/sub\ngood day\n5000000\n", "{outcome:?}");
    assert_eq!(world.session.read_file("sub/file", 0, 10).unwrap().bytes, b"kept\n");
    assert_eq!(world.prints("cat sub/file; rm sub/file; ls -A sub"), "kept\n");
    assert_eq!((outcome.workspace_files, outcome.workspace_bytes > 0), (2, true));
}

#[test]
fn the_way_it_ended_is_told() {
    let Some(world) = world() else { return };
    assert_eq!(world.shell("exit 7").exit, Exit::Code(7));
    assert_eq!(world.shell("kill -SEGV $$").exit, Exit::Signal(11));
    assert_eq!(world.shell("false; echo goes on").stdout.text(), "goes on\n");
}

#[test]
fn output_comes_while_it_runs_and_cancelling_kills_at_once() {
    let Some(world) = world() else { return };
    let token = CancelToken::new().unwrap();
    let mut exec = Exec::shell("echo first; sleep 1000; echo never");
    exec.cancel = Some(token.clone());
    let for_callback = token.clone();
    exec.on_output = Some(Box::new(move |stream, bytes| {
        assert_eq!((stream, bytes), (Stream::Stdout, &b"first\n"[..]));
        for_callback.cancel();
    }));
    let outcome = world.run(exec);
    assert_eq!(outcome.exit, Exit::Cancelled);
    assert_eq!(outcome.stdout.text(), "first\n");
    assert!(token.is_cancelled());
    let mut later = Exec::shell("sleep 1000");
    later.cancel = Some(token);
    assert_eq!(world.run(later).exit, Exit::Cancelled);
}

#[test]
fn calls_run_side_by_side_in_one_session_and_in_others() {
    let Some(world) = world() else { return };
    let others = errand_sandbox::Sessions::at(world.root.path().join("others")).unwrap();
    let neighbour = others.create("neighbour").unwrap();
    if world.session.host_ids().0 != nix_euid() {
        assert_ne!(world.session.host_ids(), neighbour.host_ids());
    }
    assert_ne!(world.session.host_ids().0, 0);
    std::thread::scope(|scope| {
        let call = |session, number| {
            move || world.engine.run(session, Exec::shell(format!("echo {number} | tee {number}"))).unwrap()
        };
        let calls: Vec<_> = (0..8)
            .map(|number| scope.spawn(call(if number % 2 == 0 { &world.session } else { &neighbour }, number)))
            .collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.join().unwrap().stdout.text(), format!("{number}\n"));
        }
    });
    assert_eq!(world.prints("ls"), "0\n2\n4\n6\n");
}

/// The owner of a file this process makes.
fn nix_euid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    tempfile::NamedTempFile::new().unwrap().as_file().metadata().unwrap().uid()
}

#[test]
fn malformed_calls_are_refused_before_anything_runs() {
    let Some(world) = world() else { return };
    let code = |exec: Exec| world.engine.run(&world.session, exec).unwrap_err().code();
    let with = |change: fn(&mut Exec)| {
        let mut exec = Exec::shell("echo > ran");
        change(&mut exec);
        code(exec)
    };
    assert_eq!(code(Exec::new(Vec::<String>::new())), "sandbox_exec_refused");
    assert_eq!(with(|e| e.argv.push("a\0b".into())), "sandbox_exec_refused");
    assert_eq!(with(|e| e.argv.push("x".repeat(200_000))), "sandbox_exec_refused");
    assert_eq!(with(|e| e.env.push(("A=B".into(), "c".into()))), "sandbox_exec_refused");
    assert_eq!(with(|e| e.files.push(("../x".into(), vec![]))), "sandbox_exec_refused");
    assert_eq!(with(|e| e.files.push(("cell.sh".into(), vec![]))), "sandbox_exec_refused");
    assert_eq!(with(|e| e.files.push(("big".into(), vec![0; 9 << 20]))), "sandbox_exec_refused");
    assert_eq!(with(|e| e.cwd = "../..".into()), "sandbox_path_refused");
    assert_eq!(with(|e| e.cwd = "missing".into()), "sandbox_exec_refused");
    assert_eq!(with(|e| e.limits.processes = 0), "sandbox_limit_out_of_range");
    assert_eq!(code(Exec::new(["no-such-program"])), "sandbox_program_not_started");
    assert_eq!(code(Exec::new(["/etc/passwd"])), "sandbox_program_not_started");
    assert_eq!(world.session.stat("ran").unwrap(), None);
}
