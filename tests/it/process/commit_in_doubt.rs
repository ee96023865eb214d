//! A COMMIT whose answer is lost (SECURITY fault 5): the caller is told what really became of his change, and so is the node.

use vouchsafe::{pb::v1::InactiveReason, store::Location};

use super::{
    client::{Client, assert_outage},
    commit_proxy::{CommitProxy, Strike},
    harness::{Place, Server},
};
use crate::support::{Backend, PASSWORD, reason};

const NEW: &str = "another correct horse battery";
const ADA: &str = "ada@example.com";

struct Scene {
    place: Place,
    proxy: CommitProxy,
    server: Server,
    client: Client,
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let place = Place::new(backend).await;
        let (Location::Postgres(url) | Location::PgBouncer(url)) = place.database.location() else { unreachable!() };
        let (login, rest) = url.expose().split_once('@').expect("the URL names a user");
        let (host, database) = rest.split_once('/').expect("the URL names a database");
        let proxy = CommitProxy::to(host.to_owned()).await;
        // What is encrypted the proxy could not read.
        let url = format!("{login}@{}/{database}?sslmode=disable", proxy.address);
        let place = place.set("database.url", &url);
        let server = place.serve().await;
        let client = Client::of(&server).await;
        Self { place, proxy, server, client }
    }

    async fn events(&self, act: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM audit_events WHERE act = '{act}'");
        self.place.database.integer(&sql).await
    }

    async fn remove(self) {
        self.server.stop().await;
        self.place.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_was_lost_is_acknowledged() {
    what_was_committed_is_acknowledged(Backend::Postgres).await;
}

mod pgbouncer {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_whose_answer_was_lost_is_acknowledged() {
        super::what_was_committed_is_acknowledged(crate::support::Backend::PgBouncer).await;
    }
}

async fn what_was_committed_is_acknowledged(backend: Backend) {
    let scene = Scene::new(backend).await;
    let Scene { proxy, client, .. } = &scene;
    let lose_answer = |word| proxy.arm(word, Strike::AnswerLost);

    lose_answer("user.registered");
    client.register(ADA).await.unwrap();
    assert!(proxy.has_struck());
    lose_answer("login.succeeded");
    let tokens = client.login(ADA).await.unwrap();
    let other = client.login(ADA).await.unwrap();
    let left = client.login(ADA).await.unwrap();

    // The node must hear of the revocation although nobody told it that there was one.
    lose_answer("session.ended");
    client.logout(&left.refresh_token).await.unwrap();
    assert!(proxy.has_struck());
    assert_eq!(client.inactive(&left.access_token).await, InactiveReason::Revoked);
    lose_answer("password.changed");
    client.change_password(&tokens.access_token, PASSWORD, NEW).await.unwrap();
    assert!(proxy.has_struck());
    client.inactive(&other.access_token).await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    client.login_with(ADA, NEW).await.unwrap();

    let found = [("user.registered", 1), ("login.succeeded", 4), ("session.ended", 1), ("password.changed", 1)];
    for (act, times) in found {
        assert_eq!(scene.events(act).await, times, "{act}");
    }
    scene.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_never_reached_the_server_is_not_acknowledged() {
    let scene = Scene::new(Backend::Postgres).await;
    let Scene { proxy, client, .. } = &scene;
    // Both ways: whatever number the lost transaction bore, it is not taken for another's that was committed.
    let sql = "SELECT CAST(pg_current_xact_id() AS TEXT)";
    let committed = scene.place.database.texts(sql).await.remove(0);
    let mut strikes = [Strike::QuestionLost, Strike::OtherNumber(committed)].into_iter().cycle();
    let mut lose_question = |word| proxy.arm(word, strikes.next().unwrap());

    for _ in 0..2 {
        lose_question("user.registered");
        assert_outage(&client.register(ADA).await.unwrap_err());
        assert!(proxy.has_struck());
        assert_eq!(scene.place.database.integer("SELECT COUNT(*) FROM users").await, 0);
    }
    let tokens = client.join(ADA).await;
    for _ in 0..2 {
        lose_question("password.changed");
        assert_outage(&client.change_password(&tokens.access_token, PASSWORD, NEW).await.unwrap_err());
        assert!(proxy.has_struck());
        let refused = client.login_with(ADA, NEW).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
        lose_question("session.ended");
        lose_question("session.ended");
        assert_outage(&client.logout(&tokens.refresh_token).await.unwrap_err());
        assert!(proxy.has_struck());
        client.claims(&tokens.access_token).await;
    }
    // What was refused can be tried again.
    client.change_password(&tokens.access_token, PASSWORD, NEW).await.unwrap();
    client.logout(&tokens.refresh_token).await.unwrap();
    client.inactive(&tokens.access_token).await;
    for act in ["user.registered", "login.succeeded", "session.ended", "password.changed"] {
        assert_eq!(scene.events(act).await, 1, "{act}");
    }
    scene.remove().await;
}
