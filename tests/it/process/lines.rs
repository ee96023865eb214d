//! What a process writes, line by line.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::watch,
    time::timeout,
};

use super::harness::BOUND;

/// The lines of a stream, as they come.
#[derive(Clone)]
pub(crate) struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    pub(crate) fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|all| all.push(line));
            }
        });
        Self(receiver)
    }

    pub(crate) fn so_far(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// All of them, once no more can come.
    pub(crate) async fn all(&self) -> Vec<String> {
        let mut lines = self.0.clone();
        let ended = timeout(BOUND, async { while lines.changed().await.is_ok() {} }).await;
        assert!(ended.is_ok(), "somebody still writes: {:#?}", self.so_far());
        self.so_far()
    }

    /// The first line that is so, once there is one.
    pub(crate) async fn wait(&self, is_so: impl Fn(&str) -> bool) -> String {
        self.wait_after(0, is_so).await
    }

    /// The first line after the first `count` that is so, once there is one.
    pub(crate) async fn wait_after(&self, count: usize, is_so: impl Fn(&str) -> bool) -> String {
        let mut lines = self.0.clone();
        let found = timeout(BOUND, lines.wait_for(|all| all.iter().skip(count).any(|line| is_so(line)))).await;
        let found = found.unwrap_or_else(|_| panic!("the line does not come: {:#?}", self.so_far()));
        let all = found.unwrap_or_else(|_| panic!("the process ended: {:#?}", self.so_far()));
        all.iter().skip(count).find(|line| is_so(line)).unwrap().clone()
    }
}
