//! From the plan of a T1 box to an OCI bundle with the same view: a pure function.
//!
//! The bundle lies at [`PLACE`], seen by the guard and the runtime alone: `config.json`, `rootfs` with the small files of the
//! box, `trees` with the parts of the host that it shows (mounted there with their final attributes, by descriptors that were
//! opened as root), `told/end` for how it ended, and `state` for the runtime.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use super::guard::PLACE;
use super::job::{END_PATH, INIT_PATH, JOB_PATH};
use super::spec::{Capabilities, IdMapping, Linux, Mount, Namespace, Process, Rlimit, Root, Seccomp, Spec, Syscalls, User};
use crate::engine::plan::{BOX_ID, Step, Tree};
use crate::engine::sys::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::engine::syscalls::{ALLOWED, DENIED};
use crate::engine::view::{READ_ONLY, c_string, system_tree, tmpfs_options};

/// Programs of the box come last of what it may run; this is the first process alone.
const FIRST_PATH: &str = "PATH=/usr/local/bin:/usr/bin:/bin";

/// What a bundle is made of beside the view.
pub(crate) struct Facts<'a> {
    /// User and group on the host; container root is the id above.
    pub(crate) host_ids: (u32, u32),
    /// The program that becomes the first process, and its arguments.
    pub(crate) inside: &'a crate::config::Inside,
    /// Resource and value, for all processes of the box.
    pub(crate) rlimits: &'a [(u32, u64)],
    /// The content of [`JOB_PATH`].
    pub(crate) job: Vec<u8>,
}

/// The steps that lay out the bundle, and the trees they attach.
pub(crate) struct Bundle {
    pub(crate) trees: Vec<Tree>,
    pub(crate) steps: Vec<Step>,
    pub(crate) spec: Spec,
}

/// Makes the bundle of a view. The tree of the first process's program comes last, and is the only one not opened yet.
pub(crate) fn bundle(trees: Vec<Tree>, view: Vec<Step>, facts: Facts<'_>) -> Bundle {
    let mut layout = Layout::new(trees, &view);
    for step in view {
        layout.take(step);
    }
    layout.finish(facts)
}

struct Layout {
    source: Vec<Option<Tree>>,
    /// Paths in the box that are files.
    files: BTreeSet<CString>,
    trees: Vec<Tree>,
    steps: Vec<Step>,
    mounts: Vec<Mount>,
    masked: Vec<String>,
    readonly: Vec<String>,
}

impl Layout {
    fn new(trees: Vec<Tree>, view: &[Step]) -> Layout {
        let files = view.iter().filter_map(|step| match step {
            Step::File(path, _) => Some(path.clone()),
            _ => None,
        });
        let steps = ["rootfs", "trees", "state"].map(|folder| Step::Dir(c_string(folder))).into();
        let mounts = vec![
            mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
            // The runtime puts the devices of the specification there.
            mount("tmpfs", "tmpfs", "/dev", &["nosuid", "noexec", "mode=755", "size=65536"]),
        ];
        let source = trees.into_iter().map(Some).collect();
        Layout { source, files: files.collect(), trees: Vec::new(), steps, mounts, masked: Vec::new(), readonly: Vec::new() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Dir(path) if !in_dev(&path) => {
                let shared = path.as_bytes() == b"tmp";
                let path = in_root(&path);
                self.steps.push(Step::Dir(path.clone()));
                if shared {
                    // Some runtimes give a new file system the mode of the folder beneath.
                    self.steps.push(Step::Mode(path, 0o1777));
                }
            }
            Step::Link(target, path) if !in_dev(&path) => self.steps.push(Step::Link(target, in_root(&path))),
            Step::File(path, bytes) if !in_dev(&path) => self.steps.push(Step::File(in_root(&path), bytes)),
            Step::Mode(path, mode) => self.steps.push(Step::Mode(in_root(&path), mode)),
            Step::Attach(number, path) if !in_dev(&path) => {
                if let Some(tree) = self.source.get_mut(number).and_then(Option::take) {
                    let file = self.files.contains(&path);
                    self.attach(tree, file, absolute(&path));
                }
            }
            Step::Mount(kind, options, attr, path) if kind.as_bytes() != b"proc" => {
                let kind = kind.to_string_lossy().into_owned();
                let mut all = flags(attr);
                all.extend(
                    options.iter().map(|(key, value)| format!("{}={}", key.to_string_lossy(), value.to_string_lossy())),
                );
                self.mounts.push(Mount { destination: absolute(&path), source: kind.clone(), kind, options: all });
            }
            Step::ReadOnly(from, to) if from == to => self.readonly.push(absolute(&to)),
            Step::ReadOnly(_, to) => self.masked.push(absolute(&to)),
            // Devices and links in /dev come from the runtime, /proc is there already.
            _ => {}
        }
    }

    /// Puts a part of the host into `trees` and has it shown in the box.
    fn attach(&mut self, tree: Tree, file: bool, destination: String) {
        let place = c_string(format!("trees/{}", self.trees.len()));
        let source = format!("{}/{}", PLACE.to_string_lossy(), place.to_string_lossy());
        let mut options = vec![if tree.recursive { "rbind" } else { "bind" }.to_owned()];
        options.extend(flags(tree.attr));
        self.mounts.push(Mount { destination, kind: "bind".into(), source, options });
        self.steps.push(if file { Step::File(place.clone(), Vec::new()) } else { Step::Dir(place.clone()) });
        self.steps.push(Step::Attach(self.trees.len(), place));
        self.trees.push(tree);
    }

    fn finish(mut self, facts: Facts<'_>) -> Bundle {
        let in_root = |path: &str| c_string(format!("rootfs{path}"));
        self.steps.push(Step::Dir(in_root("/run/box")));
        self.steps.push(Step::File(in_root(JOB_PATH), facts.job));
        self.steps.push(Step::File(in_root(INIT_PATH), Vec::new()));
        self.attach(system_tree(&facts.inside.program, READ_ONLY), true, INIT_PATH.into());
        self.end_file();
        let mut args = vec![INIT_PATH.to_owned()];
        args.extend(facts.inside.arguments.iter().cloned());
        let (uid, gid) = facts.host_ids;
        let spec = Spec {
            oci_version: "1.0.2",
            process: Process {
                terminal: false,
                user: User { uid: BOX_ID, gid: BOX_ID },
                args,
                env: vec![FIRST_PATH.to_owned()],
                cwd: "/",
                capabilities: Capabilities::default(),
                no_new_privileges: true,
                rlimits: facts.rlimits.iter().filter_map(|one| rlimit(*one)).collect(),
            },
            root: Root { path: "rootfs", readonly: true },
            hostname: "errand",
            mounts: self.mounts,
            linux: Linux {
                uid_mappings: ids(uid),
                gid_mappings: ids(gid),
                namespaces: ["pid", "network", "ipc", "uts", "mount", "user"].map(|kind| Namespace { kind }).into(),
                masked_paths: self.masked,
                readonly_paths: self.readonly,
                seccomp: seccomp(),
            },
        };
        Bundle { trees: self.trees, steps: self.steps, spec }
    }

    /// A file system of one page for one file: the box may write to it and no more.
    fn end_file(&mut self) {
        let options = tmpfs_options(4096, "0755");
        let attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        self.steps.push(Step::Dir(c_string("told")));
        self.steps.push(Step::Mount(c_string("tmpfs"), options, attr, c_string("told")));
        self.steps.push(Step::File(c_string("told/end"), Vec::new()));
        self.steps.push(Step::Mode(c_string("told/end"), 0o666));
        self.steps.push(Step::File(c_string(format!("rootfs{END_PATH}")), Vec::new()));
        let mut options = vec!["bind".to_owned()];
        options.extend(flags(attr));
        let source = format!("{}/told/end", PLACE.to_string_lossy());
        self.mounts.push(Mount { destination: END_PATH.into(), kind: "bind".into(), source, options });
    }
}

/// The box's user, and its root, which is the id above it and has no rights.
fn ids(host_id: u32) -> Vec<IdMapping> {
    let one = |container_id, host_id| IdMapping { container_id, host_id, size: 1 };
    vec![one(0, host_id + 1), one(BOX_ID, host_id)]
}

fn rlimit((resource, value): (u32, u64)) -> Option<Rlimit> {
    let known = [
        (libc::RLIMIT_CORE, "RLIMIT_CORE"),
        (libc::RLIMIT_DATA, "RLIMIT_DATA"),
        (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
        (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
        (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
        (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
        (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
        (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
    ];
    let (_, kind) = known.into_iter().find(|(number, _)| *number == resource)?;
    Some(Rlimit { kind, soft: value, hard: value })
}

/// The list of tier T1 by name. What depends on arguments is added by the box's first process, which installs the filters of
/// tier T1 themselves: the form of the specification cannot say them exactly.
fn seccomp() -> Seccomp {
    let names = |calls: &'static [crate::engine::syscalls::Call]| calls.iter().map(|call| call.name()).collect();
    Seccomp {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: libc::ENOSYS,
        syscalls: vec![
            Syscalls { names: names(ALLOWED), action: "SCMP_ACT_ALLOW", errno_ret: None },
            Syscalls { names: names(DENIED), action: "SCMP_ACT_ERRNO", errno_ret: Some(libc::EPERM) },
        ],
    }
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Mount { destination: destination.into(), kind: kind.into(), source: source.into(), options }
}

fn flags(attr: u64) -> Vec<String> {
    let known = [
        (MOUNT_ATTR_RDONLY, "ro"),
        (MOUNT_ATTR_NOSUID, "nosuid"),
        (MOUNT_ATTR_NODEV, "nodev"),
        (MOUNT_ATTR_NOEXEC, "noexec"),
    ];
    known.into_iter().filter(|(bit, _)| attr & bit != 0).map(|(_, name)| name.to_owned()).collect()
}

fn in_dev(path: &CStr) -> bool {
    path.to_bytes().starts_with(b"dev/")
}

fn in_root(path: &CStr) -> CString {
    let mut bytes = b"rootfs/".to_vec();
    bytes.extend_from_slice(path.to_bytes());
    CString::new(bytes).expect("a text without a NUL before a C string has none")
}

fn absolute(path: &CStr) -> String {
    format!("/{}", path.to_string_lossy())
}

#[cfg(test)]
mod tests;
