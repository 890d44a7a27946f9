"""The stock E2B SDKs against `sandbox-runner serve`. Usage: e2b_sdk.py URL. Each case_ function is one case."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

URL = sys.argv[1]
os.environ.update(E2B_API_URL=URL, E2B_SANDBOX_URL=URL, E2B_API_KEY="none", E2B_HTTP_VERSION="1.1")

import asyncio  # noqa: E402

import e2b  # noqa: E402
from e2b_code_interpreter import AsyncSandbox, Sandbox  # noqa: E402

shared = Sandbox.create(timeout=300, metadata={"for": "cases"}, envs={"GREETING": "hello"})


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def refused(kind, call):
    try:
        found = call()
    except kind as error:
        return str(error)
    raise AssertionError(f"not refused as {kind.__name__}: {found!r}")


def case_commands():
    done = shared.commands.run("echo $GREETING $OWN; pwd; id -u; echo wrong >&2", envs={"OWN": "x"})
    equal((done.stdout, done.stderr, done.exit_code), ("hello x\n/home/user\n1000\n", "wrong\n", 0))
    pieces = []
    shared.commands.run("for n in 1 2 3; do echo $n; sleep 0.05; done", on_stdout=pieces.append)
    equal(("".join(pieces), len(pieces) > 1), ("1\n2\n3\n", True))
    equal(refused(e2b.CommandExitException, lambda: shared.commands.run("exit 3"))[:33], "Command exited with code 3 and er")
    equal(shared.commands.run("pwd", cwd="/tmp").stdout, "/tmp\n")
    refused(e2b.InvalidArgumentException, lambda: shared.commands.run("pwd", cwd="/none"))
    refused(e2b.TimeoutException, lambda: shared.commands.run("sleep 60", timeout=0.5))
    many = shared.commands.run("head -c 3000000 /dev/zero | tr '\\0' x")
    equal(len(many.stdout), 3_000_000)
    # What a command started lives on, and others can speak to it.
    shared.commands.run("python3 -m http.server 8123 >/dev/null 2>&1 &")
    shared.commands.run("for n in $(seq 100); do curl -s localhost:8123/ >/dev/null && break; sleep 0.1; done")
    assert "Directory listing" in shared.commands.run("curl -s localhost:8123/").stdout


def case_background():
    command = shared.commands.run("cat; echo over", background=True, stdin=True)
    assert command.pid in [process.pid for process in shared.commands.list()]
    shared.commands.send_stdin(command.pid, "one\n")
    again = shared.commands.connect(command.pid)
    shared.commands.send_stdin(command.pid, "two\n")
    shared.commands.close_stdin(command.pid)
    equal(command.wait().stdout, "one\ntwo\nover\n")
    assert again.wait().stdout.endswith("two\nover\n")
    # Whoever comes when it ends is told how it ended, or that it is gone.
    for _ in range(20):
        brief = shared.commands.run("true", background=True)
        try:
            equal(shared.commands.connect(brief.pid).wait().exit_code, 0)
        except e2b.NotFoundException:
            pass
    sleeper = shared.commands.run("sleep 60", background=True)
    equal((sleeper.kill(), shared.commands.kill(sleeper.pid + 100_000)), (True, False))
    refused(e2b.CommandExitException, sleeper.wait)


def case_files():
    files = shared.files
    equal(files.write("a/b/one.txt", "text").path, "/home/user/a/b/one.txt")
    equal((files.read("a/b/one.txt"), files.read("/home/user/a/b/one.txt")), ("text", "text"))
    equal(shared.commands.run("cat a/b/one.txt").stdout, "text")
    large = bytes(range(256)) * 40_000
    files.write("/tmp/large.bin", large)
    assert bytes(files.read("/tmp/large.bin", format="bytes")) == large
    assert b"".join(files.read("/tmp/large.bin", format="stream")) == large
    files.write("packed.bin", large, gzip=True)
    equal(files.get_info("packed.bin").size, len(large))
    written = files.write_files([{"path": "a/two.txt", "data": "2"}, {"path": "a/three.txt", "data": b"3"}])
    equal([info.name for info in written], ["two.txt", "three.txt"])
    equal(sorted(entry.name for entry in files.list("a")), ["b", "three.txt", "two.txt"])
    equal(len(files.list("a", depth=2)), 4)
    shared.commands.run("ln -s two.txt a/link")
    info = files.get_info("a/link")
    equal((info.symlink_target, info.size, info.permissions), ("two.txt", 1, "-rw-r--r--"))
    equal((files.exists("a"), files.exists("none")), (True, False))
    equal((files.make_dir("made/deep"), files.make_dir("made/deep")), (True, False))
    equal(files.rename("a/two.txt", "made/2.txt").path, "/home/user/made/2.txt")
    files.remove("a")
    equal(files.exists("a"), False)
    for call in [lambda: files.read("none"), lambda: files.list("none"), lambda: files.remove("none")]:
        refused(e2b.FileNotFoundException, call)
    refused(e2b.InvalidArgumentException, lambda: files.read("made"))
    refused(e2b.InvalidArgumentException, lambda: files.list("made/2.txt"))
    refused(e2b.SandboxException, lambda: files.write("/usr/new.txt", "x"))


def case_watch():
    files = shared.files
    files.make_dir("watched/deep")
    with_all, flat = files.watch_dir("watched", recursive=True), files.watch_dir("watched")
    files.write("watched/deep/new.txt", "1")
    shared.commands.run("echo 1 > watched/own.txt; rm watched/own.txt; mkdir watched/later")
    time.sleep(0.2)
    shared.commands.run("touch watched/later/x")
    until = time.time() + 10
    seen = []
    while ("later/x", "create") not in seen and time.time() < until:
        seen += [(event.name, event.type.value) for event in with_all.get_new_events()]
        time.sleep(0.02)
    for event in [("deep/new.txt", "write"), ("own.txt", "create"), ("own.txt", "remove"), ("later/x", "create")]:
        assert event in seen, (event, seen)
    assert not [name for name, _ in seen if "upload" in name], seen
    equal({event.name for event in flat.get_new_events()}, {"own.txt", "later"})
    with_all.stop()
    refused(e2b.SandboxException, lambda: files.watch_dir("none"))


def case_code():
    run = shared.run_code
    done = run("x = 20; print('said'); x + 1")
    equal(("".join(done.logs.stdout), done.text, done.error), ("said\n", "21", None))
    equal(run("x + 22").text, "42")
    error = run("1/0").error
    equal((error.name, error.value), ("ZeroDivisionError", "division by zero"))
    assert "<cell" in error.traceback
    equal(run("import os; os.environ['OWN']", envs={"OWN": "it's"}).text, '"it\'s"')
    equal(run("os.environ.get('OWN'), os.environ['GREETING']").text, "(None, 'hello')")
    equal(run("os.environ['GREETING']", envs={"GREETING": "bye"}).text, "'bye'")
    equal(run("os.environ['GREETING']").text, "'hello'")
    times = []
    run("import time\nfor n in range(3):\n  print(n, flush=True); time.sleep(0.2)", on_stdout=lambda line: times.append(time.time()))
    assert times[-1] - times[0] > 0.3, times
    refused(e2b.TimeoutException, lambda: run("while True: pass", timeout=0.5))
    # It was interrupted, and knows what it knew.
    equal(run("x").text, "20")
    equal(run("[1, 2].map(x => x * 2)", language="javascript").text, "[ 2, 4 ]")
    equal("".join(run("echo $GREETING", language="bash").logs.stdout), "hello\n")
    refused(e2b.SandboxException, lambda: run("1", language="r"))
    shared.files.write("mine.py", "VALUE = 7")
    equal(run("import mine; mine.VALUE").text, "7")


def case_pictures():
    if shared.run_code("import matplotlib").error:
        print("  skipped: the host's Python has no matplotlib")
        return
    done = shared.run_code("import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
    assert done.results[0].png, done


def case_contexts():
    context = shared.create_code_context(cwd="/tmp")
    equal(shared.run_code("import os; y = 1; os.getcwd()", context=context).text, "'/tmp'")
    assert context.id in [one.id for one in shared.list_code_contexts()]
    shared.restart_code_context(context)
    equal(shared.run_code("y", context=context).error.name, "NameError")
    shared.remove_code_context(context)
    refused(e2b.SandboxException, lambda: shared.run_code("1", context=context))


def case_life():
    box = Sandbox.create(timeout=300, metadata={"for": "life"})
    box.files.write("kept.txt", "kept")
    box.set_timeout(600)
    info = box.get_info()
    equal((info.metadata, info.state.value), ({"for": "life"}, "running"))
    assert 590 < (info.end_at - info.started_at).total_seconds() < 610
    listed = Sandbox.list(query=e2b.SandboxQuery(metadata={"for": "life"})).next_items()
    equal([one.sandbox_id for one in listed], [box.sandbox_id])
    pages = Sandbox.list(limit=1)
    equal((len(pages.next_items()), pages.has_next), (1, True))
    equal((box.pause(), box.pause()), (True, False))
    refused(e2b.TimeoutException, lambda: box.commands.run("true"))
    again = Sandbox.connect(box.sandbox_id)
    equal((again.files.read("kept.txt"), again.is_running()), ("kept", True))
    equal((again.kill(), again.kill(), again.is_running()), (True, False, False))
    refused(e2b.SandboxException, lambda: Sandbox.connect(box.sandbox_id))
    brief = Sandbox.create(timeout=1)
    until = time.time() + 20
    while brief.is_running() and time.time() < until:
        time.sleep(0.05)
    equal(brief.is_running(), False)


def case_separate():
    other = Sandbox.create(timeout=60)
    other.files.write("secret.txt", "s")
    equal(shared.files.exists("secret.txt"), False)
    other.run_code("z = 1")
    equal(shared.run_code("z").error.name, "NameError")
    Sandbox.connect(other.sandbox_id).kill()
    refused(e2b.TimeoutException, lambda: other.files.read("secret.txt"))


def case_unsupported():
    assert "network" in refused(e2b.SandboxException, lambda: Sandbox.create(allow_internet_access=True))
    assert "template 'none' not found" in refused(e2b.SandboxException, lambda: Sandbox.create(template="none"))
    assert "not supported" in refused(e2b.SandboxException, shared.get_metrics)
    assert "not supported" in refused(e2b.SandboxException, lambda: shared.pty.create(e2b.PtySize(80, 24), lambda data: None))


def case_asynchronous():
    async def work():
        box = await AsyncSandbox.create(timeout=60)
        done = await asyncio.gather(*(box.commands.run(f"echo {number}") for number in range(8)))
        equal([one.stdout for one in done], [f"{number}\n" for number in range(8)])
        events = []
        watch = await box.files.watch_dir(".", on_event=lambda event: events.append(event.name))
        await box.files.write("seen.txt", "1")
        for _ in range(200):
            if events:
                break
            await asyncio.sleep(0.02)
        equal(events[0], "seen.txt")
        await watch.stop()
        equal((await box.run_code("6 * 7")).text, "42")
        equal(await box.kill(), True)

    asyncio.run(work())


def case_eight_at_a_time():
    def one(number):
        box = Sandbox.create(timeout=60)
        text = box.run_code(f"{number} * 2").text
        box.kill()
        return text

    with ThreadPoolExecutor(8) as pool:
        equal(list(pool.map(one, range(8))), [str(number * 2) for number in range(8)])


cases = {name: case for name, case in globals().items() if name.startswith("case_")}
for name, case in cases.items():
    began = time.time()
    case()
    print(f"{name} {time.time() - began:.1f} s", flush=True)
shared.kill()
print(f"{len(cases)} cases passed")
