//! What a script may use, and what becomes of one that wants more.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use errand_sandbox::t0::CODE_BYTES_MAX;
use errand_sandbox::{CancelToken, Error, Exit, Limits, Stream};

use super::{ENGINE, limits, run};

fn quick() -> Limits {
    Limits { wall: Duration::from_millis(200), grace: Duration::from_millis(300), ..limits() }
}

#[test]
fn endless_loops_end_in_time() {
    let loops = [
        "while True:\n    pass",
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        "def f():\n    f()\nwhile True:\n    try:\n        f()\n    except RecursionError:\n        pass",
        "sum(range(10 ** 15))",
        "[x for x in range(10 ** 15) if x < 0]",
        "(10 ** 15 - 1) in iter(range(10 ** 15))",
        "max(i for i in range(10 ** 15))",
        "while True:\n    print()",
        "import datetime\nwhile True:\n    datetime.datetime.now()",
    ];
    for code in loops {
        let outcome = ENGINE.run_script(code.as_bytes(), &quick(), None, None).unwrap();
        let is_over = matches!(outcome.exit, Exit::TimedOut) || (code.contains("now()") && outcome.exit == Exit::Code(1));
        assert!(is_over, "{code}: {:?} {}", outcome.exit, outcome.stderr.text());
        assert!(outcome.wall < Duration::from_secs(3), "{code}: {:?}", outcome.wall);
    }
    assert_eq!(run("print('after')").stdout.text(), "after\n");
}

#[test]
fn memory_ends_with_a_message_or_with_the_worker() {
    let bombs = [
        "x = []\nwhile True:\n    x.append('y' * 100000 + str(len(x)))",
        "x = 'x' * (10 ** 12)",
        "x = [0] * (10 ** 10)",
        "x = 'ab'\nwhile True:\n    x += x",
        "x = 7 ** (10 ** 9)",
        "x = {}\nwhile True:\n    x[len(x)] = [len(x)] * 10",
        "x = bytes(10 ** 11)",
        "x = '%1000000000d' % 1",
        "x = f'{1:>1000000000}'",
        "x = 'a'.join(['b' * 1000] * 10 ** 7)",
        "x = 'a'.ljust(10 ** 10)",
        "x = ('x' * 10 ** 6).replace('x', 'y' * 10 ** 6)",
    ];
    for code in bombs {
        let outcome = ENGINE.run_script(code.as_bytes(), &limits(), None, None).unwrap();
        // Some things the language refuses by itself.
        let is_over = outcome.exit == Exit::OutOfMemory || (outcome.exit == Exit::Code(1) && code.contains('%'));
        assert!(is_over, "{code}: {:?} {}", outcome.exit, outcome.stderr.text());
    }
    let fits = "x = ['y' * 1000 for _ in range(20000)]\nprint(len(x))";
    assert_eq!(run(fits).stdout.text(), "20000\n", "20 MB of 64 are no bomb");
}

#[test]
fn a_gigabyte_of_output_is_counted_and_cut() {
    let (sender, receiver) = mpsc::channel();
    let code = b"line = 'x' * 999_999\nfor i in range(1000):\n    print(line)";
    let on_output = Box::new(move |stream, bytes: &[u8]| sender.send((stream, bytes.len())).unwrap());
    let outcome = ENGINE.run_script(code, &limits(), Some(on_output), None).unwrap();
    assert!(outcome.success(), "{outcome:?}");
    assert_eq!((outcome.stdout.kept.len(), outcome.stdout.total_bytes), (64 << 10, 1_000_000_000));
    assert_eq!(outcome.stdout.lost_bytes, 1_000_000_000 - (64 << 10));
    let live: Vec<_> = receiver.iter().collect();
    assert_eq!(live.iter().map(|(_, bytes)| bytes).sum::<usize>(), 64 << 10);
    assert!(live.iter().all(|(stream, _)| *stream == Stream::Stdout), "{live:?}");
}

#[test]
fn deep_recursion_and_deep_nesting_raise() {
    let cases = [
        ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError"),
        ("x = []\nfor i in range(100000):\n    x = [x]\nprint(repr(x))", ""),
        ("x = []\nfor i in range(100000):\n    x = [x]\ny = []\nfor i in range(100000):\n    y = [y]\nprint(x == y)", ""),
    ];
    for (code, wanted) in cases {
        let outcome = run(code);
        assert!(matches!(outcome.exit, Exit::Code(0 | 1)), "{code}: {outcome:?}");
        assert!(outcome.stderr.text().contains(wanted), "{code}: {outcome:?}");
    }
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("-", ""), ("not ", ""), ("f(", ")"), ("lambda: ", "")] {
        let code = format!("x = {}1{}", open.repeat(100_000), close.repeat(100_000));
        let outcome = run(&code);
        assert!(matches!(outcome.exit, Exit::Code(1)), "{open}: {:?} {}", outcome.exit, outcome.stderr.text());
    }
    for joint in ["+", " and ", ".a", "[0]", "()", " if 1 else "] {
        let code = format!("x = 1{}", format!("{joint}1").repeat(50_000));
        let outcome = run(&code);
        assert!(
            matches!(outcome.exit, Exit::Code(_) | Exit::TimedOut),
            "{joint}: {:?} {}",
            outcome.exit,
            outcome.stderr.text()
        );
    }
    assert_eq!(run("print('after')").stdout.text(), "after\n");
}

#[test]
fn code_that_is_no_text_or_too_long_is_refused() {
    let refuse = |code: &[u8]| match ENGINE.run_script(code, &limits(), None, None) {
        Err(error @ Error::ExecRefused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refuse(b"print('\xff')").contains("no UTF-8 from byte 7"));
    assert!(refuse(&vec![b'#'; 100 << 20]).contains("104857600 bytes"));
    assert!(refuse(&vec![b'#'; CODE_BYTES_MAX + 1]).contains("takes up to"));
    let longest = format!("print('long')\n{}", "#".repeat(CODE_BYTES_MAX - 14));
    assert_eq!((longest.len(), run(&longest).stdout.text().as_str()), (CODE_BYTES_MAX, "long\n"));
    // CPython refuses it as well.
    let outcome = run("print('a')\0print('b')");
    assert!(!outcome.success() && outcome.stderr.text().contains("SyntaxError"), "{outcome:?}");
    let outcome = run("print('a\\x00b\\n\\u20ac')");
    assert_eq!(outcome.stdout.kept, "a\0b\n\u{20ac}\n".as_bytes());
    assert_eq!(run("").exit, Exit::Code(0));
}

#[test]
fn limits_that_mean_nothing_here_are_refused() {
    for (limits, name) in [
        (Limits { cpu_milli: 500, ..limits() }, "cpu_milli (of tier t0)"),
        (Limits { wall: Duration::ZERO, ..limits() }, "wall (ms)"),
        (Limits { memory_bytes: 1, ..limits() }, "memory_bytes"),
    ] {
        let error = ENGINE.run_script(b"1", &limits, None, None).unwrap_err();
        assert!(matches!(error, Error::LimitOutOfRange { limit, .. } if limit == name), "{error}");
        assert!(ENGINE.session(&limits).is_err());
    }
}

#[test]
fn a_cancel_stops_at_once_and_for_good() {
    let token = CancelToken::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    let canceller = {
        let token = token.clone();
        std::thread::spawn(move || {
            receiver.recv().unwrap();
            token.cancel();
            Instant::now()
        })
    };
    let on_output = Box::new(move |_, _: &[u8]| {
        let _ = sender.send(());
    });
    let code = b"print('under way')\nwhile True:\n    pass";
    let outcome = ENGINE.run_script(code, &limits(), Some(on_output), Some(&token)).unwrap();
    let late = canceller.join().unwrap().elapsed();
    assert_eq!((outcome.exit, outcome.stdout.text().as_str()), (Exit::Cancelled, "under way\n"));
    assert!(late < Duration::from_secs(1), "{late:?}");
    let outcome = ENGINE.run_script(b"print(1)", &limits(), None, Some(&token)).unwrap();
    assert_eq!((outcome.exit, outcome.stdout.total_bytes), (Exit::Cancelled, 0));
}
