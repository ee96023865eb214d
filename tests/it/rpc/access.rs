//! Who may call what, beside the matrix: paths that are in no proto, strange metadata, and verification off loopback.

use prost_reflect::DescriptorPool;
use tonic::{Code, Status, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;
use vouchsafe::pb::{FILE_DESCRIPTOR_SET, v1};

use super::on_both_databases;
use crate::support::{
    Backend, TestNode, reason,
    wire::{self, frame},
};

on_both_databases!(
    what_is_not_in_the_proto_is_not_served,
    two_authorizations_or_a_strange_one_are_refused,
    verification_is_closed_off_loopback_until_it_is_opened,
);

/// Every RPC of our own package with the number of its access option.
fn methods() -> Vec<(String, i32)> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let access = pool.get_extension_by_name("vouchsafe.v1.access").unwrap();
    let services = pool.services().filter(|service| service.package_name() == "vouchsafe.v1");
    let path = |m: &prost_reflect::MethodDescriptor| format!("/{}/{}", m.parent_service().full_name(), m.name());
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|m| (path(&m), m.options().get_extension(&access).as_enum_number().unwrap())).collect()
}

const VERIFIER: i32 = v1::Access::Verifier as i32;

/// Calls an RPC with an empty message.
async fn call(node: &TestNode, path: &str, token: Option<&str>) -> Result<(), Status> {
    let mut client = Grpc::new(node.shared().await);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    client.server_streaming::<(), (), _>(request, path.parse().unwrap(), ProstCodec::default()).await.map(|_| ())
}

async fn what_is_not_in_the_proto_is_not_served(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    for path in [
        "/vouchsafe.v1.AuthService/Nothing",
        "/vouchsafe.v1.Nothing/Login",
        "/vouchsafe.v1.AccountService/getAccount",
        "/vouchsafe.v1.AccountService/GetAccount/",
        "//vouchsafe.v1.AccountService/GetAccount",
        "/vouchsafe.v1.AccountService%2FGetAccount",
        "/VOUCHSAFE.V1.ACCOUNTSERVICE/GETACCOUNT",
        "/x/../vouchsafe.v1.AccountService/GetAccount",
        "/vouchsafe.v1.AccountService",
        "/grpc.reflection.v1.Nothing/ServerReflectionInfo",
        "/",
    ] {
        for token in [None, Some(tokens.access_token.as_str())] {
            let status = call(&node, path, token).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{path} {status:?}");
        }
    }
    // A query or another method is no way around.
    let get_account = "/vouchsafe.v1.AccountService/GetAccount";
    let answer = wire::call(node.grpc, &format!("{get_account}?x"), &[], frame(&())).await.unwrap();
    assert_eq!(reason(&answer.status()), "ACCESS_TOKEN_MISSING");
    node.remove().await;
}

async fn two_authorizations_or_a_strange_one_are_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let good = format!("Bearer {}", node.login("ada@example.com").await.access_token);
    let ask = async |values: &[&[u8]]| {
        let headers: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        let answer = wire::call(node.grpc, "/vouchsafe.v1.AccountService/GetAccount", &headers, frame(&())).await;
        let status = answer.unwrap().status();
        (status.code(), reason(&status))
    };
    let good = good.as_bytes();
    let lower = [b"bearer", &good[6..]].concat();
    for fine in [good, &lower] {
        assert_eq!(ask(&[fine]).await, (Code::Ok, String::new()));
    }
    for strange in [
        &[good, good][..],
        &[good, b"Bearer x"],
        &[b"Bearer x", good],
        &[good, b""],
        &[&[good, b", ", good].concat()],
        &[&[good, b"\xff"].concat()],
        &[&[good, "é".as_bytes()].concat()],
        &[&[b"Bearer  ", &good[7..]].concat()],
        &[&[good, b" x"].concat()],
    ] {
        assert_eq!(ask(strange).await, (Code::Unauthenticated, "ACCESS_TOKEN_INVALID".to_owned()), "{strange:?}");
    }
    for other_scheme in [&b"Basic YTpi"[..], b"Bearer", b"", &good[7..]] {
        assert_eq!(ask(&[other_scheme]).await, (Code::Unauthenticated, "ACCESS_TOKEN_MISSING".to_owned()));
    }
    node.remove().await;
}

async fn verification_is_closed_off_loopback_until_it_is_opened(backend: Backend) {
    for opened in [false, true] {
        let node = TestNode::builder(backend)
            .await
            .set("grpc.listen=0.0.0.0:0")
            .set("grpc.allow_plaintext=true")
            .set(&format!("grpc.open_verification={opened}"))
            .start()
            .await;
        node.register("ada@example.com").await;
        let tokens = node.login("ada@example.com").await;
        let mut tested = 0;
        for (path, _) in methods().iter().filter(|(_, access)| *access == VERIFIER) {
            // Even from this machine, and whoever asks: it is the listener that counts.
            for token in [None, Some(tokens.access_token.as_str())] {
                let answer = call(&node, path, token).await;
                if opened {
                    assert!(answer.is_ok() || reason(&answer.unwrap_err()) == "INVALID_ARGUMENT", "{path}");
                } else {
                    let status = answer.unwrap_err();
                    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "VERIFICATION_CLOSED"));
                }
                tested += 1;
            }
        }
        assert!(tested >= 4);
        assert!(node.admits(&tokens.access_token).await, "the rest is as open as ever");
        node.refresh(&tokens.refresh_token).await.unwrap();
        node.remove().await;
    }
}
