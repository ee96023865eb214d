//! What a newcomer says first, by which it is known what it speaks.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
pub(super) const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a request's head in HTTP/1.1, as many as in HTTP/2.
pub(in crate::grpc) const MAX_HEAD: usize = 16 * 1024;
/// What a head ends with: an empty line. The parser takes LF for CRLF (RFC 9112 §2.2), so what it takes for the end is one here.
const ENDS: [&[u8]; 2] = [b"\n\r\n", b"\n\n"];

/// What was read, for the server to read it again.
pub(super) enum Greeting {
    /// The preface of HTTP/2.
    Http2(Bytes),
    /// The head of a request in HTTP/1.1, or as much as a head may have, and maybe more behind it.
    Http1(Bytes),
}

impl Greeting {
    /// Reads until it is clear what the peer speaks. `None` if it has gone, or speaks nothing that is spoken here. Unbounded in time:
    /// whoever calls bounds it.
    ///
    /// A head in HTTP/1.1 is waited for to its end. Whoever sends it slowly is a newcomer for as long, and takes no place. Nobody
    /// begins with an empty line, which the parser would skip: it could be taken for the end of a head.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), http1: bool) -> Option<Self> {
        let mut said = BytesMut::with_capacity(PREFACE.len());
        loop {
            let before = said.len();
            let so_far_http2 = PREFACE.starts_with(&said);
            // Not a byte behind the preface: it would have to be kept.
            let most = (if so_far_http2 { PREFACE.len() } else { MAX_HEAD }) - before;
            let read = (&mut *stream).take(u64::try_from(most).ok()?).read_buf(&mut said).await.ok()?;
            if read == 0 {
                return None;
            }
            if PREFACE.starts_with(&said) {
                if said.len() == PREFACE.len() {
                    return Some(Self::Http2(Bytes::from_static(&PREFACE)));
                }
            } else if !http1 || b"\r\n".contains(&said[0]) {
                return None;
            } else if said.len() >= MAX_HEAD || has_end(&said, if so_far_http2 { 0 } else { before }) {
                return Some(Self::Http1(said.freeze()));
            }
        }
    }
}

/// Whether a head ends in what was said, which it did not in the part before this place.
fn has_end(said: &[u8], before: usize) -> bool {
    let new = &said[before.saturating_sub(2)..];
    ENDS.iter().any(|end| new.windows(end.len()).any(|window| window == *end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of this, sent in pieces of so many bytes. What is left unread comes with it.
    async fn greeting(sent: &[u8], piece: usize, http1: bool) -> (Option<Greeting>, Vec<u8>) {
        let mut stream = in_pieces(sent, piece);
        let greeting = Greeting::read(&mut stream, http1).await;
        let mut left = Vec::new();
        stream.read_to_end(&mut left).await.unwrap();
        (greeting, left)
    }

    /// Gives a few bytes at a time.
    fn in_pieces(sent: &[u8], piece: usize) -> impl AsyncRead + Unpin {
        let (mut ours, theirs) = tokio::io::duplex(piece);
        let sent = sent.to_vec();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            // Whoever has heard enough hangs up.
            let _ = ours.write_all(&sent).await;
        });
        theirs
    }

    const HEAD: &[u8] = b"POST /x HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test]
    async fn it_is_clear_what_a_peer_speaks_however_it_is_cut() {
        for piece in [1, 3, 4, 5, 7, 1000] {
            for http1 in [false, true] {
                let (said, left) = greeting(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more", piece, http1).await;
                assert!(matches!(said, Some(Greeting::Http2(said)) if said[..] == PREFACE), "{piece}");
                assert_eq!(left, b"and more");
            }
            let (said, left) = greeting(&[HEAD, b"body"].concat(), piece, true).await;
            let Some(Greeting::Http1(said)) = said else { panic!("{piece}") };
            assert!(said.starts_with(HEAD));
            assert_eq!([&said[..], &left].concat(), [HEAD, b"body"].concat());
            for (head, rest) in [
                (&b"GET / HTTP/1.1\nhost: a\n\n"[..], &b"body"[..]),
                (b"GET / HTTP/1.1\r\nhost: a\r\n\n", b"body"),
                (b"GET / HTTP/1.1\nhost: a\n\r\n", b"body"),
                // Like HTTP/2 for longer than it takes to end.
                (b"PRI * HTTP/2.0\r\n\r\n", b"X"),
            ] {
                let (said, left) = greeting(&[head, rest].concat(), piece, true).await;
                let Some(Greeting::Http1(said)) = said else { panic!("{piece} {head:?}") };
                assert_eq!([&said[..], &left].concat(), [head, rest].concat());
            }
            let (said, _) = greeting(HEAD, piece, false).await;
            assert!(said.is_none(), "HTTP/1.1 is not spoken where no page may call");
        }
    }

    #[tokio::test]
    async fn what_has_no_end_is_handed_on_when_it_is_too_long_and_not_before() {
        let long = [&b"POST /x HTTP/1.1\r\na: "[..], &b"a".repeat(2 * MAX_HEAD)].concat();
        let (said, left) = greeting(&long, 1000, true).await;
        assert!(matches!(said, Some(Greeting::Http1(said)) if said.len() == MAX_HEAD));
        assert_eq!(left.len(), long.len() - MAX_HEAD);
        for empty in [&b"\r\n\r\n"[..], b"\n\n", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
            assert!(greeting(empty, 5, true).await.0.is_none(), "{empty:?}");
        }
        for cut in [&HEAD[..HEAD.len() - 1], b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"PRI * HTTP/1.1\r\n\r"] {
            assert!(greeting(cut, 5, true).await.0.is_none(), "{cut:?}");
        }
    }
}
