//! The OCI runtime of tier T2, where one is given.

use errand_sandbox::{EngineConfig, Inside, OciConfig};
use std::path::PathBuf;

/// The command by which this program becomes the first process of a box.
pub(crate) const INSIDE: &str = "inside-box";

#[derive(Debug, clap::Args)]
pub(crate) struct Runtime {
    /// Have tier T2 as well, with this OCI runtime (crun, runc, runsc or the like)
    #[arg(long, value_name = "FILE")]
    runtime: Option<PathBuf>,
    /// An option of the runtime, for example --runtime-flag=--platform=kvm; may be repeated
    #[arg(long, value_name = "OPTION", requires = "runtime", allow_hyphen_values = true)]
    runtime_flag: Vec<String>,
    /// Let tier T2 use a runtime whose boxes run on the host's kernel
    #[arg(long, requires = "runtime")]
    allow_shared_kernel: bool,
}

impl Runtime {
    /// How boxes of tier T2 are made, which show what `boxes` says.
    pub(crate) fn config(&self, boxes: EngineConfig) -> Option<OciConfig> {
        // Without the place of this program the probe says that there is none.
        let program = std::env::current_exe().unwrap_or_default();
        Some(OciConfig {
            boxes,
            runtime: self.runtime.clone()?,
            kind: None,
            flags: self.runtime_flag.clone(),
            inside: Inside { program, arguments: vec![INSIDE.to_owned()] },
            allow_shared_kernel: self.allow_shared_kernel,
        })
    }
}
