//! URIs that name this service to others, and others to this service.

use crate::verifier::keys::fetch::{bare, is_this_machine};

/// Whether `text` is an http(s) URL of a host, without login, query or fragment.
pub(super) fn is_http_url(text: &str) -> bool {
    let is_http = text.starts_with("http://") || text.starts_with("https://");
    // `http::Uri` drops a fragment silently.
    is_http
        && !text.contains(['?', '#'])
        && text
            .parse::<http::Uri>()
            .ok()
            .and_then(|uri| uri.into_parts().authority)
            .is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@') && has_valid_port(&a))
}

/// The host of an http(s) URL.
pub(super) fn host(url: &str) -> Option<String> {
    let uri = is_http_url(url).then(|| url.parse::<http::Uri>().ok()).flatten()?;
    uri.host().map(str::to_owned)
}

/// Whether messages may be handed to whoever is at `text`: by https, or by http on this machine. It may have a query.
pub(super) fn is_webhook(text: &str) -> bool {
    let place = text.split('?').next().unwrap_or(text);
    let host = || place.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(|host| is_this_machine(bare(host))));
    text.bytes().all(|b| b.is_ascii_graphic())
        && !text.contains('#')
        && is_http_url(place)
        && (text.starts_with("https://") || host() == Some(true))
}

fn has_valid_port(authority: &http::uri::Authority) -> bool {
    // `port()` is also `None` for a port that is no number.
    authority.port_u16().is_some() || authority.as_str().len() == authority.host().len()
}

/// Whether `text` may be an `iss`: an http(s) URL as above, or any other URI (RFC 3986 §3.1) such as `urn:example:id`.
pub(super) fn is_issuer(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    if matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return is_http_url(text);
    }
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_url_names_a_host_and_nothing_after_the_path() {
        for good in
            ["http://localhost:50052", "https://id.example.com", "https://id.example.com/a/b/", "http://[::1]:8"]
        {
            assert!(is_http_url(good) && is_issuer(good), "{good}");
        }
        for bad in [
            "",
            "https://",
            "https:///path",
            "https://h?x=1",
            "https://h/#top",
            "https://h#",
            "https://user@h",
            "https://h:port",
            "https://h:",
            "https://h:99999",
            "https://a b",
            "HTTPS://h",
            "ftp://h",
            "h",
        ] {
            assert!(!is_http_url(bad), "{bad:?}");
        }
    }

    #[test]
    fn messages_leave_this_machine_encrypted() {
        for good in ["https://h", "https://h/a?key=b", "http://localhost:1/", "http://127.0.0.1", "http://[::1]:8/x"] {
            assert!(is_webhook(good), "{good}");
        }
        for bad in
            ["", "http://h", "http://localhost.example.com", "https://u:p@h", "https://h#x", "https://h/ä", "ftp://h"]
        {
            assert!(!is_webhook(bad), "{bad}");
        }
    }

    #[test]
    fn an_issuer_may_be_another_uri_but_not_a_broken_url() {
        for good in ["urn:example:id", "spiffe://example.org/vouchsafe"] {
            assert!(is_issuer(good), "{good}");
        }
        for bad in ["", "vouchsafe", "urn:", ":x", "1a:b", "urn:a b", "urn:ä", "https://h?x", "HTTPS://h", "http:h"] {
            assert!(!is_issuer(bad), "{bad:?}");
        }
    }
}
