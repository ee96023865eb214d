//! A login storm: many more logins than can be hashed, half of them with a wrong password, from a process of its own.

use std::{env, io::Read as _, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep_until},
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use vouchsafe::pb::v1::auth_service_client::AuthServiceClient;

use crate::{
    load::{PASSWORD, login},
    process::Process,
};

/// How long the storm blows before anything is measured: until it has been refused for the first time, and this.
const RISE: Duration = Duration::from_millis(500);

/// A storm. It ends when it is dropped, and its calls with it.
pub(crate) struct Storm(#[allow(dead_code)] Child);

impl Storm {
    /// Starts one, and waits until the server sheds logins.
    pub(crate) async fn rise(server: &Process, per_second: u32) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["storm", &server.address.to_string(), &per_second.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap();
        assert_eq!(line.as_deref(), Some("shed"));
        tokio::time::sleep(RISE).await;
        Self(child)
    }

    /// Ends it now.
    pub(crate) async fn end(mut self) {
        self.0.kill().await.unwrap();
    }
}

/// The process: logins at a fixed rate until standard input ends.
pub(crate) fn run(args: &[String]) {
    let (address, per_second) = (args[0].clone(), args[1].parse::<u32>().unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut clients: Vec<AuthServiceClient<Channel>> = Vec::new();
        // More than one, as a connection carries only so many calls at once.
        for _ in 0..8 {
            let endpoint = Endpoint::try_from(format!("http://{address}")).unwrap();
            clients.push(AuthServiceClient::new(endpoint.connect().await.unwrap()));
        }
        let (begun, mut number) = (Instant::now(), 0_u32);
        let shed = std::sync::Arc::new(std::sync::Once::new());
        loop {
            sleep_until(begun + Duration::from_secs(1) * number / per_second).await;
            let mut client = clients[number as usize % clients.len()].clone();
            let (password, shed) =
                (if number % 2 == 0 { PASSWORD } else { "wrong horse battery staple" }, shed.clone());
            tokio::spawn(async move {
                match login(&mut client, &format!("user-{}", number % 16), password).await {
                    Ok(_) | Err(Code::Unauthenticated) => {}
                    Err(Code::ResourceExhausted) => shed.call_once(|| println!("shed")),
                    Err(code) => panic!("a login in the storm ended with {code:?}"),
                }
            });
            number += 1;
        }
    });
}
