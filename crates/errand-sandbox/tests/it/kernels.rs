//! Kernels in real boxes: what stays between cells, what a cell cannot do to the runner, and how a kernel is lost.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use errand_sandbox::{CancelToken, Cell, CellEnd, CellOutcome, Exit, Kernel, Language, Limits, Session};

use crate::{World, world};

/// A kernel, its session, and the folder that goes with them.
type Started = (Arc<Session>, Kernel, tempfile::TempDir);

fn kernel(language: Language) -> Option<Started> {
    kernel_with(language, &Limits::default())
}

/// None, after saying why, where this host has no boxes or does not have the language.
fn kernel_with(language: Language, limits: &Limits) -> Option<Started> {
    let World { engine, session, root } = world()?;
    let program = match language {
        Language::Python => "python3",
        Language::Node => "node",
        Language::Shell => "bash",
    };
    if !engine.interpreters().iter().any(|one| one.name == program || (program == "bash" && one.name == "sh")) {
        println!("skipped: this host has no {program} that a box can use");
        return None;
    }
    let session = Arc::new(session);
    let kernel = engine.kernel(&session, language, limits).unwrap();
    Some((session, kernel, root))
}

fn run(kernel: &mut Kernel, code: &str) -> CellOutcome {
    kernel.run(Cell::new(code)).unwrap()
}

fn failed(outcome: &CellOutcome) -> &str {
    match &outcome.end {
        CellEnd::Failed { error } => error,
        other => panic!("{other:?}: {}", outcome.stderr.text()),
    }
}

#[test]
fn what_a_cell_defines_the_next_one_sees() {
    for (language, cells) in [
        (Language::Python, [("x = 41\nprint('set')", None, "set\n"), ("x + 1", Some("42"), ""), ("_ * 2", Some("84"), "")]),
        (
            Language::Node,
            [
                ("const x = 41; console.log('set')", None, "set\n"),
                ("x + 1", Some("42"), ""),
                ("await new Promise((done) => setTimeout(() => done(x), 5))", Some("41"), ""),
            ],
        ),
        (
            Language::Shell,
            [("x=41; echo set", None, "set\n"), ("cd /tmp; echo $((x + 1))", None, "42\n"), ("pwd", None, "/tmp\n")],
        ),
    ] {
        let Some((_session, mut kernel, _root)) = kernel(language) else { continue };
        for (code, value, printed) in cells {
            let outcome = run(&mut kernel, code);
            assert_eq!(outcome.end, CellEnd::Done, "{language:?} {code}: {}", outcome.stderr.text());
            assert_eq!((outcome.value.as_deref(), outcome.stdout.text().as_str()), (value, printed), "{language:?} {code}");
        }
    }
}

#[test]
fn an_error_ends_the_cell_and_not_the_kernel() {
    for (language, broken, told, well) in [
        (Language::Python, "y = 1\n1 / 0", "ZeroDivisionError: division by zero", "y"),
        (Language::Python, "def f(:", "SyntaxError: invalid syntax", "1"),
        (Language::Python, "import sys; sys.exit(3)", "SystemExit: 3", "1"),
        (Language::Node, "throw new TypeError('no')", "TypeError: no", "1"),
        (Language::Node, "let a = ;", "SyntaxError: Unexpected token ';'", "1"),
        (Language::Shell, "false", "exit status 1", "true"),
        (Language::Shell, "exit 3", "exit status 3", "true"),
        (Language::Shell, "set -e; false; true", "exit status 1", "false; true"),
        (Language::Shell, "set -u; echo $nothing; true", "exit status 1", "echo $nothing"),
    ] {
        let Some((_session, mut kernel, _root)) = kernel(language) else { continue };
        let outcome = run(&mut kernel, broken);
        assert!(failed(&outcome).starts_with(told), "{language:?} {broken}: {:?}", outcome.end);
        assert_eq!(run(&mut kernel, well).end, CellEnd::Done);
        assert!(kernel.is_alive());
    }
}

#[test]
fn a_traceback_shows_the_line_of_the_cell_and_nothing_of_the_driver() {
    let Some((_session, mut kernel, _root)) = kernel(Language::Python) else { return };
    let told = run(&mut kernel, "def f():\n    return 1 / 0\nf()").stderr.text();
    assert!(told.contains("<cell 1>\", line 2") && told.contains("return 1 / 0"), "{told}");
    assert!(!told.contains("driver.py"), "{told}");
}

#[test]
fn a_cell_out_of_time_is_interrupted_and_the_kernel_lives() {
    for (language, keeps, endless, asks) in [
        (Language::Python, "x = 7", "while True: pass", "x"),
        (Language::Python, "x = 7", "import time; time.sleep(600)", "x"),
        (Language::Node, "var x = 7", "for (;;) {}", "x"),
        (Language::Node, "var x = 7", "await new Promise(() => setInterval(() => {}, 1000))", "x"),
        (Language::Shell, "x=7", "sleep 600; sleep 600", "[ $x = 7 ]"),
    ] {
        let Some((_session, mut kernel, _root)) = kernel(language) else { continue };
        run(&mut kernel, keeps);
        let begun = Instant::now();
        let limited = Cell { wall: Some(Duration::from_millis(200)), ..Cell::new(endless) };
        let outcome = kernel.run(limited).unwrap();
        assert_eq!(outcome.end, CellEnd::Interrupted, "{language:?} {endless}: {}", outcome.stderr.text());
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(run(&mut kernel, asks).end, CellEnd::Done, "{language:?} {endless}");
    }
}

#[test]
fn a_cell_that_will_not_stop_takes_the_kernel_with_it() {
    let Some((_session, mut kernel, _root)) = kernel(Language::Python) else { return };
    let stubborn = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)";
    let outcome = kernel.run(Cell { wall: Some(Duration::from_millis(200)), ..Cell::new(stubborn) }).unwrap();
    assert_eq!(outcome.end, CellEnd::Lost { exit: Exit::TimedOut });
    assert!(!kernel.is_alive());
    assert_eq!(kernel.run(Cell::new("1")).unwrap_err().code(), "sandbox_kernel_gone");
}

#[test]
fn a_kernel_can_be_lost_in_many_ways_and_says_which() {
    let small = Limits { memory_bytes: 128 << 20, ..Limits::default() };
    for (language, code, exits) in [
        (Language::Python, "import os; os._exit(5)", vec![Exit::Code(5)]),
        (Language::Python, "import os; os.kill(os.getpid(), 9)", vec![Exit::Signal(9)]),
        (Language::Python, "x = bytearray(600 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1", vec![Exit::OutOfMemory]),
        (Language::Node, "process.exit(4)", vec![Exit::Code(4)]),
        (Language::Shell, "exec sh -c 'exit 3'", vec![Exit::Code(3)]),
    ] {
        let Some((session, mut kernel, _root)) = kernel_with(language, &small) else { continue };
        session.put_file("kept.txt", b"kept").unwrap();
        let outcome = run(&mut kernel, code);
        // Without a memory group Python is refused the memory and goes on.
        if matches!(&outcome.end, CellEnd::Failed { error } if error.starts_with("MemoryError")) {
            continue;
        }
        let CellEnd::Lost { exit } = outcome.end else { panic!("{code}: {:?}", outcome.end) };
        assert!(exits.contains(&exit), "{code}: {exit:?}");
        assert_eq!(session.read_file("kept.txt", 0, 10).unwrap().bytes, b"kept");
    }
}

#[test]
fn a_cell_that_speaks_in_the_drivers_place_gains_nothing() {
    let forge = |body: &str, rest: &str| {
        format!(
            "import os, struct\nb = {body}\nfor fd in range(3, 64):\n    try: os.write(fd, struct.pack('<I', len(b)) + b)\n    except OSError: pass\n{rest}"
        )
    };
    for body in [
        "b'nonsense'",
        "b'{\"cell\": 1, \"ok\": true, \"files\": [\"../../etc/passwd\"]}'",
        "b'{\"cell\": 2, \"ok\": true}'",
        "b'{' * 100000",
    ] {
        let Some((_session, mut kernel, _root)) = kernel(Language::Python) else { return };
        let outcome = run(&mut kernel, &forge(body, ""));
        assert!(matches!(outcome.end, CellEnd::Lost { .. }), "{body}: {:?}", outcome.end);
        assert!(!kernel.is_alive());
    }
    // One that answers for itself is believed, as it could have said anything; the next cell does not get its words.
    let Some((_session, mut kernel, _root)) = kernel(Language::Python) else { return };
    let early = forge("b'{\"cell\": 1, \"ok\": true, \"value\": \"forged\"}'", "import time; time.sleep(0.3)");
    assert_eq!(run(&mut kernel, &early).end, CellEnd::Done);
    let next = run(&mut kernel, "2");
    assert!(next.value.as_deref() != Some("forged"), "{next:?}");
}

#[test]
fn what_a_cell_left_running_is_bounded_as_well() {
    let small = Limits { workspace_bytes: 8 << 20, ..Limits::default() };
    let Some((session, mut kernel, _root)) = kernel_with(Language::Shell, &small) else { return };
    let behind = "(while :; do dd if=/dev/zero of=/workspace/$RANDOM bs=1M count=1 2>/dev/null; done) &";
    assert_eq!(run(&mut kernel, behind).end, CellEnd::Done);
    let begun = Instant::now();
    // It goes on, is refused while the workspace is full, and is lost once somebody has looked.
    let ended = loop {
        match kernel.run(Cell::new("true")) {
            Ok(outcome) if outcome.end != CellEnd::Done => break outcome.end,
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), "sandbox_workspace_too_large"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not bounded");
        std::thread::yield_now();
    };
    assert_eq!(ended, CellEnd::Lost { exit: Exit::OverQuota });
    let bytes: u64 = session.list("", true, 10_000).unwrap().iter().map(|entry| entry.size).sum();
    assert!(bytes < 256 << 20, "{bytes} bytes were written");
}

#[test]
fn what_is_no_text_costs_no_kernel() {
    for (language, cells) in [
        (Language::Python, ["raise ValueError('bad ' + b'caf\\xe9'.decode('utf8', 'surrogateescape'))", "'\\ud83d'"]),
        (Language::Node, ["'\u{1f600}'.repeat(10000)", "throw new Error('\\ud83d')"]),
    ] {
        let Some((_session, mut kernel, _root)) = kernel(language) else { continue };
        for code in cells {
            let outcome = run(&mut kernel, code);
            assert!(matches!(outcome.end, CellEnd::Done | CellEnd::Failed { .. }), "{code}: {:?}", outcome.end);
        }
        assert_eq!(run(&mut kernel, "1 + 1").value.as_deref(), Some("2"));
    }
}

#[test]
fn usual_scripts_cost_no_shell() {
    let Some((_session, mut kernel, _root)) = kernel(Language::Shell) else { return };
    for (code, fails) in [
        ("set -euo pipefail\nfalse\ntrue", true),
        ("set +euo pipefail; break", false),
        ("continue", false),
        ("for i in 1 2; do break; done; declare -A seen; seen[a]=1", false),
        ("[ \"${seen[a]}\" = 1 ]", false),
        ("f() { return 4; }; f", true),
    ] {
        let outcome = run(&mut kernel, code);
        assert_eq!(
            matches!(outcome.end, CellEnd::Failed { .. }),
            fails,
            "{code}: {:?} {}",
            outcome.end,
            outcome.stderr.text()
        );
    }
    assert!(kernel.is_alive());
}

#[test]
fn files_of_the_workspace_do_not_take_the_place_of_what_a_driver_needs() {
    let Some(World { engine, session, root }) = world() else { return };
    for name in ["json.py", "ast.py", "struct.py", "sitecustomize.py", "traceback.py"] {
        session.put_file(name, b"raise SystemExit(9)").unwrap();
    }
    let session = Arc::new(session);
    let mut kernel = engine.kernel(&session, Language::Python, &Limits::default()).unwrap();
    assert_eq!(run(&mut kernel, "1").value.as_deref(), Some("1"));
    drop((kernel, root));
}

#[test]
fn cells_are_the_main_module_and_streams_come_back() {
    let Some((_session, mut kernel, _root)) = kernel(Language::Python) else { return };
    run(&mut kernel, "import pickle, sys\nclass Mine: pass");
    assert_eq!(run(&mut kernel, "type(pickle.loads(pickle.dumps(Mine()))) is Mine").value.as_deref(), Some("True"));
    for breaks in ["sys.stdout = None", "sys.stdout.close()", "import io; sys.stderr = io.StringIO()"] {
        run(&mut kernel, breaks);
        assert_eq!(run(&mut kernel, "print('seen')").stdout.text(), "seen\n", "{breaks}");
    }
    let forked = run(&mut kernel, "import os\npid = os.fork()\npid and os.waitpid(pid, 0)[1]");
    assert_eq!(forked.value.as_deref(), Some("0"));
    assert_eq!(run(&mut kernel, "3").value.as_deref(), Some("3"));
}

#[test]
fn output_is_bounded_and_what_is_no_text_is_kept() {
    let limits = Limits { output_bytes: 1 << 10, output_file_bytes: 1 << 20, ..Limits::default() };
    let Some((_session, mut kernel, _root)) = kernel_with(Language::Python, &limits) else { return };
    let outcome = run(&mut kernel, "import sys\nfor _ in range(64): sys.stdout.write('x' * (1 << 20))");
    assert_eq!(outcome.end, CellEnd::Done);
    assert_eq!((outcome.stdout.kept.len(), outcome.stdout.total_bytes), (1 << 10, 64 << 20));
    assert!(outcome.stdout.file.is_some() && outcome.stdout.lost_bytes > 0);
    let outcome = run(&mut kernel, "import os; os.write(1, b'a\\x00\\xff')");
    assert_eq!(outcome.stdout.kept, b"a\x00\xff");
}

#[test]
fn cells_find_an_empty_input_and_no_way_back_to_the_runner() {
    for (language, code) in
        [(Language::Python, "import sys; print(repr(sys.stdin.read()))"), (Language::Shell, "cat; echo \"''\"")]
    {
        let Some((_session, mut kernel, _root)) = kernel(language) else { return };
        assert_eq!(run(&mut kernel, code).stdout.text(), "''\n", "{language:?}");
    }
}

#[test]
fn a_cancelled_cell_ends_at_once_and_live_output_comes_before_the_end() {
    let Some((_session, mut kernel, _root)) = kernel(Language::Python) else { return };
    let (token, seen) = (CancelToken::new().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let (stop, saw) = (token.clone(), Arc::clone(&seen));
    let cell = Cell {
        on_output: Some(Box::new(move |_, bytes: &[u8]| {
            saw.lock().unwrap().extend_from_slice(bytes);
            stop.cancel();
        })),
        cancel: Some(token),
        ..Cell::new("print('going')\nimport time; time.sleep(600)")
    };
    let begun = Instant::now();
    assert_eq!(kernel.run(cell).unwrap().end, CellEnd::Lost { exit: Exit::Cancelled });
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(seen.lock().unwrap().starts_with(b"going"));
}

#[test]
fn a_kernel_outlives_the_thread_that_started_it() {
    let started = std::thread::spawn(|| kernel(Language::Python));
    let Some((_session, mut kernel, _root)) = started.join().unwrap() else { return };
    assert_eq!(run(&mut kernel, "6 * 7").value.as_deref(), Some("42"));
}

#[test]
fn files_of_the_workspace_are_those_of_the_cells() {
    let Some((session, mut kernel, _root)) = kernel(Language::Python) else { return };
    session.put_file("in.txt", b"hello").unwrap();
    assert_eq!(run(&mut kernel, "open('in.txt').read()").value.as_deref(), Some("'hello'"));
    run(&mut kernel, "open('out.txt', 'w').write('done')");
    assert_eq!(session.read_file("out.txt", 0, 10).unwrap().bytes, b"done");
    session.put_file("mine.py", b"answer = 42").unwrap();
    assert_eq!(run(&mut kernel, "import mine; mine.answer").value.as_deref(), Some("42"));
}

#[test]
fn a_shell_that_ends_early_keeps_all_that_was_defined() {
    let Some((_session, mut kernel, _root)) = kernel(Language::Shell) else { return };
    let defines = "list=(a 'b c' $'d\\ne'); declare -A map; map[k]=v; f() { echo f $1; }; export E=9; cd /tmp; exit 5";
    assert_eq!(failed(&run(&mut kernel, defines)), "exit status 5");
    let asks = "echo \"${list[1]}|${list[2]}|${map[k]}|$(f 1)|$PWD|$(sh -c 'echo $E')\"";
    assert_eq!(run(&mut kernel, asks).stdout.text(), "b c|d\ne|v|f 1|/tmp|9\n");
    // What a script had to do at its end is done then.
    let outcome = run(&mut kernel, "trap 'echo at the end' EXIT; echo first");
    assert_eq!((outcome.stdout.text().as_str(), outcome.end), ("first\nat the end\n", CellEnd::Done));
    let long = format!("# {}\necho long", "x".repeat(150_000));
    assert_eq!(run(&mut kernel, &long).stdout.text(), "long\n");
    assert!(run(&mut kernel, "true\nnot-there").stderr.text().contains("line 2: not-there"));
}

#[test]
fn programs_written_as_a_whole_can_follow_each_other_in_node() {
    let Some((session, mut kernel, _root)) = kernel(Language::Node) else { return };
    session.put_file("lib.mjs", b"export const twice = (x) => 2 * x; export default 'own';").unwrap();
    session.put_file("old.cjs", b"exports.name = 'old';").unwrap();
    let whole = "import fs, { existsSync as there } from 'node:fs';\nimport own, {\n  twice,\n} from './lib.mjs';\n\
                 import * as all from \"./lib.mjs\";\nconst { sep } = await import('node:path');\nclass A {}\n\
                 const kept = `\nimport x from 'y'; import('z')`;\n\
                 console.log(twice(4), own, all.default, there === fs.existsSync, sep, require('./old.cjs').name, kept);";
    for _ in 0..2 {
        let outcome = run(&mut kernel, whole);
        assert_eq!(
            (outcome.stdout.text().as_str(), outcome.stderr.text().as_str()),
            ("8 own own true / old \nimport x from 'y'; import('z')\n", "")
        );
    }
    session.put_file("lib.mjs", b"export const twice = (x) => 20 * x;").unwrap();
    session.put_file("old.cjs", b"exports.name = 'newer';").unwrap();
    let changed = run(&mut kernel, "import { twice } from './lib.mjs'; [twice(1), require('./old.cjs').name].join()");
    assert_eq!(changed.value.as_deref(), Some("\"20,newer\""));
    let outcome = run(&mut kernel, "1;\nimport { a } from 'left-pad-that-is-not-there';");
    assert!(failed(&outcome).contains("left-pad-that-is-not-there"), "{:?}", outcome.end);
}

#[test]
fn a_module_that_was_changed_is_read_once_more() {
    let Some((session, mut kernel, _root)) = kernel(Language::Python) else { return };
    session.put_file("base.py", b"value = 1").unwrap();
    session.put_file("mine.py", b"from base import value").unwrap();
    assert_eq!(run(&mut kernel, "import mine; mine.value").value.as_deref(), Some("1"));
    assert_eq!(run(&mut kernel, "same = mine\nimport mine\nmine is same").value.as_deref(), Some("True"));
    session.put_file("base.py", b"value = 1 + 1").unwrap();
    assert_eq!(run(&mut kernel, "import mine; mine.value").value.as_deref(), Some("2"));
}

#[test]
fn a_cell_can_keep_less_output_than_its_kernel() {
    let Some((session, mut kernel, _root)) = kernel(Language::Shell) else { return };
    let outcome = kernel.run(Cell { output_bytes: Some(10), ..Cell::new("seq 100") }).unwrap();
    assert_eq!(outcome.stdout.kept, b"1\n2\n3\n4\n5\n");
    let file = outcome.stdout.file.unwrap();
    assert_eq!(session.read_file(&file, 0, 1000).unwrap().bytes.len() as u64, outcome.stdout.total_bytes);
}
