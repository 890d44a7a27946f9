"""Runs cells in this interpreter, one after the other. What a cell defines, the next one sees.

Descriptor 0 is a socket to the runner: each way a length of four bytes, the least first, and so many bytes of JSON.
"""
import ast
import io
import json
import linecache
import os
import signal
import struct
import sys
import traceback

VALUE_MAX = 16384
FIGURES_MAX = 20


def main():
    runner = socket()
    names = {"__name__": "__main__", "__builtins__": __builtins__}
    sys.path.insert(0, "/workspace")
    sys.argv = [""]
    # The first cell finds everything it takes to run one touched already.
    run("1 + 1", 0, names)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say(runner, {"ready": True})
    while (request := hear(runner)) is not None:
        say(runner, run(request["code"], request["cell"], names))


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
    body = json.dumps(reply).encode()
    rest = memoryview(struct.pack("<I", len(body)) + body)
    while rest:
        rest = rest[os.write(runner, rest):]


def run(code, cell, names):
    name = f"<cell {cell}>"
    reply = {"ok": True}
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
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
    except SystemExit as end:
        # It ends the cell and not the interpreter.
        if end.code not in (None, 0):
            reply = {"ok": False, "error": f"SystemExit: {end.code}"[:1000]}
    except BaseException as error:
        told(error, name)
        reply = {"ok": False, "error": traceback.format_exception_only(type(error), error)[-1].strip()[:1000]}
    return reply


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
    path = f"table-{cell}.csv"
    value.to_csv(os.path.join("/workspace", path))
    return [path]


def figures(cell):
    """Figures that the cell left open come back as files, and are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    paths = []
    for number in list(pyplot.get_fignums() if pyplot else [])[:FIGURES_MAX]:
        path = f"figure-{cell}-{number}.png"
        pyplot.figure(number).savefig(os.path.join("/workspace", path), bbox_inches="tight")
        paths.append(path)
    if pyplot:
        pyplot.close("all")
    return paths


main()
