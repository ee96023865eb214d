//! Writes that wait for each other: all answers that are ready at once go out at once.
//!
//! Left to itself HTTP/2 sends every answer when it is there, the trailers by themselves if the message is not short: two system
//! calls, two segments, and a caller who is woken twice. So what is to be flushed waits until the tasks that are ready to run
//! have had their turn. Where there are none, it does not wait.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::yield_now,
};

/// Written out before more is taken: the peer is slow, or the answers are long.
const LIMIT: usize = 32 * 1024;

/// A stream whose writes are gathered.
pub(super) struct Gathering<S> {
    stream: S,
    gathered: Vec<u8>,
    /// How much of it the stream has taken.
    sent: usize,
    /// Whether the others have had their turn.
    waited: bool,
    /// Whether nobody waits for the others.
    at_once: bool,
}

impl<S> Gathering<S> {
    /// Gathers what is written to `stream`.
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, gathered: Vec::new(), sent: 0, waited: false, at_once: false }
    }

    /// Gathers until the next flush, and no longer. HTTP/1.1 has one answer at a time, and writes it together by itself; nor does it
    /// always wait for the end of a flush before it lets a connection go.
    pub(super) fn at_once(stream: S) -> Self {
        let mut gathering = Self::new(stream);
        gathering.at_once = true;
        gathering
    }

    /// The stream itself.
    pub(super) const fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        // The memory goes back: most connections are idle most of the time.
        (self.gathered, self.sent, self.waited) = (Vec::new(), 0, false);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= LIMIT {
            ready!(self.poll_send(cx))?;
        }
        let taken = buf.len().min(LIMIT);
        self.gathered.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Not: HTTP/2 then copies messages up to a kilobyte together with what is around them.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() && !self.waited && !self.at_once {
            self.waited = true;
            // Asked once, it wakes this task after all that are ready now. Any other event of the connection does as well.
            ready!(pin!(yield_now()).poll(cx));
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// What arrives at the other end with the next read.
    async fn arriving(peer: &mut (impl AsyncRead + Unpin)) -> usize {
        peer.read(&mut vec![0; 4 * LIMIT]).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_ready_at_once_goes_out_at_once() {
        let (stream, mut peer) = duplex(4 * LIMIT);
        let mut stream = Gathering::new(stream);
        let writer = async {
            stream.write_all(b"headers").await.unwrap();
            // The first flush lets others run; whoever writes meanwhile comes along.
            let mut waiting = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_flush(cx))).await;
            assert!(waiting.is_pending());
            stream.write_all(b"trailers").await.unwrap();
            waiting = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_flush(cx))).await;
            assert!(waiting.is_ready());
        };
        let (read, ()) = tokio::join!(arriving(&mut peer), writer);
        assert_eq!(read, "headerstrailers".len());
    }

    #[tokio::test]
    async fn where_nobody_waits_a_flush_sends() {
        let (stream, mut peer) = duplex(LIMIT);
        let mut stream = Gathering::at_once(stream);
        stream.write_all(b"answer").await.unwrap();
        let flushed = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_flush(cx))).await;
        assert!(flushed.is_ready());
        assert_eq!(arriving(&mut peer).await, "answer".len());
    }

    #[tokio::test]
    async fn a_slow_peer_holds_up_its_writer_and_loses_nothing() {
        let (stream, mut peer) = duplex(100);
        let mut stream = Gathering::new(stream);
        let sent: Vec<u8> = (0..=255).cycle().take(10 * LIMIT + 7).collect();
        let writer = async {
            let mut taken = 0;
            // As much as fits and not more, while nobody reads.
            while let Poll::Ready(written) =
                std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &sent[taken..]))).await
            {
                taken += written.unwrap();
            }
            assert!((LIMIT..=2 * LIMIT).contains(&taken), "{taken}");
            taken
        };
        let taken = writer.await;
        let mut arrived = Vec::new();
        let rest = async {
            stream.write_all(&sent[taken..]).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        tokio::join!(async { peer.read_to_end(&mut arrived).await.unwrap() }, rest);
        assert_eq!(arrived, sent);
    }
}
