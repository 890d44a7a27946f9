use crate::support::{World, error, ok};
use errand_core::Snapshot;
use serde_json::{Value, json};

/// A run that calls `files` again and again.
struct Files {
    world: World,
    calls: std::cell::Cell<u32>,
    workspace: std::cell::Cell<Option<Snapshot>>,
}

impl Files {
    fn new() -> Self {
        Self { world: World::new(), calls: 0.into(), workspace: None.into() }
    }

    async fn reply(&self, arguments: Value) -> errand_engine::ports::ToolReply {
        self.calls.set(self.calls.get() + 1);
        let reply = self
            .world
            .call_with(self.calls.get(), "files", arguments, self.workspace.get(), |job| job.observation_bytes = 2000)
            .await;
        self.workspace.set(reply.workspace.or(self.workspace.get()));
        reply
    }

    async fn ok(&self, arguments: Value) -> String {
        ok(&self.reply(arguments).await).to_owned()
    }

    async fn error(&self, arguments: Value) -> String {
        error(&self.reply(arguments).await).0.to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_read_edited_and_listed() {
    let files = Files::new();
    assert_eq!(files.ok(json!({"action": "list"})).await, "the folder is empty");
    assert_eq!(
        files.ok(json!({"action": "write", "path": "a/b/c.txt", "text": "one\ntwo\nthree\n"})).await,
        "created a/b/c.txt: 14 bytes, 3 lines"
    );
    assert_eq!(files.ok(json!({"action": "list"})).await, "a/\na/b/\na/b/c.txt  14 bytes");
    assert_eq!(files.ok(json!({"action": "list", "path": "/workspace/a/b"})).await, "a/b/c.txt  14 bytes");
    assert_eq!(files.ok(json!({"action": "read", "path": "a/b/c.txt"})).await, "one\ntwo\nthree\n");
    assert_eq!(
        files.ok(json!({"action": "read", "path": "a/b/c.txt", "first_line": 2, "lines": 1})).await,
        "two\n[lines 2 to 2 of 3; go on with first_line 3]"
    );
    files.ok(json!({"action": "edit", "path": "a/b/c.txt", "old": "two\n", "new": "2\n"})).await;
    assert_eq!(files.ok(json!({"action": "read", "path": "a/b/c.txt"})).await, "one\n2\nthree\n");
    files.ok(json!({"action": "write", "path": "a/b/c.txt", "text": ""})).await;
    assert_eq!(files.ok(json!({"action": "read", "path": "a/b/c.txt"})).await, "a/b/c.txt is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_changes_make_snapshots() {
    let files = Files::new();
    let written = files.reply(json!({"action": "write", "path": "a", "text": "x"})).await;
    assert_eq!(written.workspace.unwrap().turn, 0);
    assert_eq!(files.reply(json!({"action": "read", "path": "a"})).await.workspace, None);
    assert_eq!(files.reply(json!({"action": "write", "path": "a", "text": "x"})).await.workspace, None);
    assert_eq!(files.reply(json!({"action": "write", "path": "a", "text": "y"})).await.workspace.unwrap().turn, 1);
    assert_eq!(files.reply(json!({"action": "edit", "path": "a", "old": "z", "new": "q"})).await.workspace, None);
    assert_eq!(files.ok(json!({"action": "read", "path": "a"})).await, "y\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_files_are_read_in_pages_that_fit() {
    let files = Files::new();
    let lines: String = (1..=5000).map(|n| format!("line number {n}\n")).collect();
    files.ok(json!({"action": "write", "path": "long", "text": lines})).await;
    let page = files.ok(json!({"action": "read", "path": "long", "first_line": 4000})).await;
    assert!(page.starts_with("line number 4000\n") && page.len() <= 2000, "{page}");
    let next: u64 = page.split("first_line ").nth(1).unwrap().trim_end_matches(']').parse().unwrap();
    assert!(page.contains(&format!("line number {}\n[lines 4000 to {} of 5000", next - 1, next - 1)), "{page}");
    assert_eq!(files.error(json!({"action": "read", "path": "long", "first_line": 5001})).await, "past_end");
    files.ok(json!({"action": "write", "path": "wide", "text": "w".repeat(100_000)})).await;
    let page = files.ok(json!({"action": "read", "path": "wide"})).await;
    assert!(page.len() <= 2000 && page.contains("bytes left out of this line"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_text_and_patterns() {
    let files = Files::new();
    files.ok(json!({"action": "write", "path": "src/a.py", "text": "def one():\n    pass\n"})).await;
    files.ok(json!({"action": "write", "path": "b.txt", "text": "def of nothing\nDEF\n"})).await;
    assert_eq!(
        files.ok(json!({"action": "search", "pattern": "def "})).await,
        "b.txt:1: def of nothing\nsrc/a.py:1: def one():"
    );
    assert_eq!(
        files.ok(json!({"action": "search", "pattern": r"def \w+\(", "regex": true})).await,
        "src/a.py:1: def one():"
    );
    assert_eq!(files.ok(json!({"action": "search", "pattern": "def", "path": "src"})).await, "src/a.py:1: def one():");
    assert_eq!(files.ok(json!({"action": "search", "pattern": "DEF", "path": "b.txt"})).await, "b.txt:2: DEF");
    assert_eq!(files.ok(json!({"action": "search", "pattern": "nowhere"})).await, "no line matches in 2 text files");
    files.ok(json!({"action": "write", "path": "many", "text": "the same line\n".repeat(1000)})).await;
    let found = files.ok(json!({"action": "search", "pattern": "same"})).await;
    assert!(found.len() <= 2000 && found.contains("of 1000 matching lines shown"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_with_a_code() {
    let files = Files::new();
    files.ok(json!({"action": "write", "path": "dir/a", "text": "x x"})).await;
    assert_eq!(files.error(json!({"action": "read", "path": "nothing"})).await, "file_not_found");
    assert_eq!(files.error(json!({"action": "read", "path": "dir"})).await, "is_a_folder");
    assert_eq!(files.error(json!({"action": "list", "path": "dir/a"})).await, "not_a_folder");
    assert_eq!(files.error(json!({"action": "list", "path": "nothing"})).await, "file_not_found");
    assert_eq!(files.error(json!({"action": "edit", "path": "dir/a", "old": "y", "new": "z"})).await, "old_not_found");
    assert_eq!(files.error(json!({"action": "edit", "path": "dir/a", "old": "x", "new": "z"})).await, "old_not_unique");
    assert_eq!(files.error(json!({"action": "edit", "path": "dir/a", "old": "x", "new": "x"})).await, "nothing_to_change");
    for path in ["../a", "/etc/passwd", "a/../../b", "a\u{0}b"] {
        assert_eq!(files.error(json!({"action": "read", "path": path})).await, "sandbox_path_refused", "{path:?}");
        assert_eq!(
            files.error(json!({"action": "write", "path": path, "text": "x"})).await,
            "sandbox_path_refused",
            "{path:?}"
        );
    }
    assert_eq!(files.error(json!({"action": "write", "path": "dir", "text": "x"})).await, "sandbox_not_plain");
    files.ok(json!({"action": "write", "path": "binary", "text": "a\u{0}b"})).await;
    assert_eq!(files.error(json!({"action": "read", "path": "binary"})).await, "binary_file");
    assert_eq!(
        files.ok(json!({"action": "search", "pattern": "b", "path": "binary"})).await,
        "no line matches in 0 text files"
    );
}
