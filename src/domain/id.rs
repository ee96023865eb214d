//! Identifiers: UUIDs of version 7, each kind a type of its own so that one cannot stand in for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::time::Timestamp;

/// The text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in its hyphenated lower-case form")]
pub struct MalformedId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id from the present moment and ten random bytes (RFC 9562 §5.7).
            pub fn new(now: Timestamp, random: &[u8; 10]) -> Self {
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid())
            }

            /// An id that is already known.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bare UUID.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            /// Accepts the hyphenated lower-case form only, so that an id has one spelling.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let id = Uuid::try_parse(text).map_err(|_| MalformedId)?;
                let mut buffer = Uuid::encode_buffer();
                if id.hyphenated().encode_lower(&mut buffer) == text { Ok(Self(id)) } else { Err(MalformedId) }
            }
        }
    };
}

id!(
    /// A user account; the `sub` claim.
    UserId
);
id!(
    /// A session, which is also a refresh-token family; the `sid` claim.
    SessionId
);
id!(
    /// An access token; the `jti` claim.
    TokenId
);
id!(
    /// An audit event.
    EventId
);

/// A service account. Written as its client id, `svc_` and a UUID, so that no user's id looks like it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceAccountId(Uuid);

/// What every client id begins with.
const SERVICE_PREFIX: &str = "svc_";

impl ServiceAccountId {
    /// A new id from the present moment and ten random bytes.
    pub fn new(now: Timestamp, random: &[u8; 10]) -> Self {
        Self(*UserId::new(now, random).as_uuid())
    }

    /// An id that is already known.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The bare UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for ServiceAccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SERVICE_PREFIX}{}", self.0.hyphenated())
    }
}

impl fmt::Debug for ServiceAccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceAccountId({})", self.0.hyphenated())
    }
}

impl FromStr for ServiceAccountId {
    type Err = MalformedId;

    /// Accepts the one spelling that it is shown in.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id: UserId = text.strip_prefix(SERVICE_PREFIX).ok_or(MalformedId)?.parse()?;
        Ok(Self(*id.as_uuid()))
    }
}

/// Whom a token is about: the `sub` claim. A user's and a service account's never look the same (RFC 9068 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A user.
    User(UserId),
    /// A service account.
    Service(ServiceAccountId),
}

impl Subject {
    /// The user, if it is one.
    pub const fn user(self) -> Option<UserId> {
        match self {
            Self::User(id) => Some(id),
            Self::Service(_) => None,
        }
    }

    /// The bare UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        match self {
            Self::User(id) => id.as_uuid(),
            Self::Service(id) => id.as_uuid(),
        }
    }
}

impl From<UserId> for Subject {
    fn from(id: UserId) -> Self {
        Self::User(id)
    }
}

impl From<ServiceAccountId> for Subject {
    fn from(id: ServiceAccountId) -> Self {
        Self::Service(id)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Service(id) => id.fmt(f),
        }
    }
}

impl FromStr for Subject {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(SERVICE_PREFIX) { text.parse().map(Self::Service) } else { text.parse().map(Self::User) }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_never_taken_for_a_user() {
        let uuid = *UserId::new(Timestamp::from_seconds(1_700_000_000), &[7; 10]).as_uuid();
        let (user, service) = (Subject::User(UserId::from_uuid(uuid)), ServiceAccountId::from_uuid(uuid).into());
        assert_ne!(user.to_string(), Subject::to_string(&service));
        for subject in [user, service] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        for bad in ["svc_", "svc_x", "SVC_0198f0c2-0000-7000-8000-000000000000", "svc_svc_", ""] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
        assert!(uuid.to_string().parse::<ServiceAccountId>().is_err());
    }

    #[test]
    fn an_id_is_version_7_and_has_one_spelling() {
        let id = UserId::new(Timestamp::from_seconds(1_700_000_000), &[7; 10]);
        assert_eq!(id.as_uuid().get_version_num(), 7);
        let text = id.to_string();
        assert_eq!(text.parse::<UserId>().ok(), Some(id));
        assert!(text.to_uppercase().parse::<UserId>().is_err());
        assert!(text.replace('-', "").parse::<UserId>().is_err());
        assert!(format!("{{{text}}}").parse::<UserId>().is_err());
    }
}
