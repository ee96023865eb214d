//! What a process writes, line by line.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::watch,
    time::timeout,
};

use super::harness::BOUND;

/// The lines of a stream, as they come.
#[derive(Clone)]
pub(super) struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    pub(super) fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|all| all.push(line));
            }
        });
        Self(receiver)
    }

    pub(super) fn so_far(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// The first line that is so, once there is one.
    pub(super) async fn wait(&self, is_so: impl Fn(&str) -> bool) -> String {
        let mut lines = self.0.clone();
        let found = timeout(BOUND, lines.wait_for(|all| all.iter().any(|line| is_so(line)))).await;
        let found = found.unwrap_or_else(|_| panic!("the line does not come: {:#?}", self.so_far()));
        let all = found.unwrap_or_else(|_| panic!("the process ended: {:#?}", self.so_far()));
        all.iter().find(|line| is_so(line)).unwrap().clone()
    }
}
