use super::{TestWorld, own};
use errand_core::Hash;
use std::fs;

#[test]
fn a_damaged_blob_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let blobs = opened.blobs();
    let hash = blobs.put_blocking(b"right").unwrap();
    assert!(blobs.has(&hash));
    fs::write(blobs.path(&hash), "wrong").unwrap();
    let error = blobs.get_blocking(&hash).unwrap_err();
    assert_eq!(error.code(), "blob_damaged");
    assert!(error.to_string().contains(&hash.to_string()), "{error}");
    fs::write(blobs.path(&hash), "cut").unwrap();
    assert_eq!(blobs.put_blocking(b"right").unwrap(), hash);
    assert_eq!(blobs.get_blocking(&hash).unwrap().unwrap(), b"right", "one that was cut off is written anew");
}

#[test]
fn what_shrinks_lies_compressed_and_one_cut_off_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let blobs = opened.blobs();
    let text = "what tools write is mostly text\n".repeat(10_000).into_bytes();
    let hash = blobs.put_blocking(&text).unwrap();
    assert_eq!(hash, Hash::of(&text), "named by what it holds, not by how it is kept");
    let mut lies = blobs.path(&hash).into_os_string();
    lies.push(".lz4");
    assert!(fs::metadata(&lies).unwrap().len() < text.len() as u64 / 10);
    assert!(blobs.has(&hash) && !blobs.path(&hash).exists());
    assert_eq!(blobs.get_blocking(&hash).unwrap().unwrap(), text);

    let whole = fs::read(&lies).unwrap();
    fs::write(&lies, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(blobs.get_blocking(&hash).unwrap_err().code(), "blob_damaged");
    blobs.put_blocking(&text).unwrap();
    assert_eq!(fs::read(&lies).unwrap(), whole);
    // As an earlier version kept it, and now cut off.
    fs::write(blobs.path(&hash), &text[..100]).unwrap();
    assert_eq!(blobs.get_blocking(&hash).unwrap().unwrap(), text);
    fs::write(blobs.path(&hash), &text).unwrap();
    fs::remove_file(&lies).unwrap();
    assert_eq!(blobs.get_blocking(&hash).unwrap().unwrap(), text);
    assert_eq!(blobs.put_blocking(&text).unwrap(), hash);
    assert!(!std::path::Path::new(&lies).exists(), "one that is there is not written again");
}

#[test]
fn a_blob_that_is_not_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    assert_eq!(opened.blobs().get_blocking(&Hash::of(b"never put")).unwrap(), None);
    assert!(!opened.blobs().has(&Hash::of(b"never put")));
}

#[test]
fn what_was_half_written_is_cleared_by_the_next_owner() {
    let folder = tempfile::tempdir().unwrap();
    drop(own(folder.path(), &TestWorld::new()).unwrap());
    let left = folder.path().join("blobs/tmp/7");
    fs::write(&left, "half of a bl").unwrap();
    own(folder.path(), &TestWorld::new()).unwrap();
    assert!(!left.exists());
}
