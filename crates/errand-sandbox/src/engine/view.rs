//! What a box sees of the host: the system read-only, a small `/etc` and `/dev` of its own, and nothing else.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::plan::{Step, Tree};
use super::sys::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::image::IMAGE_DIR;
use crate::limits::Limits;

/// Shown at the same place where they exist.
const SYSTEM: [&str; 7] = ["/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32", "/nix/store"];
/// Parts of `/etc` that programs need and that tell nothing about the host's users.
const ETC: [&str; 9] = [
    "/etc/alternatives",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki/ca-trust",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Files of `/proc` that tell about the host or reach the kernel; shown as empty.
const PROC_FILES: [&str; 11] = [
    "proc/kcore",
    "proc/kmsg",
    "proc/kallsyms",
    "proc/keys",
    "proc/key-users",
    "proc/sysrq-trigger",
    "proc/timer_list",
    "proc/slabinfo",
    "proc/cmdline",
    "proc/modules",
    "proc/config.gz",
];
const PROC_FOLDERS: [&str; 8] =
    ["proc/acpi", "proc/asound", "proc/bus", "proc/driver", "proc/fs", "proc/irq", "proc/scsi", "proc/tty"];
const PASSWD: &str = "root:x:0:0:root:/root:/usr/sbin/nologin\n\
    errand:x:1000:1000:errand:/workspace:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nerrand:x:1000:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost errand\n::1 localhost\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n";

/// Attributes of every part of the system that a box sees.
pub(crate) const READ_ONLY: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/// The host's side of the view, found once.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Link text and path.
    links: Vec<(PathBuf, PathBuf)>,
    folders: Vec<PathBuf>,
    etc: Vec<PathBuf>,
}

impl View {
    /// Looks at this host. `extra` folders are shown read-only at the same place.
    pub(crate) fn of_host(extra: &[PathBuf]) -> View {
        let mut view = View { links: Vec::new(), folders: vec!["/usr".into()], etc: Vec::new() };
        for path in SYSTEM.map(Path::new) {
            match path.read_link() {
                Ok(target) => view.links.push((target, path.into())),
                Err(_) if path.is_dir() => view.folders.push(path.into()),
                Err(_) => {}
            }
        }
        view.folders.extend(extra.iter().cloned());
        view.etc.extend(ETC.iter().map(PathBuf::from).filter(|path| path.exists()));
        view
    }

    /// The steps that build this view, and the trees they attach.
    pub(crate) fn build(
        &self,
        workspace: Tree,
        image: Option<&Path>,
        files: &[(String, Vec<u8>)],
        limits: &Limits,
    ) -> (Vec<Tree>, Vec<Step>) {
        let mut root = self.shared(image);
        shm(&mut root);
        root.mount("tmpfs", &tmpfs_options(limits.tmp_bytes, "1777"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, "tmp");
        for (name, bytes) in files {
            root.file(&format!("run/errand/{name}"), bytes.clone());
        }
        proc(&mut root);
        root.attach_folder(workspace, Path::new("/workspace"));
        (root.trees, root.steps)
    }

    /// What all boxes of a nest see alike, made once: trees and steps.
    pub(crate) fn template(&self, image: Option<&Path>) -> (Vec<Tree>, Vec<Step>) {
        let mut root = self.shared(image);
        for folder in ["tmp", "dev/shm", "proc", "workspace", "var/empty"] {
            root.folder(folder);
        }
        (root.trees, root.steps)
    }

    /// The steps that a box takes over a copy of the template, beside `/tmp`, its files and its workspace: those that need
    /// no ids yet, and the others.
    pub(crate) fn own() -> (Vec<Step>, Vec<Step>) {
        let made: BTreeSet<PathBuf> = ["dev", "dev/shm", "proc", "var", "var/empty"].map(PathBuf::from).into();
        let mut first = Root { trees: Vec::new(), steps: Vec::new(), made };
        let mut then = Root { trees: Vec::new(), steps: Vec::new(), made: first.made.clone() };
        proc(&mut first);
        shm(&mut then);
        (first.steps, then.steps)
    }

    fn shared(&self, image: Option<&Path>) -> Root {
        let mut root = Root { trees: Vec::new(), steps: Vec::new(), made: BTreeSet::new() };
        for folder in &self.folders {
            root.attach_folder(system_tree(folder, READ_ONLY), folder);
        }
        for (target, path) in &self.links {
            root.steps.push(Step::Link(c_string(target), relative(path)));
        }
        self.etc(&mut root);
        devices(&mut root);
        root.folder("var");
        root.steps.push(Step::Link(c"/tmp".into(), c"var/tmp".into()));
        root.folder("run/errand");
        if let Some(image) = image {
            root.attach_folder(system_tree(image, READ_ONLY), Path::new(IMAGE_DIR));
        }
        root
    }

    fn etc(&self, root: &mut Root) {
        for (name, text) in [
            ("passwd", PASSWD),
            ("group", GROUP),
            ("hosts", HOSTS),
            ("hostname", "errand\n"),
            ("nsswitch.conf", NSSWITCH),
            ("resolv.conf", ""),
        ] {
            root.file(&format!("etc/{name}"), text.as_bytes().to_vec());
        }
        for path in &self.etc {
            let tree = system_tree(path, READ_ONLY | MOUNT_ATTR_NOEXEC);
            if path.is_dir() {
                root.attach_folder(tree, path);
            } else {
                root.attach_file(tree, path);
            }
        }
    }
}

/// Options of a bounded file system in memory.
pub(crate) fn tmpfs_options(bytes: u64, mode: &str) -> Vec<(CString, CString)> {
    // One inode for every 4 KiB, so that empty files cannot take more kernel memory than full ones.
    let inodes = (bytes / 4096).clamp(64, 65_536);
    [("size", bytes.to_string()), ("nr_inodes", inodes.to_string()), ("mode", mode.to_string())]
        .map(|(key, value)| (c_string(key), c_string(&value)))
        .into()
}

fn devices(root: &mut Root) {
    for device in DEVICES.map(Path::new) {
        // Read-only forbids changing the node; reading and writing a device is no write to its file system.
        let attr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
        root.attach_file(system_tree(device, attr), device);
    }
    for (target, path) in [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
    ] {
        root.steps.push(Step::Link(target.into(), path.into()));
    }
}

fn shm(root: &mut Root) {
    let attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    root.mount("tmpfs", &tmpfs_options(64 << 20, "1777"), attr, "dev/shm");
}

/// A `/proc` of the box's own process namespace; it must be mounted while the host's is still in view.
fn proc(root: &mut Root) {
    let attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    root.mount("proc", &[], attr, "proc");
    root.steps.push(Step::ReadOnly(c"proc/sys".into(), c"proc/sys".into()));
    for file in PROC_FILES {
        root.cover(file, "dev/null");
    }
    root.folder("var/empty");
    for folder in PROC_FOLDERS {
        root.cover(folder, "var/empty");
    }
}

/// The root being planned.
struct Root {
    trees: Vec<Tree>,
    steps: Vec<Step>,
    made: BTreeSet<PathBuf>,
}

impl Root {
    fn folder(&mut self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path);
        for part in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !part.as_os_str().is_empty() && self.made.insert(part.into()) {
                self.steps.push(Step::Dir(relative(part)));
            }
        }
    }

    fn file(&mut self, path: &str, bytes: Vec<u8>) {
        self.folder(Path::new(path).parent().unwrap_or(Path::new("")));
        self.steps.push(Step::File(c_string(path), bytes));
    }

    fn attach_folder(&mut self, tree: Tree, path: &Path) {
        self.folder(path);
        self.attach(tree, path);
    }

    fn attach_file(&mut self, tree: Tree, path: &Path) {
        self.file(&path.strip_prefix("/").unwrap_or(path).to_string_lossy(), Vec::new());
        self.attach(tree, path);
    }

    fn attach(&mut self, tree: Tree, path: &Path) {
        self.steps.push(Step::Attach(self.trees.len(), relative(path)));
        self.trees.push(tree);
    }

    fn mount(&mut self, kind: &str, options: &[(CString, CString)], attr: u64, path: &str) {
        self.folder(path);
        self.steps.push(Step::Mount(c_string(kind), options.to_vec(), attr, c_string(path)));
    }

    /// Hides something of the host's kernel, when this kernel has it.
    fn cover(&mut self, path: &str, with: &str) {
        if Path::new("/").join(path).exists() {
            self.steps.push(Step::ReadOnly(c_string(with), c_string(path)));
        }
    }
}

pub(crate) fn system_tree(path: &Path, attr: u64) -> Tree {
    Tree { source: c_string(path), identity: None, recursive: true, attr, fd: -1, _owned: None }
}

fn relative(path: &Path) -> CString {
    c_string(path.strip_prefix("/").unwrap_or(path))
}

/// These strings are constants, paths the system gave us, or checked before; none can hold a NUL.
pub(crate) fn c_string(text: impl AsRef<std::ffi::OsStr>) -> CString {
    CString::new(text.as_ref().as_bytes()).expect("paths from the system and checked arguments hold no NUL")
}
