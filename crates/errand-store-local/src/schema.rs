//! The database file: its tables, its settings, and the checks before it is trusted.

use crate::blobs::sync_folder;
use crate::{Error, FaultPlan};
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The newest schema this code knows; kept in `PRAGMA user_version`.
pub(crate) const SCHEMA: i64 = 2;

/// "Erra", kept in `PRAGMA application_id`.
const APPLICATION: i64 = 0x4572_7261;

/// How long another process may keep the database busy (only recovery after a crash does).
const BUSY: Duration = Duration::from_secs(5);

/// A record is a little over a kilobyte: small pages leave the least of them empty, and a commit writes whole pages.
/// Measured in `docs/adr/0003-sqlite-with-grouped-commits.md`.
const PAGE_BYTES: i64 = 1_024;

/// Pages that the writer keeps, in KiB: it only appends, and reads what it appends to.
const CACHE_KIB: i64 = 512;

/// Pages of SQLite's log after which it is merged into the database: about 4 MB.
const LOG_PAGES: i64 = 4_000;

/// A log that grew beyond this in a busy moment is cut off when it is merged.
const LOG_BYTES_KEPT: i64 = 16 << 20;

/// Bits of a slot that hold the record's number, see `records.slot`.
const NUMBER_BITS: u32 = 24;

/// The most records a run can have.
pub(crate) const RECORDS_MAX: u64 = (1 << NUMBER_BITS) - 1;

/// `records.slot` is the run's row and the record's number in one integer: the records of a run lie side by side, in
/// order, and need no second index.
///
/// A run's row carries no head: the head is its last record. `status` changes rarely, the rest never, so that a commit
/// writes one page and not two.
const TABLES: &str = "
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        epoch INTEGER NOT NULL,
        clean INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        run TEXT NOT NULL UNIQUE,
        status TEXT NOT NULL,
        ended INTEGER NOT NULL,
        started INTEGER NOT NULL,
        task TEXT NOT NULL,
        model TEXT NOT NULL,
        parent TEXT,
        due_at INTEGER,
        due_version INTEGER NOT NULL,
        tenant TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_by_tenant ON runs (tenant, run);
    CREATE INDEX runs_by_status ON runs (tenant, status, run);
    CREATE INDEX runs_unfinished ON runs (run) WHERE ended = 0;
    CREATE INDEX runs_due ON runs (due_at) WHERE due_at IS NOT NULL;
    CREATE TABLE records (
        slot INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,
        hash BLOB NOT NULL,
        bytes TEXT NOT NULL
    ) STRICT;
    CREATE TABLE items (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        key TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        item TEXT NOT NULL,
        UNIQUE (run, key)
    ) STRICT;
";

/// What the owner does to a database with schema 1, whose runs had no tenant.
const FROM_1: &str = "
    ALTER TABLE runs ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
    DROP INDEX runs_by_status;
    CREATE INDEX runs_by_tenant ON runs (tenant, run);
    CREATE INDEX runs_by_status ON runs (tenant, status, run);
";

/// The slot of record `number` of the run in row `row`.
pub(crate) fn slot(row: i64, number: u64) -> i64 {
    (row << NUMBER_BITS) | number.min(RECORDS_MAX) as i64
}

/// The number of the record in `slot`.
pub(crate) fn number(slot: i64) -> u64 {
    slot as u64 & RECORDS_MAX
}

/// Where the database lies in a data folder.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("errand.db")
}

/// The database, open for its only writer.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    /// It was made just now: the owner's epoch is the first, and has begun.
    pub(crate) is_new: bool,
}

/// The epoch of whoever makes a database.
pub(crate) const FIRST_EPOCH: i64 = 1;

/// Opens the database as its only writer, makes it if there is none.
pub(crate) fn open_owned(file: &Path, faults: &FaultPlan) -> Result<Opened, Error> {
    let is_new = length(file)? == 0;
    if is_new {
        create(file, faults)?;
    }
    // SQLite would open for reading what cannot be written.
    fs::OpenOptions::new().append(true).open(file).map_err(|error| Error::writing("open", file, error))?;
    check_length(file)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = |error| Error::sqlite(file, error);
    let connection = Connection::open_with_flags(file, flags).map_err(sqlite)?;
    connection.busy_timeout(BUSY).map_err(sqlite)?;
    let Some(found) = check_identity(&connection, file)? else {
        drop(connection);
        fs::remove_file(file).map_err(|error| Error::writing("replace", file, error))?;
        return open_owned(file, faults);
    };
    connection.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
    for (name, value) in [("synchronous", "FULL"), ("temp_store", "MEMORY")] {
        connection.pragma_update(None, name, value).map_err(sqlite)?;
    }
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(sqlite)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(sqlite)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(sqlite)?;
    if found < SCHEMA {
        migrate(&connection).map_err(sqlite)?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(Opened { connection, is_new })
}

/// Brings schema 1 to this code's, in one transaction.
fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(FROM_1)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

/// Makes the database aside and puts it in place when it is whole and on the disk: two syncs, where SQLite takes seven to
/// do the same step by step.
fn create(file: &Path, faults: &FaultPlan) -> Result<(), Error> {
    let fresh = fresh().map_err(|error| Error::sqlite(file, error))?;
    let aside = with_suffix(file, ".new");
    let failed = |error| Error::writing("write", &aside, error);
    // For the owner only; SQLite gives its side files the same rights.
    let opened = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside);
    let mut opened = opened.map_err(failed)?;
    opened.write_all(&fresh).and_then(|()| opened.sync_all()).map_err(failed)?;
    let folder = file.parent().unwrap_or(file);
    for suffix in ["-wal", "-shm", "-journal"] {
        // Left of a database that is gone, it would be taken for a part of this one, also after a power cut.
        match fs::remove_file(with_suffix(file, suffix)) {
            Ok(()) => sync_folder(folder)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::writing("replace", file, error)),
        }
    }
    let write = faults.before();
    fs::rename(&aside, file).map_err(|error| Error::writing("put in place", file, error))?;
    sync_folder(folder)?;
    faults.after(write);
    Ok(())
}

/// The bytes of a database with the tables and no runs.
fn fresh() -> rusqlite::Result<Vec<u8>> {
    let mut connection = Connection::open_in_memory()?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.execute_batch(TABLES)?;
    connection.execute("INSERT INTO meta (id, epoch, clean) VALUES (1, ?1, 0)", [FIRST_EPOCH])?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", SCHEMA)?;
    let mut bytes = connection.serialize("main")?.to_vec();
    // File format versions for writing and reading: 2 is a database with a log beside it,
    // <https://www.sqlite.org/fileformat2.html> section 1.3.3 (2026-11-21).
    if let Some(versions) = bytes.get_mut(18..20) {
        versions.fill(2);
    }
    Ok(bytes)
}

/// How readers get at the database.
#[derive(Debug)]
pub(crate) struct Reading {
    file: PathBuf,
    immutable: bool,
    // Holds the copy that `file` lies in, where the folder itself could not be read in place.
    _copy: Option<tempfile::TempDir>,
}

impl Reading {
    /// Readers beside the owner in this process.
    pub(crate) fn beside_owner(file: &Path) -> Self {
        Self { file: file.to_owned(), immutable: false, _copy: None }
    }

    /// Finds out how the database can be read without writing anything: with its log beside an owner, as an unchanging
    /// file where the disk is read-only and the log is empty, else from a copy of database and log.
    pub(crate) fn find(file: &Path) -> Result<Self, Error> {
        if !file.exists() {
            return Err(Error::Missing { path: file.parent().unwrap_or(file).to_owned() });
        }
        check_length(file)?;
        let plain = Self::beside_owner(file);
        let refused = match plain.open().and_then(|connection| check_readable(&connection, file)) {
            Ok(()) => return Ok(plain),
            Err(error @ (Error::ReadOnly { .. } | Error::Sqlite { .. })) => error,
            Err(error) => return Err(error),
        };
        tracing::debug!(error = %refused, "the database cannot be read in place; trying as an unchanging file");
        let other = if log_length(file) == 0 {
            Self { file: file.to_owned(), immutable: true, _copy: None }
        } else {
            Self::copied(file)?
        };
        other.open().and_then(|connection| check_readable(&connection, file))?;
        Ok(other)
    }

    fn copied(file: &Path) -> Result<Self, Error> {
        let failed = |error| Error::writing("copy to a temporary folder", file, error);
        let folder = tempfile::TempDir::new().map_err(failed)?;
        let copy = path(folder.path());
        fs::copy(file, &copy).map_err(failed)?;
        fs::copy(log_path(file), log_path(&copy)).map_err(failed)?;
        Ok(Self { file: copy, immutable: false, _copy: Some(folder) })
    }

    /// A connection that can only read.
    pub(crate) fn open(&self) -> Result<Connection, Error> {
        let sqlite = |error| Error::sqlite(&self.file, error);
        // A copy is ours to write to: its log has to be recovered.
        let access = match self._copy {
            Some(_) => OpenFlags::SQLITE_OPEN_READ_WRITE,
            None => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(self.uri(), flags).map_err(sqlite)?;
        connection.busy_timeout(BUSY).map_err(sqlite)?;
        connection.pragma_update(None, "cache_size", -1_024).map_err(sqlite)?;
        Ok(connection)
    }

    fn uri(&self) -> String {
        use std::os::unix::ffi::OsStrExt;
        let mut uri = String::from("file:");
        for byte in self.file.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
                other => uri.push_str(&format!("%{other:02X}")),
            }
        }
        if self.immutable {
            uri.push_str("?immutable=1");
        }
        uri
    }
}

fn check_readable(connection: &Connection, file: &Path) -> Result<(), Error> {
    match check_identity(connection, file)? {
        Some(SCHEMA) => Ok(()),
        Some(found) => Err(Error::Older { path: file.to_owned(), found, known: SCHEMA }),
        None => Err(Error::Missing { path: file.parent().unwrap_or(file).to_owned() }),
    }
}

/// Makes sure that the database is ours and not newer than this code. Its schema; `None` if it is empty.
fn check_identity(connection: &Connection, file: &Path) -> Result<Option<i64>, Error> {
    let ask = |question: &str| {
        connection.query_row(question, [], |row| row.get::<_, i64>(0)).map_err(|error| Error::sqlite(file, error))
    };
    let application = ask("SELECT application_id FROM pragma_application_id")?;
    let version = ask("SELECT user_version FROM pragma_user_version")?;
    let tables = ask("SELECT count(*) FROM sqlite_master")?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(None);
    }
    if application != APPLICATION {
        return Err(Error::NotErrand { path: file.to_owned(), found: "errand.db was made by another program".to_owned() });
    }
    if version > SCHEMA {
        return Err(Error::Newer { path: file.to_owned(), found: version, known: SCHEMA });
    }
    Ok(Some(version))
}

/// Finds a file that was cut off: SQLite itself would notice only when it comes to a missing page.
fn check_length(file: &Path) -> Result<(), Error> {
    let failed = |error| Error::reading("read", file, error);
    let mut header = Vec::with_capacity(100);
    let opened = fs::File::open(file).map_err(failed)?;
    let length = opened.metadata().map_err(failed)?.len();
    opened.take(100).read_to_end(&mut header).map_err(failed)?;
    if length == 0 || log_length(file) > 0 {
        return Ok(());
    }
    let corrupt = |reason: String| Err(Error::Corrupt { path: file.to_owned(), reason });
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return corrupt("it does not begin as an SQLite database".to_owned());
    }
    // Offsets 16 and 28 of the database header, <https://www.sqlite.org/fileformat2.html> section 1.3 (2026-11-21).
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        bytes => bytes,
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    match pages * page {
        expected if length < expected => corrupt(format!("it has {length} of {expected} bytes")),
        _ => Ok(()),
    }
}

fn log_path(file: &Path) -> PathBuf {
    with_suffix(file, "-wal")
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// 0 for a file that is not there.
fn length(file: &Path) -> Result<u64, Error> {
    match fs::metadata(file) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::reading("read", file, error)),
    }
}

fn log_length(file: &Path) -> u64 {
    fs::metadata(log_path(file)).map_or(0, |metadata| metadata.len())
}
