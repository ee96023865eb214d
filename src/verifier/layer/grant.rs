//! On what grounds a call goes on: who calls, by which rule.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::verifier::{
    embedded::Verifier,
    principal::Principal,
    rule::{Denied, Rule},
};

/// Somebody was let through, and goes on as long as the token is good.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) verifier: Verifier,
    pub(super) principal: Principal,
    pub(super) rule: Arc<Rule>,
}

impl Grant {
    /// Resolves when it is over.
    pub(super) async fn ended(&self) -> Denied {
        self.verifier.ended(&self.principal, &self.rule).await
    }
}

/// Watches a grant while frames of a body pass.
pub(super) struct Watch {
    grant: Grant,
    /// Only while the body keeps us waiting: what ends at once needs no alarm.
    alarm: Option<Pin<Box<dyn Future<Output = Denied> + Send>>>,
    /// Whether the next frame passes unseen: the first of a response that is there at once belongs to what was admitted just now,
    /// also if the call itself has ended the session.
    spares_next: bool,
}

impl Watch {
    /// Of a request's body: a task that was left behind may read it long after the call was let through.
    pub(super) fn request(grant: Grant) -> Self {
        Self { grant, alarm: None, spares_next: false }
    }

    /// Of a response's body.
    pub(super) fn response(grant: Grant) -> Self {
        Self { grant, alarm: None, spares_next: true }
    }

    /// Asked before a frame passes: whether none may any more.
    pub(super) fn check(&mut self) -> Option<Denied> {
        if std::mem::take(&mut self.spares_next) {
            return None;
        }
        self.grant.verifier.recheck(&self.grant.principal, &self.grant.rule).err()
    }

    /// Asked when there is no frame: wakes the task when none may pass any more.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Option<Denied> {
        self.spares_next = false;
        let alarm = self.alarm.get_or_insert_with(|| {
            let grant = self.grant.clone();
            Box::pin(async move { grant.ended().await })
        });
        match alarm.as_mut().poll(cx) {
            Poll::Ready(denied) => Some(denied),
            Poll::Pending => None,
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("principal", &self.grant.principal).finish_non_exhaustive()
    }
}
