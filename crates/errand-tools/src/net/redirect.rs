//! Redirects, by RFC 9110 section 15.4 (checked 2026-11-21).

use reqwest::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, HeaderMap,
    HeaderName, USER_AGENT,
};
use reqwest::{Method, StatusCode};
use url::Url;

/// Header with which an unsafe request can be repeated.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers that tell nothing of who asks: they may go to another origin. The idempotency key is among them, for a request
/// that is sent on must not take hold twice.
const NEUTRAL: [HeaderName; 8] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    CONTENT_TYPE,
    USER_AGENT,
    IDEMPOTENCY_KEY,
];

/// Headers that speak of a body.
const OF_BODY: [HeaderName; 5] = [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE];

/// Whether the answer asks to go elsewhere. 300 and 304 do not, and neither does one without a place to go to.
pub(super) fn is_redirect(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && headers.contains_key(reqwest::header::LOCATION)
}

/// Where an answer leads.
///
/// # Errors
/// Why it is not followed.
pub(super) fn target(from: &Url, location: &[u8]) -> Result<Url, &'static str> {
    let location = std::str::from_utf8(location).ok().and_then(|location| from.join(location).ok());
    let mut to = location.ok_or("where it leads is no URL")?;
    to.set_fragment(None);
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err("it leads from https to http; ask for the http address if that is meant"),
        (_, "http" | "https") => Ok(to),
        _ => Err("it leads to another scheme than http and https"),
    }
}

/// The method to go on with, and whether the body goes along. As browsers do, a POST becomes a GET on 301 and 302.
pub(super) fn method(status: StatusCode, method: &Method) -> (Method, bool) {
    match status.as_u16() {
        303 if *method != Method::GET && *method != Method::HEAD => (Method::GET, false),
        301 | 302 if *method == Method::POST => (Method::GET, false),
        _ => (method.clone(), true),
    }
}

/// Takes away what must not go along to the next place.
pub(super) fn headers(headers: &mut HeaderMap, from: &Url, to: &Url, with_body: bool) {
    if from.origin() != to.origin() {
        let names: Vec<HeaderName> = headers.keys().filter(|name| !NEUTRAL.contains(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
    if !with_body {
        for name in OF_BODY {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn becomes(status: u16, from: &str) -> (String, bool) {
        let (method, body) = method(StatusCode::from_u16(status).unwrap(), &from.parse().unwrap());
        (method.to_string(), body)
    }

    #[test]
    fn the_method_changes_as_the_status_says() {
        assert_eq!(becomes(303, "POST"), ("GET".into(), false));
        assert_eq!(becomes(303, "DELETE"), ("GET".into(), false));
        assert_eq!(becomes(303, "HEAD"), ("HEAD".into(), true));
        assert_eq!(becomes(301, "POST"), ("GET".into(), false));
        assert_eq!(becomes(302, "PUT"), ("PUT".into(), true));
        assert_eq!(becomes(307, "POST"), ("POST".into(), true));
        assert_eq!(becomes(308, "PATCH"), ("PATCH".into(), true));
    }

    #[test]
    fn it_leads_to_no_weaker_and_no_other_scheme() {
        let leads = |from: &str, location: &[u8]| target(&from.parse().unwrap(), location).map(String::from);
        assert_eq!(leads("https://a.example/x/y?z", b"../w#f").unwrap(), "https://a.example/w");
        assert_eq!(leads("http://a.example/", b"//b.example/").unwrap(), "http://b.example/");
        assert_eq!(leads("http://a.example/", b"https://a.example/").unwrap(), "https://a.example/");
        for location in [&b"http://a.example/"[..], b"ftp://a.example/", b"file:///etc/passwd", b"http://[", b"\xff"] {
            assert!(leads("https://a.example/", location).is_err());
        }
    }

    #[test]
    fn only_neutral_headers_go_to_another_origin() {
        let given = [("authorization", "a"), ("cookie", "b"), ("x-key", "c"), ("accept", "d"), ("content-type", "e")];
        let after = |to: &str, with_body: bool| {
            let mut map: HeaderMap =
                given.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
            headers(&mut map, &"https://a.example/x".parse().unwrap(), &to.parse().unwrap(), with_body);
            let mut names: Vec<String> = map.keys().map(ToString::to_string).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(after("https://a.example/y", true), "accept authorization content-type cookie x-key");
        assert_eq!(after("https://a.example:8443/y", true), "accept content-type");
        assert_eq!(after("https://b.example/y", true), "accept content-type");
        assert_eq!(after("https://a.example/y", false), "accept authorization cookie x-key");
    }
}
