//! Paths from outside: cleaned, or refused.

use crate::error::{Error, Result};

/// Folders deeper than this are neither made nor walked.
pub(crate) const DEPTH_MAX: usize = 100;
const PATH_BYTES_MAX: usize = 4000;
const NAME_BYTES_MAX: usize = 255;

/// A relative path without `.`, `..` or empty parts; empty means the workspace itself.
///
/// `/workspace/x` is taken as `x`, because that is how code in the box calls it.
pub(crate) fn checked(path: &str) -> Result<String> {
    let refuse = |reason| Err(Error::PathRefused { path: path.chars().take(200).collect(), reason });
    if path.len() > PATH_BYTES_MAX {
        return refuse("it is longer than 4000 bytes");
    }
    if path.contains('\0') {
        return refuse("it contains a NUL byte");
    }
    let inside = match path.strip_prefix("/workspace") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/'),
        _ => path,
    };
    if inside.starts_with('/') {
        return refuse("it is absolute");
    }
    let mut parts = Vec::new();
    for part in inside.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse("it climbs with `..`"),
            _ if part.len() > NAME_BYTES_MAX => return refuse("a name in it is longer than 255 bytes"),
            _ => parts.push(part),
        }
    }
    if parts.len() > DEPTH_MAX {
        return refuse("it is deeper than 100 folders");
    }
    Ok(parts.join("/"))
}

/// As [`checked`], and not the workspace itself.
pub(crate) fn checked_file(path: &str) -> Result<String> {
    let clean = checked(path)?;
    if clean.is_empty() {
        return Err(Error::PathRefused { path: path.into(), reason: "it names the workspace itself" });
    }
    Ok(clean)
}

/// Folder part and name of a checked path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (given, want) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("/workspace/a", "a"), ("/workspace", ""), (".", "")] {
            assert_eq!(checked(given).unwrap(), want, "{given}");
        }
        for given in ["/etc/passwd", "../a", "a/../../b", "a\0b", "/workspaces/a", "/workspace/../etc"] {
            assert_eq!(checked(given).unwrap_err().code(), "sandbox_path_refused", "{given}");
        }
        assert!(checked(&"a/".repeat(101)).is_err());
        assert!(checked(&"a".repeat(256)).is_err());
        assert!(checked_file("").is_err());
    }
}
