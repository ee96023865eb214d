//! Challenges: what lies between the first proof and the session. `CompleteChallenge` answers one.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tracing::Instrument as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    RequestContext, Service, ServiceError,
    begin_session::{Pending, SignInStep},
    throttle::Target,
};
use crate::{
    crypto::{KeyedHash, Purpose, keyed::mint, recovery_code},
    domain::{
        challenge::{CHALLENGE_LIFE, ChallengeFactor, SecondProof},
        id::UserId,
        notice::Notice,
        secret::SecretString,
        time::Timestamp,
        user::{PhcString, User},
    },
    store::port::{Answer, Answered, ChallengeKind, FoundChallenge, NewChallenge, OpenChallenge, Proof, RecoveryNews},
    telemetry::LoginOutcome,
};

/// What begins the handle of a challenge.
const HANDLE_PREFIX: &str = "vch_";

/// A challenge, as whoever signs in gets it.
#[derive(Clone, Debug)]
pub struct IssuedChallenge {
    /// Names it when it is answered.
    pub handle: SecretString,
    /// What may be used to answer.
    pub factors: Vec<ChallengeFactor>,
    /// When it can no longer be answered.
    pub expire_time: Timestamp,
}

/// An answer to a challenge.
#[derive(Clone, Debug)]
pub enum ChallengeResponse {
    /// A code of the authenticator app.
    Totp(SecretString),
    /// A recovery code.
    RecoveryCode(SecretString),
    /// The code that was sent.
    OneTimeCode(SecretString),
}

impl ChallengeResponse {
    /// What this answer for the second factor of an account is counted by.
    const fn target(&self, user: UserId) -> Target<'static> {
        match self {
            Self::RecoveryCode(_) => Target::RecoveryCode(user),
            Self::Totp(_) | Self::OneTimeCode(_) => Target::Account(user),
        }
    }
}

/// A challenge's handle, made before anything is stored.
pub(super) struct Handle {
    pub(super) secret: SecretString,
    pub(super) hash: KeyedHash,
    pub(super) expire_time: Timestamp,
}

impl Handle {
    /// The challenge of a second factor.
    pub(super) fn into_second_factor(self, open: OpenChallenge) -> IssuedChallenge {
        let mut factors = vec![ChallengeFactor::Totp];
        if open.recovery_codes {
            factors.push(ChallengeFactor::RecoveryCode);
        }
        IssuedChallenge { handle: self.secret, factors, expire_time: self.expire_time }
    }
}

/// Digits as they were sent, however they were typed: without spaces and dashes.
pub(super) fn bare(code: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(code.expose().chars().filter(|c| !c.is_whitespace() && *c != '-').collect())
}

impl Service {
    /// Answers a challenge, and begins a session or goes on to the second factor.
    pub async fn complete_challenge(
        self: &Arc<Self>,
        handle: SecretString,
        response: ChallengeResponse,
        context: RequestContext,
    ) -> Result<SignInStep, ServiceError> {
        let this = Arc::clone(self);
        // In a task of its own: whoever hangs up when the answer is late must not escape the count.
        let answering = async move { this.try_complete_challenge(&handle, &response, &context).await };
        let result = tokio::spawn(answering.in_current_span()).await.map_err(ServiceError::internal).flatten();
        self.metrics.login(LoginOutcome::of(&result));
        result
    }

    async fn try_complete_challenge(
        self: &Arc<Self>,
        handle: &SecretString,
        response: &ChallengeResponse,
        context: &RequestContext,
    ) -> Result<SignInStep, ServiceError> {
        let hash = self.handle_hash(handle);
        let found = self.store.find_challenge(hash).await?.ok_or(ServiceError::ChallengeInvalid)?;
        let mut pending = self.open_pending(&hash, &found.pending)?;
        // A code that was sent is the first proof.
        let second = found.user.filter(|_| found.kind == ChallengeKind::SecondFactor).map(|user| response.target(user));
        self.admit_pending(&mut pending, second, context).await?;
        let target = pending.target(second);
        let attempt = self.undecided(target);
        let (proof, second) = self.proof(&hash, &found, response)?;
        let nobody = UserId::from_uuid(Uuid::nil());
        let owner = self.store.get_user(found.user.unwrap_or(nobody)).await?;
        let account = found.user.unwrap_or(nobody);
        let prepared = self.prepare_session(&pending, account, owner.as_ref(), second, None)?;
        let (session, new_secret) = prepared.into_parts();
        let (next, further) = self.second_factor(found.user, &pending, None);
        let answer = Answer {
            handle: hash,
            user: found.user,
            proof,
            mailed_to: pending.mailed_to.clone(),
            texted_to: pending.texted_to.clone(),
            require_verified_email: self.policy.verified_email_required,
            further,
            session,
            policy: self.policy.sessions,
            recovery_news: self.recovery_news(owner.clone()),
            origin: context.origin.clone(),
        };
        let answered = self.store.answer_challenge(answer).await?;
        match answered {
            Answered::Wrong | Answered::Begun(_) => attempt.decided(),
            // Right so far, or not looked at.
            Answered::Invalid | Answered::EmailNotVerified | Answered::Further(_) => attempt.forgive().await,
        }
        match answered {
            Answered::Invalid => Err(ServiceError::ChallengeInvalid),
            Answered::Wrong => {
                self.note_failure(target, context).await?;
                Err(ServiceError::CodeInvalid)
            }
            Answered::EmailNotVerified => Err(ServiceError::EmailNotVerified),
            Answered::Further(open) => Ok(SignInStep::Challenged(next.into_second_factor(open))),
            Answered::Begun(begun) => {
                Ok(SignInStep::SignedIn(Box::new(self.signed_in(&pending, &begun, new_secret).await?)))
            }
        }
    }

    /// A new handle.
    pub(super) fn new_handle(&self) -> Handle {
        let secret = mint(HANDLE_PREFIX, &*self.entropy);
        let hash = self.handle_hash(&secret);
        Handle { secret, hash, expire_time: self.clock.now().plus(CHALLENGE_LIFE) }
    }

    /// What is stored of a handle.
    pub(super) fn handle_hash(&self, handle: &SecretString) -> KeyedHash {
        self.hasher.hash(Purpose::Challenge, b"", handle.expose().as_bytes())
    }

    /// A challenge of the second factor, to be issued.
    pub(super) fn second_factor(
        &self,
        user: Option<UserId>,
        pending: &Pending,
        checked_hash: Option<PhcString>,
    ) -> (Handle, NewChallenge) {
        let handle = self.new_handle();
        let code_or_place = self.place_hash(pending);
        let pending = self.seal_pending(&handle.hash, &pending.after_first_proof());
        let (kind, expire_time) = (ChallengeKind::SecondFactor, handle.expire_time);
        let new = NewChallenge { handle: handle.hash, kind, user, checked_hash, code_or_place, pending, expire_time };
        (handle, new)
    }

    pub(super) fn seal_pending(&self, handle: &KeyedHash, pending: &Pending) -> String {
        // Texts and lists of texts always become JSON.
        let text = Zeroizing::new(serde_json::to_vec(pending).unwrap_or_default());
        STANDARD.encode(self.challenges.seal(handle, &text, &*self.entropy))
    }

    pub(super) fn open_pending(&self, handle: &KeyedHash, sealed: &str) -> Result<Pending, ServiceError> {
        let damaged = |()| ServiceError::internal("what is pending with a challenge is damaged");
        let sealed = STANDARD.decode(sealed).map_err(|_| damaged(()))?;
        let text = self.challenges.open(handle, &sealed).map_err(ServiceError::internal)?;
        serde_json::from_slice(&text).map_err(|_| damaged(()))
    }

    /// What an answer proves if the store finds it to be right. A factor that the challenge does not have is a wrong answer.
    fn proof(
        &self,
        handle: &KeyedHash,
        found: &FoundChallenge,
        response: &ChallengeResponse,
    ) -> Result<(Proof, Option<SecondProof>), ServiceError> {
        Ok(match (response, found) {
            (
                ChallengeResponse::Totp(code),
                FoundChallenge { kind: ChallengeKind::SecondFactor, totp: Some(factor), .. },
            ) => {
                let step = self.totp_step(factor, code)?;
                let proof = step.map_or(Proof::Nothing, |step| Proof::Totp { factor: factor.id, step });
                (proof, Some(SecondProof::Totp))
            }
            (
                ChallengeResponse::RecoveryCode(code),
                FoundChallenge { kind: ChallengeKind::SecondFactor, user: Some(user), .. },
            ) => {
                let hash = recovery_code::hash(&self.hasher, *user, code.expose());
                (Proof::RecoveryCode(hash), Some(SecondProof::RecoveryCode))
            }
            (ChallengeResponse::OneTimeCode(code), _) => {
                (Proof::OneTimeCode(self.one_time_code_hash(handle, code)), None)
            }
            _ => (Proof::Nothing, None),
        })
    }

    /// What is stored of a code that is sent for a challenge.
    pub(super) fn one_time_code_hash(&self, handle: &KeyedHash, code: &SecretString) -> KeyedHash {
        self.hasher.hash(Purpose::OneTimeCode, handle, bare(code).as_bytes())
    }

    /// What the owner is told of a recovery code that was used.
    fn recovery_news(self: &Arc<Self>, owner: Option<User>) -> RecoveryNews {
        let this = Arc::clone(self);
        Arc::new(move |left| this.news(owner.as_ref()?, Notice::RecoveryCodeUsed { left }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_typed() {
        for typed in ["12345678", "1234 5678", " 1234-5678\n", "1\t2345678"] {
            assert_eq!(bare(&SecretString::new(typed.to_owned())).as_str(), "12345678", "{typed:?}");
        }
    }
}
