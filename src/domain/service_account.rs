//! Service accounts: services that call others in their own name, and the secrets they are known by.

use std::{fmt, time::Duration};

use subtle::{Choice, ConstantTimeEq};
use uuid::Uuid;

use super::{id::ServiceAccountId, spiffe::SpiffeId, time::Timestamp, user::Label};

/// Longest that a secret may go on beside its successor.
pub const MAX_KEPT: Duration = Duration::from_hours(30 * 24);

/// The permission to give and take roles, which service accounts need no less than users.
pub const ASSIGN_ROLES: &str = "roles:assign";

/// A service account as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its id; as text the client id and the `sub` claim.
    pub id: ServiceAccountId,
    /// A name to show.
    pub display_name: Label,
    /// What its client certificate calls it.
    pub spiffe_id: Option<SpiffeId>,
    /// Role names, sorted.
    pub roles: Vec<String>,
    /// The secrets that are accepted, newest first.
    pub secrets: Vec<SecretLife>,
    /// Goes up with each change.
    pub revision: i64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// A secret without what is secret of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretLife {
    /// Its id.
    pub id: Uuid,
    /// When it was made.
    pub create_time: Timestamp,
    /// From when on it is refused; `None` while it has no successor.
    pub expire_time: Option<Timestamp>,
}

impl SecretLife {
    /// Whether it is accepted at this moment.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expire_time.is_none_or(|end| now < end)
    }
}

/// The SHA-256 of a secret: what is stored of it. Of 256 unguessable bits a fast hash gives nothing away.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// A hash.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A secret that somebody presents: the id it carries, and its hash. A text that is no secret has them too, so that it costs
/// the same work, but an id that no secret has.
#[derive(Clone, Copy, Debug)]
pub struct PresentedSecret {
    /// The id in it.
    pub id: Uuid,
    /// The hash of all of it.
    pub hash: SecretHash,
}

impl PresentedSecret {
    /// Whether it is the stored one and still accepted. Compares in constant time, and with nothing stored as well.
    pub fn matches(&self, stored: Option<(&SecretHash, SecretLife)>, now: Timestamp) -> bool {
        let nobody = SecretHash([0; 32]);
        let hash = stored.map_or(&nobody, |(hash, _)| hash);
        let live = stored.is_some_and(|(_, life)| life.id == self.id && life.is_live(now));
        (self.hash.0.ct_eq(&hash.0) & Choice::from(u8::from(live))).into()
    }
}

/// By what a service is known that asks for a token. A client id that is none counts as that of nobody, whose UUID is nil.
#[derive(Clone, Debug)]
pub enum ClientProof {
    /// By a secret.
    Secret {
        /// Which account it says it is.
        account: ServiceAccountId,
        /// The secret.
        secret: PresentedSecret,
    },
    /// By the client certificate of its connection.
    Certificate {
        /// Which account it says it is, if it says so.
        account: Option<ServiceAccountId>,
        /// What the certificate calls it; `None` if there is none that names anybody.
        spiffe_id: Option<SpiffeId>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_accepted_until_it_ends_and_only_if_it_is_that_one() {
        let at = Timestamp::from_seconds;
        let (id, hash) = (Uuid::from_u128(1), SecretHash::new([7; 32]));
        let presented = PresentedSecret { id, hash };
        let life = |expire_time| SecretLife { id, create_time: at(0), expire_time };
        assert!(presented.matches(Some((&hash, life(None))), at(10)));
        assert!(presented.matches(Some((&hash, life(Some(at(11))))), at(10)));
        assert!(!presented.matches(Some((&hash, life(Some(at(10))))), at(10)), "it ends at its end");
        assert!(!presented.matches(Some((&SecretHash::new([8; 32]), life(None))), at(10)));
        let other = SecretLife { id: Uuid::from_u128(2), ..life(None) };
        assert!(!presented.matches(Some((&hash, other)), at(10)));
        assert!(!presented.matches(None, at(10)));
        let zero = PresentedSecret { id, hash: SecretHash::new([0; 32]) };
        assert!(!zero.matches(None, at(10)), "what stands for nothing stored is accepted from nobody");
        assert_eq!(format!("{hash:?}"), "[redacted]");
    }
}
