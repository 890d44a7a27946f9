"""The network rules of the stock E2B SDKs against a server that allows localhost:PORT and *.other.example, where something answers
at PORT. Usage: e2b_network.py URL PORT. Each case_ function is one case."""

import os
import sys

URL, PORT = sys.argv[1], sys.argv[2]
os.environ.update(E2B_API_URL=URL, E2B_SANDBOX_URL=URL, E2B_API_KEY="none", E2B_HTTP_VERSION="1.1")

import e2b  # noqa: E402
from e2b_code_interpreter import Sandbox  # noqa: E402

# Names of this machine are among those that clients do not go through a proxy for, so it is spoken to directly.
ASK = f"""
import http.client, os
c = http.client.HTTPConnection(os.environ["HTTP_PROXY"].split("/")[2], timeout=30)
c.request("GET", "http://localhost:{PORT}/")
r = c.getresponse()
print(r.status, r.reason)
"""
REFUSED = "403 egress_denied\n"


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def refused(call):
    try:
        found = call()
    except e2b.SandboxException as error:
        return str(error)
    raise AssertionError(f"not refused: {found!r}")


def asks(box):
    done = box.run_code(ASK)
    assert done.error is None, done.error
    return "".join(done.logs.stdout)


def case_what_the_server_allows():
    with Sandbox.create(timeout=120) as box:
        equal(asks(box), "200 OK\n")
        box.files.write("ask.py", ASK)
        equal(box.commands.run("python3 ask.py").stdout, "200 OK\n")
        told = box.get_info()
        equal((told.allow_internet_access, told.network["allow_out"]), (True, [f"localhost:{PORT}", "*.other.example"]))
        equal(told.network["deny_out"], ["0.0.0.0/0"])


def case_less():
    for options in [
        {"allow_internet_access": False},
        {"network": {"deny_out": lambda ctx: [ctx.all_traffic]}},
        {"network": {"allow_out": ["a.other.example"], "deny_out": ["0.0.0.0/0"]}},
    ]:
        with Sandbox.create(timeout=120, **options) as box:
            equal(asks(box), REFUSED)
    with Sandbox.create(timeout=120, allow_internet_access=False, network={"allow_out": ["localhost"]}) as box:
        equal(asks(box), "200 OK\n")


def case_later():
    with Sandbox.create(timeout=120) as box:
        equal(asks(box), "200 OK\n")
        box.update_network({"allow_internet_access": False})
        equal(asks(box), REFUSED)
        assert box.get_info().allow_internet_access is False
        # What is refused changes nothing.
        assert "evil.example cannot be granted" in refused(lambda: box.update_network({"allow_out": ["evil.example"]}))
        equal(asks(box), REFUSED)
        box.update_network({"allow_out": ["localhost"]})
        equal(asks(box), "200 OK\n")
        # It has the same after a pause.
        box.pause()
        equal(asks(Sandbox.connect(box.sandbox_id)), "200 OK\n")
        Sandbox.connect(box.sandbox_id).update_network({"deny_out": ["0.0.0.0/0"]})


def case_more_is_refused():
    for options, told in [
        ({"allow_internet_access": True}, f"this server allows localhost:{PORT}, *.other.example and no more"),
        ({"network": {"allow_out": ["evil.example"]}}, "evil.example cannot be granted"),
        ({"network": {"allow_out": ["localhost", "0.0.0.0/0"]}}, "all traffic"),
        ({"network": {"deny_out": ["evil.example"]}}, "names cannot be denied"),
        ({"network": {"rules": {"localhost": [{"transform": {"headers": {"A": "b"}}}]}}}, "network.rules is not supported"),
        ({"network": {"egress_proxy": {"address": "proxy.example:1080"}}}, "network.egressProxy is not supported"),
        ({"network": {"dns_servers": ["8.8.8.8"]}}, "network.dnsServers is not supported"),
        ({"network": {"allow_public_traffic": True}}, "network.allowPublicTraffic is not supported"),
    ]:
        text = refused(lambda: Sandbox.create(timeout=60, **options))
        assert told in text, f"{options}: {text}"
    equal(Sandbox.list().next_items(), [])


cases = {name: case for name, case in globals().items() if name.startswith("case_")}
for name, case in cases.items():
    case()
    print(name, flush=True)
print(f"{len(cases)} cases passed")
