//! Managing service accounts.

use std::time::Duration;

use uuid::Uuid;

use super::{RequestContext, Service, ServiceError, users::REQUEST_RETENTION};
use crate::{
    crypto::service_secret,
    domain::{
        id::{ServiceAccountId, UserId},
        secret::SecretString,
        service_account::ServiceAccount,
        spiffe::SpiffeId,
        user::Label,
        warrant::Warrant,
    },
    store::{
        Refused,
        port::{CreateRequest, NewSecret, NewServiceAccount, ServiceAccountChange},
    },
};

/// A service account as it was asked for.
#[derive(Clone, Debug)]
pub struct CreateServiceAccountCommand {
    /// A name to show.
    pub display_name: Label,
    /// What its client certificate calls it.
    pub spiffe_id: Option<SpiffeId>,
    /// Its roles, sorted, each once.
    pub roles: Vec<String>,
    /// Whether it is to have a secret.
    pub secret: bool,
    /// The caller's number for the request, if it may be sent again.
    pub request_id: Option<Uuid>,
}

/// A page of service accounts.
#[derive(Clone, Debug)]
pub struct ServiceAccountList {
    /// Oldest first.
    pub accounts: Vec<ServiceAccount>,
    /// Where the next page begins, if there is one.
    pub next: Option<ServiceAccountId>,
}

impl CreateServiceAccountCommand {
    /// The request in its one form.
    fn canonical(&self) -> Result<Vec<u8>, ServiceError> {
        let Self { display_name, spiffe_id, roles, secret, request_id: _ } = self;
        let fields =
            ("service account", display_name.as_str(), spiffe_id.as_ref().map(SpiffeId::as_str), roles, secret);
        serde_json::to_vec(&fields).map_err(ServiceError::internal)
    }
}

impl Service {
    /// Creates a service account, with its secret unless none is wanted. Sent again it gets the same.
    pub async fn create_service_account(
        &self,
        warrant: Warrant,
        command: CreateServiceAccountCommand,
        context: &RequestContext,
    ) -> Result<(ServiceAccount, Option<SecretString>), ServiceError> {
        let (fingerprint, forgotten) =
            (self.request_hash(&command.canonical()?), self.clock.now().minus(REQUEST_RETENTION));
        let request = command.request_id.map(|id| CreateRequest { id, fingerprint, forgotten });
        let CreateServiceAccountCommand { display_name, spiffe_id, roles, secret, request_id: _ } = command;
        let id = ServiceAccountId::new(self.clock.now(), &self.random());
        let secret = secret.then(|| service_secret::stored(&self.secrets.mint(*id.as_uuid())));
        let new = NewServiceAccount { id, display_name, spiffe_id, roles, secret, request };
        let account = self.store.create_service_account(warrant, new, context.origin.clone()).await?;
        let first = *account.id.as_uuid();
        // Not one that has ended since an earlier request made it.
        let secret = account.secrets.iter().any(|secret| secret.id == first).then(|| self.secrets.mint(first));
        Ok((account, secret))
    }

    /// A service account.
    pub async fn get_service_account(&self, id: ServiceAccountId) -> Result<ServiceAccount, ServiceError> {
        Ok(self.store.get_service_account(id).await?.ok_or(Refused::NoServiceAccount)?)
    }

    /// A page of service accounts.
    pub async fn list_service_accounts(
        &self,
        after: Option<ServiceAccountId>,
        size: u32,
    ) -> Result<ServiceAccountList, ServiceError> {
        let mut accounts = self.store.list_service_accounts(after, size + 1).await?;
        let more = accounts.len() > size as usize;
        accounts.truncate(size as usize);
        let next = accounts.last().map(|account| account.id).filter(|_| more);
        Ok(ServiceAccountList { accounts, next })
    }

    /// Changes a service account.
    pub async fn update_service_account(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        change: ServiceAccountChange,
        context: &RequestContext,
    ) -> Result<ServiceAccount, ServiceError> {
        Ok(self.store.update_service_account(warrant, id, change, context.origin.clone()).await?)
    }

    /// Gives a service account another secret; the one before goes on for as long as `keep_previous`.
    pub async fn rotate_service_account_secret(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        keep_previous: Duration,
        context: &RequestContext,
    ) -> Result<(ServiceAccount, SecretString), ServiceError> {
        let now = self.clock.now();
        let secret_id = *UserId::new(now, &self.random()).as_uuid();
        let secret = self.secrets.mint(secret_id);
        let keep_previous_until = (!keep_previous.is_zero()).then(|| now.plus(keep_previous));
        let new = NewSecret { id: secret_id, hash: service_secret::stored(&secret), keep_previous_until };
        let account = self.store.rotate_service_account_secret(warrant, id, new, context.origin.clone()).await?;
        Ok((account, secret))
    }

    /// Deletes a service account.
    pub async fn delete_service_account(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        revision: Option<i64>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        Ok(self.store.delete_service_account(warrant, id, revision, context.origin.clone()).await?)
    }
}
