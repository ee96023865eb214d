//! How an embedded verifier is made.

use std::sync::Arc;

use super::{
    ambient::SystemClock,
    check::{AudiencePolicy, Leeway, PolicyError, TokenVerifier},
    embedded::Verifier,
};
use crate::{
    domain::{
        audience::{Audience, AudienceError},
        time::Clock,
    },
    jose::KeySet,
};

/// Why a verifier cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The issuer, the audience or the leeway.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An audience is not a name.
    #[error("an audience {0}")]
    Audience(#[from] AudienceError),
}

/// What a verifier is made of. See [`Verifier::builder`].
pub struct Builder {
    issuer: String,
    audience: Vec<String>,
    leeway: Leeway,
    capacity: usize,
    keys: KeySet,
    clock: Arc<dyn Clock>,
}

/// Tokens that a verifier remembers unless it is told otherwise.
const CAPACITY: usize = 10_000;

impl Builder {
    pub(super) fn new(issuer: String, audience: Vec<String>) -> Self {
        Self {
            issuer,
            audience,
            leeway: Leeway::ZERO,
            capacity: CAPACITY,
            keys: KeySet::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// With these keys, which are never fetched.
    #[must_use]
    pub fn keys(self, keys: KeySet) -> Self {
        Self { keys, ..self }
    }

    /// With this leeway on `exp` and `nbf` instead of none.
    #[must_use]
    pub fn leeway(self, leeway: Leeway) -> Self {
        Self { leeway, ..self }
    }

    /// Remembers about so many verified tokens, at some 800 bytes each, instead of 10 000.
    #[must_use]
    pub fn remember(self, tokens: usize) -> Self {
        Self { capacity: tokens, ..self }
    }

    /// Goes by this clock instead of the machine's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Makes the verifier, and what keeps it up to date in the background.
    ///
    /// # Errors
    /// See [`BuildError`].
    #[allow(clippy::unused_async)]
    pub async fn start(self) -> Result<Verifier, BuildError> {
        let Self { issuer, audience, leeway, capacity, keys, clock } = self;
        let audience = audience.into_iter().map(Audience::try_from).collect::<Result<Vec<_>, _>>()?;
        let verifier = TokenVerifier::new(issuer, AudiencePolicy::AnyOf(audience))?.with_leeway(leeway);
        Ok(Verifier::from_parts(verifier, capacity, keys, clock))
    }
}
