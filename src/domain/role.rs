//! Roles, and the permissions that they hold.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::custom_claims::CustomClaims;

#[cfg(feature = "server")]
mod managed;

#[cfg(feature = "server")]
pub use self::managed::{Role, RoleChange};

/// What may be done: `things:act`, or [`Self::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission(String);

/// Why a text is no permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a permission: write `things:act` in lower case, with a-z, 0-9, '.', '_', '-' and at most 128 characters, or `*`"
)]
pub struct PermissionError;

impl Permission {
    /// Everything.
    pub const ALL: &str = "*";

    /// Parses a permission.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        let part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let valid = text == Self::ALL || text.len() <= 128 && text.contains(':') && text.split(':').all(part);
        if valid { Ok(Self(text.to_owned())) } else { Err(PermissionError) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Permission {
    type Error = PermissionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.0
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// Every permission.
    pub fn all() -> Self {
        Self(BTreeSet::from([Permission(Permission::ALL.to_owned())]))
    }

    /// How many a role may hold: enough for any service, and little enough for a token that says them all.
    pub const MAX_PER_ROLE: usize = 200;

    /// Whether `permission` is among them, by name or because everything is.
    pub fn allow(&self, permission: &str) -> bool {
        self.0.iter().any(|held| held.as_str() == Permission::ALL || held.as_str() == permission)
    }

    /// Whether whoever holds these may do everything that `others` allow.
    pub fn cover(&self, others: &Self) -> bool {
        others.0.iter().all(|permission| self.allow(permission.as_str()))
    }

    /// What both allow.
    #[must_use]
    pub fn limited_to(&self, limit: &Self) -> Self {
        let both = |a: &Self, b: &Self| a.0.iter().filter(|p| b.allow(p.as_str())).cloned().collect::<BTreeSet<_>>();
        Self(&both(self, limit) | &both(limit, self))
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what `others` allow.
    pub fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().collect())
    }
}

/// The name of a role, which is what tokens carry. It has one spelling, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(String);

/// Why a text is no role's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a role's name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit")]
pub struct RoleNameError;

impl RoleName {
    /// Parses a name. Nothing is folded: whoever writes `Admin` does not mean `admin` for sure.
    pub fn parse(text: &str) -> Result<Self, RoleNameError> {
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let valid = bytes.len() <= 64
            && bytes.iter().all(|b| alphanumeric(b) || b"._-".contains(b))
            && bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric);
        if valid { Ok(Self(text.to_owned())) } else { Err(RoleNameError) }
    }

    /// A name that was parsed before it was stored.
    pub const fn stored(name: String) -> Self {
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The roles that somebody has, and what they allow, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRoles {
    /// The roles' names, sorted.
    pub names: Vec<String>,
    /// What they allow together.
    pub permissions: Permissions,
    /// What they have tokens say. Of two that say something else by one claim, the one whose name comes later goes before.
    pub claims: CustomClaims,
}

impl FromIterator<(String, Permissions, CustomClaims)> for HeldRoles {
    fn from_iter<I: IntoIterator<Item = (String, Permissions, CustomClaims)>>(roles: I) -> Self {
        let mut roles: Vec<_> = roles.into_iter().collect();
        roles.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut held = Self::default();
        for (name, permissions, claims) in roles {
            held.names.push(name);
            held.permissions.add(permissions);
            held.claims.add(claims);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(list: &[&str]) -> Permissions {
        list.iter().map(|text| Permission::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_permission_has_one_spelling() {
        for good in ["users:read", "a:b:c", "orders.eu:cancel-all", "*"] {
            assert_eq!(Permission::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "users", "users:", ":read", "Users:read", "users:*", "a:b ", "**", &format!("a:{}", "b".repeat(127))]
        {
            assert_eq!(Permission::parse(bad), Err(PermissionError), "{bad:?}");
        }
    }

    #[test]
    fn everything_covers_and_is_covered_by_itself_alone() {
        let (all, some) = (Permissions::all(), permissions(&["users:read", "roles:read"]));
        assert!(all.cover(&some) && all.cover(&all) && some.cover(&Permissions::default()));
        assert!(!some.cover(&all), "nobody but who may do everything may give `*`");
        assert!(!some.cover(&permissions(&["users:read", "users:write"])));
    }

    #[test]
    fn a_limit_never_widens() {
        let (all, some) = (Permissions::all(), permissions(&["users:read", "roles:read"]));
        let limit = permissions(&["users:read", "users:write"]);
        assert_eq!(some.limited_to(&limit), permissions(&["users:read"]));
        assert_eq!(all.limited_to(&limit), limit);
        assert_eq!(some.limited_to(&all), some);
        assert!(some.limited_to(&Permissions::default()).is_empty());
    }

    #[test]
    fn a_role_s_name_has_one_spelling() {
        let longest = "a".repeat(64);
        for good in ["a", "7", "admin", "on-call.eu_2", &longest] {
            assert_eq!(RoleName::parse(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(65);
        for bad in ["", "Admin", " admin", "admin ", "-a", "a-", ".", "a b", "a:b", "*", "ä", "a\n", &too_long] {
            assert_eq!(RoleName::parse(bad), Err(RoleNameError), "{bad:?}");
        }
    }

    #[test]
    fn roles_are_held_together() {
        let claims = |text: &str| CustomClaims::new(serde_json::from_str(text).unwrap()).unwrap();
        let held: HeldRoles = [
            ("b".to_owned(), permissions(&["x:y"]), claims(r#"{"tier":"b","desk":1}"#)),
            ("a".to_owned(), permissions(&["x:y", "x:z"]), claims(r#"{"tier":"a","floor":2}"#)),
        ]
        .into_iter()
        .collect();
        assert_eq!(held.names, ["a", "b"]);
        assert_eq!(held.permissions, permissions(&["x:y", "x:z"]));
        assert_eq!(held.claims, claims(r#"{"tier":"b","desk":1,"floor":2}"#), "the later name goes before");
    }
}
