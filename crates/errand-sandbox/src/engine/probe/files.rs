//! F: files of the system and the host. K: settings and secrets of the kernel.

use libc::{EACCES, EINVAL, EISDIR, ENOENT, ENOTDIR, EPERM, EROFS, O_RDONLY, O_WRONLY};

use super::identity::lacks_flag;
use super::inside::{Attempted, Expect, Spec, create, each_name, open, open_real};
use crate::engine::sys::{self, call, check};

const SEALED: Expect = Expect::Refused(&[EROFS, EACCES, EPERM, ENOENT]);
const ABSENT: Expect = Expect::Refused(&[ENOENT, EACCES, ENOTDIR]);
const DENIED: Expect = Expect::Refused(&[EACCES, EPERM, EROFS, ENOENT, EINVAL, EISDIR]);
const ALLOWED: Expect = Expect::Value(0);

macro_rules! cstr {
    ($text:literal) => {
        match std::ffi::CStr::from_bytes_with_nul(concat!($text, "\0").as_bytes()) {
            Ok(text) => text,
            Err(_) => c"",
        }
    };
}
macro_rules! make {
    ($id:literal, $path:literal, $expect:expr) => {
        Spec { id: $id, what: concat!("create ", $path), expect: $expect, attempt: |_| create(cstr!($path)) }
    };
}
macro_rules! write {
    ($id:literal, $path:literal) => {
        Spec { id: $id, what: concat!("write ", $path), expect: DENIED, attempt: |_| open_real(cstr!($path), O_WRONLY) }
    };
}
macro_rules! read {
    ($id:literal, $path:literal) => {
        Spec { id: $id, what: concat!("read ", $path), expect: DENIED, attempt: |_| open_real(cstr!($path), O_RDONLY) }
    };
}
macro_rules! flag {
    ($id:literal, $path:literal, $flag:expr, $name:literal) => {
        Spec {
            id: $id,
            what: concat!($path, " lacks ", $name),
            expect: Expect::Value(0),
            attempt: |_| lacks_flag(cstr!($path), $flag),
        }
    };
}
pub(crate) const CHECKS: &[Spec] = &[
    make!("F00", "/usr/errand-probe", SEALED),
    make!("F01", "/bin/errand-probe", SEALED),
    make!("F02", "/lib/errand-probe", SEALED),
    make!("F03", "/etc/errand-probe", SEALED),
    make!("F04", "/errand-probe", SEALED),
    make!("F05", "/dev/errand-probe", SEALED),
    make!("F06", "/proc/errand-probe", SEALED),
    make!("F07", "/sys/errand-probe", SEALED),
    make!("F08", "/run/errand/errand-probe", SEALED),
    make!("F09", "/var/errand-probe", SEALED),
    make!("F10", "/workspace/.errand-probe", ALLOWED),
    make!("F11", "/tmp/errand-probe", ALLOWED),
    make!("F11-shm", "/dev/shm/errand-probe", ALLOWED),
    Spec { id: "F12", what: "read a file of the host", expect: ABSENT, attempt: |baits| open(&baits.file, O_RDONLY) },
    Spec {
        id: "F12-next",
        what: "open another session's folder",
        expect: ABSENT,
        attempt: |baits| open(&baits.neighbour, O_RDONLY),
    },
    Spec { id: "F13", what: "read /etc/shadow over a link", expect: ABSENT, attempt: |_| shadow() },
    Spec {
        id: "F14",
        what: "make a block device",
        expect: Expect::Refused(&[EPERM]),
        attempt: |_| device(libc::S_IFBLK, 0x800),
    },
    Spec {
        id: "F15",
        what: "make a character device",
        expect: Expect::Refused(&[EPERM]),
        attempt: |_| device(libc::S_IFCHR, 0x101),
    },
    Spec { id: "F16", what: "unknown names in /dev", expect: Expect::Value(0), attempt: |_| unknown_devices() },
    Spec { id: "F17", what: "sockets of the host's services", expect: Expect::Value(0), attempt: |_| sockets() },
    flag!("F18", "/workspace", libc::ST_NOSUID, "nosuid"),
    flag!("F18-tmp", "/tmp", libc::ST_NOSUID, "nosuid"),
    flag!("F19", "/workspace", libc::ST_NODEV, "nodev"),
    flag!("F19-tmp", "/tmp", libc::ST_NODEV, "nodev"),
    write!("F20", "/usr/bin/env"),
    write!("F21", "/etc/passwd"),
    Spec {
        id: "F22",
        what: "change the mode of a device",
        expect: Expect::Refused(&[EPERM, EROFS, EACCES]),
        attempt: |_| check(call!(libc::SYS_fchmodat, libc::AT_FDCWD, c"/dev/null".as_ptr(), 0o600)),
    },
    read!("F23", "/root/.ssh"),
    read!("F24", "/home/."),
    write!("K00", "/proc/sys/kernel/core_pattern"),
    write!("K01", "/proc/sys/kernel/modprobe"),
    write!("K02", "/proc/sysrq-trigger"),
    write!("K02-sys", "/proc/sys/kernel/sysrq"),
    write!("K03", "/proc/sys/vm/panic_on_oom"),
    write!("K04", "/proc/sys/fs/binfmt_misc/register"),
    write!("K05", "/sys/kernel/uevent_helper"),
    write!("K06", "/sys/fs/cgroup/release_agent"),
    write!("K06-v1", "/sys/fs/cgroup/memory/release_agent"),
    Spec {
        id: "K07",
        what: "be spared by the out-of-memory killer",
        expect: Expect::Refused(&[EACCES, EPERM]),
        attempt: |_| {
            let fd = sys::openat(libc::AT_FDCWD, c"/proc/self/oom_score_adj", O_WRONLY, 0)?;
            let written = sys::write_all(fd, b"-999");
            sys::close(fd);
            written.map(|()| 0)
        },
    },
    read!("K08", "/proc/kcore"),
    read!("K09", "/proc/kmsg"),
    read!("K09-dev", "/dev/kmsg"),
    read!("K10", "/proc/kallsyms"),
    read!("K10-slab", "/proc/slabinfo"),
    read!("K11", "/sys/fs/cgroup/."),
    read!("K12", "/proc/keys"),
    read!("K13", "/proc/timer_list"),
    read!("K14", "/proc/cmdline"),
    write!("K15", "/proc/sys/kernel/hostname"),
    write!("K16", "/proc/sys/net/ipv4/ip_forward"),
    write!("K17", "/proc/sys/user/max_user_namespaces"),
    Spec { id: "K18", what: "files in /proc/bus", expect: Expect::Value(0), attempt: |_| entries(c"/proc/bus") },
    Spec { id: "K19", what: "files in /proc/fs", expect: Expect::Value(0), attempt: |_| entries(c"/proc/fs") },
    Spec { id: "K20", what: "files in /proc/irq", expect: Expect::Value(0), attempt: |_| entries(c"/proc/irq") },
];

fn shadow() -> Attempted {
    let link = c"/tmp/errand-probe-link";
    sys::symlinkat(c"/etc/shadow", libc::AT_FDCWD, link)?;
    let read = open(link, O_RDONLY);
    call!(libc::SYS_unlinkat, libc::AT_FDCWD, link.as_ptr(), 0);
    read
}

fn device(kind: u32, number: u32) -> Attempted {
    check(call!(libc::SYS_mknodat, libc::AT_FDCWD, c"/tmp/errand-probe-device".as_ptr(), kind | 0o600, number))
}

fn unknown_devices() -> Attempted {
    const KNOWN: [&[u8]; 13] =
        [b".", b"..", b"null", b"zero", b"full", b"random", b"urandom", b"shm", b"fd", b"stdin", b"stdout", b"stderr", b""];
    let mut unknown = 0;
    each_name(c"/dev", &mut |name| unknown += i64::from(!KNOWN.contains(&name)))?;
    Ok(unknown)
}

fn sockets() -> Attempted {
    let places = [
        c"/run/docker.sock",
        c"/var/run/docker.sock",
        c"/run/containerd/containerd.sock",
        c"/run/podman/podman.sock",
        c"/run/dbus/system_bus_socket",
        c"/run/systemd/private",
        c"/run/user",
        c"/tmp/.X11-unix",
    ];
    Ok(places.iter().filter(|path| check(call!(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), 0)).is_ok()).count()
        as i64)
}

/// Names in a folder; a folder that is not there has none.
fn entries(path: &std::ffi::CStr) -> Attempted {
    let mut count = 0;
    match each_name(path, &mut |name| count += i64::from(name != b"." && name != b"..")) {
        Ok(()) => Ok(count),
        Err(ENOENT) => Ok(0),
        Err(errno) => Err(errno),
    }
}
