//! Lock files: which wheels make up an image, each with its version and its hashes.
//!
//! The form is the one pip reads with `--require-hashes`, and no more of it than lists packages: an option in it could send pip
//! to another index, to a file of the host or to code that builds. pip never sees the file itself, only what was understood of
//! it, written anew: where a line ends and a comment begins, and in which encoding, pip has ideas of its own.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const BYTES_MAX: usize = 1 << 20;
const PACKAGES_MAX: usize = 500;
/// The images that come with Errand.
const BUILT_IN: [(&str, &str); 1] = [("data", include_str!("../../images/data.lock"))];

/// The packages of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLock {
    pub(crate) name: String,
    /// What pip reads: a line for each package.
    pub(crate) text: String,
    /// `NAME==VERSION`, in the order of the file.
    pub(crate) packages: Vec<String>,
}

impl ImageLock {
    /// The lock of an image that comes with Errand: `data` (numpy, pandas, matplotlib, openpyxl, python-docx, pypdf, pillow,
    /// duckdb).
    pub fn built_in(name: &str) -> Option<ImageLock> {
        let (_, text) = BUILT_IN.into_iter().find(|(known, _)| *known == name)?;
        ImageLock::parse(name, text).ok()
    }

    /// The names of those.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.into_iter().map(|(name, _)| name)
    }

    /// Reads a lock file: lines `NAME==VERSION --hash=sha256:HEX …`, with comments, continued lines and environment markers.
    ///
    /// # Errors
    /// [`Error::ImageUnknown`] for a name that is none; [`Error::ImageLock`] for anything but packages with one version and
    /// SHA-256 hashes, and beyond 500 packages or 1 MiB.
    pub fn parse(name: &str, text: &str) -> Result<ImageLock> {
        check_name(name)?;
        let refuse = |reason: String| Err(Error::ImageLock { reason });
        if text.len() > BYTES_MAX {
            return refuse("it is longer than 1 MiB".into());
        }
        let (mut packages, mut lines) = (Vec::new(), String::new());
        for line in text.replace("\\\r\n", " ").replace("\\\n", " ").lines() {
            let line = line.split(" #").next().unwrap_or("").trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match package(line) {
                Ok((package, line)) => {
                    packages.push(package);
                    lines.push_str(&line);
                }
                Err(reason) => {
                    return refuse(format!("line `{}` {reason}", line.chars().take(80).collect::<String>()));
                }
            }
        }
        if packages.is_empty() {
            return refuse("it names no package".into());
        }
        if packages.len() > PACKAGES_MAX {
            return refuse(format!("it names {} packages, the most is {PACKAGES_MAX}", packages.len()));
        }
        Ok(ImageLock { name: name.into(), text: lines, packages })
    }

    /// The names of its packages, in the order of the file.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().filter_map(|package| package.split("==").next())
    }

    /// What an image of it is known by: the same for the same lock and the same Python.
    pub(crate) fn key(&self, python: &str) -> String {
        hex(Sha256::new().chain_update("errand image 1\n").chain_update(python).chain_update("\n").chain_update(&self.text))
    }
}

/// Names of images are those of sessions.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let is_one = (1..=64).contains(&name.len()) && name.bytes().all(plain) && name.as_bytes()[0].is_ascii_alphanumeric();
    if is_one { Ok(()) } else { Err(unknown(name, &[])) }
}

pub(crate) fn unknown(name: &str, others: &[String]) -> Error {
    let mut known: Vec<String> = ImageLock::built_in_names().map(String::from).chain(others.iter().cloned()).collect();
    known.sort();
    known.dedup();
    Error::ImageUnknown { name: name.chars().take(80).collect(), known: known.join(", ") }
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `NAME==VERSION` of a line and the line anew, or what is wrong with it.
fn package(line: &str) -> std::result::Result<(String, String), &'static str> {
    let (requirement, hashes) = line.split_once("--hash").ok_or("has no hash: give `--hash=sha256:…` for each wheel")?;
    let (pinned, marker) = requirement.split_once(';').unwrap_or((requirement, ""));
    let (name, version) = pinned.split_once("==").ok_or("pins no version: write `NAME==VERSION`")?;
    let (name, extras) = name_and_extras(name.trim()).ok_or("begins with no name of a package")?;
    let version = version.trim();
    if !is_word(version, "._-+!") {
        return Err("pins no version: write `NAME==VERSION`");
    }
    let mut anew = format!("{name}{extras}=={version}");
    if !marker.trim().is_empty() {
        anew.push_str(" ; ");
        anew.push_str(is_marker(marker).then_some(marker.trim()).ok_or("has something other than a marker behind `;`")?);
    }
    for hash in hashes.split("--hash") {
        let hash = hash.strip_prefix(['=', ' ']).map(str::trim).filter(|hash| is_sha256(hash));
        let hash = hash.ok_or("has something other than hashes of the form `--hash=sha256:` and 64 hex digits")?;
        anew.push_str(" --hash=");
        anew.push_str(&hash.to_ascii_lowercase());
    }
    Ok((format!("{name}=={version}"), anew + "\n"))
}

/// A name, and `[EXTRA,EXTRA]` if it has some.
fn name_and_extras(text: &str) -> Option<(&str, String)> {
    let (name, extras) = match text.split_once('[') {
        Some((name, extras)) => {
            let extras: Vec<&str> = extras.strip_suffix(']')?.split(',').map(str::trim).collect();
            (name.trim(), Some(extras))
        }
        None => (text, None),
    };
    let is_name = |text: &str| is_word(text, "._-") && text.as_bytes()[0].is_ascii_alphanumeric();
    let are_names = is_name(name) && extras.iter().flatten().all(|extra| is_name(extra));
    are_names.then(|| (name, extras.map_or_else(String::new, |extras| format!("[{}]", extras.join(",")))))
}

fn is_word(text: &str, more: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || more.as_bytes().contains(&c))
}

/// Whether pip takes it for a marker and for nothing else: a word that begins with `-` would be an option.
fn is_marker(text: &str) -> bool {
    is_word(text, " ._-+*,'\"<>=!~()") && !text.split(' ').any(|word| word.starts_with('-'))
}

fn is_sha256(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "--hash=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_image_that_comes_along_is_whole() {
        let lock = ImageLock::built_in("data").unwrap();
        for name in ["numpy", "pandas", "matplotlib", "openpyxl", "python-docx", "pypdf", "pillow", "duckdb"] {
            let pinned = format!("{name}==");
            assert_eq!(lock.packages.iter().filter(|package| package.starts_with(&pinned)).count(), 1, "{name}");
        }
        assert!(ImageLock::built_in("no-such").is_none());
    }

    #[test]
    fn only_pinned_packages_with_hashes_are_a_lock() {
        let ok = format!(
            "# made\na.b[x,y]==1.0+z ; python_version >= \"3.11\" \\\n  {HASH} \\\n  {HASH} # why\n\nc_d==2!1 {HASH}\r\n"
        );
        assert_eq!(ImageLock::parse("x", &ok).unwrap().packages, ["a.b==1.0+z", "c_d==2!1"]);
        for bad in [
            "",
            "# nothing\n",
            "a==1\n",
            "a==1 --hash=md5:0123\n",
            "a==1 --hash=sha256:0123\n",
            &format!("a>=1 {HASH}\n"),
            &format!("a {HASH}\n"),
            &format!("-r /etc/passwd {HASH}\n"),
            &format!("--index-url=x==1 {HASH}\n"),
            &format!("a @ file:///x==1 {HASH}\n"),
            &format!("./a==1 {HASH}\n"),
            &format!("a==1 {HASH} --config-settings=x\n"),
            &format!("a==1 --install-option=x {HASH}\n"),
            &format!("a==1.* {HASH}\n"),
            &format!("é==1 {HASH}\n"),
            &format!("a==1 {HASH}\n-i x\n"),
            &format!("a==1 ; os_name == 'posix' --global-option=x {HASH}\n"),
            &format!("a==1 ; --global-option=x {HASH}\n"),
            &format!("a==1 ; os_name == '${{HOME}}' {HASH}\n"),
            &format!("a==1 ; os_name == 'x'\u{85}-r x {HASH}\n"),
            &format!("a[x, -r]==1 {HASH}\n"),
            &format!("a[x==1 {HASH}\n"),
            &format!("a[x] y]==1 {HASH}\n"),
        ] {
            assert_eq!(ImageLock::parse("x", bad).unwrap_err().code(), "sandbox_image_lock", "{bad}");
        }
        let many: String = (0..501).map(|n| format!("p{n}==1 {HASH}\n")).collect();
        assert_eq!(ImageLock::parse("x", &many).unwrap_err().code(), "sandbox_image_lock");
        let long = format!("{ok}#{}", "x".repeat(BYTES_MAX));
        assert_eq!(ImageLock::parse("x", &long).unwrap_err().code(), "sandbox_image_lock");
        for name in ["", "..", "a/b", "-x", &"x".repeat(65)] {
            assert_eq!(ImageLock::parse(name, &ok).unwrap_err().code(), "sandbox_image_unknown", "{name}");
        }
    }

    #[test]
    fn pip_is_given_what_was_understood_and_no_more() {
        let lock = |text: &str| ImageLock::parse("x", text).unwrap();
        let all = format!("  a [x , y] == 1.0 ;python_version >= \"3\" \\\n {} \\\n {HASH} # why\n", HASH.to_uppercase());
        let all = all.replace("--HASH=SHA256", "--hash=sha256");
        let written = format!("a[x,y]==1.0 ; python_version >= \"3\" {HASH} {HASH}\n");
        assert_eq!((lock(&all).text, lock(&written).text), (written.clone(), written));
        // For pip each of these is a comment and then an option: to build from sources, or to ask elsewhere.
        for comment in [
            "# more \\\n--no-binary=:all:",
            "# more\u{c}--index-url=http://x",
            "# more\r--index-url=http://x",
            "# more\u{2028}--index-url=http://x",
            "# coding: utf-7\n# +AAo---no-binary=:all:",
        ] {
            assert_eq!(lock(&format!("{comment}\na==1 {HASH}\n")).text, format!("a==1 {HASH}\n"), "{comment:?}");
        }
    }

    #[test]
    fn another_lock_or_another_python_is_another_image() {
        let lock = |text: &str| ImageLock::parse("x", &format!("{text} {HASH}")).unwrap();
        assert_eq!(lock("a==1").key("311"), lock("a==1").key("311"));
        assert_ne!(lock("a==1").key("311"), lock("a==2").key("311"));
        assert_ne!(lock("a==1").key("311"), lock("a==1").key("312"));
    }
}
