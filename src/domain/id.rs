//! Identifiers: UUIDs of version 7, each kind a type of its own so that one cannot stand in for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
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

#[cfg(test)]
mod tests {
    use super::*;

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
