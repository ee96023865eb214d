//! What a developer and a load balancer ask first: reflection and health, while serving and while draining.

use std::{collections::BTreeSet, time::Duration};

use futures_util::stream;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{self, server_reflection_client::ServerReflectionClient},
    v1alpha::{self, server_reflection_client::ServerReflectionClient as AlphaClient},
};

use super::on_both_databases;
use crate::support::{Backend, TestNode, wire};

on_both_databases!(
    reflection_lists_our_services_and_resolves_error_details_in_both_versions,
    health_says_serving_and_while_draining_not_serving,
);

const OURS: [&str; 5] = [
    "vouchsafe.v1.AuthService",
    "vouchsafe.v1.AccountService",
    "vouchsafe.v1.VerifierService",
    "vouchsafe.v1.ServiceAccountAdminService",
    "vouchsafe.v1.KeyAdminService",
];

/// The answers of one version of reflection, as (services listed, files found by symbol, symbols not found).
macro_rules! reflect {
    ($version:ident, $client:ident, $node:expr, $symbols:expr) => {{
        use $version::{
            ServerReflectionRequest as Ask, server_reflection_request::MessageRequest as M,
            server_reflection_response::MessageResponse as R,
        };
        let ask = |message| Ask { host: String::new(), message_request: Some(message) };
        let mut requests = vec![ask(M::ListServices(String::new()))];
        requests.extend($symbols.iter().map(|symbol| ask(M::FileContainingSymbol((*symbol).to_owned()))));
        let mut client = $client::new($node.shared().await);
        let mut answers = client.server_reflection_info(stream::iter(requests)).await.unwrap().into_inner();
        let (mut services, mut files, mut missing) = (BTreeSet::new(), Vec::new(), 0);
        while let Ok(Some(answer)) = answers.message().await {
            match answer.message_response.unwrap() {
                R::ListServicesResponse(list) => services.extend(list.service.into_iter().map(|s| s.name)),
                R::FileDescriptorResponse(found) => files.push(
                    found.file_descriptor_proto.iter().map(|f| FileDescriptorProto::decode(&**f).unwrap()).collect(),
                ),
                R::ErrorResponse(_) => missing += 1,
                other => panic!("{other:?}"),
            }
        }
        (services, files, missing)
    }};
}

async fn reflection_lists_our_services_and_resolves_error_details_in_both_versions(backend: Backend) {
    let node = TestNode::start(backend).await;
    let symbols = [
        "vouchsafe.v1.AuthService",
        "vouchsafe.v1.AccountService.ChangePassword",
        "vouchsafe.v1.ErrorReason",
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "google.rpc.RetryInfo",
        "google.protobuf.Timestamp",
    ];
    let v1: (BTreeSet<String>, Vec<Vec<FileDescriptorProto>>, usize) =
        reflect!(v1, ServerReflectionClient, node, symbols);
    let alpha: (BTreeSet<String>, Vec<Vec<FileDescriptorProto>>, usize) = reflect!(v1alpha, AlphaClient, node, symbols);
    for (services, files, missing) in [&v1, &alpha] {
        for service in OURS.iter().chain(&["grpc.health.v1.Health"]) {
            assert!(services.contains(*service), "{service} in {services:?}");
        }
        assert_eq!((files.len(), *missing), (symbols.len(), 0));
    }
    let error_info = v1.1[3].iter().flat_map(|file| &file.message_type).find(|m| m.name() == "ErrorInfo").unwrap();
    let fields: Vec<_> = error_info.field.iter().map(prost_types::FieldDescriptorProto::name).collect();
    assert_eq!(fields, ["reason", "domain", "metadata"]);
    node.remove().await;
}

async fn health_says_serving_and_while_draining_not_serving(backend: Backend) {
    let node = TestNode::builder(backend).await.set("shutdown.pause=5s").start().await;
    node.register("ada@example.com").await;
    let ask = |service: &str| HealthCheckRequest { service: service.into() };
    let mut health = HealthClient::new(node.channel().await);
    let all: Vec<&str> = [""].into_iter().chain(OURS).collect();
    for service in &all {
        let status = health.check(ask(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(health.check(ask("vouchsafe.v1.Nothing")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(wire::get(node.http, "/readyz").await.0, 200);

    let mut watched = Vec::new();
    for service in &all {
        let mut watch = health.watch(ask(service)).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watched.push(watch);
    }
    node.shutdown.cancel();
    for watch in &mut watched {
        let told = timeout(Duration::from_mins(1), watch.message()).await.unwrap();
        assert_eq!(told.unwrap().unwrap().status(), ServingStatus::NotServing);
    }
    // Until the pause is over callers who have not noticed yet are still served.
    assert_eq!(wire::get(node.http, "/readyz").await.0, 503);
    assert_eq!(wire::get(node.http, "/livez").await.0, 200);
    let tokens = node.login("ada@example.com").await;
    node.refresh(&tokens.refresh_token).await.unwrap();
    drop((watched, health));
    let (grpc, http) = (node.grpc, node.http);
    node.remove().await;
    for port in [grpc, http] {
        assert!(tokio::net::TcpStream::connect(port).await.is_err(), "nobody listens any more");
    }
}
