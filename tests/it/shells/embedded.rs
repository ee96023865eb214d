//! The whole of it: a node that issues and revokes, and services that hear of it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use vouchsafe::verifier::{Policy, Rule, Verifier, VerifierLayer};

use super::{
    axum,
    greeter::{
        Serving, behind_layer,
        proto::{CollectRequest, CountRequest, GreetRequest},
    },
    tonic::client,
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestNode, bearer, wire},
};

on_both_databases!(a_logout_ends_what_goes_on_and_refuses_what_comes, without_the_issuer_a_rule_says_whether_to_go_on,);

/// A node on a database of its own, and a verifier that listens to it.
async fn surroundings(backend: Backend, max_staleness: Duration) -> (TestNode, Verifier) {
    let node = TestNode::start(backend).await;
    let builder = Verifier::builder("https://issuer.test", ["vouchsafe"]).max_staleness(max_staleness);
    let verifier = builder.service_url(&format!("http://{}", node.grpc)).unwrap().start().await.unwrap();
    verifier.ready().await;
    (node, verifier)
}

async fn a_logout_ends_what_goes_on_and_refuses_what_comes(backend: Backend) {
    let (node, verifier) = surroundings(backend, Duration::from_secs(30)).await;
    let user = node.register("ada@example.com").await;
    let [ours, other] = [node.login("ada@example.com").await, node.login("ada@example.com").await];
    let mut serving = behind_layer(VerifierLayer::new(verifier.clone(), Policy::required())).await;
    let mut client = client(serving.served.address).await;
    assert_eq!(client.greet(bearer(&ours.access_token, GreetRequest {})).await.unwrap().into_inner().text, user.id);

    // A stream that sends, one that receives, and one of plain HTTP, all of one session; and one of another session.
    let mut numbers = client.count(bearer(&ours.access_token, CountRequest {})).await.unwrap().into_inner();
    let mut spared = client.count(bearer(&other.access_token, CountRequest {})).await.unwrap().into_inner();
    for number in 1..=3 {
        assert_eq!(numbers.message().await.unwrap().unwrap().number, number);
        assert_eq!(spared.message().await.unwrap().unwrap().number, number);
    }
    let (messages, outbound) = mpsc::channel(1);
    messages.send(CollectRequest {}).await.unwrap();
    let request = bearer(&ours.access_token, ReceiverStream::new(outbound));
    let collecting = tokio::spawn({
        let mut client = client.clone();
        async move { client.collect(request).await }
    });
    assert_eq!(serving.events.recv().await, Some("a message came"));
    let web = axum::serve(VerifierLayer::new(verifier, axum::policy())).await;
    let request = format!("GET /stream HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\r\n", ours.access_token);
    let under_way = Notify::new();
    let streaming = wire::raw(web.address, request.as_bytes(), |so_far| {
        if so_far.contains("two\n") {
            under_way.notify_one();
        }
    });
    let logout = async {
        under_way.notified().await;
        node.logout(&ours.refresh_token).await.unwrap();
    };
    let (streamed, ()) = tokio::join!(streaming, logout);

    assert!(streamed.contains("two\n") && !streamed.ends_with("0\r\n\r\n"), "{streamed}");
    assert_eq!(numbers.message().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(collecting.await.unwrap().unwrap_err().code(), Code::Unauthenticated);
    let refused = client.greet(bearer(&ours.access_token, GreetRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut over = [serving.events.recv().await.unwrap(), serving.events.recv().await.unwrap()];
    over.sort_unstable();
    assert_eq!(over, ["collect is over", "count is over"]);
    // The other session goes on.
    assert!(serving.events.is_empty());
    assert!(client.greet(bearer(&other.access_token, GreetRequest {})).await.is_ok());
    drop(spared);
    node.remove().await;
}

async fn without_the_issuer_a_rule_says_whether_to_go_on(backend: Backend) {
    let (node, verifier) = surroundings(backend, Duration::from_secs(3)).await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let policy = Policy::required().at("/greeter.v1.GreeterService/Greet", Rule::required().allow_stale());
    let Serving { served, .. } = behind_layer(VerifierLayer::new(verifier, policy)).await;
    let mut client = client(served.address).await;
    let mut numbers = client.count(bearer(&token, CountRequest {})).await.unwrap().into_inner();
    let database = Arc::clone(&node.database);
    node.stop().await;
    let status = loop {
        match numbers.message().await {
            Ok(number) => assert!(number.is_some(), "it does not end as if it were complete"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    let refused = client.count(bearer(&token, CountRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(client.greet(bearer(&token, GreetRequest {})).await.is_ok());
    database.remove().await;
}
