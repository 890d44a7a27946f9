//! Which Python it is: `docs/guide/scripts.md` says so in words, and this is how it is known.

use errand_sandbox::Exit;

use super::run;

/// Each prints, or shows as CPython 3.14 does.
const HAS: &[(&str, &str)] = &[
    (
        "class A:\n    def __init__(self, x):\n        self.x = x\n    def get(self):\n        return self.x\nprint(A(3).get())",
        "3\n",
    ),
    ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int = 2\nprint(P(1))", "P(x=1, y=2)\n"),
    ("print(sum(x for x in range(4)), [x for x in 'ab'], {x: 1 for x in 'ab'})", "6 ['a', 'b'] {'a': 1, 'b': 1}\n"),
    (
        "class C:\n    def __enter__(self): return 7\n    def __exit__(self, *a): return False\nwith C() as c:\n    print(c)",
        "7\n",
    ),
    ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    print(e)\nfinally:\n    print('end')", "division by zero\nend\n"),
    (
        "def d(f):\n    def w(*a, **k):\n        return f(*a, **k) + 1\n    return w\n@d\ndef h(x): return x\nprint(h(1))",
        "2\n",
    ),
    (
        "def c():\n    n = 0\n    def i():\n        nonlocal n\n        n += 1\n        return n\n    return i\nf = c(); f(); print(f())",
        "2\n",
    ),
    (
        "if (n := 3) > 2: print(f'{n=} {3.14159:.2f} {1234567:,} {\"x\":>3}', '{:>3}{a}'.format(1, a=2))",
        "n=3 3.14 1,234,567   x   12\n",
    ),
    ("a, *b = [1, 2, 3]\nprint(a, b, [*b, 4], {**{'x': 1}}, 'abc'[::-1])", "1 [2, 3] [2, 3, 4] {'x': 1} cba\n"),
    (
        "class I:\n    def __iter__(self):\n        self.n = 0\n        return self\n    def __next__(self):\n        self.n += 1\n        if self.n > 2: raise StopIteration\n        return self.n\nprint(list(I()))",
        "[1, 2]\n",
    ),
    (
        "import asyncio\nasync def f(x): return x\nasync def m(): return await asyncio.gather(f(1), f(2))\nprint(asyncio.run(m()))",
        "[1, 2]\n",
    ),
    (
        "print(2 ** 200, divmod(7, 2), round(2.5), 1 < 2 < 3)",
        "1606938044258990275541962092341162602522202993782792835301376 (3, 1) 2 True\n",
    ),
    ("import json\nprint(json.dumps(json.loads('{\"a\": [1, 2.5, null]}')))", "{\"a\": [1, 2.5, null]}\n"),
    ("import re\nprint(re.sub(r'(\\w+)@', r'<\\1>', 'ab@cd'), re.findall('[0-9]+', 'a1b22'))", "<ab>cd ['1', '22']\n"),
    (
        "import math, itertools, functools\nprint(math.comb(5, 2), list(itertools.chain([1], [2])), functools.reduce(max, [1, 3, 2]))",
        "10 [1, 2] 3\n",
    ),
    (
        "from collections import Counter, defaultdict, deque, namedtuple\nprint(Counter('aab').most_common(1), deque([1]))",
        "[('a', 2)] deque([1])\n",
    ),
    ("from datetime import date, timedelta\nprint(date(2026, 1, 31) + timedelta(days=1))", "2026-02-01\n"),
    ("import base64, binascii, unicodedata\nprint(base64.b64encode(b'ab'), unicodedata.category('a'))", "b'YWI=' Ll\n"),
    ("from datetime import datetime, date\nprint(datetime.now().year >= 2026, date.today().year >= 2026)", "True True\n"),
];

/// What is missing, and the words the model is told.
const LACKS: &[(&str, &str)] = &[
    ("class A:\n    pass\nclass B(A):\n    pass", "does not yet support class inheritance"),
    ("class A:\n    @property\n    def p(self): return 5", "does not yet support method decorators"),
    ("def g():\n    yield 1", "does not yet support yield expressions"),
    ("match 1:\n    case 1: pass", "does not yet support pattern matching"),
    ("x = 1\ndel x", "does not yet support the 'del' statement"),
    ("try:\n    pass\nexcept* ValueError:\n    pass", "does not yet support exception groups"),
    ("x = 2j", "does not yet support complex constants"),
    ("print('%d' % 1)", "unsupported operand type(s) for %"),
    ("class V:\n    def __add__(self, o): return 1\nV() + V()", "unsupported operand type(s) for +"),
    ("x = [1, 2]\nx[0:1] = [3]", "TypeError"),
    ("eval('1')", "name 'eval' is not defined"),
    ("exec('1')", "name 'exec' is not defined"),
    ("input()", "name 'input' is not defined"),
    ("import sys\nsys.exit(1)", "has no attribute 'exit'"),
    ("from functools import lru_cache", "cannot import name 'lru_cache'"),
    ("from itertools import permutations", "cannot import name 'permutations'"),
    ("import random", "No module named 'random'"),
    ("import time", "No module named 'time'"),
    ("import decimal", "No module named 'decimal'"),
    ("import statistics", "No module named 'statistics'"),
    ("import csv", "No module named 'csv'"),
    ("import string", "No module named 'string'"),
    ("import heapq", "No module named 'heapq'"),
    ("import copy", "No module named 'copy'"),
    ("import enum", "No module named 'enum'"),
    ("import hashlib", "No module named 'hashlib'"),
];

#[test]
fn what_the_language_has_works() {
    for (code, wanted) in HAS {
        let outcome = run(code);
        assert_eq!(outcome.stdout.text(), *wanted, "{code}: {}", outcome.stderr.text());
        assert!(outcome.success(), "{code}: {outcome:?}");
    }
}

/// If one of these works one day, the guide has to say so.
#[test]
fn what_the_language_lacks_is_refused_in_words() {
    for (code, wanted) in LACKS {
        let outcome = run(code);
        assert_eq!(outcome.exit, Exit::Code(1), "{code}: {outcome:?}");
        assert!(outcome.stderr.text().contains(wanted), "{code}: {}", outcome.stderr.text());
    }
}

#[test]
fn a_script_may_end_itself() {
    assert_eq!(run("raise SystemExit").exit, Exit::Code(0));
    let outcome = run("raise SystemExit('enough')");
    assert_eq!((outcome.exit, outcome.stderr.text().as_str()), (Exit::Code(1), "enough\n"));
}
