//! What the stream of revocations may say, by an issuer that says what a test wants.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use prost_types::Timestamp;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, transport::Server};
use vouchsafe::{
    domain::{id::SessionId, signing_key::Algorithm, time},
    jose::SigningKeyPair,
    pb::v1::{
        self, WatchRevocationsResponse,
        revocation::Revoked,
        verifier_service_server::{VerifierService, VerifierServiceServer},
    },
    verifier::Verifier,
};

use super::{ISSUER, builder, until};

type Responses = UnboundedSender<Result<WatchRevocationsResponse, Status>>;

/// A stream that a verifier has opened.
struct Opened {
    /// Where it wants to go on.
    cursor: String,
    say: Responses,
}

/// The issuer.
struct Script {
    address: SocketAddr,
    opened: UnboundedReceiver<Opened>,
    keys: Arc<Mutex<Vec<v1::VerificationKey>>>,
}

struct Handler {
    opened: UnboundedSender<Opened>,
    keys: Arc<Mutex<Vec<v1::VerificationKey>>>,
}

#[tonic::async_trait]
impl VerifierService for Handler {
    async fn get_verification_keys(
        &self,
        _: Request<v1::GetVerificationKeysRequest>,
    ) -> Result<Response<v1::GetVerificationKeysResponse>, Status> {
        let keys = self.keys.lock().unwrap().clone();
        Ok(Response::new(v1::GetVerificationKeysResponse { issuer: ISSUER.into(), keys }))
    }

    type WatchRevocationsStream = UnboundedReceiverStream<Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        request: Request<v1::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let (say, said) = mpsc::unbounded_channel();
        let cursor = request.into_inner().cursor;
        self.opened.send(Opened { cursor, say }).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(said.into()))
    }
}

fn key() -> v1::VerificationKey {
    let key = SigningKeyPair::generate(Algorithm::Es256).unwrap().public_key().clone();
    let (key_id, jwk) = (key.kid().to_owned(), key.to_jwk().to_string());
    v1::VerificationKey { key_id, algorithm: "ES256".into(), jwk, ..Default::default() }
}

impl Script {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keys = Arc::new(Mutex::new(vec![key()]));
        let (sender, opened) = mpsc::unbounded_channel();
        let handler = Handler { opened: sender, keys: Arc::clone(&keys) };
        let serving = Server::builder()
            .add_service(VerifierServiceServer::new(handler))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Self { address, opened, keys }
    }

    async fn verifier(&self) -> Verifier {
        let builder = builder(self.address).max_staleness(Duration::from_secs(3));
        builder.start_timeout(Duration::ZERO).start().await.unwrap()
    }

    async fn opened(&mut self) -> Opened {
        tokio::time::timeout(Duration::from_mins(1), self.opened.recv()).await.expect("no stream is opened").unwrap()
    }
}

/// The issuer's clock, a day ahead of everybody's.
#[allow(clippy::disallowed_methods)]
fn now() -> Timestamp {
    Timestamp::from(SystemTime::now() + Duration::from_hours(24))
}

fn session(number: u8) -> v1::Revocation {
    let id = SessionId::new(time::Timestamp::from_seconds(1_700_000_000), &[number; 10]);
    v1::Revocation { revoked: Some(Revoked::SessionId(id.to_string())), expire_time: Some(now()) }
}

/// The list is complete now.
#[allow(clippy::unnecessary_wraps, clippy::result_large_err)]
fn complete(cursor: &str, revocations: Vec<v1::Revocation>) -> Result<WatchRevocationsResponse, Status> {
    let now = Some(now());
    Ok(WatchRevocationsResponse { revocations, cursor: cursor.into(), complete_time: now, server_time: now })
}

/// More follows.
#[allow(clippy::unnecessary_wraps, clippy::result_large_err)]
fn piece(revocations: Vec<v1::Revocation>) -> Result<WatchRevocationsResponse, Status> {
    Ok(WatchRevocationsResponse { revocations, server_time: Some(now()), ..Default::default() })
}

#[tokio::test]
async fn a_list_counts_once_it_is_complete_and_goes_on_where_it_ended() {
    let mut script = Script::start().await;
    let verifier = script.verifier().await;
    let Opened { cursor, say } = script.opened().await;
    assert_eq!(cursor, "");
    for number in 0..3 {
        say.send(piece(vec![session(number)])).unwrap();
    }
    until("the beginning is there", async || verifier.revocations().len() == 3).await;
    assert!(!verifier.is_ready() && verifier.staleness() == Duration::MAX);
    say.send(complete("c1", vec![session(3)])).unwrap();
    verifier.ready().await;
    assert_eq!(verifier.revocations().len(), 4);
    // Ended, and the next one in the middle of a piece: what was taken in is kept, and asked for again.
    drop(say);
    let Opened { cursor, say } = script.opened().await;
    assert_eq!(cursor, "c1");
    say.send(piece(vec![session(4)])).unwrap();
    say.send(Err(Status::unavailable("the node stops"))).unwrap();
    let Opened { cursor, say } = script.opened().await;
    assert_eq!((cursor.as_str(), verifier.revocations().len()), ("c1", 5));
    say.send(complete("c2", vec![session(4), session(5)])).unwrap();
    until("it is taken in", async || verifier.revocations().len() == 6).await;
    drop(say);
    assert_eq!(script.opened().await.cursor, "c2");
}

#[tokio::test]
async fn what_is_not_understood_makes_the_list_stale() {
    let mut script = Script::start().await;
    let verifier = script.verifier().await;
    let first = script.opened().await;
    first.say.send(complete("c1", vec![session(0)])).unwrap();
    verifier.ready().await;
    let unknown = v1::Revocation { revoked: None, expire_time: Some(now()) };
    first.say.send(complete("c2", vec![unknown.clone(), session(1)])).unwrap();
    until("it is stale whatever else is said", async || {
        first.say.send(complete("c3", vec![])).unwrap();
        !verifier.is_ready()
    })
    .await;
    assert_eq!(verifier.revocations().len(), 2, "what is understood is taken");
    assert_eq!(verifier.metrics().revocations_not_understood, 1);
    drop(first);
    let again = script.opened().await;
    assert_eq!(again.cursor, "c1", "from before what was not understood");
    // Perhaps it is no more of consequence, or another node says it in other words.
    again.say.send(complete("c4", vec![])).unwrap();
    verifier.ready().await;
    let malformed = v1::Revocation { revoked: Some(Revoked::SessionId("x".into())), expire_time: Some(now()) };
    again.say.send(complete("c5", vec![malformed])).unwrap();
    until("it counts as not understood", async || verifier.metrics().revocations_not_understood == 2).await;
    drop(again);
    assert_eq!(script.opened().await.cursor, "c4");
}

#[tokio::test]
async fn messages_that_bring_nothing_new_do_not_keep_a_list_fresh() {
    let mut script = Script::start().await;
    let verifier = script.verifier().await;
    let Opened { say, .. } = script.opened().await;
    // Heartbeats from a buffer: they arrive now, and were sent then.
    let old = complete("c1", vec![]);
    say.send(old.clone()).unwrap();
    verifier.ready().await;
    until("it is stale", async || {
        // The stream is given up some seconds later.
        let _ = say.send(old.clone());
        !verifier.is_ready()
    })
    .await;
    let again = script.opened().await;
    assert_eq!(again.cursor, "c1");
    again.say.send(complete("c2", vec![])).unwrap();
    verifier.ready().await;
    // A node that says nothing at all is left as well.
    assert_eq!(script.opened().await.cursor, "c2");
}

#[tokio::test]
async fn a_bad_set_of_keys_does_not_replace_a_good_one() {
    let mut script = Script::start().await;
    let verifier = script.verifier().await;
    let Opened { say, .. } = script.opened().await;
    say.send(complete("c1", vec![])).unwrap();
    verifier.ready().await;
    let good = script.keys.lock().unwrap().clone();
    let broken = v1::VerificationKey { jwk: "{}".into(), ..key() };
    let changed = v1::Revocation { revoked: Some(Revoked::KeySetChange(v1::KeySetChange {})), expire_time: None };
    for bad in [vec![], vec![broken.clone()], [&good[..], &[broken]].concat()] {
        let failed = verifier.metrics().key_fetches_failed;
        script.keys.lock().unwrap().clone_from(&bad);
        say.send(complete("c1", vec![changed.clone()])).unwrap();
        until("it is refused", async || verifier.metrics().key_fetches_failed > failed).await;
        assert_eq!(verifier.metrics().keys, 1);
    }
    script.keys.lock().unwrap().clone_from(&[&good[..], &[key()]].concat());
    until("a good one is taken", async || verifier.metrics().keys == 2).await;
}
