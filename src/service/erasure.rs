//! What goes with a user beside the rows: what others left under the address, hot records, what SQLite's files still hold. And erasures
//! again, after a backup has brought people back.

use std::{
    collections::HashSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    join,
    sync::{Notify, Semaphore, oneshot},
    time::{sleep, timeout},
};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Hot, Service, ServiceError, open_message};
use crate::{
    crypto::MessageSeal,
    domain::{
        id::{SessionId, UserId},
        notice::Recipient,
        time::{Clock, Timestamp},
    },
    store::{
        StoreError,
        port::{Erased, Erasure, Reapplied, Store},
    },
};

/// Messages read at once.
const PAGE: u32 = 500;
/// How many times, so that nobody has us read for ever where very many wait. The oldest go first; the rest expires.
const PAGES: u32 = 200;
/// Who looks for leftovers reads much, so it is one at a time.
const TURNS: usize = 1;
/// For so long whoever deletes somebody waits for it; it goes on without them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sessions of a user that are looked for in the trail, the latest first.
const RECORDED: u32 = 5_000;
/// Erasures looked at by one query.
const ERASURES: u32 = 500;
/// The same, asked by the ids of users.
const KNOWN: usize = 500;
/// How often, and after which pause, the files are looked at where somebody was reading. After that the purge does it.
const SCRUB_TRIES: u32 = 5;
const SCRUB_PAUSE: Duration = Duration::from_millis(500);
/// At least this lies between one cleaning of the files and the next, however many are deleted.
const SCRUB_INTERVAL: Duration = Duration::from_secs(1);
/// A node that stops waits no longer for the last one.
const SCRUB_LIMIT: Duration = Duration::from_secs(5);

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

/// Clears up behind those who are deleted, without whoever deleted them.
pub(super) struct Eraser {
    store: Arc<dyn Store>,
    hot: Option<Arc<Hot>>,
    seal: MessageSeal,
    clock: Arc<dyn Clock>,
    /// How long a session may live: one that began earlier has no hot record any more.
    longest: Duration,
    turns: Semaphore,
    /// How often the files were to be cleaned, and for how many of these times they were.
    soiled: AtomicU64,
    scrubbed: AtomicU64,
    wanted: Notify,
}

impl Eraser {
    pub(super) fn new(
        store: Arc<dyn Store>,
        hot: Option<Arc<Hot>>,
        seal: MessageSeal,
        clock: Arc<dyn Clock>,
        longest: Duration,
    ) -> Self {
        let (soiled, scrubbed, wanted) = (AtomicU64::new(0), AtomicU64::new(0), Notify::new());
        Self { store, hot, seal, clock, longest, turns: Semaphore::new(TURNS), soiled, scrubbed, wanted }
    }

    /// Deletes what others left for somebody who is gone. What cannot be deleted now expires by itself.
    async fn forget_left(&self, erased: &Erased) {
        if erased.email.is_none() && erased.phone_number.is_none() {
            return;
        }
        // Nobody closes it.
        let _turn = self.turns.acquire().await;
        if let Err(error) = self.try_to_forget_left(erased).await {
            tracing::warn!(%error, "what others left for somebody who was deleted stays until it expires");
        }
    }

    async fn try_to_forget_left(&self, erased: &Erased) -> Result<(), StoreError> {
        let messages = self.messages_to(erased).await?;
        self.store.forget_left(erased.email.clone(), messages, erased.erasure.time).await
    }

    /// Messages to somebody who is gone that are about nobody: to an address that somebody was about to register. Those about the user
    /// went with the row, those about others are theirs.
    async fn messages_to(&self, erased: &Erased) -> Result<Vec<Uuid>, StoreError> {
        let (mut found, mut after) = (Vec::new(), Uuid::nil());
        for _ in 0..PAGES {
            let page = self.store.sealed_messages(erased.erasure.time, after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (id, sealed) in page {
                // What does not open says nothing to anybody.
                let Ok(message) = open_message(&self.seal, id, &sealed) else { continue };
                let is_theirs = match &message.to {
                    Recipient::Email(email) => erased.email.as_ref().is_some_and(|own| own.key() == email.key()),
                    Recipient::Sms(number) => erased.phone_number.as_ref() == Some(number),
                    Recipient::Nobody => false,
                };
                if is_theirs {
                    found.push(id);
                }
            }
        }
        Ok(found)
    }

    /// Removes the hot records of somebody who is gone. A refresh under way may put one back, and the hot state may be away:
    /// [`Eraser::remove_records`] looks again.
    async fn forget_records(&self, erased: &Erased) {
        let Some(hot) = &self.hot else { return };
        let mut sessions = erased.sessions.clone();
        match self.recorded_sessions(erased.erasure.user).await {
            Ok(recorded) => sessions.extend(recorded),
            Err(error) => tracing::debug!(%error, "sessions of somebody who was deleted are not looked up now"),
        }
        sessions.sort_unstable();
        sessions.dedup();
        if let Err(error) = hot.forget(&sessions).await {
            tracing::debug!(%error, "hot records of somebody who was deleted are not removed now");
        }
    }

    /// Removes the hot records of everybody who was deleted since then, by whichever node.
    ///
    /// # Errors
    /// The store's, or that the hot state does not answer; it is to be done again then.
    pub(super) async fn remove_records(&self, since: Timestamp) -> Result<(), ServiceError> {
        let Some(hot) = &self.hot else { return Ok(()) };
        let mut last = None;
        loop {
            let page = self.store.erasures(since, last, ERASURES).await?;
            for erasure in &page {
                let sessions = self.recorded_sessions(erasure.user).await?;
                let away = |error| ServiceError::Unavailable { cause: format!("the hot state: {error}") };
                hot.forget(&sessions).await.map_err(away)?;
            }
            last = page.last().copied();
            if last.is_none() {
                return Ok(());
            }
        }
    }

    async fn recorded_sessions(&self, user: UserId) -> Result<Vec<SessionId>, StoreError> {
        let since = self.clock.now().minus(self.longest);
        self.store.recorded_sessions(user, since, RECORDED).await
    }

    /// Has the files cleaned, soon.
    fn want_scrub(&self) {
        self.soiled.fetch_add(1, Ordering::AcqRel);
        self.wanted.notify_one();
    }

    /// Cleans the files whenever it is wanted, however often that is, not more often than they can be.
    pub(super) async fn scrub_when_wanted(&self) {
        loop {
            self.wanted.notified().await;
            for _ in 0..SCRUB_TRIES {
                self.scrub().await;
                if self.is_clean() {
                    break;
                }
                sleep(SCRUB_PAUSE).await;
            }
            sleep(SCRUB_INTERVAL).await;
        }
    }

    /// Takes what was deleted out of the files. If somebody is in the way, the next time.
    pub(super) async fn scrub(&self) {
        let soiled = self.soiled.load(Ordering::Acquire);
        match self.store.scrub().await {
            Ok(true) => {
                self.scrubbed.fetch_max(soiled, Ordering::AcqRel);
            }
            Ok(false) => {
                tracing::debug!("what was deleted is still in the database's write-ahead log: it is being read");
            }
            Err(error) => tracing::debug!(%error, "what was deleted is still in the database's write-ahead log"),
        }
    }

    /// The last one, if one is wanted.
    pub(super) async fn finish(&self) {
        if !self.is_clean() && timeout(SCRUB_LIMIT, self.scrub()).await.is_err() {
            tracing::debug!("what was deleted is still in the database's write-ahead log: it took too long");
        }
    }

    fn is_clean(&self) -> bool {
        self.scrubbed.load(Ordering::Acquire) >= self.soiled.load(Ordering::Acquire)
    }
}

impl Service {
    /// Deletes a user by a verb of the store, and then what that leaves behind. Both outlive a caller who goes away; the answer waits
    /// for what others left, for a while, and for nothing else.
    pub(super) async fn erase(
        &self,
        delete: impl Future<Output = Result<Erased, StoreError>> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let broom = Arc::clone(&self.eraser);
        let erase = async move {
            let erased = match delete.await {
                Ok(erased) => erased,
                Err(error) => {
                    // Whoever asked may have gone away.
                    let _ = answer.send(Err(error));
                    return;
                }
            };
            let left = async {
                let mut left = pin!(broom.forget_left(&erased));
                let is_done = timeout(PATIENCE, left.as_mut()).await.is_ok();
                let _ = answer.send(Ok(()));
                if !is_done {
                    left.await;
                }
            };
            join!(left, broom.forget_records(&erased));
            broom.want_scrub();
        };
        self.erasures.spawn(erase.in_current_span());
        answered.await.map_err(|gone| StoreError::Internal(gone.into()))?
    }

    /// How many of those who were deleted are there again.
    ///
    /// # Errors
    /// The store's.
    pub async fn who_came_back(&self, erasures: &[Erasure]) -> Result<usize, ServiceError> {
        let mut back = 0;
        for some in erasures.chunks(KNOWN) {
            let known = self.known(some).await?;
            for erasure in some.iter().filter(|erasure| !known.contains(&erasure.user)) {
                back += usize::from(self.store.get_user(erasure.user).await?.is_some());
            }
        }
        Ok(back)
    }

    /// Deletes these users again, in the operator's name. Can be repeated.
    ///
    /// # Errors
    /// The store's; what was done so far stays done.
    pub async fn reapply_erasures(&self, erasures: &[Erasure]) -> Result<ReappliedErasures, ServiceError> {
        let mut counts = ReappliedErasures::default();
        for some in erasures.chunks(KNOWN) {
            let known = self.known(some).await?;
            for erasure in some {
                if known.contains(&erasure.user) {
                    counts.known += 1;
                    continue;
                }
                match self.store.erase_again(*erasure).await? {
                    Reapplied::Deleted(erased) => {
                        counts.deleted += 1;
                        self.eraser.forget_left(&erased).await;
                        self.eraser.forget_records(&erased).await;
                        self.eraser.want_scrub();
                    }
                    Reapplied::Noted => counts.noted += 1,
                    Reapplied::Known => counts.known += 1,
                }
            }
        }
        Ok(counts)
    }

    /// Those of whom nothing is to be done.
    async fn known(&self, erasures: &[Erasure]) -> Result<HashSet<UserId>, StoreError> {
        let users = erasures.iter().map(|erasure| erasure.user).collect();
        Ok(self.store.known_erasures(users).await?.into_iter().collect())
    }
}
