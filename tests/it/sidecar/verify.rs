//! `Verify`, answered by the sidecar.

use tonic::Code;
use vouchsafe::pb::v1::{self, Consistency, InactiveReason};

use super::world::{Sidecar, token};
use crate::{
    process::harness::until,
    support::{Backend, TestNode},
};

fn verify(token: &str, audience: &[&str], consistency: Consistency) -> v1::VerifyRequest {
    let audience = audience.iter().map(|name| (*name).to_owned()).collect();
    v1::VerifyRequest { token: token.into(), audience, consistency: consistency.into() }
}

#[tokio::test]
async fn the_sidecar_says_what_the_service_says() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, "").await;
    node.register("ada@example.com").await;
    let pair = node.login("ada@example.com").await;
    let ask = async |request: v1::VerifyRequest| sidecar.auth().verify(request).await.map(tonic::Response::into_inner);

    let mangled = format!("{}x", pair.access_token);
    for token in [&pair.access_token, &mangled, "junk", &pair.refresh_token] {
        for audience in [&[][..], &["vouchsafe"], &["other"]] {
            for consistency in [Consistency::Local, Consistency::Strong] {
                let request = verify(token, audience, consistency);
                let service = node.auth().await.verify(request.clone()).await.unwrap().into_inner();
                assert_eq!(ask(request).await.unwrap(), service, "{audience:?}");
            }
        }
    }
    for bad in [verify("", &[], Consistency::Local), verify("x", &["a b"], Consistency::Local)] {
        let (here, there) = (ask(bad.clone()).await.unwrap_err(), node.auth().await.verify(bad).await.unwrap_err());
        assert_eq!((here.code(), here.message()), (there.code(), there.message()));
    }
    let unknown = v1::VerifyRequest { consistency: 77, ..verify("x", &[], Consistency::Local) };
    let (here, there) = (ask(unknown.clone()).await.unwrap_err(), node.auth().await.verify(unknown).await.unwrap_err());
    assert_eq!((here.code(), here.message()), (there.code(), there.message()));

    node.logout(&pair.refresh_token).await.unwrap();
    // The service knows at once, the sidecar in a moment.
    let strong = ask(verify(&pair.access_token, &[], Consistency::Strong)).await.unwrap();
    assert_eq!(strong.inactive_reason(), InactiveReason::Revoked);
    until("the revocation is there", async || {
        let local = ask(verify(&pair.access_token, &[], Consistency::Local)).await.unwrap();
        (local == strong).then_some(())
    })
    .await;

    let login = sidecar.auth().login(v1::LoginRequest::default()).await.unwrap_err();
    assert_eq!(login.code(), Code::Unimplemented);
    assert!(login.message().contains("Vouchsafe service"), "{}", login.message());
    sidecar.stop().await;
    node.remove().await;
}

#[tokio::test]
async fn without_the_service_only_what_is_known_is_said() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar =
        Sidecar::beside(&node, "max_staleness = \"3s\"\n[[routes]]\npath = \"/any\"\nwhen_stale = \"allow\"\n").await;
    let token = token(&node, &["user"], "").await;
    let ask = async |consistency| sidecar.auth().verify(verify(&token, &[], consistency)).await;
    assert!(ask(Consistency::Local).await.unwrap().into_inner().active);
    node.remove().await;
    assert_eq!(ask(Consistency::Strong).await.unwrap_err().code(), Code::Unavailable);

    let refused = until("the revocations are too old", async || ask(Consistency::Local).await.err()).await;
    assert_eq!(refused.code(), Code::Unavailable);
    let denied = sidecar.get("/orders", Some(&token)).await;
    assert_eq!((denied.status, denied.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(sidecar.get("/any", Some(&token)).await.status, 200, "the file says so");
    sidecar.stop().await;
}
