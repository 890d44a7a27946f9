"""Runs cells in this interpreter, one after the other. What a cell defines, the next one sees.

Descriptor 0 is a socket to the runner: each way a length of four bytes, the least first, and so many bytes of JSON.
"""
import ast
import importlib
import json
import linecache
import os
import signal
import struct
import sys
import traceback
import types

VALUE_MAX = 16384
FIGURES_MAX = 20


def main(is_parked=True):
    runner = socket()
    # A module of its own, so that what cells define can be pickled and found by processes they start.
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    names = module.__dict__
    # Only now: a file of the workspace must not take the place of what this driver imports.
    sys.path.insert(0, "/workspace")
    os.environ["PYTHONPATH"] = "/workspace"
    sys.argv = [""]
    if is_parked:
        warm(names)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say(runner, {"ready": True})
    while (request := hear(runner)) is not None:
        process = os.getpid()
        reply = run(request["code"], request["cell"], names)
        if os.getpid() != process:
            # A child that the cell forked has come to the cell's end as well.
            os._exit(0)
        say(runner, {"cell": request["cell"], **reply})


def warm(names):
    """The first cell finds everything it takes to run one touched already. What this prints nobody reads."""
    for code in ("print(1)", "import math\n[str(number) for number in range(100)]", "def f():\n    return f'{1 + 1}'\nf()"):
        request = json.loads(json.dumps({"cell": 0, "code": code}))
        json.dumps(run(request["code"], request["cell"], names)).encode()
    for name in ("_", "f", "math"):
        names.pop(name, None)
    linecache.cache.clear()


def socket():
    """The runner's socket, out of the way of cells, which find an empty input."""
    kept = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return kept


def hear(runner):
    head = exactly(runner, 4)
    body = head and exactly(runner, struct.unpack("<I", head)[0])
    return json.loads(body) if body else None


def exactly(runner, count):
    parts = []
    while count:
        part = os.read(runner, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def say(runner, reply):
    body = json.dumps({name: plain(value) for name, value in reply.items()}).encode()
    rest = memoryview(struct.pack("<I", len(body)) + body)
    while rest:
        rest = rest[os.write(runner, rest):]


def plain(value):
    """Text that is text: half a pair of surrogates is written out."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def run(code, cell, names):
    name = f"<cell {cell}>"
    reply = {"ok": True}
    forget_changed()
    try:
        # Only a cell is interrupted.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            value = execute(code, name, names)
            if value is not None:
                names["_"] = value
                reply["value"] = shown(value)
                reply["files"] = tables(value, cell)
            reply["files"] = reply.get("files", []) + figures(cell)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            restore()
    except SystemExit as end:
        # It ends the cell and not the interpreter.
        if end.code not in (None, 0):
            reply = {"ok": False, "error": f"SystemExit: {end.code}"[:1000]}
    except BaseException as error:
        told(error, name)
        reply = {"ok": False, "error": traceback.format_exception_only(type(error), error)[-1].strip()[:1000]}
    return reply


loaded = {}


def forget_changed():
    """Modules of the workspace are read once more if one of them was changed since it was imported."""
    importlib.invalidate_caches()
    own = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.startswith("/workspace/"):
            own[name] = stamp(path)
    changed = any(loaded.get(name, now) != now for name, now in own.items())
    loaded.clear()
    if changed:
        for name in own:
            del sys.modules[name]
    else:
        loaded.update(own)


def stamp(path):
    try:
        found = os.stat(path)
        return found.st_mtime_ns, found.st_size
    except OSError:
        return None


def restore():
    """The streams as they were: a cell may have closed or replaced them."""
    for name in ("stdout", "stderr"):
        own = getattr(sys, f"__{name}__")
        if own is None or own.closed:
            own = open({"stdout": 1, "stderr": 2}[name], "w", buffering=1, closefd=False)
            setattr(sys, f"__{name}__", own)
        try:
            getattr(sys, name).flush()
        except BaseException:
            pass
        setattr(sys, name, own)


def execute(code, name, names):
    """Runs the cell; gives the value of its last line if that is an expression."""
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names) if last else None


def told(error, name):
    """The traceback, without the frames of this file."""
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        sys.stderr.flush()
    except BaseException:
        # The cell may have broken standard error; the reply says what went wrong.
        pass


def shown(value):
    text = repr(value)
    return text if len(text) <= VALUE_MAX else text[:VALUE_MAX] + f"… ({len(text)} characters)"


def tables(value, cell):
    """A table comes back as a file beside its text."""
    if type(value).__name__ != "DataFrame" or not hasattr(value, "to_csv"):
        return []
    path = unused(f"table-{cell}", ".csv")
    value.to_csv(os.path.join("/workspace", path))
    return [path]


def unused(stem, ending):
    """A name that nothing has: the cells of an interpreter before this one had the same numbers."""
    number, name = 1, stem + ending
    while os.path.lexists(os.path.join("/workspace", name)):
        number, name = number + 1, f"{stem}-{number + 1}{ending}"
    return name


def figures(cell):
    """Figures that the cell left open come back as files, and are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    paths = []
    for number in list(pyplot.get_fignums() if pyplot else [])[:FIGURES_MAX]:
        path = unused(f"figure-{cell}-{number}", ".png")
        pyplot.figure(number).savefig(os.path.join("/workspace", path), bbox_inches="tight")
        paths.append(path)
    if pyplot:
        pyplot.close("all")
    return paths


if __name__ == "__main__":
    main()
