//! Settings: flags, then `ERRAND_*` variables, then `errand.toml`, then defaults. The only place that reads the
//! environment; everything else is handed what it needs.

mod file;
mod vault;

use crate::args::{Carry, Global, RunOptions};
use crate::error::Error;
use crate::text;
use errand_core::{Budget, Tier, Usd, WhenExceeded};
use errand_egress::{BYTES_DEFAULT, Terms};
use errand_models::{Dialect, Secret};
use errand_tools::{Room, SearchSettings};
use file::File;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
pub(crate) use vault::Keys;

/// The environment, as far as anybody asks for it.
pub(crate) trait Environment {
    /// A variable that is set, not empty, and text.
    fn text(&self, name: &str) -> Option<String>;
    /// A variable that holds a path.
    fn path(&self, name: &str) -> Option<PathBuf>;
}

/// The environment of this process.
pub(crate) struct Process;

#[expect(clippy::disallowed_methods, reason = "this is the config module: the one place that may")]
impl Environment for Process {
    fn text(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.trim().is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

/// All settings, resolved.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// The model, if somebody named one.
    pub(crate) model: Option<String>,
    /// Models that take over from it, in order.
    pub(crate) fallbacks: Vec<String>,
    /// Models that shorten long conversations, in order.
    pub(crate) summarizers: Vec<String>,
    /// The assistant that was named.
    pub(crate) assistant: Option<String>,
    /// JSON Schema that answers must fit, in a file.
    pub(crate) output_schema: Option<PathBuf>,
    /// For the models.
    pub(crate) models: errand_models::Settings,
    /// What a run may spend.
    pub(crate) budget: BudgetChoice,
    /// Tools to ask a person for.
    pub(crate) approve: Approve,
    /// Tools on offer; the default set if nobody named any.
    pub(crate) tools: Option<Vec<String>>,
    /// Addresses beside the public ones that tools may speak to.
    pub(crate) allow_addresses: Vec<String>,
    /// What code of a new run is to reach, of what the settings allow.
    pub(crate) allow_hosts: Vec<String>,
    /// Who searches, if somebody does.
    pub(crate) search: Option<SearchSettings>,
    /// How code is kept in boxes.
    pub(crate) sandbox: SandboxChoice,
    /// Whether colours are wanted.
    pub(crate) color: bool,
    /// The settings file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Where to look for interpreters that the system lacks.
    pub(crate) search_path: Option<OsString>,
    /// Folders with tools of the user.
    pub(crate) tool_dirs: Vec<PathBuf>,
    /// Files that hold secrets of tools, by the secrets' names; the variable `ERRAND_SECRET_NAME` goes before.
    pub(crate) secret_files: BTreeMap<String, PathBuf>,
    /// Where to serve, if it was said.
    pub(crate) listen: Option<String>,
    /// Where to serve the E2B-compatible API, if anywhere.
    pub(crate) e2b_listen: Option<String>,
    /// Programs of this machine need an API key too.
    pub(crate) require_key: bool,
    /// Who decides here, for the record.
    pub(crate) user: String,
}

/// How code is kept in boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxChoice {
    /// The weakest tier that code may run in.
    pub(crate) min_tier: Tier,
    /// Refuse boxes whose memory, processes or processor time are not bounded hard.
    pub(crate) hard_quotas: bool,
    /// A kernel that nobody has used for so long is ended.
    pub(crate) idle: Duration,
    /// Kernels of Python and of the shell that are kept ready; a command that ends soon keeps none, if nothing is said.
    pub(crate) warm: Option<usize>,
    /// The image that code of runs sees.
    pub(crate) image: Option<String>,
    /// How many runs may have their workspaces on this machine at a time.
    pub(crate) room: Room,
    /// The OCI runtime of tier T2.
    pub(crate) runtime: Option<PathBuf>,
    /// Its options.
    pub(crate) runtime_flags: Vec<String>,
    /// Whether it may be one without a kernel of its own.
    pub(crate) allow_shared_kernel: bool,
    /// What code in boxes may be granted to reach, at most.
    pub(crate) egress: Terms,
}

/// A bound that was given, taken away, or not spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound<T> {
    Default,
    None,
    Some(T),
}

/// The budget as far as it was decided before the model is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetChoice {
    pub(crate) usd: Bound<Usd>,
    pub(crate) tokens: Bound<u64>,
    pub(crate) steps: u32,
    pub(crate) active_ms: u64,
    pub(crate) pause: bool,
}

/// Dollars when nobody says otherwise.
const USD_DEFAULT: Usd = Usd::from_nanos(1_000_000_000);
/// Tokens when nobody says otherwise and no price is known, so that there is a bound at all.
const TOKENS_DEFAULT: u64 = 500_000;
/// Model turns when nobody says otherwise.
const STEPS_DEFAULT: u32 = 50;
/// Time at work when nobody says otherwise, in milliseconds.
const ACTIVE_DEFAULT: u64 = 30 * 60 * 1000;

impl BudgetChoice {
    /// The budget of a run whose model has a known price or not.
    pub(crate) fn budget(&self, price_known: bool) -> Budget {
        let usd = match self.usd {
            Bound::Some(usd) => Some(usd),
            Bound::Default if price_known => Some(USD_DEFAULT),
            Bound::Default | Bound::None => None,
        };
        let tokens = match self.tokens {
            Bound::Some(tokens) => Some(tokens),
            Bound::Default if !price_known && self.usd == Bound::Default => Some(TOKENS_DEFAULT),
            Bound::Default | Bound::None => None,
        };
        let when_exceeded = if self.pause { WhenExceeded::Pause } else { WhenExceeded::End };
        Budget { usd, tokens, steps: self.steps, active_ms: self.active_ms, when_exceeded }
    }
}

/// Which tools a person is asked for first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approve {
    /// As each tool's manifest says.
    Manifest,
    /// None.
    Never,
    /// All.
    Always,
    /// These, besides those whose manifest says so.
    Tools(Vec<String>),
}

impl Config {
    /// Resolves the settings of a command that runs nothing.
    pub(crate) fn plain(global: &Global, environment: &dyn Environment) -> Result<Self, Error> {
        Self::resolve(global, &RunOptions::default(), environment)
    }

    /// Resolves the settings as if there were no settings file, for whoever tells what is wrong with it.
    pub(crate) fn without_file(global: &Global, environment: &dyn Environment) -> Result<Self, Error> {
        Self::of((File::default(), None), global, &RunOptions::default(), environment)
    }

    /// Resolves the settings of a command that carries runs on.
    pub(crate) fn carrying(global: &Global, carry: &Carry, environment: &dyn Environment) -> Result<Self, Error> {
        let options = RunOptions {
            model_base_url: carry.model_base_url.clone(),
            script_dir: carry.script_dir.clone(),
            tool_dir: carry.tool_dir.clone(),
            ..RunOptions::default()
        };
        Self::resolve(global, &options, environment)
    }

    /// Resolves all settings.
    pub(crate) fn resolve(global: &Global, options: &RunOptions, environment: &dyn Environment) -> Result<Self, Error> {
        Self::of(File::find(global.config.as_ref(), environment)?, global, options, environment)
    }

    fn of(
        (file, path): (File, Option<PathBuf>),
        global: &Global,
        options: &RunOptions,
        environment: &dyn Environment,
    ) -> Result<Self, Error> {
        let variable = |name: &str| environment.text(name);
        let given = |flag: &Option<String>, name: &str, filed: &Option<String>| {
            flag.clone().or_else(|| variable(name)).or_else(|| filed.clone())
        };
        let budget = BudgetChoice {
            usd: usd_bound(given(&options.budget, "ERRAND_BUDGET", &file.budget))?,
            tokens: tokens_bound(given(&options.budget_tokens, "ERRAND_BUDGET_TOKENS", &file.budget_tokens))?,
            steps: steps(given(&options.max_steps, "ERRAND_MAX_STEPS", &file.max_steps))?,
            active_ms: active(given(&options.max_time, "ERRAND_MAX_TIME", &file.max_time))?,
            pause: options.pause_at_budget || file.pause_at_budget,
        };
        let lists = &options.lists;
        let list = |flag: &[String], own: &Option<Vec<String>>, name: &str, filed: &Option<Vec<String>>| {
            let flag = (!flag.is_empty()).then(|| flag.to_vec()).or_else(|| own.clone());
            flag.or_else(|| variable(name).map(|text| text.split(',').map(|tool| tool.trim().to_owned()).collect()))
                .or_else(|| filed.clone())
        };
        Ok(Self {
            data: data_folder(global, &file, environment)?,
            model: given(&options.model, "ERRAND_MODEL", &file.model),
            fallbacks: list(&options.fallback, &lists.fallbacks, "ERRAND_FALLBACKS", &file.fallbacks).unwrap_or_default(),
            summarizers: list(&options.summarizer, &lists.summarizers, "ERRAND_SUMMARIZERS", &file.summarizers)
                .unwrap_or_default(),
            assistant: given(&options.assistant, "ERRAND_ASSISTANT", &file.assistant),
            output_schema: options.output_schema.clone(),
            models: model_settings(options, &file, environment)?,
            budget,
            approve: approve(list(&options.approve, &lists.approve, "ERRAND_APPROVE", &file.approve)),
            tools: list(&options.tools, &lists.tools, "ERRAND_TOOLS", &file.tools),
            allow_addresses: list(&global.allow_address, &None, "ERRAND_ALLOW_ADDRESSES", &file.allow_addresses)
                .unwrap_or_default(),
            allow_hosts: match &options.allow_host[..] {
                [] => lists.allow_hosts.clone().unwrap_or_default(),
                given => given.to_vec(),
            },
            tool_dirs: tool_dirs(options, &file, environment),
            secret_files: file.secrets.clone(),
            search: search(&file, environment),
            sandbox: sandbox(options, &file, environment)?,
            // https://no-color.org: any value that is not empty.
            color: environment.path("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != "dumb"),
            file: path,
            search_path: environment.path("PATH").map(PathBuf::into_os_string),
            listen: variable("ERRAND_LISTEN").or_else(|| file.listen.clone()),
            e2b_listen: variable("ERRAND_E2B_LISTEN").or_else(|| file.e2b_listen.clone()),
            require_key: file.require_key,
            user: variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "user".to_owned()),
        })
    }
}

/// The first that is given of the flag, the variable (paths as in PATH) and the file.
fn tool_dirs(options: &RunOptions, file: &File, environment: &dyn Environment) -> Vec<PathBuf> {
    if !options.tool_dir.is_empty() {
        return options.tool_dir.clone();
    }
    match environment.path("ERRAND_TOOL_DIR") {
        Some(paths) => std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => file.tool_dir.clone(),
    }
}

fn data_folder(global: &Global, file: &File, environment: &dyn Environment) -> Result<PathBuf, Error> {
    let named = global.data.clone().or_else(|| environment.path("ERRAND_DATA")).or_else(|| file.data.clone());
    if let Some(folder) = named {
        return Ok(folder);
    }
    // https://specifications.freedesktop.org/basedir-spec/latest/ (checked 2026-11-21): relative values are ignored.
    let xdg = environment.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
    xdg.or_else(|| environment.path("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("errand"))
        .ok_or_else(|| {
            Error::new("config_invalid", "no home folder is known: name a data folder with --data or ERRAND_DATA")
        })
}

fn model_settings(
    options: &RunOptions,
    file: &File,
    environment: &dyn Environment,
) -> Result<errand_models::Settings, Error> {
    let variable = |name: &str| environment.text(name).map(|value| value.trim().to_owned());
    let mut prices = BTreeMap::new();
    for (name, price) in &file.prices {
        let price = price.nanos().ok_or_else(|| {
            Error::new("config_invalid", format!("the price of `{name}` in errand.toml is negative or not a number"))
        })?;
        prices.insert(name.clone(), price);
    }
    let defaults = errand_models::Settings::default();
    let dialect = variable("ERRAND_MODEL_DIALECT").or_else(|| file.model_dialect.clone());
    let ollama_context = variable("ERRAND_OLLAMA_CONTEXT").or_else(|| file.ollama_context.clone());
    let ollama_context_tokens = match ollama_context {
        Some(given) => number(&given, "a number of tokens").and_then(|tokens| match tokens {
            1_024.. => Ok(tokens),
            _ => Err(Error::new("number_invalid", "the context of Ollama is too small: give at least 1024 tokens")),
        })?,
        None => defaults.ollama_context_tokens,
    };
    let mut settings = errand_models::Settings {
        base_url: options
            .model_base_url
            .clone()
            .or_else(|| variable("ERRAND_MODEL_BASE_URL"))
            .or_else(|| file.model_base_url.clone()),
        api_key: variable("ERRAND_MODEL_API_KEY").map(Secret::new),
        ollama_url: variable("ERRAND_OLLAMA_URL").or_else(|| file.ollama_url.clone()).unwrap_or(defaults.ollama_url),
        ollama_context_tokens,
        dialect: dialect.map_or(Ok(Dialect::Auto), |text| Dialect::parse(&text))?,
        reasoning_summaries: file.reasoning_summaries,
        prices,
        script_dir: options
            .script_dir
            .clone()
            .or_else(|| environment.path("ERRAND_SCRIPT_DIR"))
            .or_else(|| file.script_dir.clone()),
        ..errand_models::Settings::default()
    };
    settings.read_keys(&|name| environment.text(name));
    Ok(settings)
}

/// Who searches: the one that is named, else one whose key is set.
fn search(file: &File, environment: &dyn Environment) -> Option<SearchSettings> {
    let variable = |name: &str| environment.text(name).map(|value| value.trim().to_owned());
    let keyed = [("brave", variable("BRAVE_API_KEY")), ("tavily", variable("TAVILY_API_KEY"))];
    let named = variable("ERRAND_SEARCH_PROVIDER").or_else(|| file.search.provider.clone());
    let first = || keyed.iter().find(|(_, key)| key.is_some()).map(|(provider, _)| (*provider).to_owned());
    let provider = named.or_else(first)?;
    let own = || keyed.iter().find(|(known, _)| *known == provider).and_then(|(_, key)| key.clone());
    let key = variable("ERRAND_SEARCH_KEY").or_else(own).map(errand_tools::Secret::new);
    let url = variable("ERRAND_SEARCH_URL").or_else(|| file.search.url.clone());
    let path = environment.path("ERRAND_SEARCH_PATH").or_else(|| file.search.path.clone());
    Some(SearchSettings { provider, key, url, path })
}

/// How long a kernel may idle if nobody says otherwise.
const IDLE_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Shortest and longest time that a kernel may idle.
const IDLE_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3_600);
/// Most kernels of a language that can be kept ready.
const WARM_MAX: usize = 64;

fn sandbox(options: &RunOptions, file: &File, environment: &dyn Environment) -> Result<SandboxChoice, Error> {
    let variable = |name: &str| environment.text(name).map(|value| value.trim().to_owned());
    let filed = &file.sandbox;
    let named = options.min_tier.clone().or_else(|| variable("ERRAND_MIN_TIER")).or_else(|| filed.min_tier.clone());
    let named = named.map_or(Ok(Tier::T1), |name| tier(&name))?;
    // What an assistant asks for is never weakened by a setting.
    let min_tier = options.assistant_tier.map_or(named, |least| named.max(least));
    let idle = match variable("ERRAND_SANDBOX_IDLE").or_else(|| filed.idle.clone()) {
        Some(given) => Duration::from_millis(duration(&given)?),
        None => IDLE_DEFAULT,
    };
    if !IDLE_RANGE.contains(&idle) {
        return Err(Error::new("duration_invalid", "kernels can idle for 1s to 24h: give the idle time of the sandbox so"));
    }
    let warm = match variable("ERRAND_SANDBOX_WARM") {
        Some(given) => Some(number(&given, "a number of kernels")?),
        None => filed.warm,
    };
    if warm.is_some_and(|warm| warm > WARM_MAX) {
        return Err(Error::new("number_invalid", format!("at most {WARM_MAX} kernels of a language are kept ready")));
    }
    let image = options.sandbox_image.clone().or_else(|| variable("ERRAND_SANDBOX_IMAGE")).or_else(|| filed.image.clone());
    let image = image.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty() && name != "none");
    let sessions = match variable("ERRAND_SANDBOX_SESSIONS") {
        Some(given) => Some(number(&given, "a number of workspaces")?),
        None => filed.sessions,
    };
    let unless_zero = |given: Option<usize>, default: usize| match given {
        Some(0) => {
            Err(Error::new("number_invalid", "at least 1 workspace must have room: give the sandbox's `sessions` so"))
        }
        given => Ok(given.unwrap_or(default)),
    };
    let room = Room::default();
    let room = Room {
        sessions: unless_zero(sessions, room.sessions)?,
        sessions_per_tenant: unless_zero(filed.sessions_per_tenant, room.sessions_per_tenant)?,
    };
    Ok(SandboxChoice {
        min_tier,
        room,
        hard_quotas: filed.hard_quotas,
        idle,
        warm,
        image,
        runtime: environment.path("ERRAND_SANDBOX_RUNTIME").or_else(|| filed.runtime.clone()),
        runtime_flags: filed.runtime_flags.clone(),
        allow_shared_kernel: filed.allow_shared_kernel,
        egress: egress(filed.egress.clone(), variable("ERRAND_EGRESS_HOSTS"))?,
    })
}

/// What may be granted at most; hosts in the variable go before those of the file.
fn egress(filed: file::Egress, variable: Option<String>) -> Result<Terms, Error> {
    let given = variable.map(|text| text.split(',').map(|host| host.trim().to_owned()).collect());
    let hosts: Vec<String> = given.or(filed.hosts).unwrap_or_default();
    let secrets: Vec<String> = filed.secrets.iter().map(|(name, hosts)| format!("{name}={}", hosts.join(","))).collect();
    let bytes = filed.mib.map_or(BYTES_DEFAULT, |mib| mib.saturating_mul(1 << 20));
    Terms::parse(&hosts, bytes, &secrets)
        .map_err(|error| Error::new(error.code(), format!("the settings of [sandbox.egress]: {error}")))
}

/// A tier as a person names it.
pub(crate) fn tier(given: &str) -> Result<Tier, Error> {
    Tier::of(&given.trim().to_ascii_lowercase()).ok_or_else(|| {
        let given = text::one_line(given, 40);
        Error::new("config_invalid", format!("`{given}` is no tier of the sandbox: give t0, t1 or t2"))
    })
}

fn approve(names: Option<Vec<String>>) -> Approve {
    match names {
        None => Approve::Manifest,
        Some(names) if names.iter().any(|name| name == "always") => Approve::Always,
        Some(names) if names.iter().any(|name| name == "never") => Approve::Never,
        Some(names) => Approve::Tools(names.into_iter().filter(|name| !name.is_empty()).collect()),
    }
}

fn usd_bound(given: Option<String>) -> Result<Bound<Usd>, Error> {
    match given.as_deref().map(str::trim) {
        None => Ok(Bound::Default),
        Some("none") => Ok(Bound::None),
        Some(given) => text::parse_usd(given).map(Bound::Some).ok_or_else(|| {
            let given = text::one_line(given, 40);
            Error::new("budget_invalid", format!("`{given}` is no budget: give dollars such as 0.50, or `none`"))
        }),
    }
}

fn tokens_bound(given: Option<String>) -> Result<Bound<u64>, Error> {
    match given.as_deref().map(str::trim) {
        None => Ok(Bound::Default),
        Some("none") => Ok(Bound::None),
        Some(given) => number(given, "a number of tokens, or `none`").map(Bound::Some),
    }
}

fn steps(given: Option<String>) -> Result<u32, Error> {
    given.map_or(Ok(STEPS_DEFAULT), |given| number(&given, "a number of model turns"))
}

fn active(given: Option<String>) -> Result<u64, Error> {
    given.map_or(Ok(ACTIVE_DEFAULT), |given| duration(&given))
}

/// A duration as a person writes it, in milliseconds.
pub(crate) fn duration(given: &str) -> Result<u64, Error> {
    text::parse_duration(given).ok_or_else(|| {
        let given = text::one_line(given, 40);
        Error::new("duration_invalid", format!("`{given}` is no duration: give one such as 90s, 30m or 2h"))
    })
}

fn number<T: std::str::FromStr>(given: &str, wanted: &str) -> Result<T, Error> {
    given
        .trim()
        .replace('_', "")
        .parse()
        .map_err(|_| Error::new("number_invalid", format!("`{}` is not {wanted}", text::one_line(given, 40))))
}

#[cfg(test)]
mod tests;
