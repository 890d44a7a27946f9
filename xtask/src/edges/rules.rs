//! What each package of the workspace may depend on: `core ← engine ← adapters ← programs`.

/// The feature that switches planted bugs on.
pub(super) const BUGS: &str = "bugs";
/// The simulated world: any package's tests may use it.
pub(super) const SIMULATION: &str = "errand-sim";

/// One package, or all packages at or below a folder.
pub(super) enum Who {
    Package(&'static str),
    Folder(&'static str),
}

/// Which crates from crates.io a package may link. Tests may use others.
pub(super) enum Outside {
    Any,
    Only(&'static [&'static str]),
}

/// A row of the table; the first that covers a package holds.
pub(super) struct Rule {
    pub(super) who: Who,
    /// Packages of this workspace that it may depend on.
    pub(super) ours: &'static [&'static str],
    pub(super) outside: Outside,
    /// Whether it may depend on AWS crates.
    pub(super) aws: bool,
    /// Whether it may switch planted bugs on.
    pub(super) bugs: bool,
}

impl Rule {
    const fn package(name: &'static str, ours: &'static [&'static str]) -> Self {
        Self { who: Who::Package(name), ours, outside: Outside::Any, aws: false, bugs: false }
    }

    const fn folder(folder: &'static str, ours: &'static [&'static str]) -> Self {
        Self { who: Who::Folder(folder), ..Self::package("", ours) }
    }

    const fn aws(self) -> Self {
        Self { aws: true, ..self }
    }

    const fn bugs(self) -> Self {
        Self { bugs: true, ..self }
    }

    const fn only(self, outside: &'static [&'static str]) -> Self {
        Self { outside: Outside::Only(outside), ..self }
    }

    pub(super) fn covers(&self, name: &str, folder: &str) -> bool {
        match self.who {
            Who::Package(package) => package == name,
            Who::Folder(parent) => folder.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

/// The core and the ports: all an adapter may know of the rest.
const PORTS: &[&str] = &["errand-core", "errand-engine"];

/// Everything that a program puts together.
const ALL: &[&str] = &[
    "errand-core",
    "errand-engine",
    "errand-store-local",
    "errand-store-aws",
    "errand-models",
    "errand-tools",
    "errand-guard",
    "errand-memory",
    "errand-sandbox",
    "errand-egress",
    "errand-api",
    "errand-e2b",
    "errand-keys",
];

/// DESIGN.md section 4 as data.
pub(super) const RULES: &[Rule] = &[
    // No IO, no async, no clock, no randomness: four crates that have none of these either.
    Rule::package("errand-core", &[]).only(&["serde", "serde_json", "sha2", "thiserror"]),
    Rule::package("errand-engine", &["errand-core"]),
    Rule::package("errand-store-local", PORTS),
    Rule::package("errand-store-aws", PORTS).aws(),
    Rule::package("errand-models", PORTS),
    // The one adapter that uses another: a tool's code runs in a box, and this is the boxes' client.
    Rule::package("errand-tools", &["errand-core", "errand-engine", "errand-sandbox", "errand-egress"]),
    Rule::package("errand-guard", PORTS),
    Rule::package("errand-memory", PORTS),
    // A box and its init hold none of our other code.
    Rule::package("errand-sandbox", &[]),
    // The way out of boxes stands outside of them: it knows the boxes' side of the door and nothing else of ours.
    Rule::package("errand-egress", &["errand-sandbox"]),
    // Who may ask is the same question on every surface.
    Rule::package("errand-keys", PORTS),
    Rule::package("errand-api", &["errand-core", "errand-engine", "errand-keys"]),
    // A surface over boxes alone, for clients that know nothing of runs; one half of it runs in the box.
    Rule::package("errand-e2b", &["errand-core", "errand-keys", "errand-sandbox", "errand-egress"]),
    Rule::package("errand-cli", ALL),
    Rule::package(
        "sandbox-runner",
        &[
            "errand-core",
            "errand-e2b",
            "errand-engine",
            "errand-keys",
            "errand-sandbox",
            "errand-egress",
            "errand-store-local",
            "errand-store-aws",
            "errand-tools",
            // In tests: who makes the steps of runs, and an emulator of AWS.
            "errand-models",
        ],
    )
    .aws(),
    // The edge component is WebAssembly: pure code only.
    Rule::folder("functions/edge", &["errand-core"]),
    Rule::folder("functions", ALL).aws(),
    Rule::package(SIMULATION, PORTS).bugs(),
    // What Errand is measured against must not be made of it; boxes are measured by themselves.
    Rule::package("errand-bench", &["errand-sandbox", "errand-egress"]),
    Rule::package("xtask", &["errand-core", "errand-engine", SIMULATION]).bugs(),
    Rule::package(
        "errand-tests",
        &[
            "errand-core",
            "errand-engine",
            "errand-store-local",
            "errand-store-aws",
            "errand-models",
            "errand-tools",
            "errand-guard",
            "errand-memory",
            "errand-sandbox",
            "errand-egress",
            "errand-api",
            "errand-cli",
            SIMULATION,
        ],
    )
    .bugs(),
];

/// Whether a crate from outside speaks to AWS. `aws-lc-*` is a cryptography library that merely comes from there.
pub(super) fn is_aws(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["aws-", "aws_", "lambda_", "lambda-"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !name.starts_with("aws-lc-")
}
