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
    /// Permission bits; 0 for links.
    pub mode: u32,
    /// When its content changed last, in milliseconds since 1970. Snapshots do not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_ms: Option<i64>,
    /// What a link says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EntryPage {
    /// Sorted by path.
    pub entries: Vec<Entry>,
    /// If there are more: what to give as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Most entries of a page.
pub const PAGE_ENTRIES_MAX: usize = 1000;

/// Keeps the first entries after a path, in order, without keeping all of them.
#[derive(Debug)]
pub(crate) struct Paging {
    after: Option<String>,
    most: usize,
    first: std::collections::BTreeMap<String, Entry>,
    more: bool,
}

impl Paging {
    pub(crate) fn new(after: Option<&str>, most: usize) -> Paging {
        let most = most.clamp(1, PAGE_ENTRIES_MAX);
        Paging { after: after.map(str::to_owned), most, first: std::collections::BTreeMap::new(), more: false }
    }

    /// Whether an entry at this path would be on the page, as far as is known.
    pub(crate) fn wants(&mut self, path: &str) -> bool {
        if self.after.as_deref().is_some_and(|after| path <= after) {
            return false;
        }
        let beyond =
            self.first.len() >= self.most && self.first.last_key_value().is_some_and(|(last, _)| path > last.as_str());
        self.more |= beyond;
        !beyond
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        self.first.insert(entry.path.clone(), entry);
        if self.first.len() > self.most {
            self.first.pop_last();
            self.more = true;
        }
    }

    pub(crate) fn page(self) -> EntryPage {
        let entries: Vec<Entry> = self.first.into_values().collect();
        let next = entries.last().filter(|_| self.more).map(|last| last.path.clone());
        EntryPage { entries, next }
    }
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
