//! What hostile code may have planted must not lead a reader or writer out.

use std::os::unix::fs::symlink;

use super::*;
use crate::Sessions;

fn session() -> (tempfile::TempDir, Session) {
    let root = tempfile::tempdir().unwrap();
    let session = Sessions::at(root.path().join("sessions")).unwrap().create("s").unwrap();
    (root, session)
}

#[test]
fn files_are_written_read_in_parts_listed_searched_and_removed() {
    let (_root, session) = session();
    session.put_file("notes/a.txt", b"one\ntwo needle\n").unwrap();
    session.put_file("/workspace/notes/a.txt", b"one\ntwo needle three\n").unwrap();
    session.put_file("b.bin", b"needle\0").unwrap();
    let part = session.read_file("notes/a.txt", 4, 3).unwrap();
    assert_eq!((part.bytes.as_slice(), part.size), (&b"two"[..], 21));
    assert!(session.read_file("notes/a.txt", 1000, 3).unwrap().bytes.is_empty());
    let paths = |recursive| {
        let entries = session.list("", recursive, 100).unwrap();
        entries.into_iter().map(|e| e.path).collect::<Vec<_>>()
    };
    assert_eq!(paths(false), ["b.bin", "notes"]);
    assert_eq!(paths(true), ["b.bin", "notes", "notes/a.txt"]);
    let hits = session.search("needle", "", 10).unwrap();
    assert_eq!(hits, [Hit { path: "notes/a.txt".into(), line: 2, text: "two needle three".into() }]);
    session.remove("notes").unwrap();
    assert_eq!(session.remove("notes").unwrap_err().code(), "sandbox_not_found");
    assert_eq!(session.read_file("notes/a.txt", 0, 1).unwrap_err().code(), "sandbox_not_found");
    assert_eq!(session.list("", true, 0).unwrap_err().code(), "sandbox_workspace_too_large");
}

#[test]
fn a_reader_that_never_ends_is_cut_and_leaves_nothing() {
    let (_root, session) = session();
    let error = session.put_reader("big", &mut std::io::repeat(7), 1000).unwrap_err();
    assert_eq!(error.code(), "sandbox_workspace_too_large");
    assert_eq!(session.list("", true, 10).unwrap(), []);
}

#[test]
fn planted_links_are_never_followed() {
    let (root, session) = session();
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s3cret").unwrap();
    let inside = session.workspace_path();
    symlink("/etc/shadow", inside.join("shadow")).unwrap();
    symlink(&outside, inside.join("folder")).unwrap();
    symlink("/proc/self/fd", inside.join("magic")).unwrap();
    for path in ["shadow", "folder/secret", "magic/0"] {
        assert_eq!(session.read_file(path, 0, 10).unwrap_err().code(), "sandbox_not_plain", "{path}");
    }
    assert_eq!(session.put_file("folder/new", b"x").unwrap_err().code(), "sandbox_not_plain");
    assert_eq!(session.remove("folder/secret").unwrap_err().code(), "sandbox_not_plain");
    assert_eq!(session.list("folder", true, 10).unwrap_err().code(), "sandbox_not_plain");
    session.put_file("shadow", b"mine").unwrap();
    assert_eq!(session.read_file("shadow", 0, 10).unwrap().bytes, b"mine");
    session.remove("folder").unwrap();
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"s3cret");
}

#[test]
fn fifos_and_sockets_are_refused_without_waiting() {
    let (_root, session) = session();
    let inside = session.workspace_path();
    let fifo = std::ffi::CString::new(inside.join("fifo").to_str().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &*fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(inside.join("sock")).unwrap();
    for path in ["fifo", "sock"] {
        assert_eq!(session.read_file(path, 0, 10).unwrap_err().code(), "sandbox_not_plain", "{path}");
    }
    let kinds: Vec<EntryKind> = session.list("", false, 10).unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EntryKind::Other, EntryKind::Other]);
    session.mkdirs("d").unwrap();
    assert_eq!(session.put_file("d", b"x").unwrap_err().code(), "sandbox_not_plain");
}

#[test]
fn files_are_moved_whole_and_never_out() {
    let (root, session) = session();
    session.put_file("a", b"1").unwrap();
    session.put_file("b", b"2").unwrap();
    session.put_file("full/inner", b"3").unwrap();
    let inside = session.workspace_path();
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, inside.join("link")).unwrap();
    let code = |from, to, replace| session.rename(from, to, replace).map_err(|error| error.code()).err();
    assert_eq!(code("a", "b", false), Some("sandbox_exists"));
    assert_eq!(session.read_file("b", 0, 9).unwrap().bytes, b"2");
    assert_eq!(code("gone", "b", true), Some("sandbox_not_found"));
    assert_eq!(code("gone", "new/folder/b", true), Some("sandbox_not_found"));
    assert_eq!(session.stat("new").unwrap(), None, "a folder was made for nothing");
    assert_eq!(code("full", "full/inner/deeper", true), Some("sandbox_path_refused"));
    assert_eq!(code("full", "full", false), Some("sandbox_exists"));
    assert_eq!(code("a", "../a", true), Some("sandbox_path_refused"));
    assert_eq!(code("a", "link/a", true), Some("sandbox_not_plain"));
    assert_eq!(code("link/x", "a", true), Some("sandbox_not_plain"));
    session.mkdirs("other").unwrap();
    assert_eq!(code("other", "full", true), Some("sandbox_path_refused"));
    assert_eq!(code("full", "other", true), None);
    assert_eq!(code("a", "b", true), None);
    assert_eq!(code("other/inner", "deep/er/still", false), None);
    assert_eq!(code("link", "moved", false), None);
    assert_eq!(session.stat("moved").unwrap().unwrap().target, Some(outside.to_str().unwrap().into()));
    assert_eq!(session.read_file("b", 0, 9).unwrap().bytes, b"1");
    assert_eq!(session.read_file("deep/er/still", 0, 9).unwrap().bytes, b"3");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}
