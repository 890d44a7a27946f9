//! What is told of sessions without opening them.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use super::{Record, Sessions, open_folder, read_record};
use crate::config::Listed;
use crate::error::{Error, Result};

impl Sessions {
    /// All sessions, sorted by id, with what their records say. One that goes meanwhile is left out.
    ///
    /// # Errors
    /// As [`Sessions::list`].
    pub fn listed(&self) -> Result<Vec<Listed>> {
        Ok(self.list()?.into_iter().filter_map(|id| self.look(id).ok()).collect())
    }

    fn look(&self, id: String) -> Result<Listed> {
        let path = self.root.join(&id);
        let io = |e: std::io::Error| Error::io("looking at a session", &path, e);
        let folder = open_folder(&self.dir, Path::new(&id))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&folder, "session.json", flags, Mode::empty()).map_err(|e| io(e.into()))?);
        let in_use = match flock(&file, FlockOperation::NonBlockingLockShared) {
            // Let go of at once, lest somebody who opens the session finds it taken.
            Ok(()) => flock(&file, FlockOperation::Unlock).is_err(),
            Err(Errno::WOULDBLOCK) => true,
            Err(e) => return Err(io(e.into())),
        };
        let used = file.metadata().and_then(|metadata| metadata.modified()).map_err(io)?;
        // Where the file system does not keep it, it is not told.
        let made = File::from(folder).metadata().and_then(|metadata| metadata.created()).ok();
        // Half written is what somebody is writing.
        let Record { image, volume, grant, .. } = read_record(&mut file).unwrap_or_default();
        Ok(Listed { id, in_use, image, volume, has_grant: grant.is_some(), made, used })
    }
}

/// Notes that a session is used now. Nothing depends on it.
pub(super) fn used_now(record: &File) {
    let _ = record.set_modified(SystemTime::now());
}
