//! Origins of web pages (RFC 6454, as browsers write them in `Origin`): whose pages may call.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Why a text is no origin that pages may be let in from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebOriginError {
    /// A pattern, or what browsers write where they keep the origin to themselves.
    #[error("each origin by its name such as https://app.example.com: there are no patterns, and null is anybody's")]
    NotOne,
    /// Neither `https` nor `http`.
    #[error("origins that begin with https:// such as https://app.example.com")]
    Scheme,
    /// `http`, and not on the browser's own machine.
    #[error(
        "origins over https; over http only those of the browser's own machine such as http://localhost:8080, since anybody on the way \
         can write into other pages"
    )]
    Http,
    /// More than a scheme, a host and a port.
    #[error("origins, which end with the host or the port: no slash, path, query or login behind or before it")]
    More,
    /// No host as browsers write it.
    #[error("origins whose host is a name in ASCII (xn--… for others) or an IP address, an IPv6 one in [brackets]")]
    Host,
    /// No port.
    #[error("origins whose port, if there is one, is a number from 1 to 65535")]
    Port,
}

/// Whose pages: scheme, host and port, spelled as browsers do. Two of them are the same origin if they are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Parses an origin. Letters become lower-case ones, and the scheme's own port is left out, as in what browsers send.
    pub fn parse(text: &str) -> Result<Self, WebOriginError> {
        let text = text.to_ascii_lowercase();
        if text == "null" || text.contains('*') {
            return Err(WebOriginError::NotOne);
        }
        let (scheme, rest) = text.split_once("://").ok_or(WebOriginError::Scheme)?;
        let own_port = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(WebOriginError::Scheme),
        };
        if rest.contains(['/', '\\', '?', '#', '@']) {
            return Err(WebOriginError::More);
        }
        // The last colon is before the port, unless it is inside of an IPv6 address.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, parse_port(port)?),
            _ => (rest, own_port),
        };
        let host = Host::parse(host).ok_or(WebOriginError::Host)?;
        if scheme == "http" && !host.is_loopback() {
            return Err(WebOriginError::Http);
        }
        let port = if port == own_port { String::new() } else { format!(":{port}") };
        Ok(Self(format!("{scheme}://{host}{port}")))
    }

    /// The origin as browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_port(text: &str) -> Result<u16, WebOriginError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(WebOriginError::Port)
}

/// The host of an origin.
enum Host<'a> {
    Name(&'a str),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(inside) = text.strip_prefix('[') {
            let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            // Browsers write the last 32 bits of these in another way than we do.
            return address.to_ipv4_mapped().is_none().then_some(Self::V6(address));
        }
        // What ends with a number is an address or nothing (URL standard).
        if text.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().ok().map(Self::V4);
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        };
        (text.len() <= 253 && text.split('.').all(label)).then_some(Self::Name(text))
    }

    /// Whether browsers look for it on their own machine, whatever a name server says.
    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => *name == "localhost" || name.ends_with(".localhost"),
            Self::V4(address) => address.is_loopback(),
            Self::V6(address) => address.is_loopback(),
        }
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        for (given, spelled) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.COM:443", "https://app.example.com"),
            ("https://app.example.com:8443", "https://app.example.com:8443"),
            ("https://app.example.com:080", "https://app.example.com:80"),
            ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
            ("https://192.0.2.1", "https://192.0.2.1"),
            ("https://[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://app.localhost:3000", "http://app.localhost:3000"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(WebOrigin::parse(given).unwrap().as_str(), spelled);
            assert_eq!(WebOrigin::parse(spelled).unwrap().as_str(), spelled);
        }
    }

    #[test]
    fn what_is_no_origin_is_told_why() {
        use WebOriginError::{Host, Http, More, NotOne, Port, Scheme};
        for (given, why) in [
            ("*", NotOne),
            ("https://*.example.com", NotOne),
            ("null", NotOne),
            ("", Scheme),
            ("app.example.com", Scheme),
            ("file://", Scheme),
            ("chrome-extension://abc", Scheme),
            ("http://app.example.com", Http),
            ("http://10.0.0.1:8080", Http),
            ("http://localhost.example.com", Http),
            ("https://app.example.com/", More),
            ("https://app.example.com/path", More),
            ("https://app.example.com?q", More),
            ("https://app.example.com#f", More),
            ("https://user@app.example.com", More),
            ("https://", Host),
            ("https://:443", Host),
            ("https://a..b", Host),
            ("https://example.com.", Host),
            ("https://müller.example", Host),
            ("https://app.example.com, https://b", More),
            ("https://a b", Host),
            ("https://1.2.3", Host),
            ("https://[::1", Host),
            ("https://::1", Host),
            ("https://[::ffff:127.0.0.1]", Host),
            ("https://app.example.com:", Port),
            ("https://app.example.com:0", Port),
            ("https://app.example.com:65536", Port),
            ("https://app.example.com:+80", Port),
        ] {
            assert_eq!(WebOrigin::parse(given), Err(why), "{given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_spelled_once_stays(text in "(https?://)?[a-zA-Z0-9.:\\[\\]-]{0,24}") {
            if let Ok(origin) = WebOrigin::parse(&text) {
                proptest::prop_assert_eq!(WebOrigin::parse(origin.as_str()).unwrap(), origin);
            }
        }
    }
}
