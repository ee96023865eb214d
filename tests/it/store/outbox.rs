//! The outbox: what is taken is one taker's, and nothing is lost on the way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use uuid::Uuid;
use vouchsafe::{
    domain::{
        id::UserId,
        secret::random,
        time::{Clock as _, Timestamp},
    },
    store::port::{Claim, DueMessage, NewMessage, PurgedMessages},
};

use super::world::{World, at_once};

const EMAIL: &[&str] = &["email", "none"];
const HOUR: Duration = Duration::from_hours(1);

impl World {
    fn message(&self, channel: &'static str, of_use: Duration) -> NewMessage {
        let id = *UserId::new(self.clock.now(), &random(&*self.entropy)).as_uuid();
        let expire_time = self.clock.now().plus(of_use);
        NewMessage { id, channel, user: None, sealed: vec![1, 2, 3], expire_time, budget: None }
    }

    async fn mail(&self) -> Uuid {
        let message = self.message("email", HOUR);
        let id = message.id;
        self.store.enqueue(vec![message]).await.unwrap();
        id
    }

    fn in_a_minute(&self) -> Timestamp {
        self.clock.now().plus(Duration::from_mins(1))
    }

    async fn claim(&self, lease: u128, limit: u32) -> Vec<DueMessage> {
        let until = self.in_a_minute();
        let claim = Claim { lease: Uuid::from_u128(lease), until, channels: EMAIL, limit };
        self.store.claim_messages(claim).await.unwrap()
    }

    async fn dead(&self) -> Vec<Uuid> {
        self.store.dead_messages(None, 100).await.unwrap().iter().map(|message| message.id).collect()
    }
}

pub(super) async fn of_workers_at_once_each_message_has_one(world: Arc<World>) {
    let mut messages = Vec::new();
    for _ in 0..60 {
        messages.push(world.message("email", HOUR));
    }
    let ids: BTreeSet<_> = messages.iter().map(|message| message.id).collect();
    world.store.enqueue(messages).await.unwrap();
    assert_eq!(world.store.due_messages(EMAIL, 1_000).await.unwrap(), 60);
    assert_eq!(world.store.due_messages(EMAIL, 7).await.unwrap(), 7);
    let taken = at_once(20, |worker| {
        let world = Arc::clone(&world);
        async move { world.claim(worker as u128 + 1, 5).await }
    })
    .await;
    assert!(taken.iter().all(|some| some.len() <= 5));
    let mut all: Vec<_> = taken.into_iter().flatten().map(|message| message.id).collect();
    // Whoever came when all that is left was locked by others got less; nobody got what another has.
    loop {
        let some = world.claim(99, 50).await;
        if some.is_empty() {
            break;
        }
        all.extend(some.iter().map(|message| message.id));
    }
    assert_eq!(all.len(), 60);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), ids);
    assert_eq!(world.store.due_messages(EMAIL, 1_000).await.unwrap(), 0);
}

pub(super) async fn a_message_is_its_taker_s_until_the_lease_ends(world: Arc<World>) {
    let id = world.mail().await;
    let first = world.claim(1, 8).await.remove(0);
    assert_eq!((first.id, first.channel.as_str(), first.attempts, &first.sealed[..]), (id, "email", 1, &[1, 2, 3][..]));
    assert!(world.claim(2, 8).await.is_empty());
    world.wait(Duration::from_mins(1));
    assert_eq!(world.claim(2, 8).await.remove(0).attempts, 2);
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(!world.store.finish_message(id, old).await.unwrap());
    assert!(!world.store.postpone_message(id, old, world.clock.now(), "late".into()).await.unwrap());
    assert!(!world.store.bury_message(id, old, "late".into()).await.unwrap());
    assert!(world.store.finish_message(id, new).await.unwrap());
    assert!(!world.store.finish_message(id, new).await.unwrap(), "once is enough");
    world.wait(HOUR);
    assert!(world.claim(3, 8).await.is_empty());
}

pub(super) async fn a_message_that_was_put_off_comes_when_it_is_due(world: Arc<World>) {
    let (later, lease) = (world.mail().await, Uuid::from_u128(1));
    world.claim(1, 1).await;
    let due = world.clock.now().plus(Duration::from_secs(30));
    assert!(world.store.postpone_message(later, lease, due, "the server answered 451".into()).await.unwrap());
    let now = world.mail().await;
    let taken = world.claim(2, 8).await;
    assert_eq!(taken.iter().map(|message| message.id).collect::<Vec<_>>(), [now]);
    world.wait(Duration::from_secs(30));
    assert_eq!(world.claim(3, 1).await.remove(0).id, later);
}

pub(super) async fn what_was_taken_and_not_tried_is_given_back(world: Arc<World>) {
    let (mail, other) = (world.mail().await, world.mail().await);
    let (first, second) = (world.claim(1, 1).await.remove(0).id, world.claim(2, 1).await.remove(0).id);
    assert_eq!(BTreeSet::from([first, second]), [mail, other].into());
    assert_eq!(world.store.release_messages(Uuid::from_u128(1)).await.unwrap(), 1);
    assert_eq!(world.store.release_messages(Uuid::from_u128(1)).await.unwrap(), 0);
    let again = world.claim(3, 8).await;
    assert_eq!(again.iter().map(|message| (message.id, message.attempts)).collect::<Vec<_>>(), [(first, 1)]);
    assert!(world.store.finish_message(second, Uuid::from_u128(2)).await.unwrap(), "whose lease is another one");
}

pub(super) async fn a_clock_that_was_ahead_keeps_no_message_back(world: Arc<World>) {
    let (put_off, taken, waiting) = (world.mail().await, world.mail().await, world.mail().await);
    let due = |ahead: Duration| world.clock.now().plus(ahead).as_micros();
    let set = async |id: Uuid, set: String| {
        let sql = format!("UPDATE outbox SET {set} WHERE id = {}", world.database.id(&id));
        assert_eq!(world.database.execute(&sql).await, 1);
    };
    let lease = world.database.id(&Uuid::from_u128(1));
    set(put_off, format!("attempts = 3, due_time = {}", due(HOUR * 24))).await;
    set(taken, format!("attempts = 1, lease = {lease}, due_time = {}", due(HOUR * 24))).await;
    set(waiting, format!("due_time = {}", due(Duration::from_secs(5)))).await;
    let soon = world.mail().await;
    set(soon, format!("attempts = 2, due_time = {}", due(Duration::from_mins(20)))).await;
    assert!(world.claim(2, 8).await.is_empty());
    let (longest_lease, longest_pause) = (Duration::from_mins(3), Duration::from_mins(36));
    world.store.correct_messages(longest_lease, longest_pause).await.unwrap();
    let ids = async |lease| world.claim(lease, 8).await.iter().map(|message| message.id).collect::<BTreeSet<_>>();
    assert_eq!(ids(3).await, [put_off, waiting].into(), "as late as it can be put off is no mistake");
    world.wait(longest_lease);
    assert!(ids(4).await.contains(&taken), "whoever may have it had it for a whole lease");
    world.wait(Duration::from_mins(17));
    assert!(ids(5).await.contains(&soon));
}

pub(super) async fn what_was_never_tried_comes_before_what_failed(world: Arc<World>) {
    let (old, lease) = (world.mail().await, Uuid::from_u128(1));
    world.claim(1, 1).await;
    assert!(
        world.store.postpone_message(old, lease, world.clock.now(), "the server answered 451".into()).await.unwrap()
    );
    world.wait(Duration::from_secs(30));
    let first = world.mail().await;
    world.wait(Duration::from_secs(1));
    let second = world.mail().await;
    let mut taken = Vec::new();
    for lease in 2..=4 {
        taken.extend(world.claim(lease, 1).await.iter().map(|message| message.id));
    }
    assert_eq!(taken, [first, second, old]);
}

pub(super) async fn any_number_of_expired_messages_is_deleted(world: Arc<World>) {
    let messages = (0..1_100).map(|_| world.message("email", Duration::from_secs(1))).collect();
    world.store.enqueue(messages).await.unwrap();
    let left = world.mail().await;
    world.wait(Duration::from_secs(1));
    assert_eq!(world.store.purge_messages(world.clock.now()).await.unwrap().expired.len(), 1_100);
    assert_eq!(world.claim(1, 8).await.remove(0).id, left);
}

pub(super) async fn only_what_is_of_use_and_of_its_channel_is_taken(world: Arc<World>) {
    let (mail, nobody, text) = (world.message("email", HOUR), world.message("none", HOUR), world.message("sms", HOUR));
    let (short, text_id) = (world.message("email", Duration::from_secs(10)), text.id);
    let expected: BTreeSet<_> = [mail.id, nobody.id].into();
    world.store.enqueue(vec![mail, nobody, text, short]).await.unwrap();
    world.wait(Duration::from_secs(10));
    assert_eq!(world.store.due_messages(EMAIL, 10).await.unwrap(), 2);
    let taken = world.claim(1, 8).await;
    assert_eq!(taken.iter().map(|message| message.id).collect::<BTreeSet<_>>(), expected);
    let purged = world.store.purge_messages(world.clock.now()).await.unwrap();
    assert_eq!(purged, PurgedMessages { expired: vec!["email".into()], dead: 0 });
    let claim = Claim { lease: Uuid::from_u128(2), until: world.in_a_minute(), channels: &["sms"], limit: 8 };
    assert_eq!(world.store.claim_messages(claim).await.unwrap()[0].id, text_id);
}

pub(super) async fn a_message_that_was_given_up_is_kept_tried_again_or_dropped(world: Arc<World>) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.mail().await);
        world.wait(Duration::from_millis(5));
    }
    world.claim(1, 8).await;
    for id in &ids {
        assert!(world.store.bury_message(*id, Uuid::from_u128(1), "the server answered 550".into()).await.unwrap());
    }
    assert_eq!(world.dead().await, ids, "the oldest first");
    let page = world.store.dead_messages(Some(ids[1]), 2).await.unwrap();
    assert_eq!(page.iter().map(|message| message.id).collect::<Vec<_>>(), ids[2..4]);
    assert_eq!((page[0].attempts, page[0].last_error.as_str()), (1, "the server answered 550"));
    world.wait(Duration::from_mins(2));
    assert!(world.claim(2, 8).await.is_empty(), "nobody sends it");

    assert_eq!(world.store.retry_messages(Some(ids[0])).await.unwrap(), 1);
    assert_eq!(world.store.retry_messages(Some(ids[0])).await.unwrap(), 0);
    assert_eq!(world.claim(3, 8).await.iter().map(|m| (m.id, m.attempts)).collect::<Vec<_>>(), [(ids[0], 1)]);
    assert_eq!(world.store.drop_messages(Some(ids[1])).await.unwrap(), 1);
    assert_eq!(world.store.drop_messages(Some(ids[0])).await.unwrap(), 0, "it is not dead");
    assert_eq!(world.store.retry_messages(None).await.unwrap(), 3);
    assert!(world.dead().await.is_empty());
    world.claim(4, 8).await;
    for id in &ids[2..] {
        world.store.bury_message(*id, Uuid::from_u128(4), "again".into()).await.unwrap();
    }
    world.wait(HOUR);
    assert_eq!(world.store.retry_messages(None).await.unwrap(), 0, "it is of no use any more");
    assert_eq!(world.store.purge_messages(world.clock.now().minus(HOUR)).await.unwrap().dead, 0);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.store.purge_messages(world.clock.now().minus(HOUR)).await.unwrap().dead, 3);
    assert_eq!(world.store.drop_messages(None).await.unwrap(), 0);
}
