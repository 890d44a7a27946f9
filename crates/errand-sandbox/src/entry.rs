//! What listings, reads and searches of a workspace give.

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; never followed from outside.
    Link,
    /// A FIFO, socket or device: neither read nor kept in snapshots.
    Other,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Path from the workspace.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes, for files; else 0.
    pub size: u64,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRange {
    /// The bytes asked for; fewer at the end of the file.
    pub bytes: Vec<u8>,
    /// Size of the whole file.
    pub size: u64,
}

/// A line that contains what was searched for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hit {
    /// Path from the workspace.
    pub path: String,
    /// Line number, from 1.
    pub line: u64,
    /// The line, cut to 400 characters.
    pub text: String,
}
