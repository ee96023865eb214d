//! Properties of the refresh rules over random histories: an honest client who retries in time, many callers at once,
//! and a thief. On failure proptest prints the smallest history it found and keeps its seed under `proptest-regressions/`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// A caller presents the token so many generations behind the newest one it could know; the refresh is under way.
    Present { behind: i64 },
    /// One of the refreshes under way is decided, in any order, and its answer may be lost.
    Decide { which: prop::sample::Index, lost: bool },
    /// Time passes.
    Wait { micros: u64 },
    /// Another HMAC key signs from now on.
    NewKey,
}

fn step(most_behind: i64) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..=most_behind).prop_map(|behind| Step::Present { behind }),
        4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, lost)| Step::Decide { which, lost }),
        3 => prop_oneof![0..2_000_000_u64, 9_999_998..=10_000_003_u64, 0..100_000_000_u64]
            .prop_map(|micros| Step::Wait { micros }),
        1 => Just(Step::NewKey),
    ]
}

/// A family together with all that ever happened to it.
struct World {
    now: Timestamp,
    key_id: i64,
    family: Family,
    /// Every token ever made: generation, then HMAC key and moment.
    made: BTreeMap<i64, (i64, Timestamp)>,
    /// The generations that were redelivered late.
    late: BTreeSet<i64>,
    ended: bool,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_seconds(1_000);
        let family = Family::first(now, 1);
        let made = BTreeMap::from([(0, (1, now))]);
        Self { now, key_id: 1, family, made, late: BTreeSet::new(), ended: false }
    }

    /// What the table says, told from the whole history instead of the family's few fields.
    fn expected(&self, presented: Presented) -> &'static str {
        let Presented { generation: p, arrived } = presented;
        let c = *self.made.keys().next_back().unwrap();
        let made_at = self.made[&c].1;
        let late_before = (1..c).rev().take_while(|g| self.late.contains(g)).count();
        match c - p {
            ..=0 => "rotate",
            1 if arrived <= made_at.plus(WINDOW) || self.late.contains(&c) => "redeliver",
            1 if late_before >= 2 => "replay",
            1 => "redeliver late",
            _ if arrived >= made_at.plus(CLOCK_SKEW) => "replay",
            2 => "redeliver",
            _ => "overtaken",
        }
    }

    /// Decides, checks what must hold of every decision, and stores the outcome. The generation answered with, if any.
    fn decide(&mut self, presented: Presented) -> Result<Option<i64>, TestCaseError> {
        if self.ended {
            return Ok(None);
        }
        // A decision takes time: no two generations are made at one moment.
        self.wait(1);
        let expected = self.expected(presented);
        let decision = decide(&self.family, presented, WINDOW, self.now, self.key_id);
        let name = match decision {
            Decision::Rotate { next, state_lost } => {
                prop_assert!(!state_lost, "nothing was lost");
                prop_assert_eq!(next.generation, self.family.generation + 1, "the counter goes up by one");
                prop_assert_eq!((next.key_id, next.made_at), (self.key_id, self.now));
                let twin = self.made.insert(next.generation, (next.key_id, next.made_at));
                prop_assert_eq!(twin, None, "a generation was made twice: two live branches");
                self.family = next;
                "rotate"
            }
            Decision::Redeliver => "redeliver",
            Decision::RedeliverLate { next } => {
                let unchanged = (self.family.generation, self.family.key_id, self.family.made_at);
                prop_assert_eq!((next.generation, next.key_id, next.made_at), unchanged);
                prop_assert!(self.late.insert(next.generation), "a generation counts as late once");
                self.family = next;
                "redeliver late"
            }
            Decision::Overtaken => "overtaken",
            Decision::Replay => {
                self.ended = true;
                "replay"
            }
        };
        prop_assert_eq!(name, expected, "{:?} at {:?} with {:?}", presented, self.now, self.family);
        let answers = !matches!(decision, Decision::Overtaken | Decision::Replay);
        if answers {
            let (key_id, made_at) = self.made[&self.family.generation];
            prop_assert_eq!((self.family.key_id, self.family.made_at), (key_id, made_at), "not the identical token");
        }
        Ok(answers.then_some(self.family.generation))
    }

    /// Whoever knows the token of generation `known` presents it and is answered.
    fn refresh(&mut self, known: i64) -> Result<Option<i64>, TestCaseError> {
        self.decide(Presented { generation: known, arrived: self.now })
    }

    fn wait(&mut self, micros: u64) {
        self.now = self.now.plus(Duration::from_micros(micros));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever is presented whenever: the family's few fields decide as the whole history would, every generation is made
    /// once, and every answer is the one newest token, bit for bit.
    #[test]
    fn the_record_decides_as_the_whole_history_would(steps in prop::collection::vec(step(4), 1..120)) {
        let mut world = World::new();
        let mut under_way = Vec::new();
        for step in steps {
            match step {
                Step::Present { behind } => {
                    let generation = (world.family.generation - behind).max(0);
                    under_way.push(Presented { generation, arrived: world.now });
                }
                Step::Decide { which, .. } if !under_way.is_empty() => {
                    let presented = under_way.swap_remove(which.index(under_way.len()));
                    world.decide(presented)?;
                }
                Step::Decide { .. } => {}
                Step::Wait { micros } => world.wait(micros),
                Step::NewKey => world.key_id += 1,
            }
        }
    }

    /// Any number of concurrent callers of one client, any order of their decisions, any answers lost: a client who asks
    /// again within the window is never taken for a thief and always has the newest token in the end.
    #[test]
    fn an_honest_client_that_retries_within_the_window_is_never_logged_out(
        steps in prop::collection::vec(step(0), 1..120),
    ) {
        let mut world = World::new();
        let (mut known, mut under_way) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Present { .. } => under_way.push(Presented { generation: known, arrived: world.now }),
                Step::Decide { which, lost } if !under_way.is_empty() => {
                    let presented = under_way.swap_remove(which.index(under_way.len()));
                    if let Some(answer) = world.decide(presented)?
                        && !lost
                    {
                        known = known.max(answer);
                    }
                }
                Step::Decide { .. } => {}
                Step::Wait { micros } => {
                    // The newest answer has not come: ask again before its window closes.
                    let later = world.now.plus(Duration::from_micros(micros));
                    let last_chance = world.family.made_at.plus(WINDOW.checked_sub(Duration::from_millis(1)).unwrap());
                    if known < world.family.generation && later > last_chance {
                        world.now = world.now.max(last_chance);
                        known = world.refresh(known)?.expect("a retry is answered");
                    }
                    world.now = later.max(world.now);
                }
                Step::NewKey => world.key_id += 1,
            }
            prop_assert!(!world.ended, "logged out");
            prop_assert!(world.late.is_empty(), "an answer in time was taken for a late one");
            prop_assert!(known >= world.family.generation - 1, "the client fell two generations behind");
        }
        for presented in under_way {
            world.decide(presented)?;
            prop_assert!(!world.ended, "logged out by a refresh under way");
        }
        let newest = world.refresh(known)?.expect("still signed in");
        prop_assert_eq!(newest, world.family.generation);
    }

    /// All callers present one token at once: one of them rotates, all get the same successor.
    #[test]
    fn callers_at_once_get_the_same_successor(callers in 2..200_usize, spread in 0..10_000_000_u64) {
        let mut world = World::new();
        let arrived = world.now;
        let mut answers = BTreeSet::new();
        for _ in 0..callers {
            world.wait(spread);
            answers.insert(world.decide(Presented { generation: 0, arrived })?);
        }
        prop_assert_eq!(answers, BTreeSet::from([Some(1)]));
        prop_assert_eq!(world.made.len(), 2, "one rotation");
    }

    /// A stolen token that is two generations old or older ends the session whenever it is used after they were surely made,
    /// however the owner used the session before.
    #[test]
    fn a_token_superseded_twice_is_always_a_replay(
        waits in prop::collection::vec(0..100_000_000_u64, 2..40),
        stolen in any::<prop::sample::Index>(),
        thief_waits in 20_000..1_000_000_000_u64,
    ) {
        let mut world = World::new();
        for (generation, wait) in (0..).zip(&waits) {
            world.wait(*wait);
            prop_assert_eq!(world.refresh(generation)?, Some(generation + 1));
        }
        let stolen = i64::try_from(stolen.index(waits.len() - 1)).unwrap();
        world.wait(thief_waits);
        prop_assert_eq!(world.refresh(stolen)?, None);
        prop_assert!(world.ended);
    }

    /// A thief and an owner who share a family, each coming after the other's window: at the latest the third late
    /// generation in a row ends it, and an on-time generation between them starts the count anew.
    #[test]
    fn three_late_generations_in_a_row_end_the_session(on_time in prop::collection::vec(any::<bool>(), 1..40)) {
        let mut world = World::new();
        let mut late_in_a_row = 0;
        for on_time in on_time {
            let known = world.family.generation;
            world.wait(60_000_000);
            world.refresh(known)?;
            world.wait(if on_time { 10_000_000 } else { 10_000_001 });
            let answer = world.refresh(known)?;
            late_in_a_row = if on_time { 0 } else { late_in_a_row + 1 };
            prop_assert_eq!(world.ended, late_in_a_row == 3);
            prop_assert_eq!(answer.is_none(), world.ended);
            if world.ended {
                return Ok(());
            }
        }
    }

    /// A thief and an owner who take turns in any order, none of them within a window: there is never a second branch, and
    /// whoever fell two generations behind ends the session with the next use.
    #[test]
    fn a_thief_and_an_owner_cannot_both_go_on(
        turns in prop::collection::vec((any::<bool>(), 10_000_001..100_000_000_u64), 12..60),
    ) {
        let mut world = World::new();
        let mut known = [0_i64; 2];
        for (thief, wait) in turns {
            world.wait(wait);
            let who = usize::from(thief);
            let fell_behind = known[who] <= world.family.generation - 2;
            let Some(answer) = world.refresh(known[who])? else { return Ok(()) };
            prop_assert!(!fell_behind, "whoever fell two behind goes unnoticed");
            prop_assert_eq!(answer, world.family.generation, "an answer off the one branch");
            known[who] = answer;
        }
    }

    /// State lost and found: whoever presents a newer generation than the record goes on from there, and the next
    /// generation is newer than any that was presented.
    #[test]
    fn lost_state_logs_nobody_out(record in 0..50_i64, lost in 1..50_i64, streak in 0..LATE_LIMIT, late_now: bool) {
        let family = Family {
            generation: record,
            made_at: Timestamp::from_seconds(1),
            key_id: 1,
            late_streak: streak,
            late_now,
        };
        let presented = Presented { generation: record + lost, arrived: Timestamp::from_seconds(500) };
        let decision = decide(&family, presented, WINDOW, presented.arrived, 2);
        let next = Family::first(presented.arrived, 2);
        let next = Family { generation: record + lost + 1, ..next };
        prop_assert_eq!(decision, Decision::Rotate { next, state_lost: true });
    }
}
