//! Workspaces with a hard bound: a file system of its own in a file of fixed size, for a runner that is root.
//!
//! The file is reserved on the disk when it is made, so neither the box nor its neighbours can run it out of room. It is
//! mounted in a mount namespace that one thread of this process has to itself: nobody else sees it, and when the process is
//! gone, however it ended, the kernel undoes the mount and lets go of the loop device.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, openat};

use super::launch::{clone_tree, setup, text};
use super::plan::{Stage, Tree};
use super::spawner::Spawner;
use super::sys::{self, Errno, call, check};
use super::view::c_string;
use crate::error::{Error, Result};

const LOOP_CTL_GET_FREE: u32 = 0x4C82;
const LOOP_CONFIGURE: u32 = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Others may take a free device first.
const LOOP_TRIES: u32 = 64;
/// Below it the file system itself takes too great a part.
pub(crate) const BYTES_MIN: u64 = 4 << 20;
/// The folder of the file system that is the workspace; beside it lies what only root sees.
const FOLDER: &str = "workspace";

/// The thread that has the mount namespace. There is one in a process.
#[derive(Debug)]
struct Keeper {
    thread: Spawner,
}

/// A mounted volume; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    keeper: Arc<Keeper>,
    place: CString,
    /// The workspace in it.
    source: CString,
}

/// Whether sessions can have workspaces of fixed size on this host: makes one, fills it past its end and removes it.
///
/// # Errors
/// [`Error::NoVolume`] with the reason, or [`Error::Io`].
pub fn try_volume() -> Result<()> {
    let folder = super::probe::private_temporary()?;
    let tried = try_in(&folder);
    // What could not be removed is a small file in the system's temporary folder.
    let _ = std::fs::remove_dir_all(&folder);
    tried
}

fn try_in(folder: &Path) -> Result<()> {
    let (file, place) = (folder.join("volume"), folder.join("place"));
    std::fs::create_dir(&place).map_err(|e| Error::io("trying a volume", &place, e))?;
    make(&file, BYTES_MIN, 16)?;
    let (_volume, workspace) = Volume::open(&file, &place)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let hog = openat(&workspace, c"hog", flags, Mode::RUSR).map_err(|e| Error::io("trying a volume", &place, e))?;
    let bytes = vec![0u8; 1 << 20];
    for _ in 0..=BYTES_MIN >> 20 {
        match rustix::io::write(&hog, &bytes) {
            Ok(_) => {}
            Err(rustix::io::Errno::NOSPC) => return Ok(()),
            Err(e) => return Err(Error::io("trying a volume", &place, e)),
        }
    }
    Err(no_volume("it took more than it holds"))
}

/// Makes the file of a volume, with an empty file system of that many bytes and files in it.
pub(crate) fn make(file: &Path, bytes: u64, files: u64) -> Result<()> {
    let io = |e: std::io::Error| Error::io("making a workspace of fixed size", file, e);
    keeper()?;
    let made = File::create_new(file).map_err(io)?;
    fallocate(&made, FallocateFlags::empty(), 0, bytes).map_err(|e| io(e.into()))?;
    let mkfs = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].into_iter().find(|path| Path::new(path).exists());
    let mkfs = mkfs.ok_or_else(|| no_volume("mkfs.ext4 is missing: install e2fsprogs"))?;
    // Without a journal: what a crash of the host leaves of a workspace is in its snapshot. A dozen inodes are the file
    // system's own.
    let inodes = (files + 16).max(32).to_string();
    let mut command = Command::new(mkfs);
    command.args([
        "-q",
        "-F",
        "-b",
        "4096",
        "-m",
        "0",
        "-O",
        "^has_journal,^resize_inode",
        "-E",
        "nodiscard,lazy_itable_init=1",
        "-N",
        &inodes,
    ]);
    let output = command.arg(file).stdin(Stdio::null()).env_clear().output().map_err(io)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(no_volume(&super::run::last_words(&output.stderr))),
    }
}

impl Volume {
    /// Mounts the volume at `place`, which only this process's thread sees; gives it with its workspace's folder.
    pub(crate) fn open(file: &Path, place: &Path) -> Result<(Volume, OwnedFd)> {
        let keeper = keeper()?;
        let backing =
            File::options().read(true).write(true).open(file).map_err(|e| Error::io("opening a volume", file, e))?;
        let (at, source) = (c_string(place), c_string(place.join(FOLDER)));
        let (device, name) = attach(&backing).map_err(|errno| no_volume(&format!("no loop device: {}", text(errno))))?;
        let (inner_at, inner_source) = (at.clone(), source.clone());
        let done = keeper.thread.run(move || {
            let opened = mount(&name, &inner_at).and_then(|()| folder(&inner_source));
            if opened.is_err() {
                unmount(&inner_at);
            }
            // Once it is mounted the device goes with the mount.
            drop(device);
            opened
        });
        let workspace = done.unwrap_or(Err(libc::ESRCH)).map_err(|errno| no_volume(&text(errno)))?;
        Ok((Volume { keeper, place: at, source }, workspace))
    }

    /// A copy of the mount for a box.
    pub(crate) fn tree(&self, tree: Tree) -> Result<Tree> {
        let tree = Tree { source: self.source.clone(), ..tree };
        self.keeper.thread.run(move || clone_tree(tree)).unwrap_or_else(|| Err(setup(Stage::HostFolder, libc::ESRCH)))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let place = self.place.clone();
        self.keeper.thread.run(move || unmount(&place));
    }
}

fn no_volume(reason: &str) -> Error {
    Error::NoVolume { reason: reason.into() }
}

fn keeper() -> Result<Arc<Keeper>> {
    static KEEPER: Mutex<Weak<Keeper>> = Mutex::new(Weak::new());
    let mut known = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(keeper) = known.upgrade() {
        return Ok(keeper);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(no_volume("only root can mount them"));
    }
    let thread = Spawner::start().map_err(|e| Error::io("starting a thread", "volumes", e))?;
    let apart = thread.run(|| {
        check(call!(libc::SYS_unshare, libc::CLONE_NEWNS))?;
        let none = std::ptr::null::<u8>();
        check(call!(libc::SYS_mount, none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none)).map(drop)
    });
    apart.unwrap_or(Err(libc::ESRCH)).map_err(|errno| no_volume(&text(errno)))?;
    let keeper = Arc::new(Keeper { thread });
    *known = Arc::downgrade(&keeper);
    Ok(keeper)
}

fn mount(device: &CStr, place: &CStr) -> std::result::Result<(), Errno> {
    let options = [(c"source", device)];
    let mount = sys::new_mount(c"ext4", &options, sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV)?;
    let moved = sys::move_mount(mount, libc::AT_FDCWD, place);
    sys::close(mount);
    moved
}

fn unmount(place: &CStr) {
    // Where it was not mounted there is nothing to undo.
    let _ = check(call!(libc::SYS_umount2, place.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW));
}

/// Opens the workspace, which is made the first time.
fn folder(path: &CStr) -> std::result::Result<OwnedFd, Errno> {
    match sys::mkdirat(libc::AT_FDCWD, path, 0o700) {
        Ok(()) | Err(libc::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(|errno| errno.raw_os_error())
}

/// The argument of `LOOP_CONFIGURE` (linux/loop.h): the numbers that matter among 304 bytes.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// Device, inode, its device, offset, limit of size.
    numbers: [u64; 5],
    /// Number, two of encryption, flags.
    small: [u32; 4],
    names: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// A loop device over the file, which is gone when nobody has it open or mounted; and its path.
fn attach(file: &File) -> std::result::Result<(OwnedFd, CString), Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let raw = |errno: rustix::io::Errno| errno.raw_os_error();
    let control = openat(rustix::fs::CWD, c"/dev/loop-control", flags, Mode::empty()).map_err(raw)?;
    let mut config = LoopConfig {
        fd: file.as_raw_fd() as u32,
        block_size: 0,
        numbers: [0; 5],
        small: [0, 0, 0, LO_FLAGS_AUTOCLEAR],
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    for _ in 0..LOOP_TRIES {
        let number = check(call!(libc::SYS_ioctl, control.as_raw_fd(), LOOP_CTL_GET_FREE, 0))?;
        let name = c_string(format!("/dev/loop{number}"));
        let device = sys::openat(libc::AT_FDCWD, &name, libc::O_RDWR, 0)?;
        // SAFETY: `openat` just gave us this descriptor.
        let device = unsafe { OwnedFd::from_raw_fd(device as RawFd) };
        match check(call!(libc::SYS_ioctl, device.as_raw_fd(), LOOP_CONFIGURE, &raw mut config)) {
            Err(libc::EBUSY) => {}
            other => return other.map(|_| (device, name)),
        }
    }
    Err(libc::EBUSY)
}
