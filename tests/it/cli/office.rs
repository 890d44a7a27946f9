//! Runs over the image that `cargo xtask python` makes: a report from a table, and code that sees packages.

#![expect(clippy::print_stdout, reason = "says why a test is skipped")]

use super::{User, one_call};
use std::process::Command;

/// A user who has the image `data`, as if it had been made before; none, after saying why, where that cannot be.
fn user() -> Option<User> {
    let program = std::env::current_exe().unwrap();
    let made = program.ancestors().nth(3).unwrap().join("images");
    if !made.join("names/data.json").is_file() {
        println!("skipped: there is no image `data` in {}; run `cargo xtask python` first", made.display());
        return None;
    }
    let user = User::new();
    let images = user.data().join("images");
    // Linked file by file: its folders are this user's own, and may be locked.
    std::fs::create_dir_all(&images).unwrap();
    let copied = Command::new("cp").arg("-al").args([made.join("names"), made.join("layers")]).arg(&images).status();
    if !copied.unwrap().success() {
        println!("skipped: the image lies on another disk than temporary files");
        return None;
    }
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&images, private).unwrap();
    let doctor = user.errand(&["--json", "doctor"]).json().remove(0);
    if doctor["sandbox"]["available"] != true {
        println!("skipped: this host makes no boxes");
        return None;
    }
    assert_eq!(doctor["documents"], "ready");
    Some(user)
}

#[test]
fn a_table_becomes_a_report_of_every_kind() {
    let Some(user) = user() else { return };
    let table = "region,amount\nNorth,1200.5\nSouth,800\nNorth,1310.25\n";
    std::fs::write(user.path("sales.csv"), table).unwrap();
    let lines = user.json(0, &["run", "Report on it.", "--file", "sales.csv", "--model", "scripted/report"]);
    let result = lines.last().unwrap();
    let answer = result["answer"].as_str().unwrap();
    assert!(answer.starts_with("sales.csv has 3 rows, 2 columns. amount by region, as 2 rows"), "{answer}");
    let run = result["run"].as_str().unwrap();
    for (kind, begins) in [("docx", "PK"), ("pdf", "%PDF-"), ("html", "<!doctype html>"), ("xlsx", "PK")] {
        let path = format!("report/report.{kind}");
        user.expect(0, &["files", run, &path, "--output", kind]);
        let bytes = std::fs::read(user.path(kind)).unwrap();
        assert!(bytes.starts_with(begins.as_bytes()), "{kind}: {:?}", &bytes[..20]);
    }
    let html = std::fs::read_to_string(user.path("html")).unwrap();
    assert!(html.contains("<td>North</td>") && html.contains("data:image/png;base64,"), "{html:.500}");
}

#[test]
fn code_sees_the_packages_of_the_image() {
    let Some(user) = user() else { return };
    user.script("numpy", &one_call("python", "{ code = \"import numpy; float(numpy.ones(3).sum())\" }"));
    let run = |more: &[&str]| {
        let arguments = [&["run", "t", "--model", "scripted/numpy", "--tools", "python"], more].concat();
        user.json(0, &arguments).last().unwrap()["answer"].as_str().unwrap().to_owned()
    };
    assert!(run(&["--sandbox-image", "data"]).contains("value: 3.0"));
    assert!(!run(&[]).contains("value: 3.0"), "without the setting there is no such package");
    assert!(run(&["--sandbox-image", "nobody-knows"]).contains("there is no image \"nobody-knows\""));
}
