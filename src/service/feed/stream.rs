//! The stream of the hot state: revocations to the other nodes, and theirs to this node.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use uuid::Uuid;

use super::Feed;
use crate::{crypto::monotonic_now, domain::revocation::FeedEntry, state::StreamPlace};

/// Pause before a stream that failed is followed again, or pushed to.
const PAUSE: Duration = Duration::from_millis(250);
/// Who has missed something for so long reads the whole stream again: it may have lost its memory, and go on before the place
/// up to which it was read.
const RETRACE: Duration = Duration::from_secs(5);

/// How far the stream of which history was followed.
struct Followed {
    incarnation: Uuid,
    place: StreamPlace,
    /// Since when something is missing, or since it was last looked for.
    missing_since: Option<Instant>,
}

impl Followed {
    fn from_the_beginning(incarnation: Uuid) -> Self {
        Self { incarnation, place: StreamPlace::beginning(), missing_since: None }
    }

    /// Begins again where something is missing for too long.
    fn look_for_missing(&mut self, misses_some: bool, now: Instant) {
        let since = misses_some.then(|| self.missing_since.unwrap_or(now));
        self.missing_since = since;
        if since.is_some_and(|since| now.saturating_duration_since(since) >= RETRACE) {
            self.place = StreamPlace::beginning();
            self.missing_since = Some(now);
        }
    }
}

impl Feed {
    /// Pushes what others may not have heard of, one after the other, each until it succeeds. The head follows at once, so that
    /// nodes without the database know what they miss while it does not.
    pub(in crate::service) async fn push_committed(&self) {
        let Some(hot) = &self.hot else { return };
        loop {
            let (incarnation, entry) = self.observer.next_to_push().await;
            let pushed = hot.push(incarnation, &entry).await;
            if pushed.is_ok() {
                self.observer.pushed(&entry);
            }
            let again = pushed.is_err();
            if let Err(error) = pushed.and(self.try_to_exchange_head().await) {
                tracing::debug!(%error, number = entry.number, again, "revocation not pushed, or the head not raised");
            }
            if again {
                sleep(PAUSE).await;
            }
        }
    }

    /// Takes in what other nodes push, as they do.
    pub(in crate::service) async fn follow_stream(&self) {
        let Some(hot) = &self.hot else { return };
        let mut followed: Option<Followed> = None;
        loop {
            let Some(position) = self.observer.progress().position() else {
                sleep(PAUSE).await;
                continue;
            };
            let mut now_followed = followed
                .take()
                .filter(|followed| followed.incarnation == position.incarnation)
                .unwrap_or_else(|| Followed::from_the_beginning(position.incarnation));
            match hot.follow(position.incarnation, &now_followed.place).await {
                Ok((entries, place)) => {
                    now_followed.place = place;
                    self.hear(position.incarnation, &entries);
                    now_followed.look_for_missing(self.observer.misses_some(), monotonic_now());
                    followed = Some(now_followed);
                }
                // Whatever answers next time may have another memory. Twice heard is no harm.
                Err(error) => {
                    tracing::trace!(%error, "stream of revocations not followed");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes in what was pushed. An entry that this program cannot read may be one that the database has.
    fn hear(&self, incarnation: Uuid, entries: &[Option<FeedEntry>]) {
        if entries.is_empty() {
            return;
        }
        let (news, gap) = self.observer.heard(incarnation, entries.iter().flatten());
        self.measure_lag(&news);
        if gap || entries.iter().any(Option::is_none) {
            self.wanted.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_read_again_once_something_is_missing_for_too_long() {
        let begun = monotonic_now();
        // Milliseconds, whether something is missing, whether it begins again.
        for steps in [
            &[(0, true, false), (4_999, true, false), (5_000, true, true), (5_001, true, false), (10_000, true, true)]
                [..],
            &[
                (0, true, false),
                (4_000, false, false),
                (5_000, true, false),
                (9_999, true, false),
                (10_000, true, true),
            ],
            &[(0, false, false), (60_000, false, false)],
        ] {
            let mut followed = Followed::from_the_beginning(Uuid::nil());
            for (millis, misses_some, again) in steps {
                followed.place = StreamPlace::after("1-0".to_owned());
                followed.look_for_missing(*misses_some, begun + Duration::from_millis(*millis));
                assert_eq!(followed.place == StreamPlace::beginning(), *again, "{millis} of {steps:?}");
            }
        }
    }
}
