//! A store on a database of its own, and short ways to fill it.

use std::{sync::Arc, time::Duration};

use tokio::sync::Barrier;
use vouchsafe::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        custom_claims::CustomClaims,
        email::Email,
        id::{SessionId, Subject, UserId},
        refresh::Presented,
        secret::{Entropy as _, random},
        session::{AtLimit, DeviceInfo, EndReason, Grant, SessionLimit, SessionPolicy},
        time::Clock as _,
        user::{Attributes, Label, PhcString, User, UserState, Username},
    },
    store::{
        StoreError, Surroundings, open,
        port::{
            Caller, Change, CreateUser, LiveSession, NewDevice, NewSession, NewUser, RefreshAttempt, RefreshOutcome,
            SessionCheck, SessionPage, Store, Waiting,
        },
    },
};

use crate::support::{Backend, ManualClock, OPTIONS, RecordingObserver, RecordingVault, TestDatabase, TestEntropy};

/// The redelivery window.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// How long sessions live.
pub(super) const POLICY: SessionPolicy =
    SessionPolicy { idle: Duration::from_hours(720), absolute: Duration::from_hours(2160) };
/// The client's address and agent in every event here. They must not turn up in any column that is not sealed.
pub(super) const ADDRESS: &str = "203.0.113.77";
/// See [`ADDRESS`].
pub(super) const AGENT: &str = "Difference Engine/2.0";

/// Every table that a verb may change.
const TABLES: [&str; 12] = [
    "users",
    "roles",
    "user_roles",
    "create_requests",
    "sessions",
    "feed_head",
    "feed",
    "signing_keys",
    "refresh_keys",
    "revoked_keys",
    "data_keys",
    "audit_events",
];

/// A store and everything around it.
pub(super) struct World {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) entropy: Arc<TestEntropy>,
    pub(super) vault: Arc<RecordingVault>,
    pub(super) observer: Arc<RecordingObserver>,
    pub(super) database: TestDatabase,
    caller: (Caller, Waiting),
}

/// Runs a test on a database of its own, which goes whether the test passes or not. Afterwards, whatever the test did, the
/// feed has no gap and the observer heard every entry once.
pub(super) fn run<F>(backend: Backend, test: impl FnOnce(Arc<World>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let world = Arc::new(World::new(backend).await);
        let mut outcome = tokio::spawn(test(Arc::clone(&world))).await;
        world.store.close().await;
        if outcome.is_ok() {
            let world = Arc::clone(&world);
            outcome = tokio::spawn(async move { world.check_feed().await }).await;
        }
        world.database.remove().await;
        outcome
    });
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
}

/// Runs `count` futures that begin at one moment, each in a task of its own.
pub(super) async fn at_once<F>(count: usize, make: impl Fn(usize) -> F) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let barrier = Arc::new(Barrier::new(count));
    let begin = |i| {
        let (barrier, future) = (Arc::clone(&barrier), make(i));
        tokio::spawn(async move {
            barrier.wait().await;
            future.await
        })
    };
    let tasks: Vec<_> = (0..count).map(begin).collect();
    let mut outputs = Vec::with_capacity(count);
    for task in tasks {
        outputs.push(task.await.unwrap());
    }
    outputs
}

impl World {
    async fn new(backend: Backend) -> Self {
        let database = TestDatabase::migrated(backend).await;
        let (clock, entropy) = (Arc::new(ManualClock::new()), Arc::new(TestEntropy::default()));
        let (vault, observer) = (Arc::new(RecordingVault::default()), Arc::new(RecordingObserver::default()));
        let around = Surroundings {
            clock: Arc::clone(&clock) as _,
            entropy: Arc::clone(&entropy) as _,
            vault: Arc::clone(&vault) as _,
            observer: Arc::clone(&observer) as _,
            kept_passwords: 2,
        };
        let store = open(database.location(), &OPTIONS, around).await.unwrap();
        Self { store, clock, entropy, vault, observer, database, caller: Caller::waiting() }
    }

    /// Another node on the same database.
    pub(super) async fn another_node(&self) -> Arc<dyn Store> {
        self.try_another_node().await.unwrap()
    }

    /// The same where it may be refused.
    pub(super) async fn try_another_node(&self) -> Result<Arc<dyn Store>, StoreError> {
        let around = Surroundings {
            clock: Arc::clone(&self.clock) as _,
            entropy: Arc::clone(&self.entropy) as _,
            vault: Arc::clone(&self.vault) as _,
            observer: Arc::clone(&self.observer) as _,
            kept_passwords: 2,
        };
        open(self.database.location(), &OPTIONS, around).await
    }

    async fn check_feed(&self) {
        let head = self.database.integer("SELECT number FROM feed_head").await;
        let numbers: Vec<_> = self.observer.entries().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (1..=head).collect::<Vec<_>>(), "the observer hears of every entry exactly once");
    }

    /// Moves the clock on.
    pub(super) fn wait(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Everything in the database, for finding out whether anything has changed.
    pub(super) async fn everything(&self) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        for table in TABLES {
            all.push((table, self.database.dump(table).await));
        }
        all
    }

    /// A user to be created; `name` makes the address and the user name.
    pub(super) fn new_user(&self, name: &str) -> NewUser {
        let now = self.clock.now();
        NewUser {
            user: User {
                id: UserId::new(now, &random(&*self.entropy)),
                email: Email::parse(&format!("{name}@example.com")).unwrap(),
                email_verified_time: None,
                username: Some(Username::parse(name).unwrap()),
                display_name: Label::parse(name).unwrap(),
                phone_number: None,
                locale: None,
                has_password: true,
                totp_enrolled: false,
                state: UserState::Active,
                epoch: 0,
                roles: Vec::new(),
                attributes: Attributes::default(),
                custom_claims: CustomClaims::default(),
                revision: 1,
                create_time: now,
                update_time: now,
            },
            password_hash: Some(PhcString::new(format!("hash of {name}"))),
        }
    }

    /// A user that exists.
    pub(super) async fn user(&self, name: &str) -> UserId {
        let new = self.new_user(name);
        let id = new.user.id;
        let events = vec![self.event(Some(id), Act::Registered)];
        assert_eq!(self.store.create_user(new, events).await.unwrap(), CreateUser::Created);
        id
    }

    /// Suspends an account, for which there is no verb yet.
    pub(super) async fn suspend(&self, user: UserId) {
        let id = self.database.id(user.as_uuid());
        assert_eq!(self.database.execute(&format!("UPDATE users SET state = 'suspended' WHERE id = {id}")).await, 1);
    }

    /// An event as a request would cause it.
    #[expect(clippy::unused_self, reason = "reads better where it is used")]
    pub(super) fn event(&self, subject: Option<UserId>, act: Act) -> AuditEvent {
        AuditEvent {
            actor: subject.map_or(Actor::Anonymous, Actor::User),
            subject: subject.map(Subject::User),
            act,
            origin: origin(),
        }
    }

    /// A session to begin; its id is later than every one before if the clock has moved on a millisecond.
    pub(super) fn new_session(&self, user: UserId, checked: PhcString) -> NewSession {
        let now = self.clock.now();
        let mut random_bytes = [0; 10];
        self.entropy.fill(&mut random_bytes);
        NewSession {
            id: SessionId::new(now, &random_bytes),
            grant: Grant {
                user,
                epoch: 0,
                client_id: "first-party".into(),
                audience: vec![
                    "vouchsafe".to_owned().try_into().unwrap(),
                    "https://api.example.com".to_owned().try_into().unwrap(),
                ],
                scope: "read write".to_owned().try_into().unwrap(),
                auth_time: now,
                amr: vec!["pwd".into()],
                acr: "1".into(),
            },
            checked_hash: Some(checked),
            second_factor: false,
            device: DeviceInfo {
                name: Label::parse("Ada's laptop").unwrap(),
                user_agent: Label::parse("ua").unwrap(),
                ip_address: Label::parse("192.0.2.1").unwrap(),
            },
            known_device: None,
            new_device: NewDevice {
                id: *SessionId::new(now, &random(&*self.entropy)).as_uuid(),
                secret: random(&*self.entropy),
            },
            limit: SessionLimit { most: 100, at_limit: AtLimit::EvictOldest },
            news: None,
            forgiven: Vec::new(),
            key_id: 1,
            check: SessionCheck::new(|_| Ok(())),
        }
    }

    /// The hash of a user's password as it is now.
    pub(super) async fn hash_of(&self, user: UserId) -> PhcString {
        self.store.get_credentials(user).await.unwrap().unwrap().password_hash.unwrap()
    }

    /// Begins a session, if the user's password is the one with this hash.
    pub(super) async fn sign_in_with(&self, user: UserId, hash: &str) -> Option<LiveSession> {
        let new = self.new_session(user, PhcString::new(hash.into()));
        let event = self.event(Some(user), Act::LoggedIn { session: new.id });
        self.store.create_session(new, POLICY, event).await.unwrap().map(|begun| begun.live)
    }

    /// Begins a session of a user, a millisecond after the one before.
    pub(super) async fn sign_in(&self, user: UserId) -> SessionId {
        self.wait(Duration::from_millis(1));
        let hash = self.hash_of(user).await;
        self.sign_in_with(user, hash.expose()).await.expect("the account is active").session.id
    }

    /// A refresh that arrives now.
    pub(super) fn attempt(&self, session: SessionId, generation: i64) -> RefreshAttempt {
        RefreshAttempt {
            session,
            presented: Presented { generation, arrived: self.clock.now() },
            window: WINDOW,
            policy: POLICY,
            key_id: 1,
            hot: None,
            caller: self.caller.0.clone(),
            origin: origin(),
        }
    }

    /// Presents a generation now.
    pub(super) async fn refresh(&self, session: SessionId, generation: i64) -> RefreshOutcome {
        self.store.refresh(self.attempt(session, generation)).await.unwrap()
    }

    /// The same, where it must be granted.
    pub(super) async fn granted(&self, session: SessionId, generation: i64) -> LiveSession {
        granted(self.refresh(session, generation).await)
    }

    /// What a refresh is granted that changes nothing: the redelivery of a first generation that was lost.
    pub(super) async fn granted_again(&self, session: SessionId) -> LiveSession {
        let window = Duration::from_hours(1);
        granted(self.store.refresh(RefreshAttempt { window, ..self.attempt(session, -1) }).await.unwrap())
    }

    /// Ends every session of a user but one.
    pub(super) async fn end_others(&self, user: UserId, spared: SessionId) {
        let event = self.event(Some(user), Act::OtherSessionsEnded { spared: Some(spared) });
        assert_eq!(self.store.end_other_sessions(user, spared, event).await.unwrap(), Change::Done);
    }

    /// Ends a session, on behalf of its owner or not.
    pub(super) async fn end(&self, session: SessionId, owner: Option<UserId>) -> bool {
        let reason = if owner.is_some() { EndReason::Revoked } else { EndReason::Logout };
        self.store.end_session(session, owner, reason, origin()).await.unwrap()
    }

    /// The ids of a user's live sessions, newest first.
    pub(super) async fn live(&self, user: UserId) -> Vec<SessionId> {
        self.page(user, None, 1_000).await
    }

    /// A page of them.
    pub(super) async fn page(&self, user: UserId, before: Option<SessionId>, limit: u32) -> Vec<SessionId> {
        let page = SessionPage { user, before, limit, policy: POLICY };
        self.store.list_sessions(page).await.unwrap().into_iter().map(|session| session.id).collect()
    }

    /// The details of the events of this act.
    pub(super) async fn details(&self, act: &str) -> Vec<serde_json::Value> {
        let sql = format!("SELECT CAST(detail AS TEXT) FROM audit_events WHERE act = '{act}' ORDER BY time");
        self.database.texts(&sql).await.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    /// How many events of this act there are.
    pub(super) async fn count(&self, act: &str) -> i64 {
        self.database.integer(&format!("SELECT COUNT(*) FROM audit_events WHERE act = '{act}'")).await
    }
}

/// Where every request here comes from.
pub(super) fn origin() -> Origin {
    Origin { request_id: "request-1".into(), ip_address: ADDRESS.into(), user_agent: AGENT.into() }
}

/// What a granted refresh answers with.
pub(super) fn granted(outcome: RefreshOutcome) -> LiveSession {
    match outcome {
        RefreshOutcome::Granted(live, _) => *live,
        other => panic!("not granted: {other:?}"),
    }
}
