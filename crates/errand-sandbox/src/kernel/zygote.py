"""Starts once, imports what kernels need, and forks a child into each box that the runner hands over.

Descriptor 0 is a socket to the runner that keeps the bounds of messages. A request brings descriptors: the seven namespaces
of a box, the three streams of its kernel, and the control socket of the box; the answer is the child's process id with a
descriptor for it. What makes the child the box's are the system calls that the runner wrote down.
"""
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import select
import socket
import struct
import sys

CLONE_NEWPID = 0x20000000
SYSTEM = ctypes.CDLL(None, use_errno=True).syscall


def main():
    runner = socket.socket(fileno=os.dup(0))
    empty = os.open(os.devnull, os.O_RDWR)
    os.dup2(empty, 0)
    os.close(empty)
    with open("/run/errand/zygote.json") as file:
        told = json.load(file)
    driver = load("/run/errand/driver.py")
    for name in told["preload"]:
        try:
            importlib.import_module(name)
        except Exception:
            # Cells that want it will hear why.
            pass
    script = [(stage, [argument(one) for one in [call, *arguments]]) for stage, call, arguments in told["script"]]
    join = ctypes.c_long(told["setns"])
    # What is touched once, also by finding a way through the driver, no child has to copy.
    driver.run("1 + 1", 0, {})
    gc.collect()
    gc.freeze()
    runner.send(b"ready")
    controls = {}
    poll = select.poll()
    poll.register(runner, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != runner.fileno():
                poll.unregister(fd)
                ended(fd, controls.pop(fd))
                continue
            asked, fds, _, _ = socket.recv_fds(runner, 16, 16)
            if not asked:
                return
            if SYSTEM(join, ctypes.c_long(fds[0]), ctypes.c_long(CLONE_NEWPID)) < 0:
                runner.send(struct.pack("<i", -ctypes.get_errno()))
                [os.close(fd) for fd in fds]
                continue
            pid = os.fork()
            if pid == 0:
                runner.detach()
                enter(script, fds)
                begin(driver, asked == b"park")
            pidfd = os.pidfd_open(pid)
            socket.send_fds(runner, [struct.pack("<i", pid)], [pidfd])
            [os.close(fd) for fd in fds[:-1]]
            controls[pidfd] = fds[-1]
            poll.register(pidfd, select.POLLIN)


def load(path):
    """The driver of kernels, under no name that a cell could import."""
    spec = importlib.util.spec_from_file_location("driver", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Passed(int):
    """The place of a descriptor among those of a request."""


def argument(told):
    if isinstance(told, int):
        return ctypes.c_long(told)
    (kind, value), = told.items()
    if kind == "fd":
        return Passed(value)
    data = bytes.fromhex(value)
    buffer = ctypes.create_string_buffer(data, len(data))
    if kind == "bytes":
        return buffer
    # `struct sock_fprog`: how many instructions of eight bytes, and where.
    program = ctypes.create_string_buffer(struct.pack("@HP", len(data) // 8, ctypes.addressof(buffer)))
    program.instructions = buffer
    return program


def enter(script, fds):
    for stage, arguments in script:
        if SYSTEM(*[ctypes.c_long(fds[one]) if isinstance(one, Passed) else one for one in arguments]) < 0:
            try:
                os.write(fds[-1], struct.pack("<BBHi", 1, stage, 0, ctypes.get_errno()))
            finally:
                os._exit(127)


def begin(driver, is_parked):
    """What is parked is made warm; else somebody waits. What is drawn by chance is drawn anew; `random` sees to itself at each fork."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    status = 1
    try:
        driver.main(is_parked)
        status = 0
    finally:
        # The zygote's way out is not the child's.
        os._exit(status)


def ended(pidfd, control):
    """Tells the runner how a child ended, and only then lets go of it: the box is not over before."""
    end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    status = end.si_status << 8 if end.si_code == os.CLD_EXITED else end.si_status
    with socket.socket(fileno=control) as teller:
        try:
            teller.send(struct.pack("<BBHi", 3, 0, 0, status), socket.MSG_DONTWAIT)
        except OSError:
            # Nobody listens any more.
            pass
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


main()
