//! What holds for callers over HTTP/2 holds for pages over HTTP/1.1: crowds that do not mean it (FAULTS 12, 14 and 20), and the end.

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use vouchsafe::pb::v1;

use super::{APP, AUTH, BINARY, BOUND, Browser, Client, Stream, closed, place, register, tokens};
use crate::{
    process::{
        flood::{crowd, serve_with_few_descriptors},
        harness::until,
        web::get,
    },
    support::{
        PASSWORD, login_request,
        wire::{self, frame},
    },
};

#[tokio::test]
async fn slow_heads_are_sent_away_and_pages_are_served() {
    let place = place().await;
    let server = serve_with_few_descriptors(&place).await;
    let before = Client::of(&server).await;
    before.join("ada@example.com").await;
    let mut slow = crowd(server.grpc, b"").await;
    slow.extend(crowd(server.grpc, b"POST").await);
    slow.extend(
        crowd(server.grpc, format!("POST {AUTH}/Login HTTP/1.1\r\nhost: a\r\norigin: {APP}\r\n").as_bytes()).await,
    );
    // While the newest of them are still there.
    let mut browser = Browser::at(server.grpc).await;
    let answer =
        browser.call(BINARY, &format!("{AUTH}/Login"), None, &login_request("ada@example.com", PASSWORD)).await;
    tokens(answer.message());
    before.join("bob@example.com").await;
    assert_eq!(get(&server, "/readyz").await.status, 200);
    for stream in &mut slow {
        closed(stream).await;
    }
    assert!(!server.log.so_far().iter().any(|line| line.contains("cannot accept")), "descriptors ran out");
    drop((before, browser));
    server.stop().await;
    place.remove().await;
}

/// Pages take the places that there are for them; whoever has one keeps it, places come back, and others have theirs.
#[tokio::test]
async fn a_node_full_of_pages_serves_those_it_has_and_has_room_again() {
    let place = place().await;
    let server = serve_with_few_descriptors(&place).await;
    let before = Client::of(&server).await;
    let tokens = before.join("ada@example.com").await;
    // A whole head, and never a body.
    let head = format!(
        "POST {AUTH}/Login HTTP/1.1\r\nhost: a\r\norigin: {APP}\r\ncontent-type: {BINARY}\r\ncontent-length: 60000\r\n\r\n"
    );
    let crowd = crowd(server.grpc, head.as_bytes()).await;
    let renewed = before.refresh(&tokens.refresh_token).await.unwrap();
    let newcomer = Client::of(&server).await;
    let renewed = newcomer.refresh(&renewed.refresh_token).await.unwrap();
    assert_eq!(get(&server, "/readyz").await.status, 200);
    drop(crowd);
    until("there is room for a page", async || {
        let head = format!("OPTIONS {AUTH}/Login HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        wire::raw(server.grpc, head.as_bytes(), |_| {}).await.starts_with("HTTP/1.1 405").then_some(())
    })
    .await;
    newcomer.refresh(&renewed.refresh_token).await.unwrap();
    assert!(!server.log.so_far().iter().any(|line| line.contains("cannot accept")), "descriptors ran out");
    drop((before, newcomer));
    server.stop().await;
    place.remove().await;
}

/// Whoever asks on and on and reads nothing is not heard for ever: the answers would have to be kept.
#[tokio::test]
async fn whoever_takes_no_answers_is_sent_away() {
    /// More than the buffers of two sockets hold, in answers, which are longer than what asks for them.
    const MOST: usize = 16 << 20;
    let place = place().await;
    let server = place.serve().await;
    let expects = "expect: 100-continue\r\ncontent-length: 1\r\n\r\nx";
    let preflight = format!(
        "OPTIONS {AUTH}/Login HTTP/1.1\r\nhost: a\r\norigin: {APP}\r\naccess-control-request-method: POST\r\n{expects}"
    );
    let refused = format!(
        "POST /vouchsafe.v1.AccountService/GetAccount HTTP/1.1\r\nhost: a\r\norigin: {APP}\r\ncontent-type: {BINARY}\r\n{expects}"
    );
    for request in [preflight, refused] {
        let requests = request.repeat(1000);
        let mut stream = TcpStream::connect(server.grpc).await.unwrap();
        let mut taken = 0;
        let asking = async {
            while let Ok(written) = stream.write(&requests.as_bytes()[taken % requests.len()..]).await {
                taken += written;
                assert!(taken < MOST, "everything is taken");
            }
        };
        timeout(BOUND, asking).await.expect("the connection is closed");
    }
    Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let place = place().await;
    let server = place.serve().await;
    let login = format!("POST {AUTH}/Login HTTP/1.1\r\nhost: a\r\norigin: {APP}\r\ncontent-type: {BINARY}\r\n");
    let long = format!("{login}x-long: {}\r\n\r\n", "a".repeat(17 * 1024));
    let many = format!("{login}{}\r\n", "a: b\r\n".repeat(200));
    for head in [long, many] {
        let said = wire::raw(server.grpc, head.as_bytes(), |_| {}).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    }
    // A message of a megabyte is announced, and nobody waits for it.
    let mut stream = TcpStream::connect(server.grpc).await.unwrap();
    let frame_head = [&b"\0"[..], &(1_u32 << 20).to_be_bytes(), b"begins"].concat();
    let head = format!("{login}content-length: {}\r\n\r\n", (1 << 20) + 5);
    stream.write_all(&[head.as_bytes(), &frame_head].concat()).await.unwrap();
    let mut said = Vec::new();
    let told = async {
        while !String::from_utf8_lossy(&said).contains("grpc-status") {
            assert!(stream.read_buf(&mut said).await.unwrap() > 0, "{}", String::from_utf8_lossy(&said));
        }
    };
    timeout(BOUND, told).await.expect("it is refused");
    // OUT_OF_RANGE, as over HTTP/2.
    assert!(
        String::from_utf8_lossy(&said).replace(' ', "").contains("grpc-status:11"),
        "{}",
        String::from_utf8_lossy(&said)
    );
    Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn pages_are_answered_before_the_end_and_hold_nobody_up() {
    // Longer than the test may take: not the bound ends the drain, but the last call.
    let place = place().await.set("shutdown.drain", "10m").set("grpc.max_deadline", "10m");
    let mut server = place.serve().await;
    let mut idle = Browser::at(server.grpc).await;
    idle.call(BINARY, &format!("{AUTH}/Register"), None, &register("ada@example.com"))
        .await
        .message::<v1::RegisterResponse>();
    let mut watching = Stream::watch(&mut Browser::at(server.grpc).await, BINARY).await;
    watching.next().await.unwrap();

    // A sign-in whose message has half arrived.
    let message = frame(&login_request("ada@example.com", PASSWORD));
    let (first, rest) = message.split_at(7);
    let mut busy = TcpStream::connect(server.grpc).await.unwrap();
    let head = format!(
        "POST {AUTH}/Login HTTP/1.1\r\nhost: a\r\norigin: {APP}\r\ncontent-type: {BINARY}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        message.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    // It is told when somebody waits for its message.
    let mut go_on = *b"HTTP/1.1 100 Continue\r\n\r\n";
    timeout(BOUND, busy.read_exact(&mut go_on)).await.expect("the call has begun").unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    busy.write_all(first).await.unwrap();
    server.signal(Signal::TERM);
    until("nobody new comes in", async || TcpStream::connect(server.grpc).await.err()).await;
    // The stream ends with a status, and the idle connection is closed.
    while let Some((flag, _)) = watching.next().await {
        if flag == 0x80 {
            break;
        }
    }
    assert!(timeout(BOUND, idle.driver).await.is_ok(), "an idle connection is closed");

    busy.write_all(rest).await.unwrap();
    let mut said = Vec::new();
    timeout(BOUND, busy.read_to_end(&mut said)).await.expect("the connection ends with its answer").unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.starts_with("HTTP/1.1 200") && said.contains("connection: close") && said.contains("grpc-status:0"),
        "{said}"
    );
    let status = server.wait().await;
    assert!(status.success(), "{status}");
    place.remove().await;
}

/// Pages share the limits of everybody; here those on a connection's calls do not exist, since there is one at a time.
#[tokio::test]
async fn many_pages_at_once_are_served() {
    let place = place().await;
    let server = place.serve().await;
    Client::of(&server).await.register("ada@example.com").await.unwrap();
    let calls = (0..20).map(async |_| {
        let mut browser = Browser::at(server.grpc).await;
        for _ in 0..5 {
            let request = v1::VerifyRequest { token: "x".into(), ..Default::default() };
            let answer = browser.call(BINARY, &format!("{AUTH}/Verify"), None, &request).await;
            assert!(!answer.message::<v1::VerifyResponse>().active);
        }
    });
    join_all(calls).await;
    server.stop().await;
    place.remove().await;
}
