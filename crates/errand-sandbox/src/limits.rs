//! What one call may use, in one place, with the defaults of DESIGN.md section 6.

use std::time::Duration;

use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What one call may use. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Wall time of the whole call. Default 30 s, at most 15 min.
    pub wall: Duration,
    /// Between the polite end (SIGTERM) at the time-out and the kill. Default 500 ms, at most 10 s.
    pub grace: Duration,
    /// Processor time per second of wall time, in thousandths of one processor. Default 1000, at most 4000.
    pub cpu_milli: u64,
    /// Memory of all processes together, with `/tmp` and `/dev/shm`. Default 2 GiB, at most 8 GiB.
    pub memory_bytes: u64,
    /// Processes and threads at one time. Default 100, at most 1000.
    pub processes: u64,
    /// Open files of one process. Default 1024, at most 65,536.
    pub open_files: u64,
    /// Bytes kept of each output stream in the outcome. Default 256 KiB, at most 16 MiB.
    pub output_bytes: u64,
    /// Bytes of the file that takes an output stream too long to keep. Default 16 MiB, at most 1 GiB; 0 makes no file.
    pub output_file_bytes: u64,
    /// Size of `/tmp`, which is memory. Default 256 MiB, at most 2 GiB.
    pub tmp_bytes: u64,
    /// All files of the workspace together. Default 1 GiB, at most 10 GiB.
    pub workspace_bytes: u64,
    /// Files and folders in the workspace. Default 50,000, at most 500,000.
    pub workspace_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            wall: Duration::from_secs(30),
            grace: Duration::from_millis(500),
            cpu_milli: 1000,
            memory_bytes: 2 * GIB,
            processes: 100,
            open_files: 1024,
            output_bytes: 256 << 10,
            output_file_bytes: 16 * MIB,
            tmp_bytes: 256 * MIB,
            workspace_bytes: GIB,
            workspace_files: 50_000,
        }
    }
}

impl Limits {
    /// Refuses values that mean nothing or go beyond what a host is asked to give.
    ///
    /// # Errors
    /// [`Error::LimitOutOfRange`] names the first such limit.
    pub fn validate(&self) -> Result<()> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let table: [(&'static str, u64, u64, u64); 11] = [
            ("wall (ms)", millis(self.wall), 1, 15 * 60 * 1000),
            ("grace (ms)", millis(self.grace), 0, 10_000),
            ("cpu_milli", self.cpu_milli, 50, 4000),
            ("memory_bytes", self.memory_bytes, 16 * MIB, 8 * GIB),
            ("processes", self.processes, 2, 1000),
            ("open_files", self.open_files, 16, 65_536),
            ("output_bytes", self.output_bytes, 0, 16 * MIB),
            ("output_file_bytes", self.output_file_bytes, 0, GIB),
            ("tmp_bytes", self.tmp_bytes, 64 << 10, 2 * GIB),
            ("workspace_bytes", self.workspace_bytes, 64 << 10, 10 * GIB),
            ("workspace_files", self.workspace_files, 1, 500_000),
        ];
        for (limit, value, min, max) in table {
            if value < min || value > max {
                return Err(Error::LimitOutOfRange { limit, value, min, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_each_bound_is_checked() {
        Limits::default().validate().unwrap();
        let bad = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            match limits.validate() {
                Err(Error::LimitOutOfRange { limit, .. }) => limit,
                other => panic!("not refused: {other:?}"),
            }
        };
        assert_eq!(bad(|l| l.wall = Duration::ZERO), "wall (ms)");
        assert_eq!(bad(|l| l.wall = Duration::from_secs(901)), "wall (ms)");
        assert_eq!(bad(|l| l.cpu_milli = 0), "cpu_milli");
        assert_eq!(bad(|l| l.memory_bytes = 1), "memory_bytes");
        assert_eq!(bad(|l| l.processes = 100_000), "processes");
        assert_eq!(bad(|l| l.workspace_bytes = u64::MAX), "workspace_bytes");
    }
}
