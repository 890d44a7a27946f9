//! Memory that many runs at once took, given back when they have ended: a process that waits for days keeps none of it.

/// Hands free memory back to the system, as far as the allocator can tell it apart. Takes about a millisecond.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no library has a safe form of it")]
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time from any thread; memory in use is left as it is (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
