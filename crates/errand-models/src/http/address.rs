//! Where an endpoint is, and the HTTP client that may go there.

use crate::settings::{Secret, SettingsError, Timeouts};
use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};
use std::net::IpAddr;
use std::sync::Arc;

/// A base URL with nothing in it but scheme, host, port and path.
pub(super) fn base_url(given: &str) -> Result<Url, SettingsError> {
    let refuse = |given: String, reason: &str| SettingsError::BaseUrl { given, reason: reason.to_owned() };
    // What does not parse may still hold a password, so it is not repeated.
    let mut url = Url::parse(given).map_err(|error| refuse("…".to_owned(), &error.to_string()))?;
    let has_login = !url.username().is_empty() || url.password().is_some();
    let has_query = url.query().is_some() || url.fragment().is_some();
    // Neither call fails for an address that has a host.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse(url.scheme().to_owned(), "only http and https are spoken"));
    }
    if has_login || has_query {
        return Err(refuse(url.to_string(), "it has a login, query or fragment; give the key on its own"));
    }
    Ok(url)
}

/// The value of the header that carries `key`, after `before`. `name` is what a person has to set again if no header can
/// carry it.
pub(super) fn key_value(before: &str, key: &Secret, name: &'static str) -> Result<HeaderValue, SettingsError> {
    let value = HeaderValue::from_str(&format!("{before}{}", key.expose()));
    let mut value = value.map_err(|_| SettingsError::Key { name })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn host_label(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub(super) fn is_loopback(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client that follows no redirect, for a key must not travel to another host, and uses the proxy of the
/// environment except for this machine. The certificates are the system's; an `http` address needs none.
pub(super) fn build_client(base: &Url, timeouts: &Timeouts) -> Result<Client, String> {
    use rustls_platform_verifier::BuilderVerifierExt as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let tls = match base.scheme() {
        "https" => tls.with_platform_verifier().map_err(|error| error.to_string())?,
        _ => tls.with_root_certificates(rustls::RootCertStore::empty()),
    };
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls.with_no_client_auth())
        .redirect(redirect::Policy::none())
        // Another crate turns compression on in reqwest; a stream of small events is better off without.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .connect_timeout(timeouts.connect)
        .user_agent(concat!("errand/", env!("CARGO_PKG_VERSION")));
    if is_loopback(base) {
        client = client.no_proxy();
    }
    client.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_with_more_than_an_address_are_refused_without_repeating_it() {
        for given in ["https://user:pass@host/v1", "https://host/v1?key=pass", "ftp://host", "pass word", "host:pass"] {
            let error = base_url(given).unwrap_err().to_string();
            assert!(error.starts_with("model base URL") && !error.contains("pass"), "{error}");
        }
    }

    #[test]
    fn a_key_with_a_line_break_names_the_variable() {
        let error = key_value("Bearer ", &Secret::new("a\nb"), "OPENAI_API_KEY").unwrap_err();
        assert!(error.to_string().starts_with("OPENAI_API_KEY holds characters"));
    }

    #[test]
    fn knows_this_machine() {
        let loopback = |base: &str| is_loopback(&base_url(base).unwrap());
        assert!(loopback("http://localhost:11434/v1") && loopback("http://[::1]:1/v1") && loopback("http://127.9.9.9"));
        assert!(!loopback("http://localhost.evil.example/v1") && !loopback("http://10.0.0.1/v1"));
    }
}
