//! Everything a box needs, prepared before the clone so that its child allocates nothing.

use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};

use seccompiler::BpfProgram;

use super::probe::inside::Baits;

/// User and group id inside every box.
pub(crate) const BOX_ID: u32 = 1000;

/// A part of the host to be shown in the box.
pub(crate) struct Tree {
    /// Where it lies on the host.
    pub(crate) source: CString,
    /// Device and inode it must have; none for parts of the system, which an upgrade may replace.
    pub(crate) identity: Option<(u64, u64)>,
    /// With the mounts beneath it.
    pub(crate) recursive: bool,
    /// `MOUNT_ATTR_*` to set.
    pub(crate) attr: u64,
    /// The detached copy: made by the parent when it may, else by the child (-1 until then).
    pub(crate) fd: RawFd,
    /// Keeps `fd` open in the parent until the child has its own.
    pub(crate) _owned: Option<OwnedFd>,
}

/// One step of building the box's root, in order; all paths are relative to it.
pub(crate) enum Step {
    /// Make a folder.
    Dir(CString),
    /// Make a symbolic link at the second path.
    Link(CString, CString),
    /// Make a file with this content.
    File(CString, Vec<u8>),
    /// Attach the tree of this number.
    Attach(usize, CString),
    /// Mount a file system of its own: type, options, attributes, path.
    Mount(CString, Vec<(CString, CString)>, u64, CString),
    /// Change the mode of what a step before made.
    Mode(CString, u32),
    /// Show the first path read-only at the second (which may be the same). Absent ones are passed over.
    ReadOnly(CString, CString),
}

/// What the main process of the box does.
pub(crate) enum Program {
    /// Execute the first of these paths that exists.
    Exec {
        candidates: Vec<CString>,
        /// Kept for the pointers below.
        _strings: Vec<CString>,
        /// Null-terminated.
        argv: Vec<*const libc::c_char>,
        /// Null-terminated.
        envp: Vec<*const libc::c_char>,
    },
    /// Try to get out, and write what happened to descriptor 1.
    Probe(Baits),
}

impl Program {
    /// A program with its arguments and its environment (`NAME=VALUE`).
    pub(crate) fn exec(candidates: Vec<CString>, argv: Vec<CString>, env: Vec<CString>) -> Program {
        let count = argv.len();
        let strings: Vec<CString> = argv.into_iter().chain(env).collect();
        let null_ended = |strings: &[CString]| {
            let pointers = strings.iter().map(|string| string.as_ptr());
            pointers.chain(std::iter::once(std::ptr::null())).collect::<Vec<_>>()
        };
        let (arguments, variables) = strings.split_at(count);
        let (argv, envp) = (null_ended(arguments), null_ended(variables));
        Program::Exec { candidates, _strings: strings, argv, envp }
    }
}

/// A whole box.
pub(crate) struct Plan {
    /// The child's end of the control socket.
    pub(crate) control: RawFd,
    /// Its standard input, output and error.
    pub(crate) stdio: [RawFd; 3],
    /// Switch to the ids of the box (as root); else the single mapped id is there from the start.
    pub(crate) switch_ids: bool,
    pub(crate) trees: Vec<Tree>,
    pub(crate) steps: Vec<Step>,
    pub(crate) root_options: Vec<(CString, CString)>,
    pub(crate) filters: Vec<BpfProgram>,
    /// Resource and value, for both the soft and the hard limit.
    pub(crate) rlimits: Vec<(u32, u64)>,
    /// Bit mask of processors, empty to leave it as it is.
    pub(crate) processors: Vec<u64>,
    /// The way out, for a box that has one.
    pub(crate) way_out: Option<std::sync::Arc<dyn crate::door::WayOut>>,
    /// Absolute path in the box.
    pub(crate) cwd: CString,
    pub(crate) program: Program,
    /// What asks the box of an OCI runtime to end; without it the main process gets SIGTERM.
    pub(crate) stop: Option<Program>,
    /// Descriptors the child keeps beside 0, 1 and 2; sorted.
    pub(crate) keep: Vec<RawFd>,
    /// Where the runner's own command line lies in its memory: address and length.
    pub(crate) arguments: Option<(usize, usize)>,
}

/// The steps of the set-up, for messages; the child sends the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    Descriptors = 1,
    Identity,
    HostFolder,
    Root,
    Contents,
    Proc,
    Pivot,
    Network,
    Cgroup,
    Capabilities,
    Seccomp,
    Start,
    Limits,
    WorkingFolder,
    Exec,
    Runtime,
    Door,
}

impl Stage {
    pub(crate) const ALL: [Stage; 17] = [
        Stage::Descriptors,
        Stage::Identity,
        Stage::HostFolder,
        Stage::Root,
        Stage::Contents,
        Stage::Proc,
        Stage::Pivot,
        Stage::Network,
        Stage::Cgroup,
        Stage::Capabilities,
        Stage::Seccomp,
        Stage::Start,
        Stage::Limits,
        Stage::WorkingFolder,
        Stage::Exec,
        Stage::Runtime,
        Stage::Door,
    ];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Stage::Descriptors => "passing on its descriptors",
            Stage::Identity => "taking its user id",
            Stage::HostFolder => "opening a folder of the host for it",
            Stage::Root => "mounting its root",
            Stage::Contents => "filling its root",
            Stage::Proc => "mounting its /proc",
            Stage::Pivot => "leaving the host's root",
            Stage::Network => "preparing its own host name and loopback",
            Stage::Cgroup => "entering its cgroup namespace",
            Stage::Capabilities => "dropping capabilities",
            Stage::Seccomp => "installing its system-call filter",
            Stage::Start => "starting its main process",
            Stage::Limits => "setting its limits",
            Stage::WorkingFolder => "entering the working folder",
            Stage::Exec => "executing the program",
            Stage::Runtime => "having the OCI runtime start it",
            Stage::Door => "making the door to its way out",
        }
    }
}

/// What the box's init tells the parent: eight bytes, kind, stage, two unused, value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// A step failed with this errno.
    Failed(Stage, i32),
    /// The main process was started.
    Started,
    /// The main process ended with this wait status.
    Ended(i32),
    /// The main process was sent the signal of an interrupt.
    Interrupted,
    /// So many microseconds of processor time were used, told before the end.
    Used(i32),
    /// The listening socket at the door of the box comes with this.
    Door,
}

impl Message {
    pub(crate) fn encode(self) -> [u8; 8] {
        let (kind, stage, value) = match self {
            Message::Failed(stage, errno) => (1, stage as u8, errno),
            Message::Started => (2, 0, 0),
            Message::Ended(status) => (3, 0, status),
            Message::Interrupted => (4, 0, 0),
            Message::Used(micros) => (5, 0, micros),
            Message::Door => (6, 0, 0),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [kind, stage, 0, 0, a, b, c, d]
    }

    pub(crate) fn decode(bytes: [u8; 8]) -> Option<Message> {
        let [kind, stage, _, _, a, b, c, d] = bytes;
        let value = i32::from_le_bytes([a, b, c, d]);
        match kind {
            1 => Stage::ALL.into_iter().find(|s| *s as u8 == stage).map(|stage| Message::Failed(stage, value)),
            2 => Some(Message::Started),
            3 => Some(Message::Ended(value)),
            4 => Some(Message::Interrupted),
            5 => Some(Message::Used(value)),
            6 => Some(Message::Door),
            _ => None,
        }
    }
}

/// Parent to init: the ids are mapped, go on.
pub(crate) const GO_MAPPED: u8 = b'M';
/// Parent to init: you are in your cgroup, go on.
pub(crate) const GO_CGROUP: u8 = b'C';
/// Parent to init: your main process has come from a zygote.
pub(crate) const GO_JOINED: u8 = b'J';
/// Parent to init: ask the main process to end.
pub(crate) const TERMINATE: u8 = b'T';
/// Parent to init: interrupt the main process, which goes on.
pub(crate) const INTERRUPT: u8 = b'I';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_socket() {
        for stage in Stage::ALL {
            let message = Message::Failed(stage, 13);
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        for message in [Message::Started, Message::Ended(0x8900), Message::Interrupted, Message::Used(7), Message::Door] {
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        assert_eq!(Message::decode([9; 8]), None);
    }
}
