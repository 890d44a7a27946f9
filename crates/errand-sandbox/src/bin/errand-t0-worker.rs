//! A worker of tier T0 and nothing else, for the tests.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: errand_sandbox::t0::CountingAllocator = errand_sandbox::t0::CountingAllocator;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args().nth(1).as_deref() == Some("rehearse") {
        return errand_sandbox::t0::rehearse().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    errand_sandbox::t0::worker()
}
