//! What a workspace holds, as canonical bytes with a hash.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::path;

/// Files are cut into pieces of this many bytes; the last may be shorter.
pub const CHUNK_BYTES: u64 = 4 << 20;
/// No manifest lists more than this.
const ENTRIES_MAX: usize = 500_000;
const SCHEMA: u32 = 1;

/// The content of a workspace: equal content gives equal bytes and an equal hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) entries: BTreeMap<String, Node>,
}

/// What lies at a path of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Node {
    /// A plain file.
    File {
        /// Bytes.
        size: u64,
        /// Mode 0755, else 0644.
        executable: bool,
        /// Lower-case hex SHA-256 of each piece of [`CHUNK_BYTES`], in order.
        chunks: Vec<String>,
    },
    /// A folder, mode 0755.
    Folder,
    /// A symbolic link, recorded as it is and never followed.
    Link {
        /// Its text.
        target: String,
    },
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: u32,
    entries: BTreeMap<String, Node>,
}

/// How a path differs between two manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only in the later one.
    Added,
    /// In both, and not the same.
    Changed,
    /// Only in the earlier one.
    Removed,
}

/// One difference between two manifests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// Path from the workspace.
    pub path: String,
    /// How it differs.
    pub kind: ChangeKind,
}

impl Manifest {
    /// Paths and what lies there, sorted.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The canonical bytes: JSON without blanks, paths sorted by their bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written { schema: SCHEMA, entries: self.entries.clone() };
        serde_json::to_vec(&written).expect("strings and numbers always have a JSON form")
    }

    /// SHA-256 of the canonical bytes.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// Reads canonical bytes, trusting nothing in them.
    ///
    /// # Errors
    /// [`Error::ManifestRefused`] for anything this crate would not have written: paths that leave the workspace, entries
    /// beneath something that is no folder, pieces that do not fit the size, other orders or spellings.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest> {
        let refuse = |reason: String| Err(Error::ManifestRefused { reason });
        let written: Written = match serde_json::from_slice(bytes) {
            Ok(written) => written,
            Err(e) => return refuse(format!("it cannot be read ({e})")),
        };
        if written.schema != SCHEMA {
            return refuse(format!("its schema is {}, this version reads {SCHEMA}", written.schema));
        }
        if written.entries.len() > ENTRIES_MAX {
            return refuse(format!("it lists more than {ENTRIES_MAX} files"));
        }
        let manifest = Manifest { entries: written.entries };
        for (path, node) in &manifest.entries {
            if let Err(reason) = manifest.check(path, node) {
                return refuse(format!("{path:?} {reason}"));
            }
        }
        if manifest.to_bytes() != bytes {
            return refuse("its bytes are not in canonical form".into());
        }
        Ok(manifest)
    }

    fn check(&self, path: &str, node: &Node) -> std::result::Result<(), &'static str> {
        if path::checked_file(path).ok().as_deref() != Some(path) {
            return Err("is no plain path in the workspace");
        }
        let (parent, _) = path::split(path);
        if !parent.is_empty() && self.entries.get(parent) != Some(&Node::Folder) {
            return Err("lies beneath something that is no folder");
        }
        match node {
            Node::File { size, chunks, .. } => {
                let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
                if chunks.len() as u64 != size.div_ceil(CHUNK_BYTES) {
                    return Err("has a size that does not fit its pieces");
                }
                if chunks.iter().any(|hash| hash.len() != 64 || !hash.bytes().all(hex)) {
                    return Err("names a piece by something that is no SHA-256");
                }
            }
            Node::Link { target } if target.is_empty() || target.len() > 4000 || target.contains('\0') => {
                return Err("is a link with an impossible text");
            }
            Node::Folder | Node::Link { .. } => {}
        }
        Ok(())
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        let size = |node: &Node| if let Node::File { size, .. } = node { *size } else { 0 };
        self.entries.values().map(size).fold(0, u64::saturating_add)
    }

    /// What differs in `later`, sorted by path.
    pub fn diff(&self, later: &Manifest) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, node) in &self.entries {
            let kind = match later.entries.get(path) {
                None => ChangeKind::Removed,
                Some(other) if other != node => ChangeKind::Changed,
                Some(_) => continue,
            };
            changes.push(Change { path: path.clone(), kind });
        }
        let added = later.entries.keys().filter(|path| !self.entries.contains_key(*path));
        changes.extend(added.map(|path| Change { path: path.clone(), kind: ChangeKind::Added }));
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        changes
    }
}

/// Lower-case hex.
#[cfg(target_os = "linux")]
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a checked hash.
#[cfg(target_os = "linux")]
pub(crate) fn unhex(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (place, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |c: &u8| (*c as char).to_digit(16).unwrap_or(0) as u8;
        *place = pair.iter().fold(0, |value, c| value << 4 | digit(c));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        match Manifest::from_bytes(json.as_bytes()) {
            Err(Error::ManifestRefused { reason }) => reason,
            other => panic!("not refused: {json}: {other:?}"),
        }
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let entries = |inner: &str| format!(r#"{{"schema":1,"entries":{{{inner}}}}}"#);
        let file = r#"{"kind":"file","size":0,"executable":false,"chunks":[]}"#;
        for path in ["/etc/cron.d/x", "../x", "a/../../x", "", ".", "a//b", "a/", "/workspace/a"] {
            assert!(refused(&entries(&format!("{path:?}:{file}"))).contains("plain path"), "{path}");
        }
        let link = r#"{"kind":"link","target":"/etc"}"#;
        assert!(refused(&entries(&format!(r#""a":{link},"a/passwd":{file}"#))).contains("no folder"));
        assert!(refused(&entries(&format!(r#""a":{file},"a/b":{file}"#))).contains("no folder"));
        assert!(refused(&entries(&format!(r#""a/b":{file}"#))).contains("no folder"));
        assert!(refused(&entries(r#""a":{"kind":"file","size":9,"executable":false,"chunks":[]}"#)).contains("size"));
        assert!(
            refused(&entries(r#""a":{"kind":"file","size":9,"executable":false,"chunks":["../../x"]}"#)).contains("SHA-256")
        );
        assert!(refused(&entries(r#""a":{"kind":"link","target":""}"#)).contains("text"));
        assert!(refused(&entries(r#""a":{"kind":"device"}"#)).contains("read"));
        assert!(refused(&entries(&format!(r#""b":{file},"a":{file}"#))).contains("canonical"));
        assert!(refused(&entries(r#""a":{"kind":"folder","mode":4095}"#)).contains("canonical"));
        assert!(refused(r#"{"schema":2,"entries":{}}"#).contains("schema"));
        assert!(refused("{").contains("read"));
    }

    #[test]
    fn bytes_survive_and_differences_are_listed() {
        let file = |hash: &str| Node::File { size: 1, executable: true, chunks: vec![hash.repeat(32)] };
        let before =
            Manifest { entries: [("a".into(), file("00")), ("b".into(), Node::Folder), ("c".into(), file("11"))].into() };
        let after =
            Manifest { entries: [("a".into(), file("ff")), ("b".into(), Node::Folder), ("d".into(), file("11"))].into() };
        assert_eq!(Manifest::from_bytes(&before.to_bytes()).unwrap(), before);
        assert_ne!(before.hash(), after.hash());
        let changes: Vec<_> = before.diff(&after).into_iter().map(|c| (c.path, c.kind)).collect();
        let wanted = [("a", ChangeKind::Changed), ("c", ChangeKind::Removed), ("d", ChangeKind::Added)]
            .map(|(p, k)| (p.to_string(), k));
        assert_eq!(changes, wanted);
        #[cfg(target_os = "linux")]
        assert_eq!(unhex(&hex(&after.hash())), after.hash());
    }
}
