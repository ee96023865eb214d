//! Challenges: counted, answered once, and gone with what they were issued for.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{
        audit::{Act, Actor, AuditEvent},
        id::UserId,
        secret::random,
        time::Clock as _,
        user::PhcString,
    },
    store::port::{Answer, Answered, ChallengeKind, NewChallenge, Proof},
};

use super::world::{POLICY, World, at_once, origin};

/// A challenge of this user; of nobody, a code to sign in with.
fn new_challenge(w: &World, user: Option<UserId>, kind: ChallengeKind) -> NewChallenge {
    NewChallenge {
        handle: random(&*w.entropy),
        kind,
        user,
        checked_hash: None,
        code_or_place: [7; 32],
        pending: "sealed".into(),
        expire_time: w.clock.now().plus(Duration::from_mins(10)),
    }
}

async fn open(w: &World, new: &NewChallenge) {
    let event = AuditEvent {
        actor: Actor::Anonymous,
        subject: new.user.map(Into::into),
        act: Act::ChallengeIssued,
        origin: origin(),
    };
    w.store.open_challenge(new.clone(), None, event).await.unwrap().expect("the account is active");
}

fn answer(w: &World, challenge: &NewChallenge, proof: Proof) -> Answer {
    let account = challenge.user.unwrap_or(UserId::from_uuid(uuid::Uuid::nil()));
    let session = w.new_session(account, PhcString::new(String::new()));
    Answer {
        handle: challenge.handle,
        user: challenge.user,
        proof,
        mailed_to: None,
        texted_to: None,
        require_verified_email: false,
        further: new_challenge(w, challenge.user, ChallengeKind::SecondFactor),
        session,
        policy: POLICY,
        recovery_news: Arc::new(|_| None),
        origin: origin(),
    }
}

async fn give_recovery_code(w: &World, user: UserId) {
    let (id, hash) = (w.database.id(user.as_uuid()), w.database.bytes(&"09".repeat(32)));
    let sql = format!("INSERT INTO recovery_codes (user_id, code_hash, create_time) VALUES ({id}, {hash}, 0)");
    assert_eq!(w.database.execute(&sql).await, 1);
}

pub(super) async fn of_50_wrong_answers_at_once_five_are_looked_at(w: Arc<World>) {
    let ada = w.user("ada").await;
    give_recovery_code(&w, ada).await;
    for (user, kind) in [(Some(ada), ChallengeKind::SecondFactor), (None, ChallengeKind::LoginCode)] {
        let before = w.count("login.challenge_failed").await;
        let challenge = new_challenge(&w, user, kind);
        open(&w, &challenge).await;
        let answers = at_once(50, |_| {
            let (w, challenge) = (Arc::clone(&w), challenge.clone());
            async move { w.store.answer_challenge(answer(&w, &challenge, Proof::OneTimeCode([8; 32]))).await.unwrap() }
        })
        .await;
        let wrong = answers.iter().filter(|answered| **answered == Answered::Wrong).count();
        let invalid = answers.iter().filter(|answered| **answered == Answered::Invalid).count();
        assert_eq!((wrong, invalid), (5, 45), "{kind:?}");
        assert_eq!(w.count("login.challenge_failed").await, before + 5);
        assert!(w.store.find_challenge(challenge.handle).await.unwrap().is_none());
        let late = w.store.answer_challenge(answer(&w, &challenge, Proof::RecoveryCode([9; 32]))).await.unwrap();
        assert_eq!(late, Answered::Invalid);
    }
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM recovery_codes").await, 1, "not used up");
}

pub(super) async fn of_20_right_answers_at_once_one_begins_a_session(w: Arc<World>) {
    let ada = w.user("ada").await;
    give_recovery_code(&w, ada).await;
    // The same code at two challenges.
    let challenges = [(); 2].map(|()| new_challenge(&w, Some(ada), ChallengeKind::SecondFactor));
    for challenge in &challenges {
        open(&w, challenge).await;
    }
    let answers = at_once(20, |i| {
        let (w, challenge) = (Arc::clone(&w), challenges[i % 2].clone());
        async move { w.store.answer_challenge(answer(&w, &challenge, Proof::RecoveryCode([9; 32]))).await.unwrap() }
    })
    .await;
    assert_eq!(answers.iter().filter(|answered| matches!(answered, Answered::Begun(_))).count(), 1);
    assert_eq!(w.live(ada).await.len(), 1);
    assert_eq!((w.count("recovery_code.used").await, w.count("login.succeeded").await), (1, 1));
}

pub(super) async fn nobody_s_challenge_has_no_right_answer(w: Arc<World>) {
    let challenge = new_challenge(&w, None, ChallengeKind::LoginCode);
    open(&w, &challenge).await;
    for proof in [Proof::OneTimeCode([7; 32]), Proof::RecoveryCode([9; 32]), Proof::Nothing] {
        let answered = w.store.answer_challenge(answer(&w, &challenge, proof)).await.unwrap();
        assert_eq!(answered, Answered::Wrong, "{proof:?}");
    }
    assert_eq!(w.database.integer("SELECT failures FROM challenges").await, 3);
}

pub(super) async fn a_challenge_is_answered_by_its_kind_and_its_user_alone(w: Arc<World>) {
    let (ada, bob) = (w.user("ada").await, w.user("bob").await);
    give_recovery_code(&w, ada).await;
    let second = new_challenge(&w, Some(ada), ChallengeKind::SecondFactor);
    let sent = new_challenge(&w, Some(ada), ChallengeKind::LoginCode);
    open(&w, &second).await;
    open(&w, &sent).await;
    let answered = async |answer| w.store.answer_challenge(answer).await.unwrap();
    assert_eq!(answered(answer(&w, &second, Proof::OneTimeCode([7; 32]))).await, Answered::Wrong);
    assert_eq!(answered(answer(&w, &sent, Proof::RecoveryCode([9; 32]))).await, Answered::Wrong);
    let foreign = Answer { user: Some(bob), ..answer(&w, &sent, Proof::OneTimeCode([7; 32])) };
    assert_eq!(answered(foreign).await, Answered::Invalid);
    let foreign = Answer { user: None, ..answer(&w, &sent, Proof::OneTimeCode([7; 32])) };
    assert_eq!(answered(foreign).await, Answered::Invalid);
    let Answered::Begun(begun) = answered(answer(&w, &sent, Proof::OneTimeCode([7; 32]))).await else {
        panic!("the code was right")
    };
    assert!(!begun.device_known);
    assert!(matches!(answered(answer(&w, &second, Proof::RecoveryCode([9; 32]))).await, Answered::Begun(_)));
    assert_eq!(w.live(ada).await.len(), 2);
}

pub(super) async fn no_session_begins_without_a_factor_that_came_meanwhile(w: Arc<World>) {
    let ada = w.user("ada").await;
    let new = w.new_session(ada, w.hash_of(ada).await);
    let id = w.database.id(ada.as_uuid());
    let seed = w.database.bytes("00");
    let columns = "user_id, id, seed_sealed, create_time, confirm_time, last_step";
    let sql = format!("INSERT INTO totp_factors ({columns}) VALUES ({id}, {id}, {seed}, 0, 0, 0)");
    assert_eq!(w.database.execute(&sql).await, 1);
    let event = w.event(Some(ada), Act::LoggedIn { session: new.id });
    assert!(w.store.create_session(new, POLICY, event).await.unwrap().is_none());
    assert_eq!(w.live(ada).await, []);
}

pub(super) async fn only_second_factors_give_way_to_newer_ones(w: Arc<World>) {
    let ada = w.user("ada").await;
    for (user, kind, alive) in [
        (Some(ada), ChallengeKind::LoginCode, 15),
        (None, ChallengeKind::LoginCode, 15),
        (Some(ada), ChallengeKind::SecondFactor, 10),
    ] {
        let mut challenges = Vec::new();
        for _ in 0..15 {
            w.wait(Duration::from_millis(1));
            challenges.push(new_challenge(&w, user, kind));
            open(&w, challenges.last().unwrap()).await;
        }
        let mut found = Vec::new();
        for challenge in &challenges {
            found.push(w.store.find_challenge(challenge.handle).await.unwrap().is_some());
        }
        let expected: Vec<_> = (0..15).map(|n| n >= 15 - alive).collect();
        assert_eq!(found, expected, "{kind:?} of {user:?}");
    }
}

pub(super) async fn a_second_factor_gives_way_to_those_of_its_place_alone(w: Arc<World>) {
    let ada = w.user("ada").await;
    let at = |place: u8| NewChallenge {
        code_or_place: [place; 32],
        ..new_challenge(&w, Some(ada), ChallengeKind::SecondFactor)
    };
    let (owner, thief) = (at(1), at(2));
    open(&w, &owner).await;
    open(&w, &thief).await;
    for _ in 0..10 {
        w.wait(Duration::from_millis(1));
        open(&w, &at(2)).await;
    }
    assert!(w.store.find_challenge(owner.handle).await.unwrap().is_some());
    assert!(w.store.find_challenge(thief.handle).await.unwrap().is_none());
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM challenges").await, 11);
}

pub(super) async fn expired_challenges_are_forgotten(w: Arc<World>) {
    let ada = w.user("ada").await;
    for user in [Some(ada), None] {
        open(&w, &new_challenge(&w, user, ChallengeKind::LoginCode)).await;
    }
    w.wait(Duration::from_mins(10));
    let alive = new_challenge(&w, Some(ada), ChallengeKind::LoginCode);
    open(&w, &alive).await;
    assert_eq!(w.store.purge_challenges(w.clock.now()).await.unwrap(), 0);
    w.wait(Duration::from_micros(1));
    assert_eq!(w.store.purge_challenges(w.clock.now()).await.unwrap(), 2);
    assert!(w.store.find_challenge(alive.handle).await.unwrap().is_some());
}
