//! SIGTERM: what is under way is answered, what comes is sent elsewhere, and the process ends in time (FAULTS 17).

use std::os::unix::process::ExitStatusExt as _;

use futures_util::stream;
use http::uri::PathAndQuery;
use rustix::process::Signal;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};
use tonic::{Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use vouchsafe::pb::v1;

use super::{
    client::Client,
    harness::{BOUND, Place},
    web::get,
};
use crate::{rpc::on_both_databases, support::Backend};

on_both_databases!(
    a_call_under_way_is_answered_and_idle_clients_hold_nobody_up,
    the_pause_is_announced_and_a_second_signal_ends_it,
);

/// A `Refresh` whose message has not been sent yet.
async fn refresh_in_two_parts(
    client: Client,
    message: oneshot::Receiver<v1::RefreshRequest>,
) -> Result<v1::RefreshResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(client.channel);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/vouchsafe.v1.AuthService/Refresh");
    let codec = tonic_prost::ProstCodec::<v1::RefreshRequest, v1::RefreshResponse>::default();
    let message = stream::once(async { message.await.unwrap() });
    grpc.client_streaming(Request::new(message), path, codec).await.map(tonic::Response::into_inner)
}

async fn a_call_under_way_is_answered_and_idle_clients_hold_nobody_up(backend: Backend) {
    // Longer than the test may take: not the bound ends the drain, but the last call.
    let place = Place::new(backend).await.set("shutdown.drain", "10m").set("grpc.max_deadline", "10m");
    let mut server = place.serve().await;
    let idle = Client::of(&server).await;
    let tokens = idle.join("ada@example.com").await;

    let busy = Client::of(&server).await;
    let (send, message) = oneshot::channel();
    let mut under_way = Box::pin(refresh_in_two_parts(busy.clone(), message));
    // Its head is sent first, and the answer to a later call on the same connection shows that it has arrived.
    tokio::select! {
        biased;
        answer = &mut under_way => panic!("{answer:?}"),
        _ = busy.claims(&tokens.access_token) => {}
    }
    server.signal(Signal::TERM);
    // The idle connection is told to go, and nobody new comes in.
    super::harness::until("new calls are refused", async || match Client::try_of(&server).await {
        Err(_) => Some(()),
        Ok(_) => None,
    })
    .await;

    send.send(v1::RefreshRequest { refresh_token: tokens.refresh_token.clone() }).unwrap();
    let answer = timeout(BOUND, under_way).await.unwrap().unwrap();
    let status = server.wait().await;
    assert!(status.success(), "{status}");

    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.refresh(&answer.tokens.unwrap().refresh_token).await.unwrap();
    drop(idle);
    server.stop().await;
    place.remove().await;
}

async fn the_pause_is_announced_and_a_second_signal_ends_it(backend: Backend) {
    let place = Place::new(backend).await.set("shutdown.pause", "5m");
    let mut server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    assert_eq!(get(&server, "/readyz").await.status, 200);
    let mut health = HealthClient::new(client.channel.clone());
    let service = "vouchsafe.v1.AuthService".to_owned();
    let mut watch = health.watch(HealthCheckRequest { service }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    server.signal(Signal::TERM);
    let changed = timeout(BOUND, watch.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(changed.status(), ServingStatus::NotServing);
    let whole = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(whole.status(), ServingStatus::NotServing);
    let ready = get(&server, "/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.body.as_str()), (503, "draining\n"));
    assert_eq!(get(&server, "/livez").await.status, 200);
    // Whoever has not noticed yet is served.
    let renewed = Client::of(&server).await.refresh(&tokens.refresh_token).await.unwrap();

    server.signal(Signal::TERM);
    let status = server.wait().await;
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    let server = place.serve().await;
    Client::of(&server).await.refresh(&renewed.refresh_token).await.unwrap();
    // Cut the second pause short as well.
    server.kill().await;
    place.remove().await;
}

/// A connection on which nothing was ever said is not told to go: it is closed when the drain's time is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_connection_does_not_outlast_the_drain() {
    let place = Place::new(Backend::Sqlite).await.set("shutdown.drain", "1s");
    let mut server = place.serve().await;
    let mute = TcpStream::connect(server.grpc).await.unwrap();
    let mute_http = TcpStream::connect(server.http).await.unwrap();
    // Both were accepted before these, which are answered.
    Client::of(&server).await.join("ada@example.com").await;
    assert_eq!(get(&server, "/livez").await.status, 200);
    server.signal(Signal::TERM);
    assert!(server.wait().await.success());
    drop((mute, mute_http));
    place.remove().await;
}
