//! Walls around the interpreter, should code ever break out of it: what the system gives without being asked for rights.
//!
//! None of them is needed for the tier to work; the engine learns which of them stand and reports quotas by that.

/// The allocator counts memory.
pub(crate) const COUNTED: u32 = 1;
/// The kernel bounds memory, files, processes and processor time.
pub(crate) const LIMITED: u32 = 2;
/// The kernel refuses system calls that an interpreter does not need: files, processes, sockets.
pub(crate) const FILTERED: u32 = 4;

#[cfg(target_os = "linux")]
pub use linux::rehearse;
#[cfg(target_os = "linux")]
pub(crate) use linux::{bound_processor_time, processor_time, raise};
#[cfg(not(target_os = "linux"))]
pub(crate) use none::{bound_processor_time, processor_time, raise};

#[cfg(not(target_os = "linux"))]
mod none {
    use std::fs::File;
    use std::time::Duration;

    /// No walls here.
    pub(crate) fn raise(_: u64, _: &File, _: &File) -> u32 {
        0
    }

    /// Not known here.
    pub(crate) fn processor_time() -> Option<Duration> {
        None
    }

    /// Not bounded here; the engine's clock is.
    pub(crate) fn bound_processor_time(_: Option<Duration>, _: Duration) {}
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsRawFd, RawFd};
    use std::time::Duration;

    use rustix::process::{Resource, Rlimit, setrlimit};
    use rustix::time::{ClockId, clock_gettime};
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };

    use super::{FILTERED, LIMITED};

    /// What the process holds beside the interpreter's memory: its stack, its code's data, what the allocator keeps.
    const HEADROOM_BYTES: u64 = 192 << 20;
    /// Beyond the wall time, after which the engine would have ended the worker: for one whose engine is gone.
    const ORPHAN_SECONDS: u64 = 3;

    /// Raises the walls, for good; says which stand.
    pub(crate) fn raise(memory_bytes: u64, input: &File, output: &File) -> u32 {
        let limited = if limits(memory_bytes).is_ok() { LIMITED } else { 0 };
        let filter = filter(input.as_raw_fd(), output.as_raw_fd());
        let filtered = filter.is_ok_and(|filter| seccompiler::apply_filter_all_threads(&filter).is_ok());
        limited | if filtered { FILTERED } else { 0 }
    }

    fn limits(memory_bytes: u64) -> rustix::io::Result<()> {
        let data = memory_bytes.saturating_add(HEADROOM_BYTES);
        for (resource, most) in [
            (Resource::Core, 0),
            (Resource::Nproc, 0),
            (Resource::Fsize, 0),
            (Resource::Memlock, 0),
            (Resource::Data, data),
            // None more than there are.
            (Resource::Nofile, 3),
        ] {
            setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        }
        Ok(())
    }

    /// Raises the walls around this very process, tries each as code would that broke out of the interpreter, and prints
    /// what became of it: for a test, in a program of its own.
    ///
    /// # Errors
    /// When there is no pipe to try with.
    #[doc(hidden)]
    pub fn rehearse() -> std::io::Result<()> {
        let (input, mut output) = super::super::worker::streams()?;
        let (_reader, mut other) = std::io::pipe()?;
        let parent = rustix::process::getppid();
        raise(64 << 20, &input, &output);
        let no_time = Rlimit { current: Some(0), maximum: None };
        let attempts: [(&str, bool); 8] = [
            ("read a file", File::open("/etc/passwd").is_err()),
            ("write a file", File::create("/tmp/errand-t0-rehearsal").is_err()),
            ("open a socket", std::net::UdpSocket::bind("127.0.0.1:0").is_err()),
            ("run a program", std::process::Command::new("/bin/true").spawn().is_err()),
            ("start a thread", std::thread::Builder::new().spawn(|| ()).is_err()),
            ("write to another pipe", other.write(b"x").is_err()),
            ("end its parent's time", rustix::process::prlimit(parent, Resource::Cpu, no_time).is_err()),
            ("take all memory", Vec::<u8>::new().try_reserve_exact(1 << 30).is_err()),
        ];
        for (what, held) in attempts {
            let line = format!("{what}: {}\n", if held { "held" } else { "OPEN" });
            output.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    pub(crate) fn processor_time() -> Option<Duration> {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }

    /// The kernel ends the process some seconds after its time, whether or not anybody still looks at it.
    pub(crate) fn bound_processor_time(used: Option<Duration>, wall: Duration) {
        let seconds = used.unwrap_or_default().saturating_add(wall).as_secs().saturating_add(ORPHAN_SECONDS);
        // Where it cannot be set the engine's clock remains.
        let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: None });
    }

    /// Memory without code in it, the two pipes, waking threads, time, and the way out. Everything else is refused with
    /// `EPERM`, and a call for another architecture kills.
    fn filter(input: RawFd, output: RawFd) -> Result<BpfProgram, BackendError> {
        let mut rules = BTreeMap::new();
        for number in [
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_brk,
            libc::SYS_madvise,
            libc::SYS_futex,
            libc::SYS_sched_yield,
            libc::SYS_sigaltstack,
            libc::SYS_rt_sigreturn,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigaction,
            libc::SYS_restart_syscall,
            libc::SYS_set_robust_list,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_clock_gettime,
            libc::SYS_getrandom,
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_close,
        ] {
            rules.insert(number, Vec::new());
        }
        let executable = libc::PROT_EXEC as u64;
        let only = |argument, operator, value| -> Result<Vec<SeccompRule>, BackendError> {
            let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
            Ok(vec![SeccompRule::new(vec![condition])?])
        };
        rules.insert(libc::SYS_mmap, only(2, SeccompCmpOp::MaskedEq(executable), 0)?);
        rules.insert(libc::SYS_mprotect, only(2, SeccompCmpOp::MaskedEq(executable), 0)?);
        // Descriptors are never negative.
        let number = |fd: RawFd| u64::from(fd.unsigned_abs());
        rules.insert(libc::SYS_read, only(0, SeccompCmpOp::Eq, number(input))?);
        rules.insert(libc::SYS_write, only(0, SeccompCmpOp::Eq, number(output))?);
        // An abort is a signal to itself.
        rules.insert(libc::SYS_tgkill, only(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?);
        // Of this process: another one of the same user could be ended by it.
        let equals = |argument, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
        let own_time = vec![equals(0, 0)?, equals(1, u64::from(libc::RLIMIT_CPU))?];
        rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(own_time)?]);
        let other = SeccompAction::Errno(libc::EPERM as u32);
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules, other, SeccompAction::Allow, arch)?.try_into()
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_filter_compiles() {
            assert!(!super::filter(0, 1).unwrap().is_empty());
        }
    }
}
