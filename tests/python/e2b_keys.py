"""The stock E2B SDK and API keys. Usage: e2b_keys.py URL GOOD OTHER_TENANTS REVOKED. Each case_ function is one case."""

import os
import sys

URL, good, other, revoked = sys.argv[1:]
os.environ.update(E2B_API_URL=URL, E2B_SANDBOX_URL=URL, E2B_HTTP_VERSION="1.1")

import e2b  # noqa: E402
from e2b_code_interpreter import Sandbox  # noqa: E402

box = Sandbox.create(timeout=300, api_key=good)


def refused(kind, call):
    try:
        found = call()
    except kind as error:
        return str(error)
    raise AssertionError(f"not refused as {kind.__name__}: {found!r}")


def ids(key):
    return [one.sandbox_id for one in Sandbox.list(api_key=key).next_items()]


def case_good():
    box.files.write("n.txt", "20")
    assert box.run_code("int(open('n.txt').read()) + 1").text == "21"
    assert box.commands.run("cat n.txt").stdout == "20"
    assert ids(good) == [box.sandbox_id]
    again = Sandbox.connect(box.sandbox_id, api_key=good)
    assert again.files.read("n.txt") == "20" and again.is_running()
    # No key and no token is inside.
    found = box.commands.run("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'").stdout
    assert "errand_" not in found and good not in found, found


def case_refused():
    for key in [revoked, "none", good[:-1], "e2b_0123456789"]:
        for call in [
            lambda: Sandbox.create(api_key=key),
            lambda: ids(key),
            lambda: Sandbox.connect(box.sandbox_id, api_key=key),
            lambda: Sandbox.kill(box.sandbox_id, api_key=key),
        ]:
            assert key not in refused(e2b.AuthenticationException, call)


def case_tenants():
    assert ids(other) == []
    refused(e2b.SandboxException, lambda: Sandbox.connect(box.sandbox_id, api_key=other))
    assert Sandbox.kill(box.sandbox_id, api_key=other) is False
    own = Sandbox.create(timeout=60, api_key=other)
    assert (ids(other), ids(good)) == ([own.sandbox_id], [box.sandbox_id])
    assert own.kill() is True
    assert box.is_running()


cases = {name: case for name, case in globals().items() if name.startswith("case_")}
for name, case in cases.items():
    case()
    print(name, flush=True)
assert box.kill() is True
print(f"{len(cases)} cases passed")
