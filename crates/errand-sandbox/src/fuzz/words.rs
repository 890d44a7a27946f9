//! Words: what comes over sockets, pipes and small files.

use proptest::prelude::*;

use super::fuzz_bytes;
use crate::engine::plan::{Message, Stage};
use crate::engine::probe::{self, inside};
use crate::image::ImageLock;
use crate::kernel::Language;
use crate::kernel::wire::{self, Reply};
use crate::snapshot::{Chunk, Manifest, Node};

fn framed(body: &str) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat()
}

/// Everything is taken out of what was heard, each time less is left, and what is taken is what a kernel may say.
fn drained(language: Language, bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut heard = bytes.to_vec();
    loop {
        let before = heard.len();
        match wire::reply(language, &mut heard) {
            Ok(Some(reply)) => {
                prop_assert!(heard.len() < before, "nothing was taken");
                if let Reply::Ended { files, .. } = reply {
                    prop_assert!(files.len() <= 64);
                    for name in files {
                        let plain = !name.is_empty() && name != ".." && name.len() <= 255 && !name.contains(['/', '\0']);
                        prop_assert!(plain, "{name:?} leads elsewhere");
                    }
                }
            }
            Ok(None) => {
                prop_assert!(heard.len() == before && heard.len() <= (256 << 10) + 4, "it waits for more than is taken");
                return Ok(());
            }
            Err(reason) => {
                prop_assert!(!reason.is_empty());
                return Ok(());
            }
        }
    }
}

#[test]
fn fuzz_replies_of_kernels() {
    let said = [
        r#"{"ready": true}"#,
        r#"{"cell": 1, "ok": true, "value": "3", "files": ["figure-1-1.png", "table-1.csv"]}"#,
        r#"{"cell": 2, "ok": false, "error": "ZeroDivisionError: division by zero", "value": null}"#,
        r#"{"cell": 18446744073709551615, "ok": true, "files": []}"#,
    ];
    fuzz_bytes("replies of kernels", said.map(framed).into(), |bytes| drained(Language::Python, bytes));
    let lines = ["ready\n", "1 0\n", "2 127\n", "18446744073709551615 255\n"].map(|line| line.as_bytes().to_vec());
    fuzz_bytes("replies of shells", lines.into(), |bytes| drained(Language::Shell, bytes));
}

#[test]
fn fuzz_messages_of_init() {
    let all = [
        Message::Started,
        Message::Ended(256),
        Message::Interrupted,
        Message::Used(7),
        Message::Door,
        Message::Failed(Stage::Exec, libc::ENOENT),
    ];
    fuzz_bytes("messages of init", all.map(|message| message.encode().to_vec()).into(), |bytes| {
        for word in bytes.chunks_exact(8) {
            let word: [u8; 8] = word.try_into().unwrap_or_default();
            if let Some(message) = Message::decode(word) {
                let written = message.encode();
                prop_assert_eq!(Message::decode(written), Some(message));
                let has_value = !matches!(message, Message::Started | Message::Interrupted | Message::Door);
                prop_assert!(
                    written[0] == word[0] && (!has_value || written[4..] == word[4..]),
                    "{message:?} from {word:?}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn fuzz_ends_of_containers() {
    let word = |messages: &[Message]| messages.iter().flat_map(|message| message.encode()).collect::<Vec<u8>>();
    let seeds = vec![
        word(&[Message::Started, Message::Ended(0)]),
        word(&[Message::Failed(Stage::Exec, libc::EACCES)]),
        word(&[Message::Started, Message::Ended(9), Message::Ended(0)]),
    ];
    fuzz_bytes("ends of containers", seeds, |bytes| {
        // A box cannot make its guard say anything but how it ended.
        let said = crate::oci::last_word(bytes);
        prop_assert!(matches!(said, None | Some(Message::Ended(_) | Message::Failed(..))), "{said:?}");
        Ok(())
    });
}

#[test]
fn fuzz_answers_of_the_probe() {
    let right: Vec<u8> = (0..200).flat_map(|index| inside::encode(index, Err(libc::EPERM))).collect();
    let numbers: Vec<u8> = (0..200).flat_map(|index| inside::encode(index, Ok(0))).collect();
    fuzz_bytes("answers of the probe", vec![right, numbers], |bytes| {
        let answers = probe::read(bytes);
        let checks = probe::judge(&answers);
        let specs = inside::GROUPS.iter().flat_map(|group| group.iter());
        for (index, (spec, check)) in (0u16..).zip(specs.zip(&checks)) {
            // Whatever is said, only the answer that is expected passes, and silence never does.
            let meets = answers.get(&index).is_some_and(|answer| probe::meets(spec.expect, *answer));
            prop_assert!(check.id == spec.id && check.pass == meets, "{check:?}");
        }
        Ok(())
    });
}

#[test]
fn fuzz_manifests() {
    let file = |bytes: &[u32]| Node::File {
        size: bytes.iter().copied().map(u64::from).sum(),
        executable: false,
        chunks: bytes.iter().map(|bytes| Chunk { hash: [0xab; 32], bytes: *bytes }).collect(),
    };
    let manifest = Manifest {
        entries: [
            ("a folder".to_owned(), Node::Folder),
            ("a folder/b.txt".to_owned(), file(&[7, 5])),
            ("empty".to_owned(), file(&[])),
            ("link".to_owned(), Node::Link { target: "../../etc/passwd".to_owned() }),
        ]
        .into(),
    };
    fuzz_bytes("manifests", vec![manifest.to_bytes(), Manifest { entries: [].into() }.to_bytes()], |bytes| {
        if let Ok(read) = Manifest::from_bytes(bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
            for (path, node) in read.entries() {
                let is_inside = !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
                prop_assert!(is_inside && !path.contains('\0'), "{path:?}: {node:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn fuzz_what_programs_say_last() {
    let seeds =
        ["ERROR: No matching distribution found for x==1\n", "a\nb\u{1b}[31mc\r\n", ""].map(|text| text.as_bytes().to_vec());
    fuzz_bytes("last words", seeds.into(), |bytes| {
        let words = crate::engine::run::last_words(bytes);
        prop_assert!(!words.is_empty() && words.chars().count() <= 500 && !words.chars().any(char::is_control), "{words:?}");
        Ok(())
    });
}

#[test]
fn fuzz_lock_files() {
    let seed = b"# made\na.b[x]==1.0 ; python_version >= \"3.11\" \\\n    --hash=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n";
    fuzz_bytes("lock files", vec![seed.to_vec()], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Ok(()) };
        if let Ok(lock) = ImageLock::parse("x", text) {
            for package in &lock.packages {
                let is_plain =
                    package.contains("==") && !package.starts_with('-') && !package.contains(['/', '@', ' ', '\n']);
                prop_assert!(is_plain, "{package:?}");
            }
        }
        Ok(())
    });
}
