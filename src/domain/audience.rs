//! Audiences and scopes of access tokens.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::role::{Permission, Permissions};

/// The audience of Vouchsafe's own API. A token without it is refused by AccountService, so that no resource server can
/// replay a user's token there.
pub const OWN_AUDIENCE: &str = "vouchsafe";

/// What is wrong with an audience or a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudienceError {
    /// Not a name we accept.
    #[error("has {0:?}, which is not a name: use 1 to 255 visible ASCII characters without quotes or backslashes")]
    Malformed(String),
}

impl AudienceError {
    /// Shows the beginning: it may be as long as the message.
    fn malformed(text: &str) -> Self {
        Self::Malformed(text.chars().take(64).collect())
    }
}

fn is_name(text: &str) -> bool {
    // RFC 6749 §3.3 scope-token, which suits audiences too.
    (1..=255).contains(&text.len()) && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Whether a scope token is bound to what roles hold. What only looks like a permission nobody holds but who may do everything.
fn names_permission(token: &str) -> bool {
    token.contains(':') || token == Permission::ALL
}

/// Whom a token is meant for: one `aud` value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Audience(String);

impl Audience {
    /// The name as it stands in `aud`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Audience {
    type Error = AudienceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_name(&text) { Ok(Self(text)) } else { Err(AudienceError::malformed(&text)) }
    }
}

impl From<Audience> for String {
    fn from(audience: Audience) -> Self {
        audience.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of scope tokens in the order first given (RFC 6749 §3.3); empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Vec<String>);

impl Scope {
    /// The scope tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// What of it the holder of `permissions` gets: of the scope tokens that name a permission (they have a colon, or are `*`) those that
    /// are held, and every other.
    #[must_use]
    pub fn granted_by(&self, permissions: &Permissions) -> Self {
        let granted = self.0.iter().filter(|token| !names_permission(token) || permissions.allow(token));
        Self(granted.cloned().collect())
    }

    /// The permissions that it is limited to; `None` if it names none.
    pub fn limit(&self) -> Option<Permissions> {
        let named: Permissions = self.tokens().filter_map(|token| Permission::parse(token).ok()).collect();
        self.tokens().any(names_permission).then_some(named)
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<String> for Scope {
    type Error = AudienceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut tokens: Vec<String> = Vec::new();
        for token in text.split(' ').filter(|t| !t.is_empty()) {
            if !is_name(token) {
                return Err(AudienceError::malformed(token));
            }
            if !tokens.iter().any(|t| t == token) {
                tokens.push(token.to_owned());
            }
        }
        Ok(Self(tokens))
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0.join(" ")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_set_in_order() {
        let scope = Scope::try_from("b a  b ".to_owned()).unwrap();
        assert_eq!(scope.to_string(), "b a");
        assert!(Scope::try_from("a\"b".to_owned()).is_err());
        assert!(Scope::try_from(String::new()).unwrap().is_empty());
    }

    #[test]
    fn a_scope_never_widens_what_roles_allow() {
        let scope = |text: &str| Scope::try_from(text.to_owned()).unwrap();
        let held: Permissions = ["orders:read"].into_iter().map(|p| Permission::parse(p).unwrap()).collect();
        let asked = scope("openid orders:read orders:write A:B");
        assert_eq!(asked.granted_by(&held), scope("openid orders:read"));
        assert_eq!(asked.granted_by(&Permissions::default()), scope("openid"));
        let all: Permissions = [Permission::parse("*").unwrap()].into_iter().collect();
        assert_eq!(asked.granted_by(&all), asked);

        let wide = scope("* Orders:Read orders:*");
        assert!(wide.granted_by(&held).is_empty(), "neither everything, nor in another case, nor by a pattern");
        assert_eq!(wide.granted_by(&all), wide);
        assert_eq!(scope("*").limit(), Some(all));

        assert_eq!(scope("openid").limit(), None);
        assert_eq!(scope("openid orders:read").limit(), Some(held));
        assert_eq!(scope("A:B").limit(), Some(Permissions::default()), "limited to what nobody can hold");
    }

    #[test]
    fn an_audience_cannot_hold_nonsense() {
        assert!(Audience::try_from("https://api.example.com/v1".to_owned()).is_ok());
        for bad in ["", "a b", "a\n", "ä", "\"", "\\"] {
            assert!(Audience::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(Audience::try_from("x".repeat(256)).is_err());
    }
}
