//! Whatever comes, in any order and together: nobody is taken for a thief, and no family splits (I2, R2).

use super::{
    load::{Kind, Load},
    world::World,
};
use crate::{process::proxy::Link, support::TestEntropy};

const STEPS: usize = 40;
const LINKS: [Link; 5] = [Link::Up, Link::Up, Link::Cut, Link::Deaf, Link::Frozen];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sequence_of_faults_signs_anybody_out_or_splits_a_family() {
    let mut world = World::with(&[("redis.timeout", "250ms"), ("grpc.max_deadline", "6s")]).await;
    let load = Load::start(&world, Kind::Insist, 4).await;
    let entropy = TestEntropy::default();
    for _ in 0..STEPS {
        let pick = |count: usize| usize::try_from(entropy.below(count as u64)).unwrap();
        match pick(8) {
            0..=2 => world.nodes[pick(2)].redis.set(LINKS[pick(LINKS.len())]),
            3..=5 => world.nodes[pick(2)].database.set(LINKS[pick(LINKS.len())]),
            6 => world.redis.ask(&["FLUSHALL"]).await.unwrap(),
            _ => {
                // Back with what was last saved, if anything was.
                world.redis.kill();
                world.redis.launch().await;
                if pick(2) == 0 {
                    world.redis.ask::<()>(&["SAVE"]).await.unwrap();
                }
            }
        }
        // As far as anybody gets meanwhile, and on as soon as somebody does.
        load.try_to_go_on(10).await;
        if pick(4) == 0 {
            world.redis_link(Link::Up);
            world.database_link(Link::Up);
            load.go_on(3).await;
        }
    }
    world.redis_link(Link::Up);
    world.database_link(Link::Up);
    load.go_on(10).await;
    load.end(&world).await;
    let alarms = "SELECT count(*) FROM audit_events WHERE act = 'session.ended'";
    assert_eq!(world.place.database.integer(alarms).await, 0);
    world.remove().await;
}
