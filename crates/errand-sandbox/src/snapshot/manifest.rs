//! What a workspace holds, as canonical bytes with a hash.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::path;

/// No chunk of a manifest is longer. Those that this version cuts are shorter still; so it can be raised without a new form.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// No manifest lists more than this.
const ENTRIES_MAX: usize = 500_000;
const SCHEMA: u32 = 2;

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
        /// What it consists of, in order; together they have its size.
        chunks: Vec<Chunk>,
    },
    /// A folder, mode 0755.
    Folder,
    /// A symbolic link, recorded as it is and never followed.
    Link {
        /// Its text.
        target: String,
    },
}

/// A part of a file. Written as `["lower-case hex SHA-256",bytes]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// SHA-256 of its bytes.
    pub hash: [u8; 32],
    /// How many bytes it has: 1 to [`CHUNK_BYTES_MAX`].
    pub bytes: u32,
}

impl serde::Serialize for Chunk {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (hex(&self.hash), self.bytes).serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Chunk {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Chunk, D::Error> {
        let (text, bytes) = <(std::borrow::Cow<'_, str>, u32)>::deserialize(deserializer)?;
        let hash =
            unhex(&text).ok_or_else(|| serde::de::Error::custom("a chunk is named by something that is no SHA-256"))?;
        Ok(Chunk { hash, bytes })
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    schema: u32,
    entries: BTreeMap<String, Node>,
}

#[derive(serde::Serialize)]
struct Written<'a> {
    schema: u32,
    entries: &'a BTreeMap<String, Node>,
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

    /// The manifest with this digest.
    ///
    /// # Errors
    /// [`Error::Chunk`] if it is missing or damaged, [`Error::Store`], [`Error::ManifestRefused`].
    pub fn fetch(store: &dyn super::ChunkStore, hash: &[u8; 32]) -> Result<Manifest> {
        let wrong = |problem| Error::Chunk { hash: hex(hash), path: "the manifest".into(), problem };
        let bytes = store.get(hash).map_err(|source| Error::Store { action: "read a manifest", source })?;
        let bytes = bytes.ok_or_else(|| wrong("missing"))?;
        if Sha256::digest(&bytes)[..] != *hash {
            return Err(wrong("damaged"));
        }
        Manifest::from_bytes(&bytes)
    }

    /// What lies at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.entries.get(path)
    }

    /// All chunks of all files, as often as they occur.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.entries.values().flat_map(|node| match node {
            Node::File { chunks, .. } => chunks.as_slice(),
            Node::Folder | Node::Link { .. } => &[],
        })
    }

    /// The canonical bytes: JSON without blanks, paths sorted by their bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written { schema: SCHEMA, entries: &self.entries };
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
        let written: Read = match serde_json::from_slice(bytes) {
            Ok(written) => written,
            Err(e) => {
                return refuse(match schema_of(bytes) {
                    Some(other) if other != SCHEMA => format!("its schema is {other}, this version reads {SCHEMA}"),
                    _ => format!("it cannot be read ({e})"),
                });
            }
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
                if chunks.iter().any(|chunk| chunk.bytes == 0 || chunk.bytes > CHUNK_BYTES_MAX) {
                    return Err("has a chunk of an impossible size");
                }
                if chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum::<u64>() != *size {
                    return Err("has a size that does not fit its chunks");
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

/// The schema that bytes of another form claim.
fn schema_of(bytes: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Claim {
        schema: u32,
    }
    serde_json::from_slice::<Claim>(bytes).ok().map(|claim| claim.schema)
}

/// Lower-case hex.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    hash.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]].map(char::from)).collect()
}

/// The bytes of a hash in lower-case hex; none for anything else.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (place, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *place = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
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
        let entries = |inner: &str| format!(r#"{{"schema":2,"entries":{{{inner}}}}}"#);
        let file = r#"{"kind":"file","size":0,"executable":false,"chunks":[]}"#;
        for path in ["/etc/cron.d/x", "../x", "a/../../x", "", ".", "a//b", "a/", "/workspace/a"] {
            assert!(refused(&entries(&format!("{path:?}:{file}"))).contains("plain path"), "{path}");
        }
        let link = r#"{"kind":"link","target":"/etc"}"#;
        assert!(refused(&entries(&format!(r#""a":{link},"a/passwd":{file}"#))).contains("no folder"));
        assert!(refused(&entries(&format!(r#""a":{file},"a/b":{file}"#))).contains("no folder"));
        assert!(refused(&entries(&format!(r#""a/b":{file}"#))).contains("no folder"));
        assert!(refused(&entries(r#""a":{"kind":"file","size":9,"executable":false,"chunks":[]}"#)).contains("size"));
        let of = |size: u64, chunk: &str| {
            refused(&entries(&format!(r#""a":{{"kind":"file","size":{size},"executable":false,"chunks":[{chunk}]}}"#)))
        };
        assert!(of(9, r#"["../../x",9]"#).contains("SHA-256"));
        assert!(of(9, &format!(r#"["{}",9]"#, "AB".repeat(32))).contains("SHA-256"));
        assert!(of(9, &format!(r#"["{}",9]"#, "é".repeat(32))).contains("SHA-256"));
        let hash = "ab".repeat(32);
        assert!(of(9, &format!(r#"["{hash}",8]"#)).contains("fit"));
        assert!(of(0, &format!(r#"["{hash}",0]"#)).contains("impossible"));
        assert!(of(u64::from(u32::MAX), &format!(r#"["{hash}",4294967295]"#)).contains("impossible"));
        assert!(of(9, &format!(r#"["{hash}",-1]"#)).contains("read"));
        assert!(refused(&entries(r#""a":{"kind":"link","target":""}"#)).contains("text"));
        assert!(refused(&entries(r#""a":{"kind":"device"}"#)).contains("read"));
        assert!(refused(&entries(&format!(r#""b":{file},"a":{file}"#))).contains("canonical"));
        assert!(refused(&entries(r#""a":{"kind":"folder","mode":4095}"#)).contains("canonical"));
        assert!(refused(r#"{"schema":3,"entries":{}}"#).contains("schema"));
        let old =
            format!(r#"{{"schema":1,"entries":{{"a":{{"kind":"file","size":1,"executable":false,"chunks":["{hash}"]}}}}}}"#);
        assert!(refused(&old).contains("its schema is 1"));
        assert!(refused("{").contains("read"));
    }

    #[test]
    fn bytes_survive_and_differences_are_listed() {
        let file = |hash: u8| Node::File { size: 1, executable: true, chunks: vec![Chunk { hash: [hash; 32], bytes: 1 }] };
        let before =
            Manifest { entries: [("a".into(), file(0)), ("b".into(), Node::Folder), ("c".into(), file(0x11))].into() };
        let after =
            Manifest { entries: [("a".into(), file(0xff)), ("b".into(), Node::Folder), ("d".into(), file(0x11))].into() };
        assert_eq!(Manifest::from_bytes(&before.to_bytes()).unwrap(), before);
        assert_ne!(before.hash(), after.hash());
        let changes: Vec<_> = before.diff(&after).into_iter().map(|c| (c.path, c.kind)).collect();
        let wanted = [("a", ChangeKind::Changed), ("c", ChangeKind::Removed), ("d", ChangeKind::Added)]
            .map(|(p, k)| (p.to_string(), k));
        assert_eq!(changes, wanted);
        assert_eq!(unhex(&hex(&after.hash())), Some(after.hash()));
    }
}
