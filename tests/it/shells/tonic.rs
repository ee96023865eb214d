//! tonic: the layer and the interceptor, by tonic's own client and by one that sends what it likes.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use vouchsafe::verifier::{Policy, Rule, VerifierInterceptor, VerifierLayer};

use super::{
    Issuer, SUBJECT,
    greeter::{
        behind_interceptor, behind_layer,
        proto::{CollectRequest, CountRequest, GreetRequest, greeter_service_client::GreeterServiceClient},
    },
};
use crate::support::{bearer, wire};

const GREET: &str = "/greeter.v1.GreeterService/Greet";
const COUNT: &str = "/greeter.v1.GreeterService/Count";
const SERVICE: &str = "/greeter.v1.GreeterService";

pub(super) async fn client(address: SocketAddr) -> GreeterServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    GreeterServiceClient::new(endpoint.connect().await.unwrap())
}

async fn greet(address: SocketAddr, token: Option<&str>) -> Result<String, Status> {
    let request = match token {
        Some(token) => bearer(token, GreetRequest {}),
        None => Request::new(GreetRequest {}),
    };
    Ok(client(address).await.greet(request).await?.into_inner().text)
}

/// The status of a call with these headers and an empty message.
async fn status(address: SocketAddr, path: &str, headers: &[(&str, &[u8])]) -> Code {
    wire::call(address, path, headers, wire::frame(&GreetRequest {})).await.unwrap().status().code()
}

#[tokio::test]
async fn the_layer_lets_in_who_may_and_tells_the_others_why_not() {
    let issuer = Issuer::new().await;
    let policy = Policy::required().at(GREET, Rule::required().scope("greet").role("guest"));
    let serving = behind_layer(VerifierLayer::new(issuer.verifier.clone(), policy)).await;
    let address = serving.served.address;
    let good = issuer.token("greet other", &["guest"]);
    assert_eq!(greet(address, Some(&good)).await.unwrap(), SUBJECT);

    let none = greet(address, None).await.unwrap_err();
    assert_eq!(
        (none.code(), none.metadata().get("www-authenticate").unwrap().to_str().unwrap()),
        (Code::Unauthenticated, "Bearer")
    );
    // The first letter of the signature; of the last one not every bit counts.
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{first}{}", &signature[1..]);
    for bad in ["x", &forged, "vrt_x", ""] {
        assert_eq!(greet(address, Some(bad)).await.unwrap_err().code(), Code::Unauthenticated, "{bad}");
    }
    let unscoped = greet(address, Some(&issuer.token("other", &["guest"]))).await.unwrap_err();
    let challenge = unscoped.metadata().get("www-authenticate").unwrap().to_str().unwrap();
    assert_eq!(
        (unscoped.code(), challenge),
        (Code::PermissionDenied, r#"Bearer error="insufficient_scope", scope="greet""#)
    );
    let stranger = greet(address, Some(&issuer.token("greet", &["host"]))).await.unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
    // No rule names the other method, so it is held to the default, and the roles of Greet are nothing to it.
    assert!(client(address).await.count(bearer(&issuer.token("", &[]), CountRequest {})).await.is_ok());
    assert_eq!(client(address).await.count(CountRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_layer_believes_no_header_but_one_readable_authorization() {
    let issuer = Issuer::new().await;
    let serving = behind_layer(VerifierLayer::new(issuer.verifier.clone(), Policy::required())).await;
    let (address, good) = (serving.served.address, format!("Bearer {}", issuer.token("", &[])));
    let good = good.as_bytes();
    assert_eq!(status(address, GREET, &[("authorization", good)]).await, Code::Ok);
    let cut = [good, b"\xff"].concat();
    for headers in [
        &[("authorization", good), ("authorization", good)][..],
        &[("authorization", good), ("authorization", b"Basic eA==")],
        &[("authorization", b"Bearer \xff\xfe")],
        &[("authorization", &cut)],
        &[("authorization", b"Basic eA==")],
        &[("x-principal", good), ("x-forwarded-user", SUBJECT.as_bytes())],
    ] {
        assert_eq!(status(address, GREET, headers).await, Code::Unauthenticated, "{headers:?}");
    }
}

#[tokio::test]
async fn public_and_optional_methods_are_open_but_not_to_bad_tokens() {
    let issuer = Issuer::new().await;
    let token = issuer.token("", &[]);
    for (rule, with_good, with_bad) in
        [(Rule::public(), "nobody", Ok("nobody".to_owned())), (Rule::optional(), SUBJECT, Err(Code::Unauthenticated))]
    {
        let policy = Policy::required().at(GREET, rule.clone());
        let serving = behind_layer(VerifierLayer::new(issuer.verifier.clone(), policy)).await;
        let address = serving.served.address;
        assert_eq!(greet(address, None).await.unwrap(), "nobody");
        assert_eq!(greet(address, Some(&token)).await.unwrap(), with_good);
        assert_eq!(greet(address, Some("x")).await.map_err(|refused| refused.code()), with_bad);
    }
}

#[tokio::test]
async fn an_odd_path_reaches_no_method() {
    let issuer = Issuer::new().await;
    let policy = Policy::new(Rule::public()).under(SERVICE, Rule::required());
    let serving = behind_layer(VerifierLayer::new(issuer.verifier.clone(), policy)).await;
    let address = serving.served.address;
    assert_eq!(status(address, GREET, &[]).await, Code::Unauthenticated);
    for odd in [
        "//greeter.v1.GreeterService/Greet",
        "/greeter.v1.GreeterService//Greet",
        "/greeter.v1.GreeterService/./Greet",
        "/x/../greeter.v1.GreeterService/Greet",
        "/%67reeter.v1.GreeterService/Greet",
        "/greeter.v1.GreeterService%2FGreet",
        "/greeter.v1.GreeterService;/Greet",
    ] {
        assert_eq!(status(address, odd, &[]).await, Code::Unimplemented, "{odd}");
    }
    // Another path altogether: open by this policy, and there is nothing.
    for other in ["/Greeter.v1.GreeterService/Greet", "/greeter.v1.Greeter/Greet"] {
        assert_eq!(status(address, other, &[]).await, Code::Unimplemented, "{other}");
    }
}

#[tokio::test]
async fn a_server_stream_ends_when_its_token_expires() {
    let issuer = Issuer::new().await;
    let mut serving = behind_layer(VerifierLayer::new(issuer.verifier.clone(), Policy::required())).await;
    issuer.nearly_expire();
    let mut client = client(serving.served.address).await;
    let mut numbers = client.count(bearer(&issuer.token("", &[]), CountRequest {})).await.unwrap().into_inner();
    for number in 1..=3 {
        assert_eq!(numbers.message().await.unwrap().unwrap().number, number);
    }
    issuer.expire();
    let status = numbers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the access token is not accepted"));
    assert!(status.metadata().contains_key("www-authenticate"));
    assert_eq!(serving.events.recv().await, Some("count is over"));
}

#[tokio::test]
async fn a_client_stream_under_way_ends_when_its_token_expires() {
    let issuer = Issuer::new().await;
    let mut serving = behind_layer(VerifierLayer::new(issuer.verifier.clone(), Policy::required())).await;
    issuer.nearly_expire();
    let mut client = client(serving.served.address).await;
    let (messages, outbound) = mpsc::channel(1);
    messages.send(CollectRequest {}).await.unwrap();
    let request = bearer(&issuer.token("", &[]), ReceiverStream::new(outbound));
    let collecting = tokio::spawn(async move { client.collect(request).await });
    assert_eq!(serving.events.recv().await, Some("a message came"));
    issuer.expire();
    assert_eq!(collecting.await.unwrap().unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(serving.events.recv().await, Some("collect is over"));
    drop(messages);
}

#[tokio::test]
async fn the_interceptor_lets_in_who_may_and_tells_the_others_why_not() {
    let issuer = Issuer::new().await;
    let rule = Rule::required().scope("greet");
    let serving = behind_interceptor(VerifierInterceptor::new(issuer.verifier.clone(), rule)).await;
    let address = serving.served.address;
    let good = issuer.token("greet", &[]);
    assert_eq!(greet(address, Some(&good)).await.unwrap(), SUBJECT);
    assert_eq!(greet(address, None).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(greet(address, Some("x")).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(greet(address, Some(&issuer.token("", &[]))).await.unwrap_err().code(), Code::PermissionDenied);
    let sent = format!("Bearer {good}");
    let twice = &[("authorization", sent.as_bytes()), ("authorization", sent.as_bytes())];
    assert_eq!(status(address, GREET, twice).await, Code::Unauthenticated);
    assert_eq!(status(address, COUNT, &[("authorization", b"Bearer \xff")]).await, Code::Unauthenticated);
    issuer.expire();
    assert_eq!(greet(address, Some(&good)).await.unwrap_err().code(), Code::Unauthenticated);
}
