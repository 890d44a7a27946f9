//! Boxes with one defence left out: to see that the probe notices, and that such a box is never offered.
//!
//! The network is not among them: a box with the host's network would send the probe's packets.

use super::spec::{IdMapping, Spec};

/// What a rehearsal leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defence {
    /// Processes of the box's own.
    Processes,
    /// Ids that are not the host's root.
    Ids,
    /// Hiding and sealing what `/proc` tells of the kernel.
    KernelSettings,
    /// Limits of each process.
    Limits,
}

impl Defence {
    /// All of them.
    pub const ALL: [Defence; 4] = [Defence::Processes, Defence::Ids, Defence::KernelSettings, Defence::Limits];

    pub(super) fn leave_out(self, spec: &mut Spec) {
        match self {
            Defence::Processes => spec.linux.namespaces.retain(|one| one.kind != "pid"),
            Defence::Ids => {
                for map in [&mut spec.linux.uid_mappings, &mut spec.linux.gid_mappings] {
                    map.retain(|one| one.container_id != 0);
                    map.push(IdMapping { container_id: 0, host_id: 0, size: 1 });
                }
            }
            Defence::KernelSettings => {
                spec.linux.masked_paths.clear();
                spec.linux.readonly_paths.clear();
            }
            Defence::Limits => spec.process.rlimits.clear(),
        }
    }
}
