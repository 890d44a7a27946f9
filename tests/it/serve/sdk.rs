//! The stock OpenAI SDK of `tests/python/requirements.txt`, which `cargo xtask python` installs beside the build.

use super::Server;
use crate::cli::{User, one_call};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter with the SDK, three folders above this test.
pub(super) fn python() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("python/bin/python")
}

#[test]
fn the_stock_sdk_works() {
    let python = python();
    if !python.is_file() {
        eprintln!("skipped: there is no {}; run `cargo xtask python` first", python.display());
        return;
    }
    let user = User::new();
    user.script("said", "[[turn]]\nsay = \"You said: {{ task }}\"\n");
    user.script("person", "[[turn]]\nsay = '{\"name\": \"Ada\", \"age\": 36}'\n");
    user.script("calc", &one_call("calculate", "{ expression = \"6*7\" }"));
    user.script("python", &one_call("python", "{ code = \"print(4000 + 321)\" }"));
    user.script("slow", &one_call("wait", "{ seconds = 1 }"));
    user.script("fails", "[[turn]]\nerror = { kind = \"auth\", message = \"no key\" }\n");
    user.script(
        "weather",
        "[[turn]]\n[[turn.call]]\ntool = \"weather\"\narguments = { city = \"Paris\" }\n\n\
         [[turn]]\nsay = \"It is {{ calls.weather.text }}\"\nnext = [{ goto = \"end\" }]\n",
    );
    let server = Server::start(&user, &[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/sdk.py");
    let output = Command::new(python)
        .env_clear()
        // The SDK's models warn of items that other servers add.
        .args(["-W", "ignore"])
        .arg(script)
        .arg(format!("http://{}/v1", server.address))
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("cases passed"), "{stdout}\n{stderr}");
    drop(server);
    // Runs that came over HTTP are runs like others: each is the same when it is played again.
    for run in user.json(0, &["runs", "--limit", "1000"]) {
        user.expect(0, &["replay", run["run"].as_str().unwrap()]);
    }
}
