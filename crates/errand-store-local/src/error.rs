//! What can go wrong with a data folder: each with a stable code, and what to do.

use errand_core::{Hash, LogError, RunId, Timestamp};
use errand_engine::ports::PortError;
use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};

/// A data folder, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to read.
    #[error("there is no data folder at {path}: start a run first, or name another folder with --data")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The path leads to something that is not a folder.
    #[error("{path} is not a folder: name another one with --data")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder belongs to something else.
    #[error("{path} is not an Errand data folder ({found}): name an empty or a new folder with --data")]
    NotErrand {
        /// The folder or file.
        path: PathBuf,
        /// What is there in its place.
        found: String,
    },
    /// Nothing can be written there.
    #[error(
        "{path} cannot be written to ({reason}): change its permissions, or name another folder with --data; \
             commands that only read still work"
    )]
    ReadOnly {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It may not even be read.
    #[error("{path} cannot be read ({reason}): change its permissions, or use the account that owns it")]
    Denied {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Another process owns the folder.
    #[error(
        "the data folder {path} is in use by process {pid} (`{command}`, since {}): let it finish or stop it, \
             or name another folder with --data; commands that only read work beside it",
        utc(*since)
    )]
    Held {
        /// The folder.
        path: PathBuf,
        /// The process; 0 if it did not say.
        pid: u32,
        /// What it was started as.
        command: String,
        /// Since when it owns the folder.
        since: Timestamp,
    },
    /// The disk is full. What was acknowledged is safe.
    #[error("the disk that holds {path} is full: free some space; everything stored so far is safe")]
    Full {
        /// The folder or file.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error("the database {path} is damaged ({reason}): move it away and restore a copy; nothing was changed in it")]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database was written by a newer version.
    #[error("the database {path} has schema {found}, this version reads up to {known}: use a newer errand")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema this code knows.
        known: i64,
    },
    /// The database was written by an older version, and is only being read.
    #[error("the database {path} has schema {found}, this version reads {known}: `errand resume` brings it up to date")]
    Older {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema this code reads.
        known: i64,
    },
    /// The secret of the API keys is gone.
    #[error(
        "{path} is gone, and without it no API key is right: restore it from a copy, or remove `heads/key.*` beside it \
             to begin anew without keys"
    )]
    KeySecretMissing {
        /// The secret.
        path: PathBuf,
    },
    /// Others may read the secret of the API keys.
    #[error("{path} can be read by others (its mode is {mode:o}): `chmod 600` it; if somebody has, make all keys anew")]
    KeySecretOpen {
        /// The secret.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The secret of the API keys is not what was written.
    #[error("{path} does not hold 64 hexadecimal digits: restore it from a copy; without it no API key is right")]
    KeySecretDamaged {
        /// The secret.
        path: PathBuf,
    },
    /// A run's log is not what was written.
    #[error("run {run}: {source}")]
    Ledger {
        /// Which run.
        run: RunId,
        /// What is wrong with it, naming the record.
        source: LogError,
    },
    /// An item or a row cannot be understood.
    #[error("run {run}: the stored {what} cannot be read ({reason}): restore a copy of the data folder")]
    Unreadable {
        /// Which run.
        run: String,
        /// What was to be read.
        what: String,
        /// What the parser says.
        reason: String,
    },
    /// A blob's bytes do not give its digest.
    #[error("blob {hash} at {path} is damaged: restore a copy of that file")]
    BlobDamaged {
        /// Which blob.
        hash: Hash,
        /// Its file.
        path: PathBuf,
    },
    /// There is no such run to write to.
    #[error("there is no run {run}: list the runs there are with `errand runs`")]
    UnknownRun {
        /// Which run.
        run: RunId,
    },
    /// A record was to be stored that does not follow the last one.
    #[error("record {number} of run {run} does not follow record {last}: load the run again")]
    Gap {
        /// Which run.
        run: RunId,
        /// The number of the record that was to be stored.
        number: u64,
        /// The number of the last one there is.
        last: u64,
    },
    /// The run has as many records as a run can have.
    #[error("run {run} has {most} records, the most a run can have: fork it at an earlier record")]
    LogFull {
        /// Which run.
        run: RunId,
        /// That many.
        most: u64,
    },
    /// The folder was opened for reading only.
    #[error("the data folder {path} was opened for reading only: this command may not write")]
    ReadMode {
        /// The folder.
        path: PathBuf,
    },
    /// The store was closed.
    #[error("the data folder {path} is closed: the process is shutting down")]
    Closed {
        /// The folder.
        path: PathBuf,
    },
    /// Another process keeps the database busy for longer than is waited.
    #[error("the database {path} is busy: try again")]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// SQLite said no.
    #[error("the database {path} failed: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Missing { .. } => "data_missing",
            Error::NotAFolder { .. } => "data_not_a_folder",
            Error::NotErrand { .. } => "data_not_errand",
            Error::ReadOnly { .. } => "data_read_only",
            Error::Denied { .. } => "data_denied",
            Error::Held { .. } => "data_held",
            Error::Full { .. } => "disk_full",
            Error::Corrupt { .. } => "data_corrupt",
            Error::Newer { .. } => "data_newer",
            Error::Older { .. } => "data_older",
            Error::KeySecretMissing { .. } => "key_secret_missing",
            Error::KeySecretOpen { .. } => "key_secret_open",
            Error::KeySecretDamaged { .. } => "key_secret_damaged",
            Error::Ledger { source: LogError::Record(errand_core::RecordError::Newer { .. }), .. } => "data_newer",
            Error::Ledger { .. } => "ledger_broken",
            Error::Unreadable { .. } => "data_unreadable",
            Error::BlobDamaged { .. } => "blob_damaged",
            Error::UnknownRun { .. } => "run_unknown",
            Error::Gap { .. } => "record_gap",
            Error::LogFull { .. } => "log_full",
            Error::ReadMode { .. } => "data_read_mode",
            Error::Closed { .. } => "data_closed",
            Error::Busy { .. } => "data_busy",
            Error::Io { .. } => "data_io",
            Error::Sqlite { .. } => "data_sqlite",
        }
    }

    /// Sorts what the file system said of writing.
    pub(crate) fn writing(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { path: path.to_owned() },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Error::ReadOnly { path: path.to_owned(), reason: source.to_string() }
            }
            _ => Error::Io { action, path: path.to_owned(), source },
        }
    }

    /// Sorts what the file system said of reading.
    pub(crate) fn reading(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied { path: path.to_owned(), reason: source.to_string() },
            _ => Error::Io { action, path: path.to_owned(), source },
        }
    }

    /// Sorts what SQLite said.
    pub(crate) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::Full { path },
            Some(ErrorCode::DatabaseCorrupt) => Error::Corrupt { path, reason: source.to_string() },
            Some(ErrorCode::NotADatabase) => {
                Error::Corrupt { path, reason: "it does not begin as an SQLite database".to_owned() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::ReadOnly { path, reason: source.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy { path },
            _ => Error::Sqlite { path, source },
        }
    }
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        match error {
            Error::Busy { .. } => PortError::Retry { message: error.to_string() },
            _ => PortError::Broken { code: error.code(), message: error.to_string() },
        }
    }
}

/// A time as people read it, to the second.
fn utc(time: Timestamp) -> String {
    let seconds = time.as_millis() / 1_000;
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of a day since 1970, by counting the days of years and months down.
fn date(mut days: u64) -> (u64, usize, u64) {
    // The calendar repeats every 400 years, so a far time costs no long loop.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_read_them() {
        let told = |seconds: u64| utc(Timestamp::from_millis(seconds * 1_000 + 999));
        assert_eq!(told(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(told(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(told(1_798_761_599), "2026-12-31 23:59:59 UTC");
        assert_eq!(told(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }
}
