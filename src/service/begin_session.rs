//! What every way to sign in has in common: what the caller wants, which device it is, and the session in the end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{IssuedTokens, Service, ServiceError, challenge::IssuedChallenge, throttle::Target};
use crate::{
    crypto::{Purpose, keyed::mint},
    domain::{
        audience::{Audience, Scope},
        challenge::{FirstProof, SecondProof, assurance},
        id::{SessionId, UserId},
        notice::Notice,
        secret::SecretString,
        session::{DeviceInfo, Grant},
        throttle::network_of,
        user::{Label, PhcString, User},
    },
    store::port::{BegunSession, NewDevice, NewSession, SessionCheck, ThrottleKey},
};

/// What begins the secret of a known device.
const DEVICE_PREFIX: &str = "vds_";

/// What a caller wants who signs in. Not `Debug`: people type passwords into the wrong field.
#[derive(Clone)]
pub struct SignInRequest {
    /// What was typed; perhaps nobody's.
    pub identifier: String,
    /// The device.
    pub device: DeviceInfo,
    /// What the device got at an earlier sign-in, perhaps somebody else's.
    pub device_secret: Option<SecretString>,
    /// Whom the tokens are for.
    pub audience: Vec<Audience>,
    /// What they allow.
    pub scope: Scope,
}

/// How a step of a sign-in ended.
#[derive(Clone, Debug)]
pub enum SignInStep {
    /// The user is signed in.
    SignedIn(Box<SignedIn>),
    /// Something more has to be proved.
    Challenged(IssuedChallenge),
}

/// A user who is signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The tokens.
    pub tokens: IssuedTokens,
    /// What the device is known by next time.
    pub device_secret: SecretString,
}

/// A sign-in on its way: what the session will be. It waits with the challenge, sealed, and is not `Debug` for what it holds.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The first proof.
    pub(super) first: FirstProof,
    /// What was typed, for the throttle.
    identifier: String,
    device_name: String,
    user_agent: String,
    ip_address: String,
    /// The device, if it is known to be the account's, and its secret.
    known_device: Option<(Uuid, String)>,
    /// Whether that device has failed so often that it counts as unknown. Looked at anew with each step.
    #[serde(skip)]
    device_at_cap: bool,
    client_id: String,
    audience: Vec<Audience>,
    scope: Scope,
    /// The key of the address that a code was mailed to.
    pub(super) mailed_to: Option<String>,
    /// The number that a code was sent to. Not in what servers of before sealed.
    #[serde(default)]
    pub(super) texted_to: Option<String>,
}

impl Pending {
    /// What failures are counted by: of the first proof, or at `second`, an account's second factor. Either way a known device has
    /// a counter of its own, so that strangers, even with the password, lock nobody out of it.
    pub(super) fn target<'a>(&'a self, second: Option<Target<'a>>) -> Target<'a> {
        match (self.device_id().filter(|_| !self.device_at_cap), second) {
            (Some(device), _) => Target::Device(device),
            (None, Some(second)) => second,
            (None, None) if self.first == FirstProof::Password => Target::Identifier(&self.identifier),
            (None, None) => Target::Code(&self.identifier),
        }
    }

    /// The device, if it is known to be the account's.
    pub(super) fn device_id(&self) -> Option<Uuid> {
        self.known_device.as_ref().map(|(device, _)| *device)
    }

    /// What counts as the address that it came from; `None` if it had none.
    pub(super) fn network(&self) -> Option<[u8; 9]> {
        self.ip_address.parse().ok().map(network_of)
    }

    /// Counts what follows like on any device.
    pub(super) const fn count_among_strangers(&mut self) {
        self.device_at_cap = true;
    }

    /// What a caller wants with an account that is nobody's.
    pub(super) fn for_nobody(&self) -> Self {
        Self { known_device: None, mailed_to: None, texted_to: None, ..self.clone() }
    }

    /// What goes on to the second factor: address or number was proved by the code before.
    pub(super) fn after_first_proof(&self) -> Self {
        Self { mailed_to: None, texted_to: None, ..self.clone() }
    }

    /// The device.
    pub(super) fn device(&self) -> DeviceInfo {
        DeviceInfo {
            name: Label::stored(self.device_name.clone()),
            user_agent: Label::stored(self.user_agent.clone()),
            ip_address: Label::stored(self.ip_address.clone()),
        }
    }
}

/// A session about to begin, and what its device is known by if it was not.
pub(super) struct Prepared {
    pub(super) session: NewSession,
    new_secret: SecretString,
}

impl Service {
    /// What a caller wants, with the device looked up. `account` is whose the identifier is; the same is done if it is nobody's.
    pub(super) async fn pending(
        &self,
        wanted: SignInRequest,
        account: Option<UserId>,
        first: FirstProof,
    ) -> Result<Pending, ServiceError> {
        let SignInRequest { identifier, device, device_secret, audience, scope } = wanted;
        let known_device = match device_secret {
            Some(secret) => {
                let hash = self.hasher.hash(Purpose::DeviceSecret, b"", secret.expose().as_bytes());
                let nobody = UserId::from_uuid(Uuid::nil());
                let found = self.store.find_known_device(account.unwrap_or(nobody), hash).await?;
                found.map(|device| (device, secret.expose().to_owned()))
            }
            None => None,
        };
        Ok(Pending {
            first,
            identifier,
            device_name: device.name.as_str().to_owned(),
            user_agent: device.user_agent.as_str().to_owned(),
            ip_address: device.ip_address.as_str().to_owned(),
            known_device,
            device_at_cap: false,
            client_id: self.policy.client_id.clone(),
            audience,
            scope,
            mailed_to: None,
            texted_to: None,
        })
    }

    /// The session that `pending` becomes, proved by the password with the hash `checked` or by what the store checks. Without
    /// `owner` nobody is told of it.
    pub(super) fn prepare_session(
        self: &Arc<Self>,
        pending: &Pending,
        account: UserId,
        owner: Option<&User>,
        second: Option<SecondProof>,
        checked: Option<PhcString>,
    ) -> Result<Prepared, ServiceError> {
        let now = self.clock.now();
        let (amr, acr) = assurance(pending.first, second);
        let new_secret = mint(DEVICE_PREFIX, &*self.entropy);
        let notice = || Notice::NewDevice {
            device: pending.device_name.clone(),
            ip_address: pending.ip_address.clone(),
            time: now,
        };
        let session = NewSession {
            id: SessionId::new(now, &self.random()),
            grant: Grant {
                user: account,
                epoch: 0,
                client_id: pending.client_id.clone(),
                audience: pending.audience.clone(),
                scope: pending.scope.clone(),
                auth_time: now,
                amr,
                acr,
            },
            checked_hash: checked,
            second_factor: second.is_some(),
            device: pending.device(),
            known_device: pending.device_id(),
            new_device: NewDevice {
                id: *SessionId::new(now, &self.random()).as_uuid(),
                secret: self.hasher.hash(Purpose::DeviceSecret, b"", new_secret.expose().as_bytes()),
            },
            limit: self.policy.session_limit,
            news: owner
                .filter(|_| pending.known_device.is_none())
                .and_then(|owner| self.budgeted_news(owner, notice())),
            key_id: self.keys.refresh_key_in_force(now)?,
            forgiven: self.forgiven(pending, account, owner),
            check: self.session_check(),
        };
        Ok(Prepared { session, new_secret })
    }

    fn session_check(self: &Arc<Self>) -> SessionCheck {
        let this = Arc::clone(self);
        SessionCheck::new(move |live| this.check_issuable(live))
    }

    /// Whose failures are forgotten with the session: only then is every factor proved.
    fn forgiven(&self, pending: &Pending, account: UserId, owner: Option<&User>) -> Vec<ThrottleKey> {
        let device = pending.device_id();
        // Whoever has the device, or reads the mail, is the owner, however often others guessed at the other name.
        let owner = owner.filter(|_| device.is_some() || pending.first != FirstProof::Password);
        let mut keys = owner.map_or_else(Vec::new, |owner| self.owner_keys(owner));
        let targets =
            [Target::Identifier(&pending.identifier), Target::Account(account), Target::RecoveryCode(account)];
        keys.extend(targets.into_iter().chain(device.map(Target::Device)).map(|target| self.throttle_key(target)));
        keys
    }

    /// The answer to a complete sign-in.
    pub(super) async fn signed_in(
        &self,
        pending: &Pending,
        begun: &BegunSession,
        new_secret: SecretString,
    ) -> Result<SignedIn, ServiceError> {
        let device_secret = match &pending.known_device {
            Some((_, secret)) if begun.device_known => SecretString::new(secret.clone()),
            Some(_) | None => new_secret,
        };
        Ok(SignedIn { tokens: self.issue(&begun.live).await?, device_secret })
    }
}

impl Prepared {
    /// Taken apart.
    pub(super) fn into_parts(self) -> (NewSession, SecretString) {
        (self.session, self.new_secret)
    }
}
