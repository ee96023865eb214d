//! `ExportAccount`, `ExportUser`: everything that is kept of a person, given to them or to whoever hands it to them.
//!
//! An export is read page by page, so it is no snapshot: what is changed meanwhile is told in one state or the other. It is
//! recorded before anything of it is told, and goes on only for as long as its caller may have it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Principal, RequestContext, Service, ServiceError, WatchPlace, WatchPlaces, recent::caller_gone, users::act,
};
use crate::{
    domain::{
        audit::Actor, id::UserId, notice::Message, secret::SecretString, session::DeviceInfo, time::Timestamp,
        trail::ActorKind, warrant::Warrant,
    },
    store::{
        StoreError,
        port::{ExportPlace, HeldChallenge, HeldMessage, HeldRecord, HeldSession, ReadEvent},
    },
};

/// Most exports of owners at once at a node, one of each account. One takes a connection to the database for a page at a time.
const OWN_EXPORTS: usize = 32;
/// The same of administrators, apart, so that nobody keeps them from it by exporting the own account.
const EXPORTS: usize = 8;
/// The permission that it takes, for as long as it lasts.
const PERMISSION: &str = "users:export";
/// Records of a page.
const PAGE: u32 = 200;
/// When to look again for a place.
const BUSY: Duration = Duration::from_secs(10);

/// All exports at a node.
#[derive(Debug)]
pub(super) struct Exports {
    own: WatchPlaces,
    all: WatchPlaces,
    /// The accounts whose owners have one.
    under_way: Arc<Mutex<HashSet<UserId>>>,
}

impl Default for Exports {
    fn default() -> Self {
        Self { own: WatchPlaces::new(OWN_EXPORTS), all: WatchPlaces::new(EXPORTS), under_way: Arc::default() }
    }
}

impl Exports {
    /// Takes the one export that an owner may have at a time.
    fn only(&self, user: UserId) -> Result<OnlyOne, ServiceError> {
        let fresh = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(user);
        let one = || OnlyOne { user, under_way: Arc::clone(&self.under_way) };
        fresh.then(one).ok_or(ServiceError::Busy { retry_after: BUSY })
    }
}

/// The one export of an owner, for as long as this is kept.
#[derive(Debug)]
struct OnlyOne {
    user: UserId,
    under_way: Arc<Mutex<HashSet<UserId>>>,
}

impl Drop for OnlyOne {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.user);
    }
}

/// By which right an export is read.
#[derive(Debug)]
enum Right {
    /// The account's own, with the access token of its owner.
    Owner(SecretString, #[expect(dead_code, reason = "what counts is when it is dropped")] OnlyOne),
    /// Of somebody who holds the permission, with the access token.
    Permission(SecretString),
    /// Of the operator at the command line.
    Operator,
}

/// An export under way.
#[derive(Debug)]
pub struct Export {
    service: Arc<Service>,
    user: UserId,
    right: Right,
    place: Option<ExportPlace>,
    begin_time: Timestamp,
    records: usize,
}

/// What an export comes to.
#[derive(Clone, Copy, Debug)]
pub struct ExportEnd {
    /// How many records there were.
    pub records: usize,
    /// When it began.
    pub begin_time: Timestamp,
    /// When it ended.
    pub end_time: Timestamp,
}

/// What a challenge waits to do, as far as it can be told.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The device that wants to sign in.
    pub device: DeviceInfo,
    /// The number that is to be the account's.
    pub phone_number: String,
}

impl Service {
    /// Begins an export of the caller's own account. It takes a recent sign-in: a token that was stolen shall not fetch in a
    /// minute what its owner left behind in years.
    ///
    /// # Errors
    /// `ReauthenticationRequired`; `Busy` if there is one of the account, or there are too many.
    pub async fn export_account(
        self: &Arc<Self>,
        caller: Principal,
        token: SecretString,
        context: &RequestContext,
    ) -> Result<(Export, WatchPlace), ServiceError> {
        let user = self.recently_proved(caller).await?;
        let only = self.exports.only(user.id)?;
        let place = self.enter_export(&self.exports.own)?;
        let begun = self.store.begin_own_export(user.id, caller.session, context.origin.clone()).await;
        begun.map_err(caller_gone)?;
        Ok((self.export(user.id, Right::Owner(token, only)), place))
    }

    /// Begins an export of any user, for whoever may. `token` is the caller's; the operator has none.
    ///
    /// # Errors
    /// If there is no such user; `Busy` if there are too many.
    pub async fn export_user(
        self: &Arc<Self>,
        warrant: Warrant,
        token: Option<SecretString>,
        user: UserId,
        context: &RequestContext,
    ) -> Result<(Export, WatchPlace), ServiceError> {
        let right = match (warrant.actor, token) {
            (Actor::Operator, _) => Right::Operator,
            (_, Some(token)) => Right::Permission(token),
            (_, None) => return Err(ServiceError::AccessTokenMissing),
        };
        let place = self.enter_export(&self.exports.all)?;
        self.store.begin_export(act(warrant, user, context)).await?;
        Ok((self.export(user, right), place))
    }

    fn enter_export(&self, places: &WatchPlaces) -> Result<WatchPlace, ServiceError> {
        if self.stopping().is_cancelled() {
            return Err(ServiceError::Unavailable { cause: "this node is stopping".into() });
        }
        places.enter()
    }

    fn export(self: &Arc<Self>, user: UserId, right: Right) -> Export {
        let (place, begin_time) = (Some(ExportPlace::Account), self.clock.now());
        Export { service: Arc::clone(self), user, right, place, begin_time, records: 0 }
    }
}

impl Export {
    /// The next records, at least one; nothing after the last.
    ///
    /// # Errors
    /// Why the export must end.
    pub async fn next(&mut self) -> Result<Option<Vec<HeldRecord>>, ServiceError> {
        while let Some(place) = self.place.take() {
            self.is_still_allowed().await?;
            let read = self.service.store.read_export(self.user, place, self.begin_time, PAGE).await;
            let page = read.map_err(|error| self.gone(error))?;
            self.place = page.next;
            self.records += page.records.len();
            if !page.records.is_empty() {
                return Ok(Some(page.records.into_iter().map(|record| self.of_nobody_else(record)).collect()));
            }
        }
        Ok(None)
    }

    /// What it comes to, once nothing comes next.
    pub fn end(&self) -> ExportEnd {
        ExportEnd { records: self.records, begin_time: self.begin_time, end_time: self.service.clock.now() }
    }

    async fn is_still_allowed(&self) -> Result<(), ServiceError> {
        match &self.right {
            Right::Owner(token, _) => match self.service.authenticate_user(token).await? {
                caller if caller.user == self.user => Ok(()),
                _ => Err(ServiceError::AccessTokenInvalid),
            },
            Right::Permission(token) => self.service.warrant(token, PERMISSION).await.map(|_| ()),
            Right::Operator => Ok(()),
        }
    }

    fn gone(&self, error: StoreError) -> ServiceError {
        match &self.right {
            Right::Owner(..) => caller_gone(error),
            Right::Permission(_) | Right::Operator => error.into(),
        }
    }

    fn of_nobody_else(&self, record: HeldRecord) -> HeldRecord {
        match record {
            HeldRecord::Event(read) => HeldRecord::Event(Box::new(of_nobody_else(*read, self.user))),
            other => other,
        }
    }

    /// Whether a session goes on.
    pub fn is_live(&self, held: &HeldSession) -> bool {
        let HeldSession { session, end_time, user_epoch, .. } = held;
        let over = session.is_expired(&self.service.policy.sessions, self.service.clock.now());
        end_time.is_none() && !over && session.grant.epoch == *user_epoch
    }

    /// The message of an outbox row; none if it does not open.
    pub fn message(&self, held: &HeldMessage) -> Option<Message> {
        let opened = self.service.open_message(held.id, &held.sealed);
        opened
            .inspect_err(|problem| tracing::warn!(id = %held.id, problem, "a message of an export does not open"))
            .ok()
    }

    /// What a challenge waits to do.
    pub fn waiting(&self, held: &HeldChallenge) -> Waiting {
        match &held.pending {
            serde_json::Value::String(sealed) => match self.service.open_pending(&held.handle, sealed) {
                Ok(pending) => Waiting { device: pending.device(), ..Waiting::default() },
                Err(error) => {
                    tracing::warn!(%error, "a challenge of an export does not open");
                    Waiting::default()
                }
            },
            open => {
                let phone_number = open["phone_number"].as_str().unwrap_or_default().to_owned();
                Waiting { phone_number, ..Waiting::default() }
            }
        }
    }

    /// What is cancelled when the node stops.
    pub fn stopping(&self) -> CancellationToken {
        self.service.stopping()
    }
}

/// An event as this person may have it: without the ids of other people, of their requests and tokens, and without what proves its
/// place.
fn of_nobody_else(read: ReadEvent, user: UserId) -> ReadEvent {
    let ReadEvent { mut event, personal } = read;
    let person = Some(*user.as_uuid());
    let by_a_user = event.actor == ActorKind::User.as_str();
    if by_a_user && event.actor_id != person {
        event.actor_id = None;
    }
    // It is of the making of whoever called.
    if event.actor != ActorKind::Anonymous.as_str() && !(by_a_user && event.actor_id == person) {
        event.request_id.clear();
    }
    if event.subject_id.is_some() && event.subject_id != person {
        (event.subject_id, event.session_id) = (None, None);
        if let Some(detail) = event.detail.as_object_mut() {
            detail.remove("token");
        }
    }
    (event.personal_sealed, event.link) = (None, None);
    ReadEvent { event, personal }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{audit::Personal, id::EventId},
        store::port::RecordedEvent,
    };

    #[test]
    fn an_owner_has_one_export_at_a_time() {
        let exports = Exports::default();
        let [ada, bob] = [1, 2].map(|n| UserId::from_uuid(Uuid::from_u128(n)));
        let first = exports.only(ada).unwrap();
        assert!(matches!(exports.only(ada), Err(ServiceError::Busy { .. })));
        let other = exports.only(bob).unwrap();
        drop(first);
        let _again = exports.only(ada).unwrap();
        assert!(exports.only(bob).is_err());
        drop(other);
    }

    #[test]
    fn an_event_names_nobody_else() {
        let [person, other, session] = [1, 2, 3].map(Uuid::from_u128);
        let event = |actor: &str, actor_id, subject_id| ReadEvent {
            event: RecordedEvent {
                id: EventId::from_uuid(Uuid::from_u128(9)),
                time: Timestamp::from_seconds(1),
                act: "session.ended".into(),
                succeeded: true,
                actor: actor.into(),
                actor_id,
                subject_id,
                session_id: Some(crate::domain::id::SessionId::from_uuid(session)),
                request_id: "r".into(),
                detail: json!({ "token": "t" }),
                personal_sealed: Some(vec![1]),
                link: None,
            },
            personal: Personal::default(),
        };
        let told = |read: ReadEvent| {
            let RecordedEvent { actor_id, subject_id, session_id, request_id, detail, personal_sealed, .. } =
                of_nobody_else(read, UserId::from_uuid(person)).event;
            assert_eq!(personal_sealed, None);
            assert_eq!(session_id.is_some(), !detail["token"].is_null(), "they are of the same person");
            (actor_id, subject_id, session_id.is_some(), !request_id.is_empty())
        };
        assert_eq!(told(event("user", Some(person), Some(person))), (Some(person), Some(person), true, true));
        assert_eq!(told(event("user", Some(other), Some(person))), (None, Some(person), true, false));
        assert_eq!(told(event("user", Some(person), Some(other))), (Some(person), None, false, true));
        assert_eq!(told(event("service", Some(other), Some(person))), (Some(other), Some(person), true, false));
        assert_eq!(told(event("operator", None, Some(person))), (None, Some(person), true, false));
        assert_eq!(told(event("anonymous", None, Some(person))), (None, Some(person), true, true));
    }
}
