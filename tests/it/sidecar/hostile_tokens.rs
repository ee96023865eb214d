//! The same bytes get the same answer from the service, from a verifier that a service embeds, and from the sidecar. SECURITY,
//! TOKENS.

use tonic::Code;
use vouchsafe::{
    pb::v1::{self, VerifyResponse},
    verifier::{Denied, Rule, Verifier},
};

use super::world::Sidecar;
use crate::{
    hostile,
    rpc::hostile_tokens::said,
    support::{Backend, TestNode},
};

/// Beyond this a message is refused before anybody looks into it.
const MAX_MESSAGE: usize = 64 * 1024;

#[tokio::test]
async fn one_table_through_server_verifier_and_sidecar_in_es256() {
    one_table("ES256").await;
}

#[tokio::test]
async fn one_table_through_server_verifier_and_sidecar_in_eddsa() {
    one_table("EdDSA").await;
}

#[tokio::test]
async fn one_table_through_server_verifier_and_sidecar_in_rs256() {
    one_table("RS256").await;
}

async fn one_table(algorithm: &str) {
    let node = TestNode::builder(Backend::Sqlite).await.set(&format!("tokens.algorithm={algorithm}")).start().await;
    let sidecar = Sidecar::beside(&node, "").await;
    let builder = Verifier::builder("https://issuer.test", ["vouchsafe"]);
    let verifier = builder.service_url(&format!("http://{}", node.grpc)).unwrap().start().await.unwrap();
    node.register("ada@example.com").await;
    let genuine = node.login("ada@example.com").await.access_token;

    let table = hostile::all(&node.signing_key().await, &genuine);
    assert!(table.len() > 300, "{}", table.len());
    let (mut asked, mut checked) = (0, 0);
    for hostile::Hostile { name, token, reason } in table {
        let embedded = verifier.verify(&token, &Rule::required()).await;
        assert_eq!(embedded.map(|_| ()), Err(Denied::Inactive(reason)), "{algorithm}: {name}");

        let [service, local] = [node.auth().await, sidecar.auth()].map(|mut client| {
            let request = v1::VerifyRequest { token: token.clone(), ..Default::default() };
            async move { client.verify(request).await.map(tonic::Response::into_inner) }
        });
        match (service.await, local.await) {
            (Ok(service), Ok(local)) => {
                assert_eq!((service.active, service.inactive_reason()), (false, said(reason)), "{algorithm}: {name}");
                assert_eq!(local, service, "{algorithm}: {name}");
                asked += 1;
            }
            (Err(service), Err(local)) => {
                assert_eq!(local.code(), service.code(), "{algorithm}: {name}");
                let expected = if token.len() > MAX_MESSAGE { Code::OutOfRange } else { Code::InvalidArgument };
                assert_eq!(service.code(), expected, "{algorithm}: {name}");
            }
            (service, local) => panic!("{algorithm}: {name}: {service:?} and {local:?}"),
        }

        // What a proxy asks about: a header.
        if token.len() < MAX_MESSAGE {
            let answer = sidecar.get("/", Some(&token)).await;
            assert_eq!(answer.status, 401, "{algorithm}: {name}");
            assert!(answer.headers["www-authenticate"].starts_with("Bearer"), "{algorithm}: {name}");
            checked += 1;
        }
    }
    assert!(asked > 300 && checked > 300, "{asked}, {checked}");

    let service: VerifyResponse = node.verify(&genuine).await;
    let request = v1::VerifyRequest { token: genuine.clone(), ..Default::default() };
    assert_eq!(sidecar.auth().verify(request).await.unwrap().into_inner(), service);
    let principal = verifier.verify(&genuine, &Rule::required()).await.unwrap();
    let claims = service.claims.unwrap();
    assert_eq!(principal.subject().to_string(), claims.subject);
    let answer = sidecar.get("/", Some(&genuine)).await;
    assert_eq!((answer.status, &answer.headers["x-vouchsafe-subject"]), (200, &claims.subject));
    sidecar.stop().await;
    node.remove().await;
}
