//! Access tokens that were found authentic before: to check one again costs no signature.
//!
//! What is kept is the half of a check that does not change while the key set stays the same, found by the SHA-256 of the whole
//! token and held together with the very key that it was checked with. A key that has left the set, or that another one has
//! taken the place of, vouches for nothing any more. Audience, time and revocation are looked at each time.
//!
//! Only authentic tokens are kept, no more than a fixed number of them, and fewer where they are large: what is kept has a bound in bytes,
//! whatever claims administrators give to whom, and however often whoever knows an audience's public key wraps a token anew.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::{
    check::{Authentic, Inactive, TokenVerifier},
    revocation_set::RevocationSet,
};
use crate::{
    domain::{audience::Audience, claims::AccessClaims, time::Timestamp},
    jose::{KeySet, PublicKey},
};

/// What a token without custom claims takes, about, and what room there is for each.
const USUAL: usize = 800;
const ROOM: usize = 1024;
/// What a name of a role, a permission or an audience takes, about.
const NAME: usize = 56;
/// The room of a small memory: for a few tokens of any size.
const LEAST_ROOM: usize = 16 * 1024;

/// Locks, so that callers on many cores rarely meet.
const SHARDS: usize = 64;

type Digest = [u8; SHA256_OUTPUT_LEN];

/// A [`TokenVerifier`] that remembers. It gives the answers of the verifier it is made of, some of them sooner.
pub struct RememberingVerifier {
    /// The one that has checked all that is remembered: what is authentic to one issuer is nothing to another.
    verifier: TokenVerifier,
    shards: Box<[Mutex<Shard>]>,
    /// Entries in one half of a shard, and bytes.
    half: usize,
    room: usize,
    /// Tokens that were remembered, and tokens that were not.
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What is asked for again moves to the younger half. When that is full it becomes the older one, whose entries are dropped.
#[derive(Default)]
struct Shard {
    younger: HashMap<Digest, Arc<Seen>>,
    older: HashMap<Digest, Arc<Seen>>,
    /// About how many bytes the younger half takes.
    weight: usize,
}

struct Seen {
    token: Arc<Authentic>,
    key: PublicKey,
    weight: usize,
}

impl RememberingVerifier {
    /// Remembers at most about `capacity` tokens, at some 800 bytes each, and of larger ones so many fewer that all take no more than
    /// about a kibibyte for each of `capacity`. One that would take most of that is not remembered.
    pub fn new(verifier: TokenVerifier, capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let half = (capacity / SHARDS / 2).max(1);
        Self {
            verifier,
            shards,
            half,
            room: (half * ROOM).max(LEAST_ROOM),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// As [`TokenVerifier::verify_for`], without taking a copy of the claims.
    pub fn verify_for(
        &self,
        audience: &[Audience],
        token: &str,
        keys: &KeySet,
        revocations: &RevocationSet,
        now: Timestamp,
    ) -> Result<Arc<Authentic>, Inactive> {
        let length = token.len();
        let mut name: Digest = [0; SHA256_OUTPUT_LEN];
        name.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(seen) = self.find(&name).filter(|seen| keys.get(seen.token.kid()) == Some(&seen.key)) {
            self.hits.fetch_add(1, Relaxed);
            self.verifier.admit(&seen.token, audience, revocations, now)?;
            return Ok(Arc::clone(&seen.token));
        }
        self.misses.fetch_add(1, Relaxed);
        let token = Arc::new(self.verifier.authenticate_unless_revoked(token, keys, revocations)?);
        let key = keys.get(token.kid()).cloned();
        self.verifier.admit(&token, audience, revocations, now)?;
        let AccessClaims { audience, roles, permissions, custom, .. } = token.claims();
        // Names are short, and each is a text of its own.
        let names = audience.len() + roles.len() + permissions.len();
        let weight = USUAL.max(length) + names * NAME + custom.weight();
        if let Some(key) = key.filter(|_| weight <= self.room) {
            self.keep(name, Seen { token: Arc::clone(&token), key, weight });
        }
        Ok(token)
    }

    /// The verifier that it is made of.
    pub const fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }

    /// How many tokens were remembered so far, and how many were not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Relaxed), self.misses.load(Relaxed))
    }

    fn shard(&self, name: &Digest) -> MutexGuard<'_, Shard> {
        // A poisoned lock is none here: no panic can leave a map half changed.
        self.shards[usize::from(name[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &Digest) -> Option<Arc<Seen>> {
        let mut shard = self.shard(name);
        if let Some(seen) = shard.younger.get(name) {
            return Some(Arc::clone(seen));
        }
        let seen = shard.older.remove(name)?;
        shard.keep(*name, Arc::clone(&seen), self.half, self.room);
        Some(seen)
    }

    fn keep(&self, name: Digest, seen: Seen) {
        self.shard(&name).keep(name, Arc::new(seen), self.half, self.room);
    }
}

impl Shard {
    fn keep(&mut self, name: Digest, seen: Arc<Seen>, half: usize, room: usize) {
        if self.younger.len() >= half || self.weight + seen.weight > room {
            self.older = mem::take(&mut self.younger);
            self.weight = 0;
        }
        self.weight += seen.weight;
        // Two who checked the same token at once are counted once.
        if let Some(same) = self.younger.insert(name, seen) {
            self.weight -= same.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{domain::signing_key::Algorithm, jose::SigningKeyPair, verifier::AudiencePolicy};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn verifier(capacity: usize) -> RememberingVerifier {
        let verifier = TokenVerifier::new("https://issuer.test".to_owned(), AudiencePolicy::NotChecked).unwrap();
        RememberingVerifier::new(verifier, capacity)
    }

    fn token(pair: &SigningKeyPair, number: u64) -> String {
        token_with(pair, number, json!({}))
    }

    fn token_with(pair: &SigningKeyPair, number: u64, more: Value) -> String {
        let id = |last: u64| format!("01a20076-bd5d-7314-8f70-{last:012x}");
        let now = NOW.as_seconds();
        let mut claims: Value = json!({
            "iss": "https://issuer.test", "sub": id(1), "aud": ["a"], "exp": now + 300, "iat": now, "jti": id(number),
            "sid": id(2), "client_id": "c", "roles": [], "auth_time": now, "amr": ["pwd"], "acr": "aal1", "epoch": 0,
        });
        let Value::Object(more) = more else { panic!("{more}") };
        claims.as_object_mut().unwrap().extend(more);
        pair.sign("at+jwt", &claims).unwrap()
    }

    fn set(pair: &SigningKeyPair) -> KeySet {
        KeySet::from_keys(vec![pair.public_key().clone()]).unwrap()
    }

    fn remembered(verifier: &RememberingVerifier) -> usize {
        verifier.shards.iter().map(|shard| shard.lock().unwrap()).map(|s| s.younger.len() + s.older.len()).sum()
    }

    #[test]
    fn what_is_remembered_is_still_checked_against_audience_time_and_revocation() {
        let (verifier, none) = (verifier(1_000), RevocationSet::new());
        let pair = SigningKeyPair::generate(Algorithm::Es256).unwrap();
        let (keys, token) = (set(&pair), token(&pair, 7));
        let check = |audience: &str, now| {
            let audience = [Audience::try_from(audience.to_owned()).unwrap()];
            verifier.verify_for(&audience, &token, &keys, &none, now)
        };
        let first = check("a", NOW).unwrap();
        assert_eq!(remembered(&verifier), 1);
        assert_eq!(check("a", NOW), Ok(first));
        assert_eq!(check("b", NOW), Err(Inactive::WrongAudience));
        assert_eq!(check("a", Timestamp::from_seconds(NOW.as_seconds() + 300)), Err(Inactive::Expired));
        assert_eq!(remembered(&verifier), 1);
    }

    #[test]
    fn a_key_that_left_the_set_or_was_replaced_vouches_for_nothing() {
        let (verifier, none) = (verifier(1_000), RevocationSet::new());
        let [pair, other] = [(); 2].map(|()| SigningKeyPair::generate(Algorithm::Es256).unwrap());
        let token = token(&pair, 7);
        let check = |keys: &KeySet| verifier.verify_for(&[], &token, keys, &none, NOW);
        assert!(check(&set(&pair)).is_ok());
        assert_eq!(check(&set(&other)), Err(Inactive::UnknownKey));
        // Another key under the same name.
        let mut jwk = other.public_key().to_jwk();
        jwk["kid"] = pair.public_key().kid().into();
        let impostor = KeySet::from_jwks(&json!({"keys": [jwk]}).to_string()).unwrap();
        assert_eq!(check(&impostor), Err(Inactive::BadSignature));
        assert!(check(&set(&pair)).is_ok());
    }

    #[test]
    fn only_authentic_tokens_are_remembered_and_not_too_many() {
        let (verifier, none) = (verifier(256), RevocationSet::new());
        let pair = SigningKeyPair::generate(Algorithm::EdDsa).unwrap();
        let keys = set(&pair);
        let good = token(&pair, 0);
        let (signed, _) = good.rsplit_once('.').unwrap();
        let (_, foreign) = token(&pair, 1).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let forged = format!("{signed}.{foreign}");
        for _ in 0..2 {
            assert_eq!(verifier.verify_for(&[], &forged, &keys, &none, NOW), Err(Inactive::BadSignature));
        }
        assert_eq!(remembered(&verifier), 0);
        for number in 0..2_000 {
            assert!(verifier.verify_for(&[], &token(&pair, number), &keys, &none, NOW).is_ok());
            // Asked for all the time, so never forgotten.
            assert!(verifier.verify_for(&[], &good, &keys, &none, NOW).is_ok());
        }
        assert!((128..=256).contains(&remembered(&verifier)), "{}", remembered(&verifier));
    }

    #[test]
    fn what_is_remembered_has_a_bound_in_bytes() {
        const CAPACITY: usize = 64 * 1024;
        let (verifier, none) = (verifier(CAPACITY), RevocationSet::new());
        let pair = SigningKeyPair::generate(Algorithm::EdDsa).unwrap();
        let keys = set(&pair);
        let check = |token: &str| assert!(verifier.verify_for(&[], token, &keys, &none, NOW).is_ok());
        // Each takes many times its length: four kibibytes of small objects.
        let many: Vec<Value> = (0..500).map(|number| json!({ "a": number })).collect();
        for number in 0..2_000 {
            check(&token_with(&pair, number, json!({ "x": many })));
        }
        let heavy = remembered(&verifier);
        assert!((1..CAPACITY * 1024 / (500 * 632)).contains(&heavy), "{heavy}");
        // One that would take all there is for it is not remembered at all, and takes no other's place.
        let endless: Vec<Value> = (0..1_000).map(|number| json!({ "a": number })).collect();
        let before = remembered(&verifier);
        check(&token_with(&pair, 5_000, json!({ "x": endless })));
        assert_eq!(remembered(&verifier), before);
    }
}
