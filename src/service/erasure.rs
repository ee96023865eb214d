//! What goes with a user beside the rows: messages on their way, hot records, what SQLite's files still hold. And erasures again,
//! after a backup has brought people back.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::sleep};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Hot, Service, ServiceError, open_message};
use crate::{
    domain::{
        id::{SessionId, UserId},
        notice::Recipient,
        time::Timestamp,
        user::User,
    },
    store::{
        StoreError,
        port::{Erasure, Reapplied, Store},
    },
};

/// Messages read at once.
const PAGE: u32 = 500;
/// How many times, so that nobody has us read for ever where very many wait. The oldest go first; the rest expires.
const PAGES: u32 = 200;
/// How often, and after which pause, the files are looked at where somebody was reading. After that the purge does it.
const SCRUB_TRIES: u32 = 5;
const SCRUB_PAUSE: Duration = Duration::from_millis(500);

/// What became of erasures that were asked for again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReappliedErasures {
    /// Users who were there again, and are gone.
    pub deleted: u64,
    /// Users who were not there, but of whom nothing was known.
    pub noted: u64,
    /// Those of whom everything was as it should be.
    pub known: u64,
}

impl Service {
    /// Messages of the outbox that go to these users without being about them, by user: to an address that somebody was about to
    /// register or change to. Those about a user go with the row.
    pub(super) async fn messages_to(&self, users: &[User]) -> Result<HashMap<UserId, Vec<Uuid>>, ServiceError> {
        let mut owners = HashMap::new();
        for user in users {
            owners.insert(user.email.key(), user.id);
            owners.extend(user.phone_number.as_ref().map(|number| (number.as_str(), user.id)));
        }
        let mut found: HashMap<UserId, Vec<Uuid>> = HashMap::new();
        let mut after = Uuid::nil();
        for _ in 0..PAGES {
            let page = self.store.sealed_messages(after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (id, sealed) in page {
                // What does not open says nothing to anybody.
                let Ok(message) = open_message(&self.seal, id, &sealed) else { continue };
                let owner = match &message.to {
                    Recipient::Email(email) => owners.get(email.key()),
                    Recipient::Sms(number) => owners.get(number.as_str()),
                    Recipient::Nobody => None,
                };
                if let Some(owner) = owner {
                    found.entry(*owner).or_default().push(id);
                }
            }
        }
        Ok(found)
    }

    /// Deletes a user by a verb of the store that answers the sessions, and then what that leaves behind. Both outlive a
    /// caller who goes away; nobody waits for the second.
    pub(super) async fn erase(
        &self,
        delete: impl Future<Output = Result<Vec<SessionId>, StoreError>> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let (store, hot, now) = (Arc::clone(&self.store), self.hot_state(), self.clock.now());
        let erase = async move {
            match delete.await {
                Ok(sessions) => {
                    // Whoever asked may have gone away.
                    let _ = answer.send(Ok(()));
                    clean_up(&*store, hot.as_deref(), &sessions, now).await;
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        };
        self.erasures.spawn(erase.in_current_span());
        answered.await.map_err(|gone| StoreError::Internal(gone.into()))?
    }

    /// Those who were deleted and are there again.
    ///
    /// # Errors
    /// The store's.
    pub async fn who_came_back(&self, erasures: &[Erasure]) -> Result<Vec<User>, ServiceError> {
        let mut back = Vec::new();
        for erasure in erasures {
            back.extend(self.store.get_user(erasure.user).await?);
        }
        Ok(back)
    }

    /// Deletes these users again, in the operator's name; of those `back` who came back, everything. Can be repeated.
    ///
    /// # Errors
    /// The store's; what was done so far stays done.
    pub async fn reapply_erasures(
        &self,
        erasures: &[Erasure],
        back: &[User],
    ) -> Result<ReappliedErasures, ServiceError> {
        let mut messages = self.messages_to(back).await?;
        let hot = self.hot_state();
        let mut counts = ReappliedErasures::default();
        for erasure in erasures {
            let messages = messages.remove(&erasure.user).unwrap_or_default();
            match self.store.erase_again(*erasure, messages).await? {
                Reapplied::Deleted(sessions) => {
                    counts.deleted += 1;
                    if let Some(hot) = &hot {
                        hot.forget(&sessions, self.clock.now()).await;
                    }
                }
                Reapplied::Noted => counts.noted += 1,
                Reapplied::Known => counts.known += 1,
            }
        }
        clean_up(&*self.store, None, &[], self.clock.now()).await;
        Ok(counts)
    }

    /// Takes what was deleted out of the files. If somebody is in the way, the next time.
    pub(super) async fn scrub(&self) {
        match self.store.scrub().await {
            Ok(true) => {}
            Ok(false) => {
                tracing::debug!("what was deleted is still in the database's write-ahead log: it is being read");
            }
            Err(error) => tracing::debug!(%error, "what was deleted is still in the database's write-ahead log"),
        }
    }

    fn hot_state(&self) -> Option<Arc<Hot>> {
        self.hot.as_ref().map(|parts| Arc::clone(&parts.hot))
    }
}

async fn clean_up(store: &dyn Store, hot: Option<&Hot>, sessions: &[SessionId], now: Timestamp) {
    if let Some(hot) = hot {
        hot.forget(sessions, now).await;
    }
    for _ in 0..SCRUB_TRIES {
        match store.scrub().await {
            Ok(false) => sleep(SCRUB_PAUSE).await,
            Ok(true) | Err(_) => return,
        }
    }
}
