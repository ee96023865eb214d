//! The stream of the hot state: this node's revocations to the others, and theirs to this node.

use std::time::Duration;

use tokio::time::sleep;

use super::Feed;

/// Pause before a stream that failed is followed again.
const PAUSE: Duration = Duration::from_millis(250);

impl Feed {
    /// Pushes what this node commits, as it does. The head follows at once, so that nodes without the database know what they
    /// missed if a push fails.
    pub(in crate::service) async fn push_committed(&self) {
        loop {
            let entry = self.observer.next_committed().await;
            let (Some(hot), Some(position)) = (&self.hot, self.observer.progress().position()) else { continue };
            let pushed = hot.push(position.incarnation, &entry).await;
            if let Err(error) = pushed.and(self.exchange_head().await) {
                tracing::debug!(%error, number = entry.number, "revocation not pushed, the others read it");
            }
        }
    }

    /// Takes in what other nodes push, as they do.
    pub(in crate::service) async fn follow_stream(&self) {
        let mut heard = None;
        loop {
            let (Some(hot), Some(position)) = (&self.hot, self.observer.progress().position()) else {
                sleep(PAUSE).await;
                continue;
            };
            // What was heard beyond a gap need not be heard again.
            let after = match heard {
                Some((incarnation, number)) if incarnation == position.incarnation => position.number.max(number),
                _ => position.number,
            };
            match hot.follow(position.incarnation, after).await {
                Ok(entries) => {
                    if let Some((number, _)) = entries.last() {
                        heard = Some((position.incarnation, *number));
                    }
                    // An entry that this program cannot read leaves a gap, which the database fills.
                    let (news, gap) = self.observer.heard(entries.iter().filter_map(|(_, entry)| entry.as_ref()));
                    self.measure_lag(&news);
                    if gap || entries.iter().any(|(_, entry)| entry.is_none()) {
                        self.wanted.notify_one();
                    }
                }
                Err(error) => {
                    tracing::trace!(%error, "stream of revocations not followed");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}
