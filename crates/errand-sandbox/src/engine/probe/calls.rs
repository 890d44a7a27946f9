//! S: system calls that a box has no business with.

use libc::{EFAULT, ENOSYS, EPERM};

use super::inside::{Attempted, Expect, Spec, in_child};
use crate::engine::sys::{call, check};

const NO: Expect = Expect::Refused(&[EPERM, ENOSYS]);

macro_rules! no {
    ($id:literal, $name:ident) => {
        Spec { id: $id, what: stringify!($name), expect: NO, attempt: |_| check(call!(libc::$name, 0, 0, 0, 0, 0)) }
    };
}

pub(crate) const CHECKS: &[Spec] = &[
    no!("S00", SYS_ptrace),
    no!("S01", SYS_bpf),
    no!("S02", SYS_perf_event_open),
    no!("S03", SYS_userfaultfd),
    no!("S04", SYS_io_uring_setup),
    no!("S04-enter", SYS_io_uring_enter),
    no!("S05", SYS_keyctl),
    no!("S06", SYS_add_key),
    no!("S06-request", SYS_request_key),
    no!("S07", SYS_process_vm_readv),
    no!("S07-write", SYS_process_vm_writev),
    no!("S08", SYS_kexec_load),
    no!("S09", SYS_finit_module),
    no!("S09-init", SYS_init_module),
    no!("S09-delete", SYS_delete_module),
    no!("S10", SYS_reboot),
    no!("S11", SYS_syslog),
    no!("S12", SYS_swapon),
    no!("S12-off", SYS_swapoff),
    no!("S13", SYS_vhangup),
    Spec { id: "S14", what: "SYS_iopl", expect: NO, attempt: |_| iopl() },
    no!("S15", SYS_clock_settime),
    no!("S15-adjust", SYS_clock_adjtime),
    no!("S16", SYS_sethostname),
    no!("S17", SYS_acct),
    no!("S18", SYS_personality),
    no!("S19", SYS_pidfd_getfd),
    no!("S20", SYS_kcmp),
    no!("S21", SYS_quotactl),
    no!("S22", SYS_fanotify_init),
    no!("S23", SYS_name_to_handle_at),
    no!("S24", SYS_move_pages),
    no!("S25", SYS_setgroups),
    no!("S26", SYS_capset),
    Spec {
        id: "S30",
        what: "put a byte into a terminal's input",
        expect: Expect::Refused(&[EPERM]),
        attempt: |_| check(call!(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr())),
    },
    Spec { id: "S31", what: "a call of the x32 ABI", expect: NO, attempt: |_| x32() },
    Spec { id: "S32", what: "a call of the 32-bit ABI", expect: Expect::Refused(&[ENOSYS, EPERM]), attempt: |_| int80() },
];

#[cfg(target_arch = "x86_64")]
fn iopl() -> Attempted {
    check(call!(libc::SYS_iopl, 3))
}

#[cfg(target_arch = "x86_64")]
fn x32() -> Attempted {
    const X32: libc::c_long = 0x4000_0000;
    killed_or(in_child(|| i32::from(call!(X32 | libc::SYS_getpid) > 0))?)
}

#[cfg(target_arch = "x86_64")]
fn int80() -> Attempted {
    const GETPID_32: u32 = 20;
    killed_or(in_child(|| {
        let result: u32;
        // SAFETY: the call reads no memory and changes `eax` only.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("eax") GETPID_32 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
        };
        i32::from(result < 0x8000_0000)
    })?)
}

/// A child that answered 0 was refused; one that was killed for it as well.
#[cfg(target_arch = "x86_64")]
fn killed_or(status: i64) -> Attempted {
    let status = status as i32;
    if libc::WIFSIGNALED(status) {
        return match libc::WTERMSIG(status) {
            libc::SIGSYS | libc::SIGSEGV => Err(ENOSYS),
            _ => Err(EFAULT),
        };
    }
    if libc::WEXITSTATUS(status) == 0 { Err(ENOSYS) } else { Ok(1) }
}

#[cfg(not(target_arch = "x86_64"))]
fn iopl() -> Attempted {
    Err(ENOSYS)
}

#[cfg(not(target_arch = "x86_64"))]
fn x32() -> Attempted {
    Err(ENOSYS)
}

#[cfg(not(target_arch = "x86_64"))]
fn int80() -> Attempted {
    Err(ENOSYS)
}
