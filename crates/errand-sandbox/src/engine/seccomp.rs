//! The system calls a box may make.
//!
//! Three filters are stacked; the kernel takes the strictest answer, and among refusals the one installed last:
//! 1. an allow-list, everything else `ENOSYS` (so that libraries take their older way; `clone3` hides its flags in memory
//!    and is left out for that reason). A call for another architecture kills the process.
//! 2. families of sockets beyond Unix, IPv4 and IPv6: `EAFNOSUPPORT`.
//! 3. what would be allowed by number but not with these arguments, or is better refused than unknown: `EPERM`.

use std::collections::BTreeMap;

use libc::{SYS_clone, SYS_ioctl, SYS_socket, SYS_socketpair, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::syscalls::{ALLOWED, DENIED};
use crate::exec::Profile;

/// Flags of `clone` that make a namespace. (A time namespace cannot be asked for there: its bit is the exit signal's.)
const NEW_NAMESPACE: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
];
const SOCKET_FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// `TIOCSTI` puts bytes into a terminal's input (CVE-2017-5226), `TIOCLINUX` does as much on a console.
const IOCTLS_DENIED: [u64; 2] = [0x5412, 0x541C];

/// What a browser's own sandbox needs beyond what programs may: it puts each page into user, process and network namespaces
/// of its own, gives up its view of the files there, and drops what rights it has in them.
pub(crate) const BROWSER_CALLS: [c_long; 3] = [libc::SYS_unshare, libc::SYS_chroot, libc::SYS_capset];
/// The namespaces it makes them with; all others stay refused, also to what has every right in a namespace of its own.
const BROWSER_NAMESPACES: [i32; 3] = [libc::CLONE_NEWUSER, libc::CLONE_NEWPID, libc::CLONE_NEWNET];
/// `CLONE_NEWTIME`, for `unshare` alone.
const NEW_TIME: i32 = 0x80;

/// The filters of a profile in the order they must be installed.
pub(crate) fn filters(profile: Profile) -> Result<Vec<BpfProgram>, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let more: &[c_long] = if profile == Profile::Browser { &BROWSER_CALLS } else { &[] };
    let numbers = ALLOWED.iter().map(|call| call.number).chain(more.iter().copied());
    let allowed = numbers.map(|number| (number, Vec::new())).collect();
    Ok(vec![
        build(allowed, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow, arch)?,
        build(foreign_sockets()?, SeccompAction::Allow, SeccompAction::Errno(libc::EAFNOSUPPORT as u32), arch)?,
        build(denied(profile)?, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch)?,
    ])
}

/// What a zygote itself may not do: what boxes are denied, but for what it takes to enter one.
pub(crate) fn of_zygote() -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules = denied(Profile::Code)?;
    for needed in [libc::SYS_setns, libc::SYS_setgroups, libc::SYS_capset] {
        rules.remove(&needed);
    }
    build(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch)
}

/// A filter that refuses new user namespaces, as hardened hosts do: to rehearse such a host.
pub(crate) fn no_user_namespaces() -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let flag = condition(0, SeccompCmpOp::MaskedEq(libc::CLONE_NEWUSER as u64), libc::CLONE_NEWUSER as u64)?;
    let mut rules = BTreeMap::new();
    rules.insert(SYS_clone, vec![SeccompRule::new(vec![flag.clone()])?]);
    rules.insert(libc::SYS_unshare, vec![SeccompRule::new(vec![flag])?]);
    rules.insert(libc::SYS_clone3, Vec::new());
    build(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch)
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn build(rules: Rules, other: SeccompAction, matching: SeccompAction, arch: TargetArch) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, other, matching, arch)?.try_into()
}

fn foreign_sockets() -> Result<Rules, BackendError> {
    let unlike = SOCKET_FAMILIES.iter().map(|family| condition(0, SeccompCmpOp::Ne, *family as u64));
    let rule = SeccompRule::new(unlike.collect::<Result<_, _>>()?)?;
    Ok([(SYS_socket, vec![rule.clone()]), (SYS_socketpair, vec![rule])].into())
}

fn denied(profile: Profile) -> Result<Rules, BackendError> {
    let mut rules: Rules = DENIED.iter().map(|call| (call.number, Vec::new())).collect();
    let is_free = |flag: &i32| profile == Profile::Browser && BROWSER_NAMESPACES.contains(flag);
    let refused: Vec<i32> = NEW_NAMESPACE.into_iter().filter(|flag| !is_free(flag)).collect();
    rules.insert(SYS_clone, any_flag(&refused)?);
    if profile == Profile::Browser {
        for call in BROWSER_CALLS {
            rules.remove(&call);
        }
        rules.insert(libc::SYS_unshare, any_flag(&[refused.as_slice(), &[NEW_TIME]].concat())?);
    }
    let requests = IOCTLS_DENIED.iter().map(|request| SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, *request)?]));
    rules.insert(SYS_ioctl, requests.collect::<Result<_, _>>()?);
    Ok(rules)
}

/// Calls whose first argument has one of these flags.
fn any_flag(flags: &[i32]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |flag: &i32| {
        let flag = *flag as u64;
        SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?])
    };
    flags.iter().map(rule).collect()
}

/// The kernel looks at the low 32 bits of these arguments only, so must the filter.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_and_no_call_is_both_allowed_and_denied() {
        assert!([Profile::Code, Profile::Browser].map(|profile| filters(profile).unwrap().len()) == [3, 3]);
        let both: Vec<_> = ALLOWED.iter().filter(|call| DENIED.contains(call)).collect();
        assert_eq!(both, Vec::<&crate::engine::syscalls::Call>::new());
        assert!(ALLOWED.iter().all(|call| call.number != libc::SYS_clone3));
        assert!(DENIED.iter().any(|call| call.name() == "mount"));
    }
}
