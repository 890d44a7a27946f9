//! The command line: commands and flags, from which help, completions and the man page are made too.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs AI agents as durable, auditable runs: budgets that hold, side effects at most once, every run replayable.
#[derive(Debug, Parser)]
#[command(name = "errand", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 failed, 2 usage, 3 a person is needed, 4 budget, 130 handed over by Ctrl-C.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Folder that holds all runs [default: the platform's data folder] [variable: ERRAND_DATA]
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Settings file [default: errand/errand.toml in the platform's settings folder] [variable: ERRAND_CONFIG]
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address that tools may speak to though it is not public: HOST, IP, either with :PORT, or a range [variable: ERRAND_ALLOW_ADDRESSES]
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) allow_address: Vec<String>,
    /// Print JSON for machines: one object per line
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Log what happens inside to standard error (twice: in detail)
    #[arg(short, long, global = true, help_heading = "Everywhere", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry out an errand and show how it goes
    Run(Run),
    /// Talk with an assistant: every turn is a run of the same thread
    Chat(Chat),
    /// List runs, newest first
    Runs(Runs),
    /// Show the answer, the cost and the files of a run
    Show(RunArg),
    /// Print the numbered events of a run
    Events(Events),
    /// Serve the API on this machine and carry runs on, until stopped
    Serve(Serve),
    /// Carry unfinished runs on until they end or wait for a person
    Resume(Resume),
    /// Allow a call that waits for a person
    Approve(Approve),
    /// Refuse a call, or a question, that waits for a person
    Reject(Reject),
    /// Answer a question that a run asks
    Answer(Answer),
    /// Say whether a call with an unknown outcome took hold
    Resolve(Resolve),
    /// Say something to a run at work; after a run that is done, go on with its thread
    Message(Message),
    /// Raise the budget of a run that is paused at it
    Raise(Raise),
    /// Stop a run and everything below it
    Cancel(Cancel),
    /// List the files of a run, or fetch one
    Files(Files),
    /// Run the core again on everything that was recorded and compare, with no network
    Replay(Source),
    /// Begin a new run that goes on from a record of another one
    Fork(Fork),
    /// Check the ledger of a run or a bundle
    Verify(Source),
    /// Write a run with everything it takes to replay it into one file
    Export(Export),
    /// Tell what works on this machine, and how to get what does not
    Doctor,
    /// Tell more of an error by its code, or list all codes
    Explain(Explain),
    /// List providers and their models: what is set up, prices, and which model is taken by default
    Models(Models),
    /// Show a scripted errand on the real engine and the real sandbox
    Demo(Demo),
    /// List, keep and show assistants: who carries errands out, with what, and by which rules
    Assistants(Assistants),
    /// Make, list and revoke API keys, by which other machines and tenants may use `errand serve`
    Keys(Keys),
    /// List the tools that runs can use, or show one; `check` looks at a folder of tools
    Tools(Tools),
    /// Make boxes by hand: a workspace that stays, commands and kernels in sealed boxes over it
    Sandbox(Sandbox),
    /// Carry out many runs and tell what they cost, for `cargo xtask bench`
    #[command(hide = true)]
    Bench(RunOptions),
    /// Be a worker of the sandbox's tier T0, for a process of Errand that speaks with it
    #[cfg(feature = "t0")]
    #[command(hide = true)]
    T0Worker,
    /// What this program is in a box of an OCI runtime
    #[command(hide = true)]
    InsideBox,
    /// Be the inside of a sandbox of the E2B-compatible API
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Envd,
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the man page
    Man,
}

/// What a run starts with.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunOptions {
    /// Model: PROVIDER/NAME as `errand models` lists them, or any name at --model-base-url [variable: ERRAND_MODEL]
    #[arg(long, short, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Who carries it out: NAME or NAME@VERSION of one that is kept, or a file, see `errand assistants` [variable: ERRAND_ASSISTANT]
    #[arg(long, short, value_name = "NAME|FILE")]
    pub(crate) assistant: Option<String>,
    /// Model that takes over when the one before fails for good; may be given several times [variable: ERRAND_FALLBACKS]
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    pub(crate) fallback: Vec<String>,
    /// Model that shortens a conversation which grows too long [default: the one that thinks] [variable: ERRAND_SUMMARIZERS]
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    pub(crate) summarizer: Vec<String>,
    /// Endpoint that takes any model name, OpenAI-compatible if nothing else is set [variable: ERRAND_MODEL_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) model_base_url: Option<String>,
    /// JSON Schema that the answer must fit
    #[arg(long, value_name = "FILE")]
    pub(crate) output_schema: Option<PathBuf>,
    /// Most dollars the run may spend, or `none` [default: 1.00] [variable: ERRAND_BUDGET]
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    pub(crate) budget: Option<String>,
    /// Most tokens the run may use, or `none` [variable: ERRAND_BUDGET_TOKENS]
    #[arg(long, value_name = "N")]
    pub(crate) budget_tokens: Option<String>,
    /// Pause when the budget is used up, in place of ending (see `errand raise`)
    #[arg(long)]
    pub(crate) pause_at_budget: bool,
    /// Most model turns [default: 50] [variable: ERRAND_MAX_STEPS]
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<String>,
    /// Most time at work, such as 90s, 30m or 2h; waiting does not count [default: 30m] [variable: ERRAND_MAX_TIME]
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_time: Option<String>,
    /// Ask a person before each call of these tools; `always` for all, `never` for none [variable: ERRAND_APPROVE]
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    pub(crate) approve: Vec<String>,
    /// Tools on offer, see `errand tools` [variable: ERRAND_TOOLS]
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    pub(crate) tools: Vec<String>,
    /// Weakest tier of the sandbox that code may run in: t0, t1 or t2 [default: t1] [variable: ERRAND_MIN_TIER]
    #[arg(long, value_name = "TIER")]
    pub(crate) min_tier: Option<String>,
    /// Image whose packages code sees, such as `data` with numpy, pandas and more; made when it is first needed [variable:
    /// ERRAND_SANDBOX_IMAGE]
    #[arg(long, value_name = "NAME")]
    pub(crate) sandbox_image: Option<String>,
    /// Host that code of the run may reach, of those that the settings allow; `*` for all of them; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow_host: Vec<String>,
    /// Folder with scripts for scripted/NAME [variable: ERRAND_SCRIPT_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) script_dir: Option<PathBuf>,
    /// Folder with tools of your own; may be given several times [variable: ERRAND_TOOL_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) tool_dir: Vec<PathBuf>,
    /// The weakest tier that the assistant is content with
    #[arg(skip)]
    pub(crate) assistant_tier: Option<errand_core::Tier>,
    /// What the assistant says, where a flag says nothing
    #[arg(skip)]
    pub(crate) lists: Lists,
}

/// Lists of an assistant. An empty one is none of the kind, where a flag that is left out says nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists {
    pub(crate) fallbacks: Option<Vec<String>>,
    pub(crate) summarizers: Option<Vec<String>>,
    pub(crate) tools: Option<Vec<String>>,
    pub(crate) approve: Option<Vec<String>>,
    pub(crate) allow_hosts: Option<Vec<String>>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What is to be done; `-` reads it from standard input
    pub(crate) task: String,
    /// File to copy into the run's workspace; may be given several times
    #[arg(long, short, value_name = "PATH")]
    pub(crate) file: Vec<PathBuf>,
    /// Image (PNG, JPEG, GIF or WebP) to show to the model; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) image: Vec<PathBuf>,
    /// Go on after this run: its conversation and its files come first
    #[arg(long, value_name = "RUN")]
    pub(crate) thread: Option<String>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Go on after this run
    #[arg(long, value_name = "RUN")]
    pub(crate) thread: Option<String>,
    /// File to copy into the workspace at the first turn; may be given several times
    #[arg(long, short, value_name = "PATH")]
    pub(crate) file: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum StatusName {
    Running,
    Waiting,
    Paused,
    Done,
    Failed,
    Cancelled,
    BudgetExceeded,
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Runs of this tenant, see `errand keys` [default: default]
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Only runs that stand so
    #[arg(long, value_enum)]
    pub(crate) status: Option<StatusName>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only runs older than this one: the last of the page before
    #[arg(long, value_name = "RUN")]
    pub(crate) before: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArg {
    /// The run, as `errand runs` lists it
    pub(crate) run: String,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The run
    pub(crate) run: String,
    /// Go on printing until the run has ended
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only events after this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address and port; port 0 takes a free one; other addresses than loopback need API keys, see `errand keys` [default:
    /// 127.0.0.1:8080] [variable: ERRAND_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// Serve sandboxes to clients of E2B as well: address and port [variable: ERRAND_E2B_LISTEN]
    #[cfg(target_os = "linux")]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) e2b_listen: Option<String>,
    /// Refuse programs of this machine too if they have no API key: behind a proxy that other machines reach
    #[arg(long)]
    pub(crate) require_key: bool,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, once: it is not kept
    Create {
        /// Whose runs it begins and sees: letters, digits, `_` and `-` [default: default]
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// For people: who has it, or what it is for
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// It is good for so long, such as 12h or 90d [default: for ever]
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
    },
    /// List the keys, without their secrets
    List,
    /// Take a key away, for good: what is asked with it from now on is refused
    Revoke {
        /// Its id, as the list shows it, or the key itself
        #[arg(value_name = "KEY")]
        key: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Only until this run ends or waits
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) carry: Carry,
}

/// What happens once a person's word is written down.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Carry {
    /// Endpoint that takes any model name, OpenAI-compatible if nothing else is set [variable: ERRAND_MODEL_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) model_base_url: Option<String>,
    /// Folder with scripts for scripted/NAME [variable: ERRAND_SCRIPT_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) script_dir: Option<PathBuf>,
    /// Folder with tools of your own; may be given several times [variable: ERRAND_TOOL_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) tool_dir: Vec<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Go {
    /// Only write it down; a later command carries the run on
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) carry: Carry,
}

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The run
    pub(crate) run: String,
    /// Which call, such as 2.0; needed only if several wait
    #[arg(long)]
    pub(crate) call: Option<String>,
    /// Make the call with these arguments instead: a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) arguments: Option<String>,
    #[command(flatten)]
    pub(crate) go: Go,
}

#[derive(Debug, Args)]
pub(crate) struct Reject {
    /// The run
    pub(crate) run: String,
    /// Which call; needed only if several wait
    #[arg(long)]
    pub(crate) call: Option<String>,
    /// Why; the model is told
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) go: Go,
}

#[derive(Debug, Args)]
pub(crate) struct Answer {
    /// The run
    pub(crate) run: String,
    /// The answer; `-` reads it from standard input
    pub(crate) text: String,
    /// Which call; needed only if several wait
    #[arg(long)]
    pub(crate) call: Option<String>,
    #[command(flatten)]
    pub(crate) go: Go,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("word").required(true))]
pub(crate) struct Resolve {
    /// The run
    pub(crate) run: String,
    /// Which call; needed only if several wait
    #[arg(long)]
    pub(crate) call: Option<String>,
    /// It took hold
    #[arg(long, group = "word")]
    pub(crate) happened: bool,
    /// It did not take hold
    #[arg(long, group = "word")]
    pub(crate) not_happened: bool,
    /// What is known of it; the model is told
    #[arg(long, default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) go: Go,
}

#[derive(Debug, Args)]
pub(crate) struct Message {
    /// The run
    pub(crate) run: String,
    /// What to say; `-` reads it from standard input
    pub(crate) text: String,
    #[command(flatten)]
    pub(crate) go: Go,
}

#[derive(Debug, Args)]
pub(crate) struct Raise {
    /// The run
    pub(crate) run: String,
    /// Dollars on top
    #[arg(long, value_name = "USD", required_unless_present_any = ["tokens", "steps", "time"])]
    pub(crate) usd: Option<String>,
    /// Tokens on top
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<u64>,
    /// Model turns on top
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u32>,
    /// Time at work on top, such as 10m
    #[arg(long, value_name = "DURATION")]
    pub(crate) time: Option<String>,
    #[command(flatten)]
    pub(crate) go: Go,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run
    pub(crate) run: String,
    /// Why
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The run
    pub(crate) run: String,
    /// Fetch this file; without it, all files are listed
    #[arg(requires = "output")]
    pub(crate) path: Option<String>,
    /// Where to write the file; `-` for standard output
    #[arg(long, short, value_name = "FILE", requires = "path")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Sandbox {
    #[command(subcommand)]
    pub(crate) command: SandboxCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Make a session: an empty workspace that stays until it is killed
    Create {
        /// Its name: letters, digits, `_` and `-` [default: a new one]
        id: Option<String>,
        /// Show its boxes this image, built first if it is not there: `data` has numpy, pandas, matplotlib and more
        #[arg(long, value_name = "NAME")]
        image: Option<String>,
        /// Give it a workspace of that many MiB that is reserved on the disk and never grows; only root can
        #[arg(long, value_name = "MIB")]
        volume: Option<u64>,
        #[command(flatten)]
        grant: Box<SandboxGrant>,
    },
    /// List the sessions
    List,
    /// Run a program in a fresh box over a session; ends with the program's own exit status
    Exec(SandboxExec),
    /// Run cells in a kernel that stays as long as this command: what one defines, the next one sees
    Shell(SandboxShell),
    /// List the files of a session, print one, or put one in
    Files(SandboxFiles),
    /// Run a small Python script in the interpreter of tier T0, which works on any system and sees no files
    #[cfg(feature = "t0")]
    Script(SandboxScript),
    /// Remove a session with all its files
    Kill {
        /// The session
        id: String,
    },
    /// Build, list and remove images: named layers of Python packages for `create --image`
    Image(SandboxImage),
}

#[derive(Debug, Args)]
pub(crate) struct SandboxImage {
    #[command(subcommand)]
    pub(crate) command: SandboxImageCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxImageCommand {
    /// Make an image: fetch the wheels of its lock file, check their hashes, unpack and compile them
    Build {
        /// Its name; `data` comes with a lock file: numpy, pandas, matplotlib, openpyxl, python-docx, pypdf, pillow, duckdb
        name: String,
        /// The packages, pinned with hashes as pip-compile and uv write them [default: those it was made from before]
        #[arg(long, value_name = "FILE")]
        lock: Option<PathBuf>,
        /// An option for pip, for example --pip-option=--index-url=https://…; may be repeated
        #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
        pip_option: Vec<String>,
    },
    /// List the images there are
    List,
    /// Remove an image that nobody uses
    Rm {
        /// Its name
        name: String,
    },
}

#[cfg(feature = "t0")]
#[derive(Debug, Args)]
pub(crate) struct SandboxScript {
    /// The script, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) limits: SandboxLimits,
}

/// A way out of the boxes of a session, which else have none.
#[derive(Debug, Args)]
pub(crate) struct SandboxGrant {
    /// Let its boxes speak TLS and HTTP to this host, through a proxy: HOST, HOST:PORT, *.SUFFIX or *.SUFFIX:PORT, on ports 443
    /// and 80 where none is given; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow_host: Vec<String>,
    /// The same, for what is neither: tunnels there may carry anything
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) allow_plain: Vec<String>,
    /// Grant these methods only to the hosts of --allow-host, which then refuse tunnels; may be repeated
    #[arg(long, value_name = "METHOD", requires = "allow_host")]
    pub(crate) allow_method: Vec<String>,
    /// Most MiB that may pass, both ways together [default: 1024]
    #[arg(long, value_name = "MIB")]
    pub(crate) egress_mib: Option<u64>,
    /// End the way out so long from now, such as 30m or 2h [default: never]
    #[arg(long, value_name = "DURATION")]
    pub(crate) egress_for: Option<String>,
    /// Give boxes a placeholder of this secret in the variable NAME; the proxy puts the secret in its place, in headers of
    /// https:// requests to these hosts; may be repeated
    #[arg(long, value_name = "NAME=HOST,…")]
    pub(crate) secret: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxExec {
    /// The session
    pub(crate) id: String,
    /// Run it in a box of this tier or a stronger one: t1 or t2 [default: that of the settings]
    #[arg(long, value_name = "TIER")]
    pub(crate) min_tier: Option<String>,
    #[command(flatten)]
    pub(crate) limits: SandboxLimits,
    /// The program and its arguments; standard input goes to it unless it is a terminal
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxShell {
    /// The session
    pub(crate) id: String,
    /// What the kernel speaks
    #[arg(long, short, value_enum, default_value_t = SandboxLanguage::Python)]
    pub(crate) language: SandboxLanguage,
    #[command(flatten)]
    pub(crate) limits: SandboxLimits,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SandboxLanguage {
    Python,
    Node,
    Shell,
}

impl From<SandboxLanguage> for errand_sandbox::Language {
    fn from(language: SandboxLanguage) -> Self {
        match language {
            SandboxLanguage::Python => Self::Python,
            SandboxLanguage::Node => Self::Node,
            SandboxLanguage::Shell => Self::Shell,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SandboxLimits {
    /// Most wall time of a command or cell, such as 90s or 5m [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Most memory of the box, in MiB [default: 2048]
    #[arg(long, value_name = "MIB")]
    pub(crate) memory: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxFiles {
    /// The session
    pub(crate) id: String,
    /// Print this file of the workspace; with --put, where the file goes
    pub(crate) path: Option<String>,
    /// Put this file of the host into the workspace
    #[arg(long, value_name = "FILE")]
    pub(crate) put: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Source {
    /// A run, or a file made by `errand export`
    #[arg(value_name = "RUN|BUNDLE")]
    pub(crate) source: String,
}

#[derive(Debug, Args)]
pub(crate) struct Fork {
    /// The run to go on from
    pub(crate) run: String,
    /// The last record they share, as `errand events` shows it
    #[arg(long, value_name = "N")]
    pub(crate) at: u64,
    /// Say this to the model first
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Only write the fork down; a later command carries it on
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Another model
    #[arg(long, short, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Another budget in dollars, or `none` [default: that of the run, as are the bounds below]
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    pub(crate) budget: Option<String>,
    /// Most tokens it may use, or `none`
    #[arg(long, value_name = "N")]
    pub(crate) budget_tokens: Option<String>,
    /// Most model turns
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<String>,
    /// Most time at work, such as 90s, 30m or 2h
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_time: Option<String>,
    #[command(flatten)]
    pub(crate) carry: Carry,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The run
    pub(crate) run: String,
    /// Where to write the bundle; an existing file is not replaced
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Leave out what the files hold; replay and verify work all the same
    #[arg(long)]
    pub(crate) without_files: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoName {
    /// Search a small site on this machine, read pages, answer with sources
    Web,
    /// Clean a CSV file, compute, chart, and write a report
    Data,
    /// Write a program with tests, see them fail, fix it
    Code,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Which one
    #[arg(value_enum)]
    pub(crate) name: DemoName,
    /// Another file to work on: for `data` any CSV file, for `code` cases (columns numeral and value); none for `web`
    pub(crate) file: Option<PathBuf>,
    /// Where to put the files it makes [default: ./errand-demo-data or ./errand-demo-code]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Tools {
    #[command(subcommand)]
    pub(crate) command: Option<ToolsCommand>,
    /// Show this tool in full
    pub(crate) name: Option<String>,
    /// Folder with tools of your own; may be given several times [variable: ERRAND_TOOL_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) tool_dir: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// Check every manifest of a folder and tell all problems at once; nothing is started
    Check {
        /// The folder
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The code, as messages and JSON tell it [default: list all]
    pub(crate) code: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Models {
    /// A provider, such as anthropic, or a model, such as ollama/qwen3
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Assistants {
    /// What to do; without it, those that are kept are listed
    #[command(subcommand)]
    pub(crate) action: Option<AssistantAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AssistantAction {
    /// List those that are kept, the newest version of each
    List,
    /// Print one: NAME, or NAME@VERSION
    Show {
        /// Which
        name: String,
    },
    /// List the versions of one
    Versions {
        /// Which
        name: String,
    },
    /// Check a file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Keep a file as the newest version of the assistant it names
    Add {
        /// The file
        file: PathBuf,
    },
    /// Offer one no longer; runs that began with it are not touched
    Remove {
        /// Which
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_work_after_the_command() {
        let cli = Cli::parse_from(["errand", "run", "x", "--json", "--data", "d", "--approve", "shell,python"]);
        assert!(cli.global.json);
        let Command::Run(run) = cli.command else { panic!("not a run") };
        assert_eq!(run.options.approve, ["shell", "python"]);
    }

    #[test]
    fn a_resolution_says_one_thing() {
        for words in [&["errand", "resolve", "r"][..], &["errand", "resolve", "r", "--happened", "--not-happened"]] {
            assert!(Cli::try_parse_from(words).is_err());
        }
    }
}
