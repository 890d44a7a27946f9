//! What runner and driver say to each other, over a socket that hostile code in the box can write to as well: nothing that
//! comes is trusted to be more than bytes, and no length takes memory before its bytes are there.

use serde::Deserialize;

use super::Language;
use crate::error::{Error, Result};

/// Most bytes of a cell's code.
pub const CODE_BYTES_MAX: usize = 8 << 20;
/// Most bytes of a reply: a value shown, a line of error, some names of files.
const REPLY_BYTES_MAX: usize = 256 << 10;
/// Most files of a reply.
const FILES_MAX: usize = 64;
/// Most bytes of a file's name.
const NAME_BYTES_MAX: usize = 255;

/// What a driver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It waits for the first cell.
    Ready,
    /// A cell ended.
    Ended {
        /// Its number.
        cell: u64,
        /// None where it did well.
        error: Option<String>,
        /// The value of its last line, as the language shows it.
        value: Option<String>,
        /// Files in the workspace that it left as results.
        files: Vec<String>,
    },
}

/// A request for the driver.
///
/// # Errors
/// [`Error::ExecRefused`] for code that is too long, or that a shell could not read.
pub fn request(language: Language, cell: u64, code: &str) -> Result<Vec<u8>> {
    let refuse = |reason: &str| Err(Error::ExecRefused { reason: reason.to_owned() });
    if code.len() > CODE_BYTES_MAX {
        return refuse("the code is larger than 8 MiB: put data into the workspace");
    }
    if language == Language::Shell {
        if code.contains('\0') {
            return refuse("the script contains a NUL byte");
        }
        return Ok(format!("{cell} {}\n{code}", code.len()).into_bytes());
    }
    // Plain data with text keys, so writing it cannot fail.
    let body = serde_json::json!({"cell": cell, "code": code}).to_string();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    Ok([&length.to_le_bytes(), body.as_bytes()].concat())
}

/// Takes the first whole reply out of `heard`. `None`: there is none yet.
///
/// # Errors
/// When no driver would say that.
pub fn reply(language: Language, heard: &mut Vec<u8>) -> std::result::Result<Option<Reply>, &'static str> {
    match language {
        Language::Shell => line(heard),
        Language::Python | Language::Node => frame(heard),
    }
}

fn line(heard: &mut Vec<u8>) -> std::result::Result<Option<Reply>, &'static str> {
    let Some(end) = heard.iter().position(|byte| *byte == b'\n') else {
        return if heard.len() > 32 { Err("its answer has no end") } else { Ok(None) };
    };
    let line: Vec<u8> = heard.drain(..=end).collect();
    match line.trim_ascii() {
        b"ready" => Ok(Some(Reply::Ready)),
        status => {
            let parts = std::str::from_utf8(status).ok().and_then(|text| text.split_once(' '));
            let numbers = parts.and_then(|(cell, status)| Some((cell.parse::<u64>().ok()?, status.parse::<u8>().ok()?)));
            let (cell, status) = numbers.ok_or("its answer is no status")?;
            let error = (status != 0).then(|| format!("exit status {status}"));
            Ok(Some(Reply::Ended { cell, error, value: None, files: Vec::new() }))
        }
    }
}

fn frame(heard: &mut Vec<u8>) -> std::result::Result<Option<Reply>, &'static str> {
    /// A reply as drivers write it.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Said {
        #[serde(default)]
        ready: bool,
        cell: Option<u64>,
        ok: Option<bool>,
        error: Option<String>,
        value: Option<String>,
        #[serde(default)]
        files: Vec<String>,
    }
    let Some((head, rest)) = heard.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > REPLY_BYTES_MAX {
        return Err("its answer is too long");
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let said: Said = serde_json::from_slice(body).map_err(|_| "its answer is not in the form of drivers")?;
    heard.drain(..4 + length);
    let plain = |name: &String| {
        !matches!(name.as_str(), "" | "." | "..") && name.len() <= NAME_BYTES_MAX && !name.contains(['/', '\0'])
    };
    if said.files.len() > FILES_MAX || !said.files.iter().all(plain) {
        return Err("its answer names files that it cannot have made");
    }
    match (said.ready, said.ok, said.cell) {
        (true, None, None) => Ok(Some(Reply::Ready)),
        (false, Some(ok), Some(cell)) => {
            let error = (!ok).then(|| said.error.unwrap_or_else(|| "it failed and does not say how".to_owned()));
            Ok(Some(Reply::Ended { cell, error, value: said.value, files: said.files }))
        }
        _ => Err("its answer says two things at once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(body: &str) -> Vec<u8> {
        [&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat()
    }

    #[test]
    fn replies_are_taken_one_by_one_wherever_they_are_cut() {
        let said = [
            r#"{"ready": true}"#,
            r#"{"cell": 1, "ok": true, "value": "3", "files": ["figure-1-1.png"]}"#,
            r#"{"cell": 2, "ok": false, "error": "E: x"}"#,
        ];
        let bytes: Vec<u8> = said.iter().flat_map(|body| framed(body)).collect();
        let expected = [
            Reply::Ready,
            Reply::Ended { cell: 1, error: None, value: Some("3".to_owned()), files: vec!["figure-1-1.png".to_owned()] },
            Reply::Ended { cell: 2, error: Some("E: x".to_owned()), value: None, files: Vec::new() },
        ];
        for cut in 0..bytes.len() {
            let (mut heard, mut replies) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                heard.extend_from_slice(part);
                while let Some(reply) = reply(Language::Python, &mut heard).unwrap() {
                    replies.push(reply);
                }
            }
            assert_eq!(replies, expected, "cut at {cut}");
            assert!(heard.is_empty());
        }
    }

    #[test]
    fn what_no_driver_says_is_refused() {
        let long = u32::MAX.to_le_bytes().to_vec();
        for hostile in [
            long,
            framed("nonsense"),
            framed("[]"),
            framed(r#"{"cell": 1, "ok": true, "more": 1}"#),
            framed(r#"{"ok": true}"#),
            framed(r#"{"ready": true, "ok": true}"#),
            framed("{}"),
            framed(r#"{"cell": 1, "ok": true, "files": ["../up"]}"#),
            framed(r#"{"cell": 1, "ok": true, "files": [".."]}"#),
            framed(&format!(r#"{{"cell": 1, "ok": true, "files": {:?}}}"#, vec!["a"; 65])),
        ] {
            assert!(reply(Language::Node, &mut hostile.clone()).is_err(), "{hostile:?}");
        }
        for hostile in ["x\n", "1 256\n", "1 -1\n", "1\n", "\n", "000000000000000000000000000000000"] {
            assert!(reply(Language::Shell, &mut hostile.as_bytes().to_vec()).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn the_shell_is_told_bytes_and_not_characters() {
        assert_eq!(request(Language::Shell, 1, "é").unwrap(), "1 2\né".as_bytes());
        assert!(request(Language::Shell, 1, "a\0b").is_err());
        assert!(request(Language::Python, 1, &"x".repeat(CODE_BYTES_MAX + 1)).is_err());
        let mut heard = b"ready\n1 0\n2 3\n".to_vec();
        let error = Some("exit status 3".to_owned());
        let ended = |cell, error| Reply::Ended { cell, error, value: None, files: Vec::new() };
        for expected in [Reply::Ready, ended(1, None), ended(2, error)] {
            assert_eq!(reply(Language::Shell, &mut heard).unwrap(), Some(expected));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_from_a_box_make_the_runner_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for language in Language::ALL {
                let mut heard = bytes.clone();
                // Whatever comes is taken, waited on or refused; what is taken gets shorter.
                while let Ok(Some(_)) = reply(language, &mut heard) {}
                prop_assert!(heard.len() <= bytes.len());
            }
        }
    }
}
