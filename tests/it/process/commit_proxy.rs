//! A proxy before Postgres that knows the protocol well enough to strike at one moment: when a chosen transaction commits.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// What happens at the COMMIT. Either way both sides see their connection end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    /// The server commits, and its answer is lost.
    AnswerLost,
    /// The server never hears of it.
    QuestionLost,
    /// The same, and the transaction was told this number as its own.
    OtherNumber(String),
}

/// Which transaction, by a word among the parameters of its statements, and what happens to it.
type Plan = Arc<Mutex<Option<(&'static str, Strike)>>>;

/// Passes connections on, unencrypted ones. Ends when dropped.
pub(super) struct CommitProxy {
    pub(super) address: SocketAddr,
    plan: Plan,
    task: JoinHandle<()>,
}

impl Drop for CommitProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl CommitProxy {
    pub(super) async fn to(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Plan::default();
        let plans = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass_on(client, upstream.clone(), Arc::clone(&plans)));
            }
        });
        Self { address, plan, task }
    }

    /// Strikes once, at the next transaction with this word in it.
    pub(super) fn arm(&self, word: &'static str, strike: Strike) {
        *self.plan.lock().unwrap() = Some((word, strike));
    }

    /// Whether it has struck.
    pub(super) fn has_struck(&self) -> bool {
        self.plan.lock().unwrap().is_none()
    }
}

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Shared {
    /// What the server says next is lost.
    swallow: bool,
    /// The next row is the number of a transaction, as the driver asked for when it began.
    beginning: bool,
}

async fn pass_on(client: TcpStream, upstream: String, plan: Plan) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let shared = Mutex::new(Shared::default());
    tokio::select! {
        _ = questions(from_client, to_server, &plan, &shared) => {}
        _ = answers(from_server, to_client, &plan, &shared) => {}
    }
}

/// Copies what the driver sends. `None` when the connection ends.
async fn questions(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Plan, shared: &Mutex<Shared>) -> Option<()> {
    // The first message has no kind.
    let mut startup = vec![0; 4];
    from.read_exact(&mut startup).await.ok()?;
    read_rest(&mut from, &mut startup, 0).await?;
    to.write_all(&startup).await.ok()?;
    let mut meant = false;
    loop {
        let message = read_message(&mut from).await?;
        let is_query = |text: &[u8]| message[0] == b'Q' && message[5..].starts_with(text);
        if is_query(b"BEGIN") {
            meant = false;
            shared.lock().unwrap().beginning = true;
        }
        let planned = plan.lock().unwrap().clone();
        if let Some((word, strike)) = planned {
            meant |= message[0] == b'B' && contains(&message, word.as_bytes());
            if meant && is_query(b"COMMIT") {
                *plan.lock().unwrap() = None;
                if strike != Strike::AnswerLost {
                    return None;
                }
                shared.lock().unwrap().swallow = true;
            }
        }
        to.write_all(&message).await.ok()?;
    }
}

/// Copies what the server answers. `None` when the connection ends.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Plan, shared: &Mutex<Shared>) -> Option<()> {
    loop {
        let mut message = read_message(&mut from).await?;
        let number = match &*plan.lock().unwrap() {
            Some((_, Strike::OtherNumber(number))) => Some(number.clone()),
            _ => None,
        };
        {
            let mut shared = shared.lock().unwrap();
            if shared.swallow {
                return None;
            }
            if message[0] == b'D'
                && std::mem::take(&mut shared.beginning)
                && let Some(number) = number
            {
                message = row_of(&number);
            }
        }
        to.write_all(&message).await.ok()?;
    }
}

/// A row of one text.
fn row_of(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    let mut row = vec![b'D'];
    row.extend((4 + 2 + 4 + length).to_be_bytes());
    row.extend(1_u16.to_be_bytes());
    row.extend(length.to_be_bytes());
    row.extend(text.as_bytes());
    row
}

/// A message of either side: its kind, its length, its content.
async fn read_message(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut message = vec![0; 5];
    from.read_exact(&mut message).await.ok()?;
    read_rest(from, &mut message, 1).await?;
    Some(message)
}

/// Reads as much as the length at `offset` says.
async fn read_rest(from: &mut OwnedReadHalf, message: &mut Vec<u8>, offset: usize) -> Option<()> {
    let length = u32::from_be_bytes(message[offset..offset + 4].try_into().unwrap());
    let begun = message.len();
    message.resize(offset + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[begun..]).await.ok()?;
    Some(())
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}
