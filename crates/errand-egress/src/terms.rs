//! What may be granted at most, and the part of it that somebody asks for.

use crate::grant::{Grant, GrantError};
use crate::host::{HostGrant, Pattern};

/// Secrets of one grant at most.
const SECRETS_MAX: usize = 32;

/// A grant, and the secrets that its hosts may see. Secrets are named here; their values are elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What may be spoken to.
    pub grant: Grant,
    /// The secrets.
    pub secrets: Vec<SecretName>,
}

/// A secret by its name, and the hosts that may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName {
    /// The variable it goes by.
    pub name: String,
    /// The hosts.
    pub hosts: Vec<Pattern>,
}

/// What was asked for is more than may be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wish} cannot be granted: {}", within(allowed))]
pub struct NotAllowed {
    /// What was asked for.
    pub wish: String,
    /// What may be granted.
    pub allowed: Vec<String>,
}

impl NotAllowed {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        "egress_not_allowed"
    }
}

fn within(allowed: &[String]) -> String {
    /// Longer lists are told by their beginning.
    const SHOWN: usize = 12;
    let more = allowed.len().saturating_sub(SHOWN);
    match allowed {
        [] => "the settings allow no host; whoever runs this can, with `hosts` under [sandbox.egress]".to_owned(),
        some => format!(
            "the settings ([sandbox.egress]) allow {}{} and no more",
            some[..some.len().min(SHOWN)].join(", "),
            if more > 0 { format!(" and {more} others") } else { String::new() }
        ),
    }
}

impl Terms {
    /// Reads hosts as [`HostGrant::parse`] does, and secrets as `NAME=HOST,…`.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn parse<S: AsRef<str>>(hosts: &[S], bytes_max: u64, secrets: &[S]) -> Result<Terms, GrantError> {
        let hosts = hosts.iter().map(|host| HostGrant::parse(host.as_ref())).collect::<Result<_, _>>()?;
        if secrets.len() > SECRETS_MAX {
            let problem = format!("there are {} secrets, at most {SECRETS_MAX}", secrets.len());
            return Err(GrantError::new("the list", problem));
        }
        let secrets = secrets.iter().map(|secret| SecretName::parse(secret.as_ref())).collect::<Result<_, _>>()?;
        Ok(Terms { grant: Grant { bytes_max, ..Grant::new(hosts)? }, secrets })
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.grant.hosts.is_empty()
    }

    /// The hosts as they are read again.
    pub fn hosts(&self) -> Vec<String> {
        self.grant.hosts.iter().flat_map(HostGrant::lines).map(|host| host.to_string()).collect()
    }

    /// The secrets as they are read again.
    pub fn secrets(&self) -> Vec<String> {
        self.secrets.iter().map(ToString::to_string).collect()
    }

    /// The part of these terms that is asked for. `*` asks for all of them; a host without a port for the ports that it has
    /// here, a host without methods for the methods that it has here. Secrets come along for those hosts that stay.
    ///
    /// # Errors
    /// [`NotAllowed`]: nothing is left out of what is asked for, it is refused as a whole.
    pub fn narrowed(&self, wishes: &[HostGrant]) -> Result<Terms, NotAllowed> {
        if let [wish] = wishes
            && *wish == all()
        {
            return Ok(self.clone());
        }
        let mut hosts: Vec<HostGrant> = Vec::new();
        for wish in wishes {
            let mut found = self.grant.hosts.iter().filter_map(|one| one.narrowed(wish)).peekable();
            if found.peek().is_none() {
                return Err(NotAllowed { wish: wish.to_string(), allowed: self.hosts() });
            }
            hosts.extend(found);
        }
        hosts.dedup();
        let secrets = self.secrets.iter().filter_map(|secret| secret.narrowed(&hosts)).collect();
        Ok(Terms { grant: Grant { hosts, ..self.grant.clone() }, secrets })
    }

    /// Whether everything of `other` may be granted by these terms.
    pub fn covers(&self, other: &Terms) -> bool {
        let by_one = |line: &HostGrant| self.grant.hosts.iter().any(|one| one.covers(line));
        let hosts = other.grant.hosts.iter().all(|host| each_port(host).iter().all(by_one));
        let denied = self.grant.deny.iter().all(|range| other.grant.deny.contains(range));
        let ends = self.grant.ends_at.is_none_or(|end| other.grant.ends_at.is_some_and(|other| other <= end));
        let secrets = other.secrets.iter().all(|secret| self.secrets.iter().any(|own| own.covers(secret)));
        hosts && denied && ends && secrets && other.grant.bytes_max <= self.grant.bytes_max
    }
}

/// `*`, as somebody asks for it.
fn all() -> HostGrant {
    HostGrant::of(Pattern::all())
}

fn each_port(host: &HostGrant) -> Vec<HostGrant> {
    host.ports().iter().map(|port| host.clone().at(*port)).collect()
}

impl SecretName {
    /// Reads `NAME=HOST` or `NAME=HOST,HOST`.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn parse(given: &str) -> Result<SecretName, GrantError> {
        let refuse = |problem: String| GrantError::new(given, format!("{problem}; a secret is given as NAME=HOST,HOST"));
        let (name, hosts) = given.split_once('=').ok_or_else(|| refuse("there is no `=`".to_owned()))?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(refuse("its name is none for a variable".to_owned()));
        }
        let hosts = hosts.split(',').map(|host| Pattern::parse(host.trim()).map_err(refuse)).collect::<Result<_, _>>()?;
        Ok(SecretName { name: name.to_owned(), hosts })
    }

    /// The same for those of its hosts that are among `hosts`, or that have some of these among them.
    fn narrowed(&self, hosts: &[HostGrant]) -> Option<SecretName> {
        let mut left: Vec<Pattern> = Vec::new();
        for (own, granted) in self.hosts.iter().flat_map(|own| hosts.iter().map(move |host| (own, host.host()))) {
            let both = if granted.covers(own) { Some(own) } else { own.covers(granted).then_some(granted) };
            left.extend(both.filter(|both| !left.contains(both)).cloned());
        }
        (!left.is_empty()).then(|| SecretName { name: self.name.clone(), hosts: left })
    }

    fn covers(&self, other: &SecretName) -> bool {
        self.name == other.name && other.hosts.iter().all(|host| self.hosts.iter().any(|own| own.covers(host)))
    }
}

impl std::fmt::Display for SecretName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(Pattern::to_string).collect();
        write!(f, "{}={}", self.name, hosts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms(hosts: &[&str], secrets: &[&str]) -> Terms {
        Terms::parse(hosts, 1000, secrets).unwrap()
    }

    fn wish(hosts: &[&str]) -> Vec<HostGrant> {
        hosts.iter().map(|host| HostGrant::parse(host).unwrap()).collect()
    }

    #[test]
    fn what_is_asked_for_is_granted_as_it_is_allowed_and_no_further() {
        let allowed = terms(
            &[
                "a.example",
                "*.b.example:8443 GET HEAD",
                "db.example:5432 plain",
                "10.0.0.0/8:80",
                "c.example:443",
                "c.example:22 plain",
            ],
            &[],
        );
        for (asked, expected) in [
            ("a.example", "a.example"),
            ("a.example:443", "a.example:443"),
            ("A.EXAMPLE. GET", "a.example GET"),
            ("x.b.example", "x.b.example:8443 GET HEAD"),
            ("*.y.b.example HEAD", "*.y.b.example:8443 HEAD"),
            ("db.example", "db.example:5432 plain"),
            ("db.example:5432", "db.example:5432 plain"),
            ("10.1.0.0/16:80", "10.1.0.0/16:80"),
            ("10.1.2.3", "10.1.2.3:80"),
            ("c.example", "c.example:443, c.example:22 plain"),
            (
                "*",
                "a.example, *.b.example:8443 GET HEAD, db.example:5432 plain, 10.0.0.0/8:80, c.example:443, c.example:22 plain",
            ),
        ] {
            let narrowed = allowed.narrowed(&wish(&[asked])).unwrap();
            assert_eq!(narrowed.hosts().join(", "), expected, "{asked}");
            assert!(allowed.covers(&narrowed), "{asked}");
            let again = Terms::parse(&narrowed.hosts(), 1000, &[]).unwrap();
            assert!(allowed.covers(&again) && again.covers(&narrowed) && narrowed.covers(&again), "{asked}");
        }
        for asked in [
            "z.example",
            "*.other.example",
            "b.example",
            "a.example:22",
            "a.example plain",
            "x.b.example POST",
            "*:443",
            "11.0.0.0/16",
            "10.0.0.0/7",
            "db.example:80",
        ] {
            let refused = allowed.narrowed(&wish(&["a.example", asked])).unwrap_err();
            assert_eq!(refused.code(), "egress_not_allowed");
            assert!(refused.to_string().contains("a.example, *.b.example:8443 GET HEAD"), "{refused}");
        }
        let nothing = terms(&[], &[]);
        assert!(nothing.narrowed(&wish(&["a.example"])).unwrap_err().to_string().contains("[sandbox.egress]"));
        assert!(nothing.narrowed(&wish(&["*"])).unwrap().is_empty());
    }

    #[test]
    fn all_that_is_allowed_covers_every_host_and_no_other_port() {
        let all = terms(&["*"], &[]);
        assert_eq!(all.narrowed(&wish(&["x.example", "1.2.3.4"])).unwrap().hosts(), ["x.example", "1.2.3.4"]);
        assert!(all.narrowed(&wish(&["x.example:22"])).is_err());
        assert!(!terms(&["*.example.com"], &[]).covers(&all));
    }

    #[test]
    fn more_bytes_other_secrets_and_fewer_denials_are_not_covered() {
        let own = terms(&["a.example", "b.example"], &["KEY=a.example", "OTHER=*.c.example"]);
        assert!(own.covers(&own));
        assert!(own.covers(&terms(&["a.example:80"], &[])));
        assert!(!own.covers(&Terms::parse(&["a.example"], 1001, &[]).unwrap()));
        assert!(!own.covers(&terms(&["a.example"], &["KEY=b.example"])));
        assert!(!own.covers(&terms(&["a.example"], &["NONE=a.example"])));
        let mut denying = own.clone();
        denying.grant.deny = vec![Pattern::parse("10.0.0.0/8").unwrap()];
        assert!(!denying.covers(&own) && own.covers(&denying));
    }

    #[test]
    fn secrets_come_along_for_the_hosts_that_stay() {
        let own = terms(&["*.c.example", "a.example"], &["KEY=a.example", "OTHER=*.c.example", "WIDE=*"]);
        let narrowed = own.narrowed(&wish(&["x.c.example"])).unwrap();
        assert_eq!(narrowed.secrets(), ["OTHER=x.c.example", "WIDE=x.c.example"]);
        for given in ["KEY", "=a.example", "A B=a.example", "KEY=", "KEY=http://a"] {
            assert!(SecretName::parse(given).is_err(), "{given}");
        }
    }

    proptest! {
        #[test]
        fn what_is_narrowed_is_covered_and_reads_the_same(
            allowed in proptest::collection::vec("(a|b|[*][.]b)[.]example(:443|:22|)( GET| GET POST|)( plain|)", 1..4),
            asked in proptest::collection::vec("(a|b|x[.]b|[*][.]b|[*][.]x[.]b)[.]example(:443|:22|)( GET|)( plain|)", 1..3),
        ) {
            let Ok(own) = Terms::parse(&allowed, 10, &[]) else { return Ok(()) };
            let asked: Vec<HostGrant> = asked.iter().map(|one| HostGrant::parse(one).unwrap()).collect();
            if let Ok(narrowed) = own.narrowed(&asked) {
                prop_assert!(own.covers(&narrowed));
                let again = Terms::parse(&narrowed.hosts(), 10, &[]).unwrap();
                prop_assert!(again.covers(&narrowed) && narrowed.covers(&again));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = HostGrant::parse(&text);
            let _ = SecretName::parse(&text);
        }
    }
}
