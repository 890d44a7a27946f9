//! Reading and writing a worker's pipes for no longer than the clock allows, whoever else may hold their other ends: a
//! process that a worker left behind keeps them open when the worker itself is gone.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::process::{ChildStdin, ChildStdout};

/// Makes the engine's ends ones that never block. The worker's ends stay as they are.
pub(crate) fn prepare(input: &ChildStdin, output: &ChildStdout) -> Result<()> {
    #[cfg(unix)]
    {
        rustix::io::ioctl_fionbio(input, true)?;
        rustix::io::ioctl_fionbio(output, true)?;
    }
    // Elsewhere they block until the worker, and what it may have left behind, is gone.
    #[cfg(not(unix))]
    let _ = (input, output);
    Ok(())
}

/// Writes all of it, until `is_over`.
pub(crate) fn write(input: &mut ChildStdin, mut bytes: &[u8], is_over: impl Fn() -> bool) -> Result<()> {
    while !bytes.is_empty() {
        match input.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) => pause(error, input, Direction::In, &is_over)?,
        }
    }
    Ok(())
}

/// Reads what there is, waiting for the first of it until `is_over`. Nothing at the end.
pub(crate) fn read(output: &mut ChildStdout, bytes: &mut [u8], is_over: impl Fn() -> bool) -> Result<usize> {
    loop {
        match output.read(bytes) {
            Ok(count) => return Ok(count),
            Err(error) => pause(error, output, Direction::Out, &is_over)?,
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

/// Waits a little for the pipe, if that is what is missing.
#[cfg(unix)]
fn pause(error: Error, pipe: &impl std::os::fd::AsFd, direction: Direction, is_over: &impl Fn() -> bool) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    /// How often the clock is looked at; it ends the worker by itself, and that closes the pipe.
    const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    match error.kind() {
        ErrorKind::Interrupted => return Ok(()),
        ErrorKind::WouldBlock => {}
        _ => return Err(error),
    }
    if is_over() {
        return Err(ErrorKind::TimedOut.into());
    }
    let flags = match direction {
        Direction::In => PollFlags::OUT,
        Direction::Out => PollFlags::IN,
    };
    match poll(&mut [PollFd::new(pipe, flags)], Some(&TICK)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
fn pause<T>(error: Error, _: &T, _: Direction, _: &impl Fn() -> bool) -> Result<()> {
    if error.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
