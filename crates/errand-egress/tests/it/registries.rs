//! pip and npm in a box, against the registries that this machine is set up for. Skipped, with the reason, where there is
//! none in reach.

use std::net::ToSocketAddrs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use errand_egress::{Grant, HostGrant, System, Times};
use errand_sandbox::{Exec, Limits};
use url::Url;

use crate::Setup;
use crate::boxes::Boxed;

fn says(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty() && text != "undefined").then_some(text)
}

/// A setting of pip, from its files or the environment.
fn pip_setting(name: &str) -> Option<String> {
    ["global", ":env:"].iter().find_map(|place| says("python3", &["-m", "pip", "config", "get", &format!("{place}.{name}")]))
}

/// A way out to these URLs' hosts, through the resolver of this machine; none, after saying why, where they are out of reach.
fn reaching(what: &str, urls: &[Url]) -> Option<Boxed> {
    let mut hosts = Vec::new();
    for url in urls {
        let (host, port) = (url.host_str().unwrap(), url.port_or_known_default().unwrap());
        let reached = (host, port).to_socket_addrs().ok().is_some_and(|mut addresses| {
            addresses.any(|address| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok())
        });
        if !reached {
            println!("skipped: no registry of {what} is in reach");
            return None;
        }
        hosts.push((host.to_owned(), port));
    }
    let allow = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let grants = hosts.iter().map(|(host, port)| HostGrant::parse(&format!("{host}:{port}")).unwrap()).collect();
    let setup = Setup { allow, grant: Grant::new(grants).unwrap(), times: Times::default(), ..Setup::to(1) };
    crate::boxes::boxed_by(setup, Arc::new(System))
}

fn call(line: &str) -> Exec {
    let mut exec = Exec::shell(line);
    exec.limits = Limits { wall: Duration::from_secs(180), ..Limits::default() };
    exec
}

/// What pip takes packages from: its index, and where the index says that their files lie.
fn pip_hosts(index: &Url) -> Option<Vec<Url>> {
    let page = says(
        "python3",
        &[
            "-c",
            "import sys,urllib.request;print(urllib.request.urlopen(sys.argv[1],timeout=5).read().decode())",
            &format!("{index}/six/"),
        ],
    )?;
    let link = page.split("href=\"").nth(1)?.split('"').next()?.to_owned();
    let file = Url::parse(&format!("{index}/six/")).ok()?.join(&link).ok()?;
    let mut all = vec![index.clone()];
    if file.host() != index.host() {
        all.push(file);
    }
    Some(all)
}

#[test]
fn pip_installs_through_the_door_and_only_from_what_is_granted() {
    let index = pip_setting("index-url")
        .or_else(|| says("python3", &["-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"]));
    let Some(index) = index.and_then(|index| Url::parse(index.trim_end_matches('/')).ok()) else {
        println!("skipped: this machine has no pip");
        return;
    };
    let Some(urls) = pip_hosts(&index) else {
        println!("skipped: the index of pip is not in reach");
        return;
    };
    let Some(boxed) = reaching("pip", &urls) else { return };
    // What the machine's own pip trusts, the box's may need to be told.
    let certificates = pip_setting("cert");
    let certificates = certificates.map(|path| format!("--cert {path}")).unwrap_or_default();
    let line = format!(
        "set -e\npython3 -m pip install --no-cache-dir --retries 0 --target got --index-url {index} {certificates} six 2>&1\n\
         PYTHONPATH=got python3 -c 'import six; print(\"six\", six.__version__)'"
    );
    let outcome = boxed.run(call(&line));
    let said = outcome.stdout.text();
    if said.contains("No module named pip") {
        println!("skipped: the python3 of boxes has no pip");
        return;
    }
    assert!(outcome.success() && said.contains("six "), "{said}\n{:?}", boxed.egress.usage());
    let usage = boxed.egress.usage();
    assert!(usage.allowed > 0 && usage.refused == 0 && usage.bytes_down > 1000, "{usage:?}");
    // The control: an index that is not granted.
    let outcome =
        boxed.run(call("python3 -m pip install --retries 0 --target no --index-url https://index.example/simple six 2>&1"));
    let said = outcome.stdout.text();
    let refused = boxed.egress.usage().last_refusals;
    assert!(!outcome.success() && !refused.is_empty(), "{said}");
    assert!(refused.iter().all(|(code, text)| code == "egress_denied" && text.contains("index.example")), "{refused:?}");
}

#[test]
fn npm_installs_through_the_door_and_only_from_what_is_granted() {
    let Some(registry) = says("npm", &["config", "get", "registry"]).and_then(|registry| Url::parse(&registry).ok()) else {
        println!("skipped: this machine has no npm");
        return;
    };
    let Some(boxed) = reaching("npm", std::slice::from_ref(&registry)) else { return };
    let certificates = pip_setting("cert");
    let certificates = certificates.map(|path| format!("export NODE_EXTRA_CA_CERTS={path}")).unwrap_or_default();
    let install = |registry: &str| {
        format!(
            "{certificates}\nnpm install --no-audit --no-fund --fetch-retries 0 --registry {registry} is-number 2>&1 && \
             node -e 'console.log(\"is\", require(\"is-number\")(5))'"
        )
    };
    let outcome = boxed.run(call(&install(registry.as_str())));
    let said = outcome.stdout.text();
    if said.contains("npm: command not found") {
        println!("skipped: boxes have no npm");
        return;
    }
    assert!(outcome.success() && said.contains("is true"), "{said}\n{:?}", boxed.egress.usage());
    let usage = boxed.egress.usage();
    assert!(usage.allowed > 0 && usage.refused == 0 && usage.bytes_down > 1000, "{usage:?}");
    let outcome = boxed.run(call(&format!("mkdir other; cd other; {}", install("https://registry.example/"))));
    assert!(!outcome.success(), "{}", outcome.stdout.text());
    assert!(
        boxed
            .egress
            .usage()
            .last_refusals
            .iter()
            .all(|(code, text)| code == "egress_denied" && text.contains("registry.example"))
    );
}
