//! What the code of runs may reach outside of its boxes: what the settings allow at most, the part of it that a run is granted
//! when it begins, and the way out that its boxes get while it is at work.
//!
//! The grant stands in the tools that a run is pinned to ([`ToolSpec::egress`]). A process whose settings allow less does not
//! serve the run; one whose settings allow more gives it no more than it was granted.

use crate::secret::{Masks, Missing, Vault};
use errand_core::{Class, EgressGrant, EgressUse, RunId, Tier, ToolSpec};
use errand_egress::{
    Egress, GrantError, HostGrant, NotAllowed, Proxy, ProxyConfig, Reach, Secret, SecretError, Terms, Times, Usage,
};
use rustls::ClientConfig;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// The tools whose code may be given a way out: those that run what a model wrote.
const OPEN: [&str; 3] = ["python", "node", "shell"];
/// What their descriptions say of those that have none.
const CLOSED: &str = "There is no network";
/// Hosts that a description names.
const HOSTS_TOLD: usize = 40;
/// Refusals that are told of one call, and the bytes of each.
const REFUSALS_TOLD: usize = 6;
const REFUSAL_BYTES: usize = 400;

/// What may be granted, and by which rules it is connected to.
pub struct WaysSettings {
    /// What may be granted at most.
    pub terms: Terms,
    /// Which addresses may be connected to.
    pub reach: Reach,
    /// Where secrets come from.
    pub vault: Arc<dyn Vault>,
    /// How the proxy speaks TLS where it does so itself; none takes the roots of this machine.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Grants runs their part, and opens their ways out.
pub struct Ways {
    settings: WaysSettings,
    masks: Arc<Masks>,
    /// Started when the first box needs it.
    proxy: Mutex<Option<Arc<Proxy>>>,
}

/// Why a way out cannot be granted or opened.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// More was asked for than the settings allow.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// It cannot be read.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// A run without a tool that could use it.
    #[error("none of the tools of this run can be given a way out: it takes {}", OPEN.join(", "))]
    NoTool,
    /// A secret is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The proxy cannot be started.
    #[error("the proxy cannot be started: {0}")]
    Proxy(String),
}

impl WayError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            WayError::NotAllowed(error) => error.code(),
            WayError::Grant(error) => error.code(),
            WayError::NoTool => "egress_grant_invalid",
            WayError::Missing(_) => "tool_secret_missing",
            WayError::Secret(error) => error.code(),
            WayError::Proxy(_) => "worker_failed",
        }
    }
}

impl Ways {
    /// By these settings. Nothing is started.
    pub fn new(settings: WaysSettings) -> Self {
        Self { settings, masks: Arc::default(), proxy: Mutex::default() }
    }

    /// Grants the tools of a new run that run code what is asked for, each as [`HostGrant::parse`] reads it; `*` is all that
    /// the settings allow. From then on their calls count as effectful, and a model is told what it may reach.
    ///
    /// # Errors
    /// [`WayError`]: what is asked for is granted as a whole or not at all.
    pub fn grant<S: AsRef<str>>(&self, tools: &mut [ToolSpec], wishes: &[S]) -> Result<(), WayError> {
        if wishes.is_empty() {
            return Ok(());
        }
        let wishes: Vec<HostGrant> = wishes.iter().map(|wish| HostGrant::parse(wish.as_ref())).collect::<Result<_, _>>()?;
        let terms = self.settings.terms.narrowed(&wishes)?;
        if terms.is_empty() {
            return Err(NotAllowed { wish: "*".to_owned(), allowed: Vec::new() }.into());
        }
        self.secrets(&terms)?;
        let (hosts, bytes_max) = (terms.hosts(), terms.grant.bytes_max);
        let grant = EgressGrant { hosts, bytes_max, secrets: terms.secrets() };
        let mut open = tools.iter_mut().filter(|tool| is_open(tool)).peekable();
        open.peek().ok_or(WayError::NoTool)?;
        open.for_each(|tool| give(tool, &grant, &terms));
        Ok(())
    }

    /// Whether these tools can have here what they were granted.
    pub(crate) fn serves(&self, tool: &ToolSpec) -> bool {
        tool.egress.as_ref().is_none_or(|grant| read(grant).is_ok_and(|terms| self.settings.terms.covers(&terms)))
    }

    /// A way out by `grant`, of which `used` bytes are used up.
    ///
    /// # Errors
    /// [`WayError`].
    pub(crate) fn open(&self, run: RunId, grant: &EgressGrant, used: u64) -> Result<Arc<Egress>, WayError> {
        let mut terms = read(grant)?;
        if !self.settings.terms.covers(&terms) {
            return Err(NotAllowed { wish: grant.hosts.join(", "), allowed: self.settings.terms.hosts() }.into());
        }
        let secrets = self.secrets(&terms)?;
        terms.grant.bytes_max = terms.grant.bytes_max.saturating_sub(used);
        Ok(self.proxy()?.way_out(&run.to_string(), terms.grant, secrets))
    }

    /// What a call is shown of text that may hold a secret.
    pub(crate) fn masked(&self, text: String) -> String {
        self.masks.mask(text)
    }

    fn secrets(&self, terms: &Terms) -> Result<Vec<Secret>, WayError> {
        let found = terms.secrets.iter().map(|named| {
            let value = self.masks.take(&*self.settings.vault, &named.name)?;
            Ok(Secret::new(&named.name, value.expose(), named.hosts.clone())?)
        });
        found.collect()
    }

    fn proxy(&self) -> Result<Arc<Proxy>, WayError> {
        let mut proxy = self.proxy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proxy) = &*proxy {
            return Ok(Arc::clone(proxy));
        }
        let WaysSettings { reach, tls, .. } = &self.settings;
        let config = ProxyConfig { reach: reach.clone(), times: Times::default(), tls: tls.clone() };
        let started = Proxy::start(config).map_err(|error| WayError::Proxy(error.to_string()))?;
        Ok(Arc::clone(proxy.insert(started)))
    }
}

impl Ways {
    /// Whether a tool could be granted anything.
    pub fn suits(tool: &ToolSpec) -> bool {
        is_open(tool)
    }
}

fn is_open(tool: &ToolSpec) -> bool {
    tool.source.is_none() && OPEN.contains(&tool.definition.name.as_str())
}

fn read(grant: &EgressGrant) -> Result<Terms, GrantError> {
    let hosts: Vec<&str> = grant.hosts.iter().map(String::as_str).collect();
    let secrets: Vec<&str> = grant.secrets.iter().map(String::as_str).collect();
    Terms::parse(&hosts, grant.bytes_max, &secrets)
}

/// The tool with the grant, as the engine and the model must see it.
fn give(tool: &mut ToolSpec, grant: &EgressGrant, terms: &Terms) {
    tool.egress = Some(grant.clone());
    // What a box sends may change something, whatever the arguments look like.
    tool.class = Class::Effectful;
    // Tier T0 has no network that a door could be made in.
    tool.min_tier = tool.min_tier.max(Some(Tier::T1));
    let described = &tool.definition.description;
    tool.definition.description =
        format!("{}{}", described.replace(CLOSED, "There is no network but what is said below"), told(grant, terms));
}

/// What a model is told of its way out.
fn told(grant: &EgressGrant, terms: &Terms) -> String {
    let more = grant.hosts.len().saturating_sub(HOSTS_TOLD);
    let mut text = format!(
        " Through the HTTP proxy that the environment names, code may reach {}{}, and nothing else; who asks for more is told why \
         it is refused. What it does there is never repeated by itself.",
        grant.hosts[..grant.hosts.len().min(HOSTS_TOLD)].join(", "),
        if more > 0 { format!(" and {more} more") } else { String::new() },
    );
    let names: Vec<&str> = terms.secrets.iter().map(|secret| secret.name.as_str()).collect();
    if !names.is_empty() {
        let _ = write!(
            text,
            " The environment has placeholders of secrets ({}): in headers of requests that the proxy is sent whole, with https:// in \
             the request line, it puts the secret in their place.",
            grant.secrets.join(" ")
        );
    }
    text
}

/// The use of a way out as the record keeps it.
pub(crate) fn used(usage: &Usage) -> EgressUse {
    let each: BTreeSet<&str> = usage.last_refusals.iter().map(|(_, text)| text.as_str()).collect();
    let refusals = each.into_iter().take(REFUSALS_TOLD).map(|text| crate::text::head(text, REFUSAL_BYTES).to_owned());
    EgressUse {
        allowed: usage.allowed,
        refused: usage.refused,
        bytes_up: usage.bytes_up,
        bytes_down: usage.bytes_down,
        refusals: refusals.collect(),
    }
}

/// The same as a model is told: nothing where nothing passed and nothing was asked for.
pub(crate) fn shown(used: &EgressUse) -> String {
    let mut text = String::new();
    let EgressUse { allowed, refused, bytes_up, bytes_down, refusals } = used;
    if *allowed > 0 || used.bytes() > 0 {
        let (up, down) = (crate::text::size(*bytes_up), crate::text::size(*bytes_down));
        let _ = writeln!(text, "network: {allowed} let through, {up} sent, {down} received");
    }
    if *refused > 0 {
        let _ = writeln!(text, "network: {refused} refused: {}", refusals.join("; "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;
    use crate::secret::tests::Few;
    use errand_egress::{AllowList, System};

    fn ways(hosts: &[&str], secrets: &[&str]) -> Ways {
        let reach = Reach::new(AllowList::default(), Arc::new(System));
        let vault = Few([("KEY".to_owned(), "sk-0123456789".to_owned())].into());
        let terms = Terms::parse(hosts, 1000, secrets).unwrap();
        Ways::new(WaysSettings { terms, reach, vault: Arc::new(vault), tls: None })
    }

    fn tools() -> Vec<ToolSpec> {
        Registry::built_in().unwrap().specs(&["python", "node", "shell", "files", "http"]).unwrap()
    }

    #[test]
    fn tools_that_run_code_are_granted_and_others_are_as_they_were() {
        let ways = ways(&["a.example", "*.b.example:8443 GET"], &["KEY=a.example"]);
        let mut granted = tools();
        ways.grant(&mut granted, &["a.example:443", "x.b.example"]).unwrap();
        for (tool, before) in granted.iter().zip(tools()) {
            let name = &tool.definition.name;
            if !OPEN.contains(&name.as_str()) {
                assert_eq!(*tool, before, "{name}");
                continue;
            }
            let egress = tool.egress.as_ref().unwrap();
            assert_eq!(egress.hosts, ["a.example:443", "x.b.example:8443 GET"]);
            assert_eq!((egress.bytes_max, &*egress.secrets), (1000, &["KEY=a.example".to_owned()][..]));
            assert_eq!((tool.class, tool.approval, tool.min_tier), (Class::Effectful, before.approval, Some(Tier::T1)));
            let told = &tool.definition.description;
            assert!(
                told.contains("no network but what is said below") && told.contains("x.b.example:8443 GET, and"),
                "{told}"
            );
            assert!(!serde_json::to_string(tool).unwrap().contains("sk-"), "a secret in a record");
        }
        let mut none = tools();
        ways.grant::<&str>(&mut none, &[]).unwrap();
        assert_eq!(none, tools());
    }

    #[test]
    fn what_is_not_allowed_cannot_be_used_or_cannot_be_read_is_refused() {
        let granted = |hosts: &[&str], secrets: &[&str], tools: &mut [ToolSpec], wish: &str| {
            ways(hosts, secrets).grant(tools, &[wish]).unwrap_err().code()
        };
        assert_eq!(granted(&["a.example"], &[], &mut tools(), "b.example"), "egress_not_allowed");
        assert_eq!(granted(&[], &[], &mut tools(), "*"), "egress_not_allowed");
        assert_eq!(granted(&["a.example"], &[], &mut tools(), "http://a.example"), "egress_grant_invalid");
        assert_eq!(granted(&["a.example"], &[], &mut tools()[3..], "*"), "egress_grant_invalid");
        assert_eq!(granted(&["a.example"], &["NONE=a.example"], &mut tools(), "*"), "tool_secret_missing");
    }

    #[test]
    fn a_process_that_allows_less_does_not_serve_and_one_that_allows_more_does() {
        let mut tools = tools();
        ways(&["a.example"], &["KEY=a.example"]).grant(&mut tools, &["a.example:443"]).unwrap();
        let serves = |ways: &Ways| tools.iter().all(|tool| ways.serves(tool));
        assert!(serves(&ways(&["a.example:443"], &["KEY=a.example"])));
        assert!(serves(&ways(&["*"], &["KEY=*", "OTHER=*"])));
        assert!(!serves(&ways(&["a.example:80"], &["KEY=a.example"])));
        assert!(!serves(&ways(&["a.example"], &[])), "without the secret");
        assert!(!serves(&ways(&[], &[])));
        let mut broken = tools.clone();
        broken[0].egress.as_mut().unwrap().hosts.push("http://".to_owned());
        assert!(!ways(&["*"], &["KEY=*"]).serves(&broken[0]));
        let run = RunId::new(errand_core::Timestamp::ZERO, 1);
        let refused = ways(&["b.example"], &[]).open(run, tools[0].egress.as_ref().unwrap(), 0).unwrap_err();
        assert_eq!(refused.code(), "egress_not_allowed");
    }

    #[test]
    fn each_refusal_is_told_once_and_few_of_them() {
        let refusal =
            |host: usize| ("egress_denied".to_owned(), format!("{host}.example:443 is not granted{}", "x".repeat(1000)));
        let last_refusals = (0..30).map(|number| refusal(number % 10)).collect();
        let used = used(&Usage { allowed: 2, refused: 30, bytes_up: 10, bytes_down: 3000, last_refusals });
        assert_eq!(used.refusals.len(), REFUSALS_TOLD);
        assert!(used.refusals.iter().all(|text| text.len() <= REFUSAL_BYTES));
        let text = shown(&used);
        assert!(text.starts_with("network: 2 let through, 10 bytes sent, ") && text.lines().count() == 2, "{text}");
        assert_eq!(shown(&EgressUse::default()), "");
    }
}
