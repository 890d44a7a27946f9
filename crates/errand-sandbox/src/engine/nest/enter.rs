//! What a zygote's child does to become the main process of a box: the system calls, in order, as the zygote executes them
//! one by one. They are written here so that no interpreter decides what a box is.
//!
//! It has the box's process namespace already; the descriptors it is handed are the other namespaces and its streams.

use std::fs;

use libc::{c_int, c_long};
use serde_json::{Value, json};

use super::inside::NAMESPACES;
use crate::engine::Engine;
use crate::engine::plan::{BOX_ID, Stage};
use crate::engine::sys::{call, check};
use crate::exec::WORKSPACE_DIR;
use crate::limits::Limits;

/// Where the streams follow the namespaces among the descriptors.
pub(crate) const STREAMS: usize = NAMESPACES.len();

/// The calls: stage, number, arguments. An argument is a number, `{"fd": INDEX}` of what came with the request,
/// `{"bytes": HEX}` by its address, or `{"program": HEX}`, a filter by the address of its `sock_fprog`.
pub(crate) fn script(engine: &Engine, limits: &Limits, switch_ids: bool) -> Value {
    let mut script = Script(Vec::new());
    for (index, (_, kind)) in NAMESPACES.into_iter().enumerate().skip(1) {
        script.add(Stage::Identity, libc::SYS_setns, [fd(index), number(kind)]);
    }
    if switch_ids {
        script.add(Stage::Identity, libc::SYS_setgroups, [number(0), number(0)]);
        for change in [libc::SYS_setresgid, libc::SYS_setresuid] {
            script.add(Stage::Identity, change, [(); 3].map(|()| number(BOX_ID as c_int)));
        }
    }
    script.add(Stage::Start, libc::SYS_umask, [number(0o022)]);
    script.add(Stage::Start, libc::SYS_setsid, []);
    for stream in 0..3 {
        script.add(Stage::Descriptors, libc::SYS_dup3, [fd(STREAMS + stream), number(stream as c_int), number(0)]);
    }
    let workspace = [WORKSPACE_DIR.as_bytes(), b"\0"].concat();
    script.add(Stage::WorkingFolder, libc::SYS_chdir, [bytes(&workspace)]);
    for (resource, value) in engine.rlimits(limits) {
        let value = value.min(hard_limit(resource)).to_le_bytes();
        let both = [value, value].concat();
        script.add(Stage::Limits, libc::SYS_prlimit64, [number(0), number(resource as c_int), bytes(&both), number(0)]);
    }
    for capability in 0..=last_capability() {
        script.prctl(Stage::Capabilities, libc::PR_CAPBSET_DROP, capability);
    }
    script.prctl(Stage::Capabilities, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL);
    let header = [0x2008_0522u32.to_le_bytes(), [0; 4]].concat();
    script.add(Stage::Capabilities, libc::SYS_capset, [bytes(&header), bytes(&[0; 24])]);
    script.prctl(Stage::Capabilities, libc::PR_SET_NO_NEW_PRIVS, 1);
    // As a program that was executed in the box would be.
    script.prctl(Stage::Capabilities, libc::PR_SET_DUMPABLE, 1);
    script.add(Stage::Descriptors, libc::SYS_close_range, [number(3), number(-1), number(0)]);
    for filter in &engine.filters {
        // SAFETY: a filter is `struct sock_filter` eight bytes long each, all of whose bytes are its fields.
        let all = unsafe { std::slice::from_raw_parts(filter.as_ptr().cast::<u8>(), size_of_val(filter.as_slice())) };
        let program = json!({"program": hex(all)});
        script.add(Stage::Seccomp, libc::SYS_seccomp, [number(libc::SECCOMP_SET_MODE_FILTER as c_int), number(0), program]);
    }
    Value::Array(script.0)
}

struct Script(Vec<Value>);

impl Script {
    fn add<const N: usize>(&mut self, stage: Stage, call: c_long, arguments: [Value; N]) {
        self.0.push(json!([stage as u8, call, arguments.to_vec()]));
    }

    fn prctl(&mut self, stage: Stage, option: c_int, value: c_int) {
        self.add(stage, libc::SYS_prctl, [number(option), number(value), number(0), number(0), number(0)]);
    }
}

fn number(value: c_int) -> Value {
    // The kernel takes what is an unsigned int from the lower half.
    json!(value)
}

fn fd(index: usize) -> Value {
    json!({"fd": index})
}

fn bytes(bytes: &[u8]) -> Value {
    json!({"bytes": hex(bytes)})
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// This process's own, which the zygote has too: what is lower already stays.
fn hard_limit(resource: u32) -> u64 {
    let mut now = [0u64; 2];
    let none = std::ptr::null::<u64>();
    let asked = check(call!(libc::SYS_prlimit64, 0, resource, none, now.as_mut_ptr()));
    let [_, hard] = now;
    if asked.is_ok() { hard } else { u64::MAX }
}

fn last_capability() -> c_int {
    let told = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    told.and_then(|text| text.trim().parse().ok()).filter(|last| (0..64).contains(last)).unwrap_or(40)
}
