//! The guard: the process that starts the runtime, waits for it, and takes everything with it when it ends.
//!
//! It is process 1 of a process namespace, in a mount namespace of its own where the bundle lies in memory: when it dies,
//! by its own end, a kill or the death of the runner, the kernel ends the runtime with all that it started, and the bundle,
//! the runtime's state and every mount are gone. It runs where `engine::child` runs: nothing here allocates or locks.

use std::convert::Infallible;

use libc::{c_int, c_ulong};

use super::job::END_BYTES;
use crate::engine::child::{self, At, Result};
use crate::engine::plan::{GO_CGROUP, Message, Plan, Program, Stage};
use crate::engine::sys::{self, call, check};

/// Where the bundle is mounted, for the guard and the runtime alone.
pub(crate) const PLACE: &std::ffi::CStr = c"/run/errand-oci";
/// The host's side of the file that tells how the box ended.
const END: &std::ffi::CStr = c"/run/errand-oci/told/end";

/// Everything the guard does; ends with the process.
pub(crate) fn init(plan: &mut Plan) -> ! {
    let runtime = match set_up(plan).and_then(|()| start(plan)) {
        Ok(runtime) => runtime,
        Err((stage, errno)) => child::fail(plan.control, stage, errno, 1),
    };
    child::attend(plan.control, runtime, &|status| relay(plan.control, status), &|signal| ask(plan, signal))
}

fn set_up(plan: &mut Plan) -> Result<()> {
    child::descriptors(plan).at(Stage::Descriptors)?;
    child::default_signals().at(Stage::Descriptors)?;
    call!(libc::SYS_umask, 0o022);
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0).at(Stage::Identity)?;
    child::wait_for(plan.control, GO_CGROUP).at(Stage::Cgroup)?;
    if plan.way_out.is_some() {
        child::loopback().at(Stage::Network)?;
        child::door(plan).at(Stage::Door)?;
    }
    hide_mounts().at(Stage::Root)?;
    new_proc().at(Stage::Proc)?;
    seal_cgroups().at(Stage::Cgroup)?;
    // Without flags, for gVisor could not make its root read-only if it had to keep them; it holds nothing but our files.
    sys::close(child::root_at(plan, PLACE, 0)?);
    child::processors(plan).at(Stage::Limits)
}

/// From here on no mount made here is seen outside, and none made outside is seen here.
fn hide_mounts() -> std::result::Result<(), sys::Errno> {
    let none = std::ptr::null::<u8>();
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    check(call!(libc::SYS_mount, none, c"/".as_ptr(), none, flags, none)).map(drop)
}

/// The runtime must find itself in `/proc`, which tells of this process namespace.
fn new_proc() -> std::result::Result<(), sys::Errno> {
    let attr = sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC;
    attach(sys::new_mount(c"proc", &[], attr)?, c"/proc")
}

/// The box is in its control groups already; a read-only view keeps the runtime from moving it to others.
fn seal_cgroups() -> std::result::Result<(), sys::Errno> {
    match check(call!(libc::SYS_umount2, c"/sys/fs/cgroup".as_ptr(), libc::MNT_DETACH)) {
        Ok(_) | Err(libc::EINVAL | libc::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let attr = sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC;
    attach(sys::new_mount(c"cgroup2", &[], attr)?, c"/sys/fs/cgroup")
}

fn attach(mount: std::os::fd::RawFd, place: &std::ffi::CStr) -> std::result::Result<(), sys::Errno> {
    let attached = sys::move_mount(mount, libc::AT_FDCWD, place);
    sys::close(mount);
    attached
}

fn start(plan: &Plan) -> Result<c_int> {
    match sys::fork().at(Stage::Runtime)? {
        0 => {
            let Err((stage, errno)) = become_runtime(plan);
            child::fail(plan.control, stage, errno, 127)
        }
        pid => {
            for fd in 0..3 {
                sys::close(fd);
            }
            Ok(pid)
        }
    }
}

fn become_runtime(plan: &Plan) -> Result<Infallible> {
    check(call!(libc::SYS_setsid)).at(Stage::Runtime)?;
    child::signal_mask(0).at(Stage::Runtime)?;
    check(call!(libc::SYS_chdir, PLACE.as_ptr())).at(Stage::Runtime)?;
    sys::close_at_exec_from(3).at(Stage::Descriptors)?;
    execute(&plan.program).at(Stage::Runtime)?;
    Err((Stage::Runtime, libc::ENOEXEC))
}

fn execute(program: &Program) -> std::result::Result<(), sys::Errno> {
    let Program::Exec { candidates, argv, envp, .. } = program else { return Err(libc::EINVAL) };
    let Some(path) = candidates.first() else { return Err(libc::ENOENT) };
    check(call!(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr())).map(drop)
}

/// Has the runtime pass SIGTERM to the box: not every runtime does that with one it gets itself.
fn ask(plan: &Plan, signal: c_int) {
    let Some(stop) = plan.stop.as_ref().filter(|_| signal == libc::SIGTERM) else { return };
    if sys::fork() == Ok(0) {
        let _ = child::signal_mask(0);
        // The guard has closed its streams, so these are numbers 0, 1 and 2.
        for _ in 0..3 {
            let _ = check(call!(libc::SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR, 0));
        }
        let _ = sys::close_at_exec_from(3);
        let _ = execute(stop);
        sys::exit(127)
    }
}

/// Passes on what the box's first process wrote; if it wrote nothing, the box never began.
fn relay(control: std::os::fd::RawFd, status: c_int) {
    let mut bytes = [0u8; END_BYTES];
    let length = read_end(&mut bytes).unwrap_or(0);
    let told = bytes.get(..length).unwrap_or(&[]);
    if let Some(message) = last_word(told).or(told.is_empty().then_some(Message::Failed(Stage::Runtime, status))) {
        // When the parent is gone nobody reads this.
        let _ = sys::write_all(control, &message.encode());
    }
}

/// What counts among the messages: the second, for the box's first process writes it when all others are gone; the first, if that
/// is how the start failed. Anything else the box may have written there itself.
pub(crate) fn last_word(told: &[u8]) -> Option<Message> {
    let at = |number: usize| Message::decode(told.get(number * 8..number * 8 + 8)?.try_into().ok()?);
    let says = |message: &Message| matches!(message, Message::Ended(_) | Message::Failed(..));
    at(1).filter(says).or_else(|| at(0).filter(says))
}

fn read_end(bytes: &mut [u8; END_BYTES]) -> std::result::Result<usize, sys::Errno> {
    let fd = sys::openat(libc::AT_FDCWD, END, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0)?;
    let count = check(call!(libc::SYS_read, fd, bytes.as_mut_ptr(), bytes.len()));
    sys::close(fd);
    count.map(|count| count as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_box_writes_over_its_end_is_passed_over() {
        let (started, ended) = (Message::Started.encode(), Message::Ended(0x500).encode());
        let failed = Message::Failed(Stage::Exec, libc::ENOENT);
        let check = |parts: &[[u8; 8]], expected| assert_eq!(last_word(&parts.concat()), expected, "{parts:?}");
        check(&[started, ended], Some(Message::Ended(0x500)));
        check(&[started, failed.encode(), ended], Some(failed));
        check(&[failed.encode()], Some(failed));
        check(&[*b"12345678", ended, *b"12345678"], Some(Message::Ended(0x500)));
        check(&[started], None);
        check(&[*b"12345678"], None);
        assert_eq!(last_word(b""), None);
        assert_eq!(last_word(&ended[..7]), None);
    }
}
