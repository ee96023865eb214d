//! Ten thousand calls whose callers go away within 20 ms (FAULTS 7): one live branch, every change whole and audited once, no
//! connection left in a transaction, and nothing kept of whoever has gone.

use std::sync::Arc;

use tokio::task::JoinSet;
use vouchsafe::pb::v1::{Consistency, TokenPair};

use super::{
    client::Client,
    harness::{Place, Server, until},
    impatient::{Caller, Line, Seen},
    web::{get, metric},
};
use crate::{
    rpc::on_forms,
    support::{Backend, TestEntropy, reason},
};

on_forms!([sqlite Sqlite redis Redis] [callers_who_go_away_leave_nothing_half_done]);

/// At once. Each makes its calls one after the other.
const CALLERS: usize = 16;
/// Connections to each node, which callers share.
const LINES: usize = 4;

async fn callers_who_go_away_leave_nothing_half_done(backend: Backend) {
    // An embedded server is one node; it has its share of the callers, and does all its writing one by one.
    let (nodes, calls) = if backend == Backend::Sqlite { (1, 2_500) } else { (2, 10_000) };
    let mut place = Place::new(backend).await;
    // However busy the machine: nobody is late, Redis is not taken to be away, and there is room.
    for (key, value) in
        [("sessions.redelivery_window", "5m"), ("redis.timeout", "2s"), ("database.acquire_timeout", "20s")]
    {
        place = place.set(key, value);
    }
    let mut servers = Vec::new();
    for _ in 0..nodes {
        servers.push(place.serve().await);
    }
    let dice = Arc::new(TestEntropy::default());
    let mut seen = storm(&servers, &dice, "first", calls / 2).await;
    settle(&place, &servers).await;
    let held = memory(&servers).await;
    let second = storm(&servers, &dice, "second", calls / 2).await;
    settle(&place, &servers).await;
    for (before, after) in held.iter().zip(memory(&servers).await) {
        println!("resident: {:.1} MiB, then {:.1}", before / MIB, after / MIB);
        assert!(after < before + 16.0 * MIB, "{before} bytes, then {after}");
    }
    seen.add(second);
    let Seen { impatient, answered, given_up, cut_off, shed, .. } = seen;
    println!("{impatient} impatient: {given_up} given up, {cut_off} cut off; {answered} answered, {shed} of them shed");
    assert!(given_up > calls / 10 && answered > calls / 10 + shed, "{given_up} given up, {answered} answered");
    for method in ["Login", "Register", "Refresh", "Logout"] {
        assert!(cancelled(&servers, method).await > 0, "no {method} was cancelled when it had arrived");
    }
    assert_every_change_is_whole(&place).await;
    assert_acknowledged(&place, &seen).await;
    assert_sessions(&place, &servers, &seen).await;
    let alarms = "SELECT act FROM audit_events WHERE act LIKE 'refresh.%' OR CAST(detail AS TEXT) LIKE '%replay%'";
    assert_eq!(place.database.texts(alarms).await, [""; 0]);
    for server in servers {
        server.stop().await;
    }
    place.remove().await;
}

const MIB: f64 = 1024.0 * 1024.0;

impl Seen {
    fn add(&mut self, other: Self) {
        self.open.extend(other.open);
        self.over.extend(other.over);
        self.doubtful.extend(other.doubtful);
        self.registered.extend(other.registered);
        self.impatient += other.impatient;
        self.answered += other.answered;
        self.given_up += other.given_up;
        self.cut_off += other.cut_off;
        self.shed += other.shed;
    }
}

async fn storm(servers: &[Server], dice: &Arc<TestEntropy>, name: &str, calls: usize) -> Seen {
    let lines: Vec<Vec<_>> = servers.iter().map(|server| (0..LINES).map(|_| Line::to(server.grpc)).collect()).collect();
    let setup = Client::of(&servers[0]).await;
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let email = format!("{name}{number}@example.com");
        setup.register(&email).await.unwrap();
        let lines = lines.iter().map(|lines| Arc::clone(&lines[number % LINES])).collect();
        callers.spawn(Caller::new(email, lines, Arc::clone(dice)).work(calls.div_ceil(CALLERS)));
    }
    let mut seen = Seen::default();
    for caller in callers.join_all().await {
        seen.add(caller);
    }
    seen
}

/// Waits until the servers keep nothing of those who have gone.
async fn settle(place: &Place, servers: &[Server]) {
    if place.database.postgres_pool().is_some() {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name = 'vouchsafe' AND (state <> 'idle' OR xact_start IS NOT NULL)";
        until("no connection is busy", async || (place.database.integer(busy).await == 0).then_some(())).await;
    }
    // On SQLite a transaction left open would hold the one write lock.
    let touched = place.database.execute("UPDATE schema_compatibility SET oldest_reader = oldest_reader").await;
    assert_eq!(touched, 1);
    for server in servers {
        for series in [
            "vouchsafe_grpc_connections",
            "vouchsafe_database_connections{state=\"in_use\"}",
            "vouchsafe_password_hash_running",
            "vouchsafe_password_hash_queue",
        ] {
            until(series, async || (metric(server, series).await < 0.5).then_some(())).await;
        }
    }
}

async fn memory(servers: &[Server]) -> Vec<f64> {
    let mut held = Vec::new();
    for server in servers {
        held.push(metric(server, "process_resident_memory_bytes").await);
    }
    held
}

/// How many calls the servers saw go away.
async fn cancelled(servers: &[Server], method: &str) -> u64 {
    let mut count = 0;
    for server in servers {
        let scrape = get(server, "/metrics").await.body;
        let counts = scrape.lines().filter(|line| {
            line.starts_with("rpc_server_call_duration_seconds_count{")
                && line.contains(&format!("AuthService/{method}\""))
                && line.contains("\"CANCELLED\"")
        });
        count += counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>();
    }
    count
}

async fn assert_every_change_is_whole(place: &Place) {
    let events = |condition: &str| format!("(SELECT COUNT(*) FROM audit_events a WHERE {condition})");
    for (what, sql) in [
        (
            "a session without its one sign-in",
            format!("FROM sessions s WHERE {} <> 1", events("a.act = 'login.succeeded' AND a.session_id = s.id")),
        ),
        (
            "a sign-in without its session",
            "FROM audit_events a WHERE a.act = 'login.succeeded' \
             AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = a.session_id)"
                .to_owned(),
        ),
        (
            "a user without the one registration",
            format!("FROM users u WHERE {} <> 1", events("a.act = 'user.registered' AND a.subject_id = u.id")),
        ),
        (
            "a registration without its user",
            "FROM audit_events a WHERE a.act = 'user.registered' \
             AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = a.subject_id)"
                .to_owned(),
        ),
        (
            "an end that is not recorded once, or a record of no end",
            format!(
                "FROM sessions s WHERE {} <> CASE WHEN s.end_time IS NULL THEN 0 ELSE 1 END",
                events("a.act = 'session.ended' AND a.session_id = s.id")
            ),
        ),
    ] {
        assert_eq!(place.database.integer(&format!("SELECT COUNT(*) {sql}")).await, 0, "{what}");
    }
    let ended = place.database.integer("SELECT COUNT(*) FROM sessions WHERE end_time IS NOT NULL").await;
    let revoked = "SELECT COUNT(*) FROM feed WHERE CAST(revocation AS TEXT) LIKE '%\"session\"%'";
    assert_eq!(place.database.integer(revoked).await, ended);
    let gaps = "SELECT h.number - (SELECT COUNT(*) FROM feed) FROM feed_head h";
    assert_eq!(place.database.integer(gaps).await, 0, "numbered without gaps");
}

/// What was acknowledged is there, and of what nobody asked for there is nothing.
async fn assert_acknowledged(place: &Place, seen: &Seen) {
    let emails = place.database.texts("SELECT email FROM users").await;
    for email in &seen.registered {
        assert!(emails.contains(email), "{email} was registered");
    }
    let ended = place.database.integer("SELECT COUNT(*) FROM sessions WHERE end_time IS NOT NULL").await;
    let (least, most) = (seen.over.len(), seen.over.len() + seen.doubtful.len());
    println!("{ended} sessions ended, {least} of them known to");
    assert!((least..=most).contains(&usize::try_from(ended).unwrap()), "{ended} of {least} to {most}");
    assert!(least > 0 && !seen.doubtful.is_empty(), "no end was ever acknowledged, or none ever given up");
}

/// Each session goes on, or its end was asked for.
async fn assert_sessions(place: &Place, servers: &[Server], seen: &Seen) {
    let mut clients = Vec::new();
    for server in servers {
        clients.push(Client::of(server).await);
    }
    for (number, held) in seen.open.iter().enumerate() {
        assert_goes_on(&clients, held, number).await;
    }
    for held in &seen.over {
        assert_dead(&clients, held).await;
    }
    for (number, held) in seen.doubtful.iter().enumerate() {
        let id = place.database.id(&held.session_id.parse().unwrap());
        let sql = format!("SELECT COUNT(*) FROM sessions WHERE id = {id} AND end_time IS NOT NULL");
        match place.database.integer(&sql).await {
            0 => assert_goes_on(&clients, held, number).await,
            _ => assert_dead(&clients, held).await,
        }
    }
}

/// At one node, and with what that gave at the next.
async fn assert_goes_on(clients: &[Client], held: &TokenPair, number: usize) {
    let [one, other] = [number, number + 1].map(|node| &clients[node % clients.len()]);
    let next = one.refresh(&held.refresh_token).await.unwrap();
    let next = other.refresh(&next.refresh_token).await.unwrap();
    one.claims(&next.access_token).await;
    other.claims(&held.access_token).await;
}

async fn assert_dead(clients: &[Client], held: &TokenPair) {
    for client in clients {
        let refused = client.refresh(&held.refresh_token).await.unwrap_err();
        assert_eq!(reason(&refused), "SESSION_REVOKED");
        assert!(!client.check(&held.access_token, Consistency::Strong).await.unwrap().active);
    }
}
