//! A login storm: many more logins than can be hashed, half of them with a wrong password, from a process of its own.

use std::{
    env,
    io::Read as _,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
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

/// How logins in a storm end: with tokens or a refusal, shed, or otherwise. Shed ones cost no hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) hashed: u64,
    pub(crate) shed: u64,
    pub(crate) failed: u64,
}

static HASHED: AtomicU64 = AtomicU64::new(0);
static SHED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

/// A storm. It ends when it is dropped, and its calls with it.
pub(crate) struct Storm {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Storm {
    /// Starts one, and waits until the server sheds logins.
    pub(crate) async fn rise(server: &Process, per_second: u32) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["storm", &server.address.to_string(), &per_second.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut storm = Self { child, stdin, lines: BufReader::new(stdout).lines() };
        assert_eq!(storm.lines.next_line().await.unwrap().as_deref(), Some("shed"));
        tokio::time::sleep(RISE).await;
        storm
    }

    /// Ends it now. How its logins ended.
    pub(crate) async fn end(self) -> Ends {
        let Self { mut child, stdin, mut lines } = self;
        drop(stdin);
        let line = lines.next_line().await.unwrap().unwrap();
        child.wait().await.unwrap();
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        Ends { hashed: numbers[0], shed: numbers[1], failed: numbers[2] }
    }
}

/// The process: logins at a fixed rate until standard input ends.
pub(crate) fn run(args: &[String]) {
    let (address, per_second) = (args[0].clone(), args[1].parse::<u32>().unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read(&mut [0]);
        let [hashed, shed, failed] = [&HASHED, &SHED, &FAILED].map(|count| count.load(Ordering::Relaxed));
        println!("{hashed} {shed} {failed}");
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
        loop {
            sleep_until(begun + Duration::from_secs(1) * number / per_second).await;
            let mut client = clients[number as usize % clients.len()].clone();
            // A wrong one is for somebody else each time: one account is slowed after a few, and then costs no hash.
            let (identifier, password) = if number.is_multiple_of(2) {
                (format!("user-{}", number % 16), PASSWORD)
            } else {
                (format!("nobody-{number}"), "wrong horse battery staple")
            };
            tokio::spawn(async move {
                let count = match login(&mut client, &identifier, password).await {
                    Ok(_) | Err(Code::Unauthenticated) => &HASHED,
                    Err(Code::ResourceExhausted) => &SHED,
                    Err(_) => &FAILED,
                };
                if count.fetch_add(1, Ordering::Relaxed) == 0 && std::ptr::eq(count, &raw const SHED) {
                    println!("shed");
                }
            });
            number += 1;
        }
    });
}
