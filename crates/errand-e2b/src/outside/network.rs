//! The network of a sandbox: what clients of E2B ask for in their words, within what the server allows.
//!
//! What cannot be granted as it was asked for is refused, never left out: see `docs/guide/e2b.md`.

use super::Refused;
use axum::http::StatusCode;
use errand_egress::{Grant, HostGrant, Pattern, Terms};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// All addresses, as the SDKs write it.
const ALL_TRAFFIC: [&str; 2] = ["0.0.0.0/0", "::/0"];
/// Entries of a list at most.
const ENTRIES_MAX: usize = 256;

/// What is asked for when a sandbox is made, or later. The words are those of the SDK 2.63.0.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Network {
    allow_out: Option<Vec<String>>,
    deny_out: Option<Vec<String>>,
    rules: Option<BTreeMap<String, Value>>,
    egress_proxy: Option<Value>,
    dns_servers: Option<Vec<Value>>,
    allow_public_traffic: Option<bool>,
    mask_request_host: Option<String>,
    https_ports: Option<Vec<Value>>,
    /// Of an update only: there it stands among the others.
    #[serde(rename = "allow_internet_access")]
    pub(super) internet: Option<bool>,
}

impl Network {
    /// What of the server's terms this asks for.
    pub(super) fn grant(&self, terms: &Terms) -> Result<Grant, Refused> {
        self.check()?;
        let (allow, deny) = (list(&self.allow_out)?, list(&self.deny_out)?);
        let denied: Vec<Pattern> =
            deny.iter().filter(|entry| !is_all(entry)).map(|entry| range(entry)).collect::<Result<_, _>>()?;
        let nothing_else = self.internet == Some(false) || deny.iter().any(|entry| is_all(entry));
        let whole = || terms.grant.hosts.iter().any(|host| host.host().is_all());
        if !allow.is_empty() {
            // What is allowed goes before what is denied.
            return chosen(terms, allow, whole());
        }
        if nothing_else {
            return Ok(Grant { hosts: Vec::new(), ..terms.grant.clone() });
        }
        if self.internet == Some(true) && !whole() {
            return Err(refused(format!("allow_internet_access cannot be granted: {}", allowed(terms))));
        }
        Ok(Grant { deny: [terms.grant.deny.clone(), denied].concat(), ..terms.grant.clone() })
    }

    /// Refuses what this server has no means for.
    fn check(&self) -> Result<(), Refused> {
        let unsupported = [
            ("rules", self.rules.as_ref().is_some_and(|rules| !rules.is_empty()), "headers are not changed on the way"),
            ("egressProxy", self.egress_proxy.as_ref().is_some_and(|proxy| !proxy.is_null()), "there is no other proxy"),
            (
                "dnsServers",
                self.dns_servers.as_ref().is_some_and(|servers| !servers.is_empty()),
                "names are looked up by the server",
            ),
            (
                "allowPublicTraffic",
                self.allow_public_traffic == Some(true),
                "ports of a sandbox are not reached from outside",
            ),
            ("maskRequestHost", self.mask_request_host.is_some(), "ports of a sandbox are not reached from outside"),
            (
                "httpsPorts",
                self.https_ports.as_ref().is_some_and(|ports| !ports.is_empty()),
                "ports of a sandbox are not reached from outside",
            ),
        ];
        match unsupported.into_iter().find(|(_, given, _)| *given) {
            Some((name, _, why)) => Err(refused(format!("network.{name} is not supported by this server: {why}"))),
            None => Ok(()),
        }
    }
}

/// As it is told of a sandbox.
pub(super) fn told(grant: &Grant) -> Value {
    let hosts: Vec<String> = grant.hosts.iter().map(ToString::to_string).collect();
    let mut deny: Vec<String> = grant.deny.iter().map(ToString::to_string).collect();
    let is_whole = grant.hosts.iter().any(|host| host.host().is_all());
    if !is_whole {
        deny.push(ALL_TRAFFIC[0].to_owned());
    }
    json!({"allowOut": hosts, "denyOut": deny})
}

fn chosen(terms: &Terms, allow: &[String], is_whole: bool) -> Result<Grant, Refused> {
    if allow.iter().any(|entry| is_all(entry)) {
        let all = || refused(format!("network.allow_out cannot be granted all traffic: {}", allowed(terms)));
        return if is_whole { Ok(terms.grant.clone()) } else { Err(all()) };
    }
    let parsed = allow.iter().map(|entry| HostGrant::parse(entry));
    let wishes: Vec<HostGrant> =
        parsed.collect::<Result<_, _>>().map_err(|error| refused(format!("network.allow_out: {error}")))?;
    let narrowed = terms.narrowed(&wishes).map_err(|error| refused(format!("network.allow_out: {error}")))?;
    Ok(narrowed.grant)
}

fn allowed(terms: &Terms) -> String {
    match terms.hosts().as_slice() {
        [] => "this server's sandboxes have no network; whoever runs it can allow hosts (--egress, or [sandbox.egress])"
            .to_owned(),
        hosts => format!("this server allows {} and no more; name what is needed in network.allow_out", hosts.join(", ")),
    }
}

fn range(entry: &str) -> Result<Pattern, Refused> {
    let bad = |problem: String| {
        refused(format!("network.deny_out: {entry:?}: {problem}; give an address or a range of addresses"))
    };
    let pattern = Pattern::parse(entry).map_err(bad)?;
    if pattern.is_address() { Ok(pattern) } else { Err(bad("names cannot be denied".to_owned())) }
}

fn is_all(entry: &str) -> bool {
    ALL_TRAFFIC.contains(&entry)
}

fn list(entries: &Option<Vec<String>>) -> Result<&[String], Refused> {
    let entries = entries.as_deref().unwrap_or_default();
    if entries.len() > ENTRIES_MAX {
        return Err(refused(format!("network: a list has {} entries, at most {ENTRIES_MAX} are taken", entries.len())));
    }
    Ok(entries)
}

fn refused(message: String) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, hosts: &[&str]) -> Result<String, String> {
        let network: Network = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let grant = network.grant(&Terms::parse(hosts, 1000, &[]).unwrap()).map_err(|refused| refused.message)?;
        let list = |items: Vec<String>| items.join(" ");
        let hosts = list(grant.hosts.iter().map(ToString::to_string).collect());
        Ok(format!("{hosts} - {}", list(grant.deny.iter().map(ToString::to_string).collect())))
    }

    #[test]
    fn what_is_asked_for_is_granted_within_what_is_allowed() {
        let some = ["a.example:443", "*.b.example", "192.0.2.0/24"];
        for (text, hosts, expected) in [
            ("{}", &some[..], "a.example:443 *.b.example 192.0.2.0/24 - "),
            ("{}", &[], " - "),
            (r#"{"allow_internet_access": false}"#, &some, " - "),
            (r#"{"denyOut": ["0.0.0.0/0"]}"#, &some, " - "),
            (r#"{"allowOut": ["a.example"], "denyOut": ["0.0.0.0/0"]}"#, &some, "a.example:443 - "),
            (r#"{"allowOut": ["a.example", "x.b.example"]}"#, &some, "a.example:443 x.b.example - "),
            (r#"{"allowOut": ["192.0.2.7"], "allow_internet_access": false}"#, &some, "192.0.2.7 - "),
            (r#"{"denyOut": ["192.0.2.0/25", "198.51.100.7"]}"#, &["*"], "* - 192.0.2.0/25 198.51.100.7"),
            (r#"{"allow_internet_access": true}"#, &["*"], "* - "),
            (r#"{"allowOut": ["0.0.0.0/0"]}"#, &["*"], "* - "),
            (
                r#"{"allowOut": [], "rules": {}, "egressProxy": null, "dnsServers": [], "allowPublicTraffic": false}"#,
                &["*"],
                "* - ",
            ),
        ] {
            assert_eq!(asked(text, hosts).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_granted_is_refused_and_says_so() {
        let some = ["a.example:443"];
        for (text, told) in [
            (r#"{"allow_internet_access": true}"#, "this server allows a.example:443 and no more"),
            (r#"{"allowOut": ["c.example"]}"#, "c.example cannot be granted"),
            (r#"{"allowOut": ["a.example", "*.example.com"]}"#, "*.example.com cannot be granted"),
            (r#"{"allowOut": ["0.0.0.0/0"]}"#, "all traffic"),
            (r#"{"allowOut": ["http://a.example"]}"#, "a scheme"),
            (r#"{"denyOut": ["evil.example"]}"#, "names cannot be denied"),
            (r#"{"denyOut": ["10.0.0.0/99"]}"#, "no range"),
            (r#"{"rules": {"a.example": []}}"#, "network.rules is not supported"),
            (r#"{"egressProxy": {"address": "x:1"}}"#, "network.egressProxy is not supported"),
            (r#"{"dnsServers": ["8.8.8.8"]}"#, "network.dnsServers is not supported"),
            (r#"{"allowPublicTraffic": true}"#, "network.allowPublicTraffic is not supported"),
            (r#"{"maskRequestHost": "x"}"#, "network.maskRequestHost is not supported"),
            (r#"{"httpsPorts": [443]}"#, "network.httpsPorts is not supported"),
            (r#"{"newWord": 1}"#, "unknown field `newWord`"),
        ] {
            let error = asked(text, &some).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(asked(r#"{"allow_internet_access": true}"#, &[]).unwrap_err().contains("have no network"));
        let many = json!({"allowOut": vec!["a.example"; 257]}).to_string();
        assert!(asked(&many, &some).unwrap_err().contains("257 entries"));
    }
}
