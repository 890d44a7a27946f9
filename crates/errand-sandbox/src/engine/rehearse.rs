//! A host that refuses user namespaces, made of this one: to see that nothing weaker is offered there.

use super::{child, seccomp, sys};

/// From now on the kernel refuses new user namespaces to the calling thread and to what it starts, as hardened hosts do.
/// It cannot be undone; use a thread made for it.
///
/// # Errors
/// When the kernel takes no filter, which is a host without boxes anyway.
pub fn refuse_user_namespaces_on_this_thread() -> std::io::Result<()> {
    let program = seccomp::no_user_namespaces().map_err(std::io::Error::other)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
        .and_then(|()| child::install_filter(&program))
        .map_err(std::io::Error::from_raw_os_error)
}
