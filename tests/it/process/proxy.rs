//! A TCP proxy that can be cut, to put a network between two programs.

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
    sync::watch,
};

use vouchsafe::store::Location;

use crate::support::TestDatabase;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It works.
    Up,
    /// Answers do not come through; what is sent does.
    Deaf,
    /// Nothing comes through, and nobody is told.
    Frozen,
    /// Connections end at once, open ones as well.
    Cut,
}

/// Passes connections on. Ends when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    link: Arc<watch::Sender<Link>>,
    upstream: Arc<Mutex<String>>,
}

impl Proxy {
    pub(crate) async fn to(upstream: String) -> Self {
        // Not closed while cut, so that nobody else gets its port: a connection is accepted and ended.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let link = Arc::new(watch::Sender::new(Link::Up));
        let subscribed = link.subscribe();
        let upstream = Arc::new(Mutex::new(upstream));
        let target = Arc::clone(&upstream);
        tokio::spawn(async move {
            let mut ended = subscribed.clone();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let upstream = target.lock().unwrap().clone();
                        tokio::spawn(pass_on(accepted.unwrap().0, upstream, subscribed.clone()));
                    }
                    // The sender is gone.
                    Err(_) = ended.wait_for(|_| false) => return,
                }
            }
        });
        Self { address, link, upstream }
    }

    /// One before a database server, and the URL of the database through it.
    pub(crate) async fn before(database: &TestDatabase) -> (Self, String) {
        let Location::Postgres(url) = database.location() else { unreachable!() };
        let (login, rest) = url.expose().split_once('@').expect("the URL names a user");
        let (host, name) = rest.split_once('/').expect("the URL names a database");
        let proxy = Self::to(host.to_owned()).await;
        let url = format!("{login}@{}/{name}", proxy.address);
        (proxy, url)
    }

    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Leads new connections elsewhere.
    pub(crate) fn lead_to(&self, upstream: String) {
        *self.upstream.lock().unwrap() = upstream;
    }
}

async fn pass_on(client: TcpStream, upstream: String, mut link: watch::Receiver<Link>) {
    if *link.borrow() == Link::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = copy(from_client, to_server, link.clone(), &[Link::Up, Link::Deaf]) => {}
        () = copy(from_server, to_client, link.clone(), &[Link::Up]) => {}
        _ = link.wait_for(|now| *now == Link::Cut) => {}
    }
}

/// Copies while the link lets it.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>, open: &[Link]) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if link.wait_for(|now| open.contains(now)).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
