//! The sending of messages: each node takes what is due, under leases, and hands it over.
//!
//! Whoever waits for a provider waits here and nowhere else: the calls that put messages in have ended by then.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use super::Service;
use crate::{
    domain::{secret::random, time::Timestamp},
    notify::{DELIVERY_LIMIT, Failure, LONGEST_PAUSE, next_attempt},
    store::{
        StoreError,
        port::{Claim, DueMessage},
    },
    telemetry::{MessageChannel, MessageOutcome},
};

/// How often the outbox is looked at without being asked: for messages of other nodes, and for those that are tried again.
const INTERVAL: Duration = Duration::from_secs(1);
/// Most messages of a channel that are on their way from this node at once.
const AT_ONCE: usize = 8;
/// How long a message is its taker's. A node that dies leaves its messages to the others after this long.
const LEASE: Duration = Duration::from_mins(3);
/// Longest that the database may take for a transaction.
const TRANSACTION: Duration = Duration::from_secs(40);
// The lease begins before the message is given away, and holds until it was delivered and somebody has tried to record that.
const _: () = assert!(TRANSACTION.as_secs() * 2 + DELIVERY_LIMIT.as_secs() < LEASE.as_secs());
/// How often, and after which pause, it is tried to record what became of a message. A try after the lease finds that it is another's.
const RECORD_TRIES: u32 = 4;
const RECORD_PAUSE: Duration = Duration::from_secs(2);
/// A message that may have arrived so many times is not sent again: a mail server that never answers in time would deliver it
/// each half hour for two days.
const MOST_DOUBTS: u32 = 3;
/// What stands behind an error, with how often the message may have arrived by then. Errors are our own words: nobody else writes it.
const DOUBTS: &str = ", may have arrived: ";
/// How long messages that were given up are kept for the operator.
const DEAD_RETENTION: Duration = Duration::from_hours(30 * 24);
/// Up to which number the messages that are due are counted.
const COUNTED: u32 = 1_000;

/// How often a message may have arrived already, by what is known of its last attempt.
fn doubts(last_error: &str) -> u32 {
    last_error.rsplit_once(DOUBTS).and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// An error, with how often the message may have arrived.
fn with_doubts(error: String, doubts: u32) -> String {
    if doubts == 0 { error } else { format!("{error}{DOUBTS}{doubts}") }
}

impl MessageChannel {
    /// The words in the database of what a node takes that sends by this channel, or does not: then what is there is for others that
    /// do, as in a change of settings from node to node. A message to nobody takes the way of e-mail, and ends before it.
    const fn words(self, is_on: bool) -> &'static [&'static str] {
        match (self, is_on) {
            (Self::Email, true) => &["email", "none"],
            (Self::Email, false) => &["none"],
            (Self::Sms, true) => &["sms"],
            (Self::Sms, false) => &[],
        }
    }
}

impl Service {
    pub(super) async fn send_email(self: Arc<Self>) {
        self.send(MessageChannel::Email).await;
    }

    pub(super) async fn send_sms(self: Arc<Self>) {
        self.send(MessageChannel::Sms).await;
    }

    fn words(&self, channel: MessageChannel) -> &'static [&'static str] {
        channel.words(match channel {
            MessageChannel::Email => self.policy.sends_email,
            MessageChannel::Sms => self.policy.sends_sms,
        })
    }

    /// Sends what comes, for ever. A provider that hangs takes up the slots of its own channel and nothing else.
    async fn send(self: Arc<Self>, channel: MessageChannel) {
        let words = self.words(channel);
        if words.is_empty() {
            return;
        }
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut enqueued = self.feed.observer().enqueuings();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // The sender lives as long as the service.
                _ = enqueued.changed() => {}
            }
            match self.send_due(channel, &slots).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, channel = ?channel, "outbox not readable");
                }
                Err(error) => tracing::debug!(%error, channel = ?channel, "outbox not readable"),
            }
        }
    }

    /// Takes messages, as many as there are slots, until none is due. To look costs a read; only what is there is taken by a write.
    async fn send_due(self: &Arc<Self>, channel: MessageChannel, slots: &Arc<Semaphore>) -> Result<(), StoreError> {
        loop {
            let due = self.store.due_messages(self.words(channel), COUNTED).await?;
            self.metrics.messages_due(channel, due);
            if due == 0 {
                return Ok(());
            }
            let mut free = Vec::new();
            // At least one, and whatever more there is.
            free.extend(Arc::clone(slots).acquire_owned().await);
            free.extend(std::iter::from_fn(|| Arc::clone(slots).try_acquire_owned().ok()));
            // In a task of its own, as each delivery: what was taken is also sent when the background is stopped, and a message that
            // is half sent would be sent twice.
            let taking = self.deliveries.spawn(Arc::clone(self).take(channel, free));
            let taken = taking.await.map_err(|gone| StoreError::Internal(gone.into()))??;
            if taken == 0 {
                // Other nodes were faster.
                return Ok(());
            }
        }
    }

    /// Takes a message for each of these slots and sends it; how many there were.
    async fn take(
        self: Arc<Self>,
        channel: MessageChannel,
        free: Vec<OwnedSemaphorePermit>,
    ) -> Result<usize, StoreError> {
        let lease = uuid::Builder::from_random_bytes(random(&*self.entropy)).into_uuid();
        let claim = Claim {
            lease,
            until: self.clock.now().plus(LEASE),
            channels: self.words(channel),
            limit: u32::try_from(free.len()).unwrap_or(1),
        };
        let taken = match self.store.claim_messages(claim).await {
            Ok(taken) => taken,
            Err(error) => {
                self.deliveries.spawn(Arc::clone(&self).release(lease));
                return Err(error);
            }
        };
        let number = taken.len();
        for (message, slot) in taken.into_iter().zip(free) {
            let service = Arc::clone(&self);
            self.deliveries.spawn(async move { service.deliver(channel, message, lease, slot).await });
        }
        Ok(number)
    }

    /// Gives back what was taken by a transaction of which nobody knows whether it was committed: no code shall wait for the end of a lease
    /// that nobody has.
    async fn release(self: Arc<Self>, lease: Uuid) {
        for _ in 0..RECORD_TRIES {
            match self.store.release_messages(lease).await {
                Ok(released) => return tracing::debug!(released, "messages given back that nobody had"),
                Err(error) => tracing::debug!(%error, "messages not given back yet"),
            }
            sleep(RECORD_PAUSE).await;
        }
    }

    async fn deliver(&self, channel: MessageChannel, due: DueMessage, lease: Uuid, slot: OwnedSemaphorePermit) {
        let outcome = match self.open_message(due.id, &due.sealed) {
            Ok(message) => self.notifier.deliver(due.id, &message, due.expire_time, self.clock.now()).await,
            // Of another master key, perhaps, or of a newer version: there may be a node that knows it.
            Err(problem) => Err(Failure::Temporary(format!("it cannot be opened: {problem}"))),
        };
        let is_nobody_s = due.channel == "none";
        let counted = self.record(&due, lease, outcome).await;
        if let (Some(outcome), false) = (counted, is_nobody_s) {
            self.metrics.message(channel, outcome);
        }
        drop(slot);
    }

    /// What an attempt comes to: how it is counted, when the next one is, and what is written down of it.
    fn judge(&self, due: &DueMessage, outcome: Result<(), Failure>) -> (MessageOutcome, Option<Timestamp>, String) {
        let before = doubts(&due.last_error);
        let error = match outcome {
            Ok(()) => return (MessageOutcome::Sent, None, String::new()),
            Err(Failure::Permanent(error)) => return (MessageOutcome::Dead, None, with_doubts(error, before)),
            Err(Failure::Doubtful(error)) if before + 1 >= MOST_DOUBTS => {
                let error =
                    format!("{error} after the whole message was sent: it may have arrived, also more than once");
                return (MessageOutcome::Dead, None, error);
            }
            Err(Failure::Doubtful(error)) => with_doubts(error, before + 1),
            Err(Failure::Temporary(error)) => with_doubts(error, before),
        };
        let spread = u16::from_le_bytes(random(&*self.entropy));
        match next_attempt(due.attempts, self.clock.now(), due.expire_time, spread) {
            Some(due_time) => (MessageOutcome::Postponed, Some(due_time), error),
            None => (MessageOutcome::Dead, None, error),
        }
    }

    /// Records what became of an attempt; `None` if it was not to be recorded. Then the message is sent again when its lease has
    /// ended, with the same id.
    async fn record(&self, due: &DueMessage, lease: Uuid, outcome: Result<(), Failure>) -> Option<MessageOutcome> {
        let DueMessage { id, channel, attempts, .. } = due;
        let (counted, due_time, error) = self.judge(due, outcome);
        match counted {
            MessageOutcome::Dead => tracing::warn!(%id, %channel, attempts, error, "message given up"),
            MessageOutcome::Postponed => tracing::info!(%id, %channel, attempts, error, "message not delivered yet"),
            MessageOutcome::Sent | MessageOutcome::Expired => tracing::debug!(%id, %channel, attempts, "message sent"),
        }
        for tried in 1..=RECORD_TRIES {
            let recorded = match (counted, due_time) {
                (MessageOutcome::Postponed, Some(due_time)) => {
                    self.store.postpone_message(*id, lease, due_time, error.clone()).await
                }
                (MessageOutcome::Dead, _) => self.store.bury_message(*id, lease, error.clone()).await,
                _ => self.store.finish_message(*id, lease).await,
            };
            match recorded {
                Ok(true) => return Some(counted),
                Ok(false) => {
                    // Its user was deleted meanwhile, or the database was away for longer than the lease: whoever has it now says what
                    // became of it. But it is true that it was sent.
                    tracing::debug!(%id, %channel, "message gone, or taken by another node");
                    return (counted == MessageOutcome::Sent).then_some(counted);
                }
                Err(error) if tried == RECORD_TRIES => {
                    tracing::warn!(%error, %id, %channel, "what became of a message is not recorded: it may be sent again");
                }
                Err(_) => sleep(RECORD_PAUSE).await,
            }
        }
        None
    }

    /// Deletes what is of no use any more; how many dead ones. Before that, what a clock that was ahead has put off becomes due.
    pub(super) async fn purge_messages(&self) -> Result<u64, StoreError> {
        self.store.correct_messages(LEASE, LONGEST_PAUSE).await?;
        let purged = self.store.purge_messages(self.clock.now().minus(DEAD_RETENTION)).await?;
        for channel in &purged.expired {
            match channel.as_str() {
                "email" => self.metrics.message(MessageChannel::Email, MessageOutcome::Expired),
                "sms" => self.metrics.message(MessageChannel::Sms, MessageOutcome::Expired),
                _ => {}
            }
        }
        let expired = purged.expired.iter().filter(|channel| *channel != "none").count();
        if expired > 0 {
            tracing::warn!(expired, "messages were not sent while they were of use");
        }
        Ok(purged.dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_counted_over_what_else_fails() {
        assert_eq!(doubts(""), 0);
        assert_eq!(doubts("no answer within 60 s"), 0);
        let first = with_doubts("no answer within 60 s".into(), 1);
        assert_eq!(first, "no answer within 60 s, may have arrived: 1");
        assert_eq!(doubts(&with_doubts("no connection".into(), doubts(&first))), 1);
        assert_eq!(with_doubts("no connection".into(), 0), "no connection");
    }
}
