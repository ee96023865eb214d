//! SPIFFE ids: what a client certificate calls the workload that holds it.

use std::fmt;

/// Why a text is no SPIFFE id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a SPIFFE id: write `spiffe://trust-domain/path` with a trust domain of a-z, 0-9, '.', '-', '_' and path segments of \
     a-z, A-Z, 0-9, '.', '-', '_', at most {} bytes",
    SpiffeId::MAX_BYTES
)]
pub struct SpiffeIdError;

/// A SPIFFE id with a path, in its one spelling (SPIFFE-ID §2). An id without a path names a trust domain, and no workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// How long an id may be, in bytes (SPIFFE-ID §2.3).
    pub const MAX_BYTES: usize = 2048;
    /// How long a trust domain may be, in bytes.
    const MAX_TRUST_DOMAIN: usize = 255;

    /// Parses an id. Nothing is folded or decoded: two texts that differ are two ids.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > Self::MAX_BYTES {
            return Err(SpiffeIdError);
        }
        let (trust_domain, path) =
            text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or(SpiffeIdError)?;
        let valid = (1..=Self::MAX_TRUST_DOMAIN).contains(&trust_domain.len())
            && trust_domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && path.split('/').all(is_segment);
        if valid { Ok(Self(text.to_owned())) } else { Err(SpiffeIdError) }
    }

    /// An id that was parsed before it was stored.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not empty, and neither `.` nor `..` (SPIFFE-ID §2.2).
fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        for good in [
            "spiffe://example.org/orders",
            "spiffe://example.org/ns/prod/sa/Orders_1.v2-b",
            "spiffe://1.2.3.4/service",
            "spiffe://a_b-c/...",
        ] {
            assert_eq!(SpiffeId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///orders",
            "SPIFFE://example.org/orders",
            "spiffe://Example.org/orders",
            "spiffe://example.org:8443/orders",
            "spiffe://user@example.org/orders",
            "spiffe://example.org/orders?x=1",
            "spiffe://example.org/orders#x",
            "spiffe://example.org/orders/",
            "spiffe://example.org//orders",
            "spiffe://example.org/./orders",
            "spiffe://example.org/../orders",
            "spiffe://example.org/%6frders",
            "spiffe://example.org/ordérs",
            "spiffe://exämple.org/orders",
            "spiffe://example.org/or ders",
            "spiffe://example.org/orders\n",
            " spiffe://example.org/orders",
            "https://example.org/orders",
        ] {
            assert_eq!(SpiffeId::parse(bad), Err(SpiffeIdError), "{bad:?}");
        }
    }

    #[test]
    fn an_id_has_bounds() {
        let of = |length: usize| format!("spiffe://example.org/{}", "x".repeat(length - "spiffe://example.org/".len()));
        assert!(SpiffeId::parse(&of(2048)).is_ok());
        assert!(SpiffeId::parse(&of(2049)).is_err());
        assert!(SpiffeId::parse(&format!("spiffe://{}/x", "a".repeat(255))).is_ok());
        assert!(SpiffeId::parse(&format!("spiffe://{}/x", "a".repeat(256))).is_err());
    }
}
