//! Service accounts and the tokens they ask for.

use async_trait::async_trait;
use uuid::Uuid;

use super::CreateRequest;
use crate::{
    domain::{
        audit::Origin,
        id::{ServiceAccountId, TokenId},
        role::HeldRoles,
        service_account::{ClientProof, SecretHash, ServiceAccount},
        spiffe::SpiffeId,
        time::Timestamp,
        user::Label,
        warrant::Warrant,
    },
    store::StoreError,
};

/// A service account to be created.
#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    /// Its id.
    pub id: ServiceAccountId,
    /// A name to show.
    pub display_name: Label,
    /// What its client certificate calls it.
    pub spiffe_id: Option<SpiffeId>,
    /// Role names.
    pub roles: Vec<String>,
    /// The hash of its first secret, whose id is the account's own; `None` for none.
    pub secret: Option<SecretHash>,
    /// If it may be asked for again.
    pub request: Option<CreateRequest>,
}

/// What is to be changed of a service account.
#[derive(Clone, Debug, Default)]
pub struct ServiceAccountChange {
    /// The revision that it must still have.
    pub revision: Option<i64>,
    /// A new name.
    pub display_name: Option<Label>,
    /// A new SPIFFE id, or none from now on.
    pub spiffe_id: Option<Option<SpiffeId>>,
    /// New roles.
    pub roles: Option<Vec<String>>,
}

/// A new secret of a service account.
#[derive(Clone, Copy, Debug)]
pub struct NewSecret {
    /// Its id.
    pub id: Uuid,
    /// Its hash.
    pub hash: SecretHash,
    /// Until when the newest one goes on; `None` to end it, and the account's tokens, at once.
    pub keep_previous_until: Option<Timestamp>,
}

/// What a service account gets a token by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownService {
    /// Which one it is.
    pub account: ServiceAccountId,
    /// Its epoch: once that is raised, the token is dead.
    pub epoch: i64,
    /// Its roles at this moment and what they allow.
    pub held: HeldRoles,
}

/// Service accounts. Each verb that changes one asks whether the warrant allows it, and whether its bearer holds whatever the
/// account holds, before and after.
#[async_trait]
pub trait ServiceAccountStore: Send + Sync + 'static {
    /// Creates a service account; or answers, as it is now, the one that was created by the same request.
    async fn create_service_account(
        &self,
        warrant: Warrant,
        new: NewServiceAccount,
        origin: Origin,
    ) -> Result<ServiceAccount, StoreError>;

    /// A service account by id.
    async fn get_service_account(&self, id: ServiceAccountId) -> Result<Option<ServiceAccount>, StoreError>;

    /// Up to `limit` of them after `after`, oldest first.
    async fn list_service_accounts(
        &self,
        after: Option<ServiceAccountId>,
        limit: u32,
    ) -> Result<Vec<ServiceAccount>, StoreError>;

    /// Changes a service account. A change of roles raises its epoch and refuses its tokens.
    async fn update_service_account(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        change: ServiceAccountChange,
        origin: Origin,
    ) -> Result<ServiceAccount, StoreError>;

    /// Gives it another secret. Of those it had the newest may go on for a while, all others end.
    async fn rotate_service_account_secret(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        new: NewSecret,
        origin: Origin,
    ) -> Result<ServiceAccount, StoreError>;

    /// Deletes a service account, if it still has this revision, and refuses its tokens.
    async fn delete_service_account(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        revision: Option<i64>,
        origin: Origin,
    ) -> Result<(), StoreError>;

    /// Which service account it is that proves itself so, to issue it the token with this id; `None` if it is none. Records
    /// either.
    async fn admit_service(
        &self,
        proof: ClientProof,
        token: TokenId,
        origin: Origin,
    ) -> Result<Option<KnownService>, StoreError>;

    /// Forgets secrets that have ended, and creations that nobody may ask for again. How many.
    async fn purge_service_accounts(&self) -> Result<u64, StoreError>;
}
