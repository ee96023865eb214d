//! Ten thousand callers who go away. SECURITY fault 7: one live branch, every change whole and audited once, no connection
//! left in a transaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Status, transport::Channel};
use vouchsafe::pb::v1::{self, auth_service_client::AuthServiceClient};

use super::on_both_databases;
use crate::support::{Backend, PASSWORD, TestEntropy, TestNode, login_request, reason, until};

on_both_databases!(ten_thousand_callers_who_go_away_leave_nothing_half_done);

const CALLS: usize = 10_000;
const BATCH: usize = 250;
const USERS: u64 = 8;
/// Longest that a caller waits, in microseconds: hardly long enough for the call to leave, for it to be under way, and for
/// an answer.
const PATIENCE: [u64; 3] = [20_000, 100_000, 600_000];

/// What a caller knows of a session.
struct Known {
    newest: String,
    access: Vec<String>,
    logout_tried: bool,
}

/// What became of a call whose caller was patient enough.
enum Outcome {
    Tokens(v1::TokenPair),
    Done,
    Refused(Status),
    GivenUp,
}

enum Call {
    Login(String),
    Refresh(String),
    Register(String),
    Logout(String),
}

async fn make(mut auth: AuthServiceClient<Channel>, call: Call) -> Result<Outcome, Status> {
    Ok(match call {
        Call::Login(email) => {
            let response = auth.login(login_request(&email, PASSWORD)).await?.into_inner();
            let v1::login_response::Outcome::Tokens(tokens) = response.outcome.unwrap();
            Outcome::Tokens(tokens)
        }
        Call::Refresh(refresh_token) => {
            Outcome::Tokens(auth.refresh(v1::RefreshRequest { refresh_token }).await?.into_inner().tokens.unwrap())
        }
        Call::Register(email) => {
            auth.register(v1::RegisterRequest { email, password: PASSWORD.into(), ..Default::default() }).await?;
            Outcome::Done
        }
        Call::Logout(refresh_token) => {
            auth.logout(v1::LogoutRequest { refresh_token }).await?;
            Outcome::Done
        }
    })
}

struct Storm {
    dice: TestEntropy,
    known: BTreeMap<String, Known>,
    given_up: usize,
    finished: usize,
}

impl Storm {
    fn pick(&self) -> Call {
        // Nobody has tried to end these; but one that is picked to be refreshed may be picked to be ended next.
        let open: Vec<_> = self.known.iter().filter(|(_, known)| !known.logout_tried).collect();
        let any = || open[usize::try_from(self.dice.below(open.len() as u64)).unwrap()].0.clone();
        match self.dice.below(40) {
            10..34 if !open.is_empty() => Call::Refresh(any()),
            38.. if !open.is_empty() => Call::Logout(any()),
            34..38 => Call::Register(format!("new{}@example.com", self.dice.below(u64::MAX))),
            _ => Call::Login(format!("user{}@example.com", self.dice.below(USERS))),
        }
    }

    /// One batch, all at once. Of a session everybody presents the same token, as callers do that share one.
    async fn batch(&mut self, channels: &[Channel]) {
        let mut calls = JoinSet::new();
        for _ in 0..BATCH {
            let longest = PATIENCE[usize::try_from(self.dice.below(3)).unwrap()];
            let patience = Duration::from_micros(self.dice.below(longest));
            let call = match self.pick() {
                Call::Refresh(session) => Call::Refresh(self.known[&session].newest.clone()),
                Call::Logout(session) => {
                    let known = self.known.get_mut(&session).unwrap();
                    known.logout_tried = true;
                    Call::Logout(known.newest.clone())
                }
                other => other,
            };
            let channel = &channels[usize::try_from(self.dice.below(channels.len() as u64)).unwrap()];
            let call = make(AuthServiceClient::new(channel.clone()), call);
            calls.spawn(async move {
                match timeout(patience, call).await {
                    Ok(answer) => answer.unwrap_or_else(Outcome::Refused),
                    Err(_) => Outcome::GivenUp,
                }
            });
        }
        while let Some(outcome) = calls.join_next().await {
            self.note(outcome.unwrap());
        }
        // What was sent on a connection before this has arrived when this is answered: no call outlives its batch, or it
        // would come back with an old token as a thief does.
        for channel in channels {
            let request = v1::VerifyRequest { token: "x".into(), ..Default::default() };
            AuthServiceClient::new(channel.clone()).verify(request).await.unwrap();
        }
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::GivenUp => self.given_up += 1,
            Outcome::Done => self.finished += 1,
            Outcome::Tokens(tokens) => {
                self.finished += 1;
                let new = || Known { newest: String::new(), access: Vec::new(), logout_tried: false };
                let known = self.known.entry(tokens.session_id).or_insert_with(new);
                known.newest = tokens.refresh_token;
                known.access.push(tokens.access_token);
            }
            Outcome::Refused(status) => {
                self.finished += 1;
                // Logged out meanwhile; shed; or its connection ended, for too many calls were dropped on it.
                let reason = reason(&status);
                let expected = matches!(&*reason, "SESSION_REVOKED" | "OVERLOADED" | "STORE_UNAVAILABLE");
                let transport = reason.is_empty()
                    && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal);
                assert!(expected || transport, "{status:?}");
            }
        }
    }
}

async fn ten_thousand_callers_who_go_away_leave_nothing_half_done(backend: Backend) {
    let node = Arc::new(TestNode::builder(backend).await.set("sessions.redelivery_window=5m").start().await);
    let mut storm = Storm { dice: TestEntropy::default(), known: BTreeMap::new(), given_up: 0, finished: 0 };
    for n in 0..USERS {
        node.register(&format!("user{n}@example.com")).await;
        storm.note(Outcome::Tokens(node.login(&format!("user{n}@example.com")).await));
    }
    let mut channels = Vec::new();
    for _ in 0..6 {
        channels.push(node.channel().await);
    }
    for _ in 0..CALLS / BATCH {
        storm.batch(&channels).await;
    }
    drop(channels);
    assert!(storm.given_up > CALLS / 10 && storm.finished > CALLS / 100, "{} {}", storm.given_up, storm.finished);
    assert_nothing_is_held(&node).await;
    assert_every_change_is_whole(&node).await;

    for (session, known) in &storm.known {
        let id = node.database.id(&session.parse().unwrap());
        let sql = format!("SELECT COUNT(*) FROM sessions WHERE id = {id} AND end_time IS NOT NULL");
        let ended = node.database.integer(&sql).await;
        match (ended, node.refresh(&known.newest).await) {
            (0, answer) => {
                let renewed = answer.unwrap();
                node.refresh(&renewed.refresh_token).await.unwrap();
                assert!(node.verify(known.access.last().unwrap()).await.active);
            }
            (_, answer) => {
                assert!(known.logout_tried, "ended by nobody");
                assert_eq!(reason(&answer.unwrap_err()), "SESSION_REVOKED");
                for access in &known.access {
                    assert!(!node.verify(access).await.active, "minted before or after, it is dead");
                }
            }
        }
    }
    assert_eq!(node.events("act LIKE 'refresh.%' OR CAST(detail AS TEXT) LIKE '%replay%'").await, 0, "no false alarm");
    Arc::into_inner(node).unwrap().remove().await;
}

async fn assert_nothing_is_held(node: &TestNode) {
    if node.database.postgres_pool().is_some() {
        let busy = "SELECT COUNT(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'vouchsafe' AND state <> 'idle'";
        until("every connection is idle", async || node.database.integer(busy).await == 0).await;
    }
    // On SQLite a transaction left open would hold the one write lock.
    let touched = node.database.execute("UPDATE schema_compatibility SET oldest_reader = oldest_reader").await;
    assert_eq!(touched, 1);
    for n in 0..USERS {
        let tokens = node.login(&format!("user{n}@example.com")).await;
        node.refresh(&tokens.refresh_token).await.unwrap();
    }
}

async fn assert_every_change_is_whole(node: &TestNode) {
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
        assert_eq!(node.database.integer(&format!("SELECT COUNT(*) {sql}")).await, 0, "{what}");
    }
    let ended = node.database.integer("SELECT COUNT(*) FROM sessions WHERE end_time IS NOT NULL").await;
    let revoked = "SELECT COUNT(*) FROM feed WHERE CAST(revocation AS TEXT) LIKE '%\"session\"%'";
    assert_eq!(node.database.integer(revoked).await, ended);
    assert!(ended > 0, "no logout ever arrived");
    let gaps = "SELECT h.number - (SELECT COUNT(*) FROM feed) FROM feed_head h";
    assert_eq!(node.database.integer(gaps).await, 0, "numbered without gaps");
}
