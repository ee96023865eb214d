//! Callers who give up: their calls end with RST_STREAM a moment after they were sent.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use h2::{
    Reason,
    client::{ResponseFuture, SendRequest},
};
use hyper::body::Bytes;
use prost::Message;
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tonic::Code;
use vouchsafe::pb::v1::{self, TokenPair};

use super::{client::generation, harness::BOUND};
use crate::support::{
    PASSWORD, TestEntropy, login_request, reason,
    wire::{Answer, frame},
};

/// Longest that a caller waits, in microseconds.
const PATIENCE: u64 = 20_000;

/// A connection to a node, made again once it has ended.
pub(super) struct Line {
    address: SocketAddr,
    connection: Mutex<Option<SendRequest<Bytes>>>,
}

/// How a call ended for its caller.
enum End {
    Answered(Answer),
    GivenUp,
    /// With its connection.
    CutOff,
}

impl Line {
    pub(super) fn to(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { address, connection: Mutex::new(None) })
    }

    /// Calls, and resets the stream if no answer comes for this long.
    async fn call(&self, method: &str, message: &impl Message, patience: Duration) -> End {
        let call = timeout(BOUND, self.try_call(method, message, patience)).await;
        call.expect("a call hangs").unwrap_or(End::CutOff)
    }

    async fn try_call(&self, method: &str, message: &impl Message, patience: Duration) -> Result<End, h2::Error> {
        let request = http::Request::post(format!("http://{}/vouchsafe.v1.AuthService/{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (answer, mut call) = self.ready().await?.send_request(request, false)?;
        call.send_data(Bytes::from(frame(message)), true)?;
        if let Ok(answer) = timeout(patience, read(answer)).await {
            return answer.map(End::Answered);
        }
        call.send_reset(Reason::CANCEL);
        Ok(End::GivenUp)
    }

    async fn ready(&self) -> Result<SendRequest<Bytes>, h2::Error> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.take()
            && let Ok(open) = open.ready().await
        {
            return Ok(connection.insert(open).clone());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, driver) = h2::client::handshake(stream).await?;
        tokio::spawn(driver);
        Ok(connection.insert(sender).clone())
    }
}

async fn read(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = answer.await?.into_parts();
    let (mut headers, mut body) = (parts.headers, Vec::new());
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    headers.extend(stream.trailers().await?.unwrap_or_default());
    Ok(Answer { http: parts.status.as_u16(), headers, body: body.into() })
}

/// Somebody with an account who signs in and out, goes on and registers others, and gives up most of it.
pub(super) struct Caller {
    /// One to each node.
    pub(super) lines: Vec<Arc<Line>>,
    pub(super) dice: Arc<TestEntropy>,
    pub(super) email: String,
    /// Whom to register, again if nothing was heard.
    newcomer: u64,
    held: Option<TokenPair>,
    pub(super) seen: Seen,
}

/// What callers know.
#[derive(Default)]
pub(super) struct Seen {
    /// The newest tokens of sessions that nobody tried to end.
    pub(super) open: Vec<TokenPair>,
    /// Of sessions whose end was acknowledged.
    pub(super) over: Vec<TokenPair>,
    /// Of sessions whose end was asked for and not acknowledged.
    pub(super) doubtful: Vec<TokenPair>,
    /// Accounts whose registration was acknowledged.
    pub(super) registered: Vec<String>,
    /// Calls that were given 20 ms at most.
    pub(super) impatient: usize,
    pub(super) answered: usize,
    pub(super) given_up: usize,
    pub(super) cut_off: usize,
    /// Calls for which there was no room.
    pub(super) shed: usize,
}

impl Caller {
    pub(super) fn new(email: String, lines: Vec<Arc<Line>>, dice: Arc<TestEntropy>) -> Self {
        Self { lines, dice, email, newcomer: 0, held: None, seen: Seen::default() }
    }

    /// Makes this many calls that are given 20 ms at most. What is known afterwards.
    pub(super) async fn work(mut self, calls: usize) -> Seen {
        while self.seen.impatient < calls {
            let Some(held) = self.held.take() else {
                // Patiently: most calls should be of somebody who has something to lose.
                self.log_in(BOUND).await;
                continue;
            };
            match self.dice.below(40) {
                0..2 => self.log_out(held).await,
                2..36 => self.refresh(held).await,
                die => {
                    self.held = Some(held);
                    if die < 38 {
                        self.register().await;
                    } else {
                        let patience = self.patience();
                        self.log_in(patience).await;
                    }
                }
            }
        }
        self.seen.open.extend(self.held);
        self.seen
    }

    async fn register(&mut self) {
        let email = format!("new{}-{}", self.newcomer, self.email);
        let request = v1::RegisterRequest { email: email.clone(), password: PASSWORD.into(), ..Default::default() };
        // Taken: by the last try, whose answer was not waited for.
        if self.call("Register", &request, &[Code::AlreadyExists]).await.is_some() {
            self.seen.registered.push(email);
            self.newcomer += 1;
        }
    }

    async fn log_in(&mut self, patience: Duration) {
        let end = self.pick().call("Login", &login_request(&self.email, PASSWORD), patience).await;
        if let Some(answer) = self.note(end, &[]) {
            let v1::login_response::Outcome::Tokens(tokens) = message::<v1::LoginResponse>(&answer).outcome.unwrap()
            else {
                panic!("a challenge")
            };
            self.seen.open.extend(self.held.replace(tokens));
        }
    }

    async fn log_out(&mut self, held: TokenPair) {
        let request = v1::LogoutRequest { refresh_token: held.refresh_token.clone() };
        match self.call("Logout", &request, &[]).await {
            Some(_) => self.seen.over.push(held),
            None => self.seen.doubtful.push(held),
        }
    }

    /// At one node, or at all of them at once.
    async fn refresh(&mut self, held: TokenPair) {
        let request = v1::RefreshRequest { refresh_token: held.refresh_token.clone() };
        let mut lines = vec![self.pick()];
        if self.dice.below(3) == 0 {
            lines.clone_from(&self.lines);
        }
        let patiences: Vec<_> = lines.iter().map(|_| self.patience()).collect();
        let calls = lines.iter().zip(patiences).map(|(line, patience)| line.call("Refresh", &request, patience));
        let ends = join_all(calls).await;
        let mut successor = None;
        for end in ends {
            let Some(answer) = self.note(end, &[]) else { continue };
            let next = message::<v1::RefreshResponse>(&answer).tokens.unwrap();
            assert_eq!(generation(&next), generation(&held) + 1);
            let first = successor.get_or_insert_with(|| next.clone());
            assert_eq!(first.refresh_token, next.refresh_token, "two branches");
        }
        self.held = Some(successor.unwrap_or(held));
    }

    async fn call(&mut self, method: &str, request: &impl Message, expected: &[Code]) -> Option<Answer> {
        let patience = self.patience();
        let end = self.pick().call(method, request, patience).await;
        self.note(end, expected)
    }

    /// The answer, if there is one. A refusal that is not expected fails the test, unless there was no room.
    fn note(&mut self, end: End, expected: &[Code]) -> Option<Answer> {
        let answer = match end {
            End::GivenUp => {
                self.seen.given_up += 1;
                return None;
            }
            End::CutOff => {
                self.seen.cut_off += 1;
                return None;
            }
            End::Answered(answer) => answer,
        };
        self.seen.answered += 1;
        let status = answer.status();
        match status.code() {
            Code::Ok => Some(answer),
            code if expected.contains(&code) => Some(answer),
            _ => {
                // Of so many sign-ins of one account at once only a few are let through.
                assert!(
                    ["OVERLOADED", "STORE_UNAVAILABLE", "TOO_MANY_ATTEMPTS"].contains(&&*reason(&status)),
                    "{status:?}"
                );
                self.seen.shed += 1;
                None
            }
        }
    }

    fn pick(&self) -> Arc<Line> {
        Arc::clone(&self.lines[usize::try_from(self.dice.below(self.lines.len() as u64)).unwrap()])
    }

    /// How long to wait for an answer. Now and then to its end: what was given up may still be under way, and who never
    /// waits for it would pile up more of it than any machine can do.
    fn patience(&mut self) -> Duration {
        if self.dice.below(4) == 0 {
            return BOUND;
        }
        self.seen.impatient += 1;
        Duration::from_micros(self.dice.below(PATIENCE))
    }
}

fn message<T: Message + Default>(answer: &Answer) -> T {
    T::decode(answer.body.slice(5..)).unwrap()
}
