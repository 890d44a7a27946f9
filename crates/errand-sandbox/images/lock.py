"""Makes NAME.lock from NAME.in with the `uv` at hand: `python3 lock.py data`.

A lock is a list of requirements as pip reads it: every package with its version, and the SHA-256 of each wheel that fits Linux on
x86-64 or AArch64 and CPython 3.11, 3.12 or 3.13. Where a package is old enough for all three, one version serves them.
"""

import pathlib
import subprocess
import sys
import tomllib

PYTHONS = ("cp311", "cp312", "cp313")
MACHINES = ("x86_64", "aarch64")


def fits(wheel):
    python, abi, platform = wheel.removesuffix(".whl").split("-")[-3:]
    if platform == "any":
        return abi == "none" and any(tag.startswith("py3") for tag in python.split("."))
    is_linux = "manylinux" in platform and platform.endswith(MACHINES)
    return is_linux and (abi == "abi3" or python in PYTHONS and abi == python or abi == "none")


def resolve(name, *options):
    command = ["uv", "pip", "compile", "--quiet", "--python-version", "3.11", "--only-binary", ":all:", "--format", "pylock.toml"]
    folder = pathlib.Path(__file__).parent
    done = subprocess.run([*command, *options, f"{name}.in"], cwd=folder, check=True, capture_output=True, text=True)
    return tomllib.loads(done.stdout)["packages"]


def main(name):
    # What one platform needs, with the wheels there are for all of them.
    needed = {package["name"] for package in resolve(name, "--python-platform", "linux")}
    lines = [f"# Made by lock.py from {name}.in.\n"]
    for package in resolve(name, "--universal"):
        if package["name"] in needed:
            names = [(wheel.get("name") or wheel["url"].rsplit("/", 1)[1], wheel["hashes"]["sha256"]) for wheel in package["wheels"]]
            hashes = sorted(digest for wheel, digest in names if fits(wheel))
            assert hashes, f"no wheel of {package['name']} fits"
            pinned = [f"{package['name']}=={package['version']}"] + [f"--hash=sha256:{one}" for one in hashes]
            lines.append(" \\\n    ".join(pinned) + "\n")
            needed.remove(package["name"])
    assert not needed, needed
    (pathlib.Path(__file__).parent / f"{name}.lock").write_text("".join(lines))


main(sys.argv[1])
