//! What was guessed, and what was sent, by keyed hashes of at what and to whom.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    domain::throttle::{Rate, Steps},
    store::StoreError,
};

/// A keyed hash of what is counted.
pub type ThrottleKey = [u8; 32];

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It may, and is counted as a failure from now on.
    Reserved,
    /// Not now, but after this time.
    Wait(Duration),
}

/// Whose budgets a message comes out of.
#[derive(Clone, Copy, Debug)]
pub struct MessageBudgets {
    /// Who was asked for.
    pub asked_for: ThrottleKey,
    /// Whom it goes to; of nobody, something that stands for them.
    pub recipient: ThrottleKey,
    /// What either of them may have.
    pub each: Rate,
    /// Everybody's.
    pub overall: ThrottleKey,
    /// What all may have.
    pub all: Rate,
}

/// Whether there is a budget for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// There was; it is spent.
    Spent,
    /// Not its recipient's. The others are spent.
    RecipientSpent,
    /// Not that of who was asked for, or everybody's. Nothing was spent; after this time there may be.
    Wait(Duration),
}

/// Counters that no flush and no restart sets back, and on which all nodes count together.
#[async_trait]
pub trait ThrottleStore: Send + Sync + 'static {
    /// Counts an attempt as a failure, if the waits of `steps` allow one now: in one statement, so that of many at once no more are
    /// let through than one after the other would be.
    async fn reserve_attempt(&self, key: ThrottleKey, steps: Steps) -> Result<Attempt, StoreError>;

    /// Gives back an attempt that was reserved and of which nobody knows whether it would have failed. Without any other nothing is left
    /// of it.
    async fn give_back_attempt(&self, key: ThrottleKey) -> Result<(), StoreError>;

    /// Counts a failure for which nothing was reserved.
    async fn count_failure(&self, key: ThrottleKey) -> Result<(), StoreError>;

    /// How long the next attempt has to wait, by what was counted; `None` if nothing was.
    async fn counted_wait(&self, key: ThrottleKey, steps: Steps) -> Result<Option<Duration>, StoreError>;

    /// Forgets the failures of all of these.
    async fn forget_failures(&self, keys: Vec<ThrottleKey>) -> Result<(), StoreError>;

    /// Spends what a message takes. As many statements whoever it goes to.
    async fn spend_message(&self, budgets: MessageBudgets) -> Result<Spending, StoreError>;

    /// Forgets failures that are long ago and budgets that are full again, and pulls moments that lie ahead, of a clock that was wrong,
    /// back to now. How many rows went.
    async fn purge_throttles(&self) -> Result<u64, StoreError>;
}
