//! Between the task that tells and the stream that a watcher reads: at most one message, which the task can take back.
//!
//! A channel would keep the message of a watcher who reads nothing for as long as the connection lasts, which may be an hour.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;
use tokio_stream::Stream;
use tonic::Status;

use crate::service::WatchPlace;

/// What the two ends share.
#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// The message was taken, or the stream dropped.
    moved: Notify,
}

#[derive(Debug)]
struct State<T> {
    message: Option<T>,
    /// Nothing comes any more, but for why.
    is_over: bool,
    why: Option<Status>,
    reader: Option<Waker>,
    is_gone: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of whoever tells.
#[derive(Debug)]
pub(super) struct Inlet<T>(Arc<Shared<T>>);

/// The stream that is read. The watcher's places are free again when it is dropped, and not before.
#[derive(Debug)]
pub(in crate::grpc) struct Outlet<T> {
    shared: Arc<Shared<T>>,
    _places: Vec<WatchPlace>,
}

/// Both ends.
pub(super) fn outlet<T>(places: Vec<WatchPlace>) -> (Inlet<T>, Outlet<T>) {
    let state = State { message: None, is_over: false, why: None, reader: None, is_gone: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), moved: Notify::new() });
    (Inlet(Arc::clone(&shared)), Outlet { shared, _places: places })
}

impl<T> Inlet<T> {
    /// Hands over a message once the one before was taken. `false`: nobody will ever take it.
    pub(super) async fn send(&self, message: T) -> bool {
        self.until(|state| state.is_gone || state.message.is_none()).await;
        let mut state = self.0.state();
        state.message = Some(message);
        let (reader, is_gone) = (state.reader.take(), state.is_gone);
        drop(state);
        wake(reader);
        !is_gone
    }

    /// Resolves when the message before was taken, or nobody will ever take it.
    pub(super) async fn taken(&self) {
        self.until(|state| state.is_gone || state.message.is_none()).await;
    }

    /// Resolves when the stream is dropped.
    pub(super) async fn closed(&self) {
        self.until(|state| state.is_gone).await;
    }

    /// Ends the stream. What was not read yet is not kept.
    pub(super) fn end(self, status: Option<Status>) {
        let mut state = self.0.state();
        (state.is_over, state.why) = (true, status);
        let (unread, reader) = (state.message.take(), state.reader.take());
        drop(state);
        drop(unread);
        wake(reader);
    }

    async fn until(&self, is_so: impl Fn(&State<T>) -> bool) {
        loop {
            let moved = self.0.moved.notified();
            tokio::pin!(moved);
            // Before the look, so that nothing comes between.
            moved.as_mut().enable();
            if is_so(&self.0.state()) {
                return;
            }
            moved.await;
        }
    }
}

impl<T> Drop for Inlet<T> {
    /// A task that fails ends its stream.
    fn drop(&mut self) {
        let mut state = self.0.state();
        if !state.is_over {
            (state.is_over, state.why) = (true, Some(Status::internal("the watch failed: watch again")));
        }
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl<T> Stream for Outlet<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.state();
        if let Some(message) = state.message.take() {
            drop(state);
            self.shared.moved.notify_waiters();
            return Poll::Ready(Some(Ok(message)));
        }
        if state.is_over {
            // Told once.
            return Poll::Ready(state.why.take().map(Err));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_gone = true;
        let unread = state.message.take();
        drop(state);
        drop(unread);
        self.shared.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn one_message_waits_and_the_next_when_it_was_taken() {
        let (inlet, mut outlet) = outlet::<u8>(Vec::new());
        assert!(inlet.send(1).await);
        assert_eq!(inlet.send(2).now_or_never(), None);
        let (sent, first) = tokio::join!(inlet.send(2), outlet.next());
        assert_eq!((sent, first.unwrap().unwrap()), (true, 1));
        assert_eq!(outlet.next().await.unwrap().unwrap(), 2);
        let (next, sent) = tokio::join!(outlet.next(), inlet.send(3));
        assert_eq!((sent, next.unwrap().unwrap()), (true, 3));
        assert!(inlet.send(4).await);
        assert_eq!(inlet.taken().now_or_never(), None);
        let (next, ()) = tokio::join!(outlet.next(), inlet.taken());
        assert_eq!(next.unwrap().unwrap(), 4);
        inlet.end(None);
        assert!(outlet.next().await.is_none());
    }

    /// Of an hour in which a watcher reads nothing.
    #[tokio::test]
    async fn what_was_not_read_is_let_go_of_at_the_end() {
        let message = Arc::new(());
        let (inlet, mut outlet) = outlet(Vec::new());
        inlet.send(Arc::clone(&message)).await;
        inlet.end(Some(Status::resource_exhausted("slow")));
        assert_eq!(Arc::strong_count(&message), 1);
        assert_eq!(outlet.next().await.unwrap().unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert!(outlet.next().await.is_none());
    }

    #[tokio::test]
    async fn both_ends_hear_that_the_other_is_gone() {
        let (inlet, mut stream) = outlet::<u8>(Vec::new());
        drop(inlet);
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), tonic::Code::Internal);
        let (inlet, stream) = outlet::<u8>(Vec::new());
        assert!(inlet.closed().now_or_never().is_none());
        tokio::join!(inlet.closed(), async { drop(stream) });
        assert!(!inlet.send(1).await);
    }
}
