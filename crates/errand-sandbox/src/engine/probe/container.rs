//! O: what concerns the containers of an OCI runtime alone.

use libc::{ENOENT, c_char};

use super::inside::{Attempted, Expect, Kernel, Spec, number, read_into};
use crate::engine::plan::BOX_ID;
use crate::engine::sys::{call, check};

pub(crate) const CHECKS: &[Spec] = &[
    Spec {
        id: KERNEL_ID,
        what: "the host's kernel beneath the box (1: shared)",
        expect: Expect::Value(0),
        attempt: |baits| baits.kernel.as_ref().map_or(Err(ENOENT), shares_kernel),
    },
    Spec {
        id: "O02",
        what: "ids of the box that are the host's root",
        expect: Expect::Value(0),
        attempt: |_| roots(c"/proc/self/uid_map"),
    },
    Spec {
        id: "O02-group",
        what: "groups of the box that are the host's root",
        expect: Expect::Value(0),
        attempt: |_| roots(c"/proc/self/gid_map"),
    },
];

/// Tells whether the box shares the host's kernel.
pub(crate) const KERNEL_ID: &str = "O01";

/// 1 if the kernel is the one that the host told of. The boot id decides where it can be read, else the names of the kernel.
fn shares_kernel(host: &Kernel) -> Attempted {
    let mut buffer = [0u8; 64];
    if let Ok(id) = read_into(c"/proc/sys/kernel/random/boot_id", &mut buffer) {
        return Ok(i64::from(id.trim_ascii_end() == host.boot_id.as_bytes()));
    }
    // SAFETY: all-zero is a valid `utsname`.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    check(call!(libc::SYS_uname, &raw mut names))?;
    let same = is(&names.release, &host.release) && is(&names.version, &host.version);
    Ok(i64::from(same))
}

/// Whether a NUL-ended text is this one.
fn is(text: &[c_char], wanted: &str) -> bool {
    let mut text = text.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
    wanted.bytes().all(|byte| text.next() == Some(byte)) && text.next().is_none()
}

/// How many lines of a map, besides that of the box's own id, lead to the host's 0.
fn roots(path: &std::ffi::CStr) -> Attempted {
    let mut buffer = [0u8; 512];
    let text = read_into(path, &mut buffer)?;
    let mut roots = 0;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let (inside, rest) = number(line, 10);
        let (outside, rest) = number(rest, 10);
        let (count, _) = number(rest, 10);
        let wide = count != 1 || (inside != i64::from(BOX_ID) && inside != 0);
        roots += i64::from(outside == 0 || wide);
    }
    Ok(roots)
}
