//! The headers that tell backends who calls. They are set or taken away, never passed on as a client sent them.

use std::collections::BTreeMap;

use http::HeaderName;

use crate::{domain::claims::AccessClaims, verifier::Principal};

/// What names of ours begin with. No client's header that does gets through, whether or not it is one of the file's.
const OWN: &str = "x-vouchsafe-";

/// What of a token can be told in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Subject,
    Session,
    Roles,
    Scope,
    TokenId,
    ClientId,
    Acr,
    Amr,
    AuthTime,
    Permissions,
    Audience,
    ExpireTime,
    Issuer,
}

impl Told {
    /// By the name of its claim.
    pub(super) fn parse(claim: &str) -> Option<Self> {
        Some(match claim {
            "sub" => Self::Subject,
            "sid" => Self::Session,
            "roles" => Self::Roles,
            "scope" => Self::Scope,
            "jti" => Self::TokenId,
            "client_id" => Self::ClientId,
            "acr" => Self::Acr,
            "amr" => Self::Amr,
            "auth_time" => Self::AuthTime,
            "permissions" => Self::Permissions,
            "aud" => Self::Audience,
            "exp" => Self::ExpireTime,
            "iss" => Self::Issuer,
            _ => return None,
        })
    }

    /// What it is in this token; nothing if the token does not say.
    fn of(self, claims: &AccessClaims) -> Result<Option<String>, Untellable> {
        let sign_in = claims.sign_in.as_ref();
        let text = match self {
            Self::Subject => Some(claims.subject.to_string()),
            Self::Session => claims.session_id().map(|id| id.to_string()),
            Self::Roles => joined(&claims.roles, ",")?,
            Self::Scope => Some(claims.scope.to_string()),
            Self::TokenId => Some(claims.token_id.to_string()),
            Self::ClientId => Some(claims.client_id.clone()),
            Self::Acr => sign_in.map(|sign_in| sign_in.acr.clone()),
            Self::Amr => sign_in.map(|sign_in| joined(&sign_in.amr, ",")).transpose()?.flatten(),
            Self::AuthTime => sign_in.map(|sign_in| sign_in.auth_time.as_seconds().to_string()),
            Self::Permissions => joined(&claims.permissions, " ")?,
            Self::Audience => {
                let names: Vec<_> = claims.audience.iter().map(|audience| audience.as_str().to_owned()).collect();
                joined(&names, " ")?
            }
            Self::ExpireTime => Some(claims.expire_time.as_seconds().to_string()),
            Self::Issuer => Some(claims.issuer.clone()),
        };
        match text.filter(|text| !text.is_empty()) {
            Some(text) if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => Err(Untellable),
            text => Ok(text),
        }
    }
}

/// A token says something that no header can say: it has control characters, or the very character that parts a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Untellable;

fn joined(values: &[String], separator: &str) -> Result<Option<String>, Untellable> {
    if values.iter().any(|value| value.is_empty() || value.contains(separator)) {
        return Err(Untellable);
    }
    Ok((!values.is_empty()).then(|| values.join(separator)))
}

/// Which headers tell what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    headers: Vec<(HeaderName, Told)>,
}

impl Identity {
    /// These headers, each once.
    ///
    /// # Errors
    /// What is wrong with a name.
    pub(super) fn new(headers: impl IntoIterator<Item = (String, Told)>) -> Result<Self, String> {
        let mut by_name = BTreeMap::new();
        for (name, told) in headers {
            let parsed = parse_name(&name)?;
            // Backends may not tell the two characters apart.
            if by_name.insert(plain(parsed.as_str()), (parsed, told)).is_some() {
                return Err(format!("headers: {name} is there twice"));
            }
        }
        Ok(Self { headers: by_name.into_values().collect() })
    }

    /// What to set for this token, and in `remove` what not to let through.
    pub(super) fn tell(
        &self,
        principal: Option<&Principal>,
        remove: &mut Vec<String>,
    ) -> Result<Vec<(&HeaderName, String)>, Untellable> {
        let mut set = Vec::with_capacity(self.headers.len());
        for (name, told) in &self.headers {
            match principal.map(|principal| told.of(principal.claims())).transpose()?.flatten() {
                Some(value) => set.push((name, value)),
                None => remove.push(name.as_str().to_owned()),
            }
        }
        Ok(set)
    }

    /// Whether a client's header could be taken for one of these, which are set or taken away in any case, or for one of ours.
    pub(super) fn is_forged(&self, sent: &str) -> bool {
        let has_underscore = sent.contains('_');
        let starts = sent.len() >= OWN.len() && sent.bytes().zip(OWN.bytes()).all(|(sent, own)| fold(sent) == own);
        (starts || has_underscore && self.headers.iter().any(|(name, _)| plain(sent) == plain(name.as_str())))
            && !self.headers.iter().any(|(name, _)| name.as_str().eq_ignore_ascii_case(sent))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }
}

const fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

/// As a backend sees it that makes variables of headers.
fn plain(name: &str) -> String {
    name.bytes().map(|byte| char::from(fold(byte))).collect()
}

/// Headers that mean something to proxies and servers.
const RESERVED: [&str; 22] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

fn parse_name(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    let parsed = parsed.map_err(|_| format!("headers: {name:?} is no name of a header"))?;
    let reserved = RESERVED.contains(&parsed.as_str()) || parsed.as_str().starts_with("x-envoy-");
    if reserved { Err(format!("headers: {name} means something else already")) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(names: &[&str]) -> Result<Identity, String> {
        Identity::new(names.iter().map(|name| ((*name).to_owned(), Told::Subject)))
    }

    #[test]
    fn a_forged_header_is_recognized_however_it_is_written() {
        let identity = identity(&["x-vouchsafe-subject", "x-user-acr"]).unwrap();
        for forged in
            ["x_vouchsafe_subject", "X-Vouchsafe_Subject", "x-vouchsafe-anything", "X-VOUCHSAFE-", "x_user-acr"]
        {
            assert!(identity.is_forged(forged), "{forged}");
        }
        // The first two are dealt with anyhow: set, or taken away.
        for other in ["x-vouchsafe-subject", "X-User-Acr", "x-vouchsafe", "accept", "x-user-acre"] {
            assert!(!identity.is_forged(other), "{other}");
        }
    }

    #[test]
    fn a_name_that_means_something_else_is_refused() {
        for bad in ["host", "Authorization", ":path", "x y", "", "connection", "x-envoy-peer-metadata", "ä"] {
            assert!(identity(&[bad]).is_err(), "{bad}");
        }
        assert!(identity(&["x-a-b", "X-A_B"]).is_err(), "a backend may not tell them apart");
        assert!(identity(&["x-a", "x-b"]).is_ok());
    }

    #[test]
    fn a_list_that_could_be_misread_is_not_told() {
        let list = |values: &[&str]| joined(&values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>(), ",");
        assert_eq!(list(&["a", "b"]), Ok(Some("a,b".to_owned())));
        assert_eq!(list(&[]), Ok(None));
        assert_eq!(list(&["user,admin"]), Err(Untellable));
        assert_eq!(list(&["user", ""]), Err(Untellable));
    }
}
