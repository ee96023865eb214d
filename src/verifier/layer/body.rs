//! Bodies that end with the token they were asked for with.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;

use super::grant::{Grant, Watch};
use crate::verifier::{respond::Protocol, rule::Denied};

type BoxError = Box<dyn Error + Send + Sync>;

pin_project! {
    /// A body of a request or a response that passed [`VerifierLayer`](super::VerifierLayer).
    ///
    /// It passes on what the body inside yields for as long as the token is good. Then it drops that body and ends: a gRPC
    /// response with a status, anything else with an error, so that nobody takes what came until then for the whole.
    #[derive(Debug)]
    pub struct Guarded<B> {
        // None: it is over, or there never was one.
        #[pin]
        inner: Option<B>,
        // What to say instead of a body inside.
        text: Bytes,
        watch: Option<Watch>,
        end: End,
    }
}

/// How it ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the status in trailers: a gRPC response.
    Trailers,
    /// With the status as an error: a gRPC request, whose reader passes it on.
    Status,
    /// With the denial as an error: the connection or the stream is reset.
    Error,
}

impl<B> Guarded<B> {
    /// What the caller sends.
    pub(super) fn request(inner: B, protocol: Protocol, grant: Option<Grant>) -> Self {
        let end = if protocol == Protocol::Grpc { End::Status } else { End::Error };
        Self { inner: Some(inner), text: Bytes::new(), watch: grant.map(Watch::request), end }
    }

    /// What the caller gets.
    pub(super) fn response(inner: B, protocol: Protocol, grant: Option<Grant>) -> Self {
        let end = if protocol == Protocol::Grpc { End::Trailers } else { End::Error };
        Self { inner: Some(inner), text: Bytes::new(), watch: grant.map(Watch::response), end }
    }

    /// A text of our own.
    pub(super) fn text(text: Bytes) -> Self {
        Self { inner: None, text, watch: None, end: End::Error }
    }
}

impl End {
    fn frame(self, denied: Denied) -> Result<Frame<Bytes>, BoxError> {
        match self {
            Self::Trailers => {
                let mut trailers = HeaderMap::new();
                Status::from(denied).add_header(&mut trailers)?;
                Ok(Frame::trailers(trailers))
            }
            Self::Status => Err(Status::from(denied).into()),
            Self::Error => Err(denied.into()),
        }
    }
}

impl<B> Body for Guarded<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if !this.text.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(this.text)))));
        }
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let polled = inner.poll_frame(cx);
        let denied = match (&polled, this.watch.as_mut()) {
            (Poll::Pending, Some(watch)) => watch.poll_ended(cx),
            (Poll::Ready(Some(Ok(frame))), Some(watch)) if frame.is_data() => watch.check(),
            // Trailers, an error or the end: nothing is left to withhold.
            (Poll::Ready(_), Some(_)) | (_, None) => None,
        };
        match denied {
            None => polled.map_err(Into::into),
            Some(denied) => {
                // At once, so that whoever fills it notices.
                this.inner.set(None);
                *this.watch = None;
                Poll::Ready(Some(this.end.frame(denied)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            None => SizeHint::with_exact(self.text.len() as u64),
            // Announced as so long it could not end with a status before.
            Some(inner) if self.watch.is_some() && self.end == End::Trailers => {
                let mut hint = SizeHint::new();
                if let Some(upper) = inner.size_hint().upper() {
                    hint.set_upper(upper);
                }
                hint
            }
            // Cut short it is shorter than announced, which tells the reader that it was.
            Some(inner) => inner.size_hint(),
        }
    }
}
