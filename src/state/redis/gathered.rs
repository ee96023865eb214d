//! Commands that go out together: those of all calls that are ready at once, in one write.
//!
//! The library's connection writes each command when it is asked, one system call and one segment for each, and Redis is woken
//! for each. Here whoever comes first waits until the tasks that are ready to run have had their turn.

use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, yield_now},
};

/// Commands that go out together at most.
const BATCH: usize = 256;
/// Commands that may wait; more of them wait to wait.
const QUEUE: usize = 1024;

type Answer = oneshot::Sender<RedisResult<Value>>;

/// A connection that gathers. It ends with the last of its clones.
#[derive(Clone)]
pub(super) struct Gathered {
    commands: mpsc::Sender<(Cmd, Answer)>,
}

impl Gathered {
    /// Gathers commands for `connection`. Must be called in a tokio runtime.
    pub(super) fn new(connection: MultiplexedConnection) -> Self {
        let (commands, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(gather(connection, waiting));
        Self { commands }
    }

    /// The answer to a command. Whoever goes away before it was sent has not sent it.
    pub(super) async fn query(&self, command: Cmd) -> RedisResult<Value> {
        let (answer, answered) = oneshot::channel();
        self.commands.send((command, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> RedisError {
    (ErrorKind::Io, "the connection has ended").into()
}

async fn gather(connection: MultiplexedConnection, mut waiting: mpsc::Receiver<(Cmd, Answer)>) {
    // Ended with this task: a Redis that says nothing must not keep a connection that nobody uses any more.
    let mut under_way = JoinSet::new();
    let mut batch = Vec::new();
    while let Some(first) = waiting.recv().await {
        yield_now().await;
        batch.push(first);
        while batch.len() < BATCH
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        batch.retain(|(_, answer)| !answer.is_closed());
        while under_way.try_join_next().is_some() {}
        under_way.spawn(send(connection.clone(), std::mem::take(&mut batch)));
    }
}

async fn send(mut connection: MultiplexedConnection, batch: Vec<(Cmd, Answer)>) {
    let mut pipeline = Pipeline::with_capacity(batch.len());
    let mut answers = Vec::with_capacity(batch.len());
    for (command, answer) in batch {
        pipeline.add_command(command);
        answers.push(answer);
    }
    if answers.is_empty() {
        return;
    }
    match connection.send_packed_commands(&pipeline, 0, answers.len()).await {
        Ok(values) => {
            for (answer, value) in answers.into_iter().zip(values) {
                let _ = answer.send(value.extract_error());
            }
        }
        // Each of them is told: none, or one of those before the connection broke, may have been carried out.
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}
