//! Two nodes, their Redis, and the networks between them.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;
use vouchsafe::{
    pb::v1::{self, Consistency, account_service_client::AccountServiceClient},
    store::Location,
};

use crate::{
    process::{
        client::{Client, assert_outage},
        harness::{Place, Server, until, variable},
        proxy::{Link, Proxy},
    },
    state::own::{OwnRedis, PASSWORD as REDIS_PASSWORD},
    support::{Backend, PASSWORD, bearer, reason},
};

pub(super) use crate::process::client::generation;

/// A caller's patience. No call may need it up.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a password is changed to.
pub(super) const OTHER_PASSWORD: &str = "another correct horse battery";

/// Which way a refresh was decided, as the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// On the locked row.
    Row,
    /// On the hot record, beside the row.
    Hot,
    /// On the hot record alone.
    Grace,
}

/// A node and its ways to the others.
pub(super) struct Node {
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) redis: Proxy,
    pub(super) database: Proxy,
}

/// All of it.
pub(super) struct World {
    pub(super) place: Place,
    pub(super) redis: OwnRedis,
    pub(super) nodes: [Node; 2],
}

/// The answer to a call. One that takes longer than a caller waits hangs.
pub(super) async fn ends<T>(call: impl Future<Output = T>) -> T {
    timeout(PATIENCE, call).await.expect("a call hangs")
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these settings.
    pub(super) async fn with(settings: &[(&str, &str)]) -> Self {
        let redis = OwnRedis::start(&[]).await;
        let mut place = Place::new(Backend::Postgres).await;
        let ours = [
            ("database.max_connections", "8"),
            // Patient, since the machine is busy; where Redis is made silent, the test says less.
            ("redis.timeout", "2s"),
            ("log.filter", "info,vouchsafe::service::refresh=debug"),
        ];
        for (key, value) in ours.iter().chain(settings) {
            place = place.set(key, value);
        }
        let nodes = [Node::start(&place, &redis).await, Node::start(&place, &redis).await];
        Self { place, redis, nodes }
    }

    /// What the ways of both nodes to Redis do.
    pub(super) fn redis_link(&self, link: Link) {
        self.nodes.iter().for_each(|node| node.redis.set(link));
    }

    /// What the ways of both nodes to the database do.
    pub(super) fn database_link(&self, link: Link) {
        self.nodes.iter().for_each(|node| node.database.set(link));
    }

    /// A user who has signed in, with a hot record.
    pub(super) async fn join(&self, email: &str) -> v1::TokenPair {
        let mut held = self.nodes[0].client.join(email).await;
        self.warm(&mut held).await;
        held
    }

    /// Refreshes until both nodes have done so by the hot record.
    pub(super) async fn warm(&self, held: &mut v1::TokenPair) {
        for node in &self.nodes {
            node.until_path(held, Path::Hot).await;
        }
    }

    /// Refreshes this often, at one node after the other. Every token, the last one first.
    pub(super) async fn refresh(&self, held: &mut v1::TokenPair, times: usize) -> Vec<v1::TokenPair> {
        let mut superseded = Vec::new();
        for turn in 0..times {
            let next = self.nodes[turn % 2].refresh(held).await.0;
            assert_ne!(next.refresh_token, held.refresh_token);
            superseded.insert(0, std::mem::replace(held, next));
        }
        superseded
    }

    /// The generation in a session's row.
    pub(super) async fn generation(&self, tokens: &v1::TokenPair) -> i64 {
        let id = self.place.database.id(&tokens.session_id.parse().unwrap());
        self.place.database.integer(&format!("SELECT generation FROM sessions WHERE id = {id}")).await
    }

    /// Waits until the row of a session has followed to its newest token.
    pub(super) async fn until_row(&self, newest: &v1::TokenPair) {
        let generation = generation(newest);
        until("the row has followed", async || {
            let row = self.generation(newest).await;
            assert!(row <= generation, "{row} is beyond {generation}");
            (row == generation).then_some(())
        })
        .await;
    }

    /// The head of the feed, as it is in Redis.
    pub(super) async fn head(&self) -> Vec<u8> {
        let keys: Vec<String> = self.redis.ask(&["KEYS", "vouchsafe:head:*"]).await.unwrap();
        self.redis.ask(&["GET", &keys[0]]).await.unwrap()
    }

    /// How many sessions have ended for this reason, those of a load apart; for any, if it is empty.
    pub(super) async fn ended(&self, why: &str) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.email NOT LIKE 'caller%' \
             AND (s.end_reason = '{why}' OR ('{why}' = '' AND s.end_time IS NOT NULL))"
        );
        self.place.database.integer(&sql).await
    }

    /// Asserts that neither node takes any of these tokens, as revoked or worse.
    pub(super) async fn assert_dead(&self, tokens: &[v1::TokenPair]) {
        for node in &self.nodes {
            for pair in tokens {
                let refused = node.refused(pair).await;
                assert!(["SESSION_REVOKED", "REFRESH_TOKEN_REUSED"].contains(&&*reason(&refused)), "{refused:?}");
                for consistency in [Consistency::Strong, Consistency::Local] {
                    let verified = ends(node.client.check(&pair.access_token, consistency)).await.unwrap();
                    assert!(!verified.active, "{consistency:?}: {verified:?}");
                }
            }
        }
    }

    /// Asserts that this token is a replay now, and ends its own session and no other.
    pub(super) async fn assert_replay(&self, node: &Node, superseded: &v1::TokenPair) {
        let before = (self.ended("").await, self.ended("replay").await);
        // In the moment in which the newest was made it might have been under way already.
        let refused = until("a verdict", async || {
            Some(reason(&node.refused(superseded).await)).filter(|r| r != "REFRESH_OVERTAKEN")
        });
        assert_eq!(refused.await, "REFRESH_TOKEN_REUSED");
        assert_eq!((self.ended("").await, self.ended("replay").await), (before.0 + 1, before.1 + 1));
        self.assert_dead(std::slice::from_ref(superseded)).await;
    }

    /// Stops everything as it should end, and removes it.
    pub(super) async fn remove(self) {
        for node in self.nodes {
            node.server.stop().await;
        }
        self.place.remove().await;
    }
}

impl Node {
    /// A node on what is there.
    pub(super) async fn start(place: &Place, redis: &OwnRedis) -> Self {
        let Location::Postgres(url) = place.database.location() else { unreachable!() };
        let (login, rest) = url.expose().split_once('@').expect("the URL names a user");
        let (host, name) = rest.split_once('/').expect("the URL names a database");
        let database = Proxy::to(host.to_owned()).await;
        let redis = Proxy::to(format!("127.0.0.1:{}", redis.port)).await;
        let mut command = place.command(&["serve"]);
        command.env(variable("database.url"), format!("{login}@{}/{name}", database.address));
        command.env(variable("redis.url"), format!("redis://:{REDIS_PASSWORD}@{}", redis.address));
        let server = Server::start(command).await;
        let client = Client::of(&server).await;
        Self { server, client, redis, database }
    }

    /// Refreshes, and says which way it went.
    pub(super) async fn refresh(&self, tokens: &v1::TokenPair) -> (v1::TokenPair, Path) {
        let seen = self.server.log.count();
        let next = ends(self.client.refresh(&tokens.refresh_token)).await.unwrap();
        let line = self.decided(seen, tokens).await;
        let path = [Path::Row, Path::Hot, Path::Grace].into_iter().find(|path| line.contains(&format!("\"{path:?}\"")));
        (next, path.unwrap_or_else(|| panic!("no path in {line}")))
    }

    /// What the server says of a refresh of this session, after so many lines.
    async fn decided(&self, seen: usize, tokens: &v1::TokenPair) -> String {
        let is_ours = |line: &str| line.contains("refresh decided") && line.contains(&tokens.session_id);
        self.server.log.wait_after(seen, is_ours).await
    }

    /// Refreshes until it goes this way. Every refresh on the way there is answered.
    pub(super) async fn until_path(&self, held: &mut v1::TokenPair, wanted: Path) {
        until(&format!("a refresh by {wanted:?}"), async || {
            let (next, path) = self.refresh(held).await;
            *held = next;
            (path == wanted).then_some(())
        })
        .await;
    }

    /// The refusal of a refresh.
    pub(super) async fn refused(&self, tokens: &v1::TokenPair) -> Status {
        match ends(self.client.refresh(&tokens.refresh_token)).await {
            Err(status) => status,
            Ok(_) => panic!("refreshed: {}", tokens.session_id),
        }
    }

    /// Asserts that this refresh is an outage and nothing worse.
    pub(super) async fn assert_unavailable(&self, tokens: &v1::TokenPair) {
        assert_outage(&self.refused(tokens).await);
    }

    /// Asks until a refresh is answered, which outages may precede.
    pub(super) async fn until_refreshed(&self, held: &mut v1::TokenPair) {
        *held = until("refreshed", async || {
            let seen = self.server.log.count();
            match ends(self.client.refresh(&held.refresh_token)).await {
                Ok(next) => {
                    // Its line is not to be taken for the next one's.
                    self.decided(seen, &next).await;
                    Some(next)
                }
                Err(status) => {
                    assert_outage(&status);
                    None
                }
            }
        })
        .await;
    }

    /// Waits until it refuses this access token from memory, which outages may precede.
    pub(super) async fn until_inactive(&self, tokens: &v1::TokenPair) {
        until("refused from memory", async || {
            match ends(self.client.check(&tokens.access_token, Consistency::Local)).await {
                Ok(verified) => (!verified.active).then_some(()),
                // It may know that it misses revocations.
                Err(status) => {
                    assert_outage(&status);
                    None
                }
            }
        })
        .await;
    }

    /// Changes the password, which ends the user's other sessions.
    pub(super) async fn change_password(&self, tokens: &v1::TokenPair) {
        let request =
            v1::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: OTHER_PASSWORD.into() };
        let mut account = AccountServiceClient::new(self.client.channel.clone());
        ends(account.change_password(bearer(&tokens.access_token, request))).await.unwrap();
    }
}
