//! What is promised, checked against all that ever happened.
//!
//! Each promise is told here from the history, not from what the nodes remember.

use crate::{
    call::{Call, Path},
    domain::{
        hot::FeedHead,
        refresh::{CLOCK_SKEW, Family},
    },
    node::{MILLI, Node},
};

/// R4: what is older than this has been written behind.
const WRITE_BEHIND: i64 = 1_050 * MILLI;
/// Within this time a node without the hot state has tried twice to exchange heads in vain.
const BLIND: i64 = 1_250 * MILLI;
/// R5: within this time the head was renewed, and after that looked at by every node that reaches it.
const BEAT: i64 = 1_100 * MILLI;
/// R3 for nodes without the database: a reading of the feed each second, a head twice a second, and the ways between them.
const SPREAD: i64 = 1_600 * MILLI;

/// A generation that was made, possibly at several nodes that did not reach the same stores.
#[derive(Clone, Copy, Debug)]
struct Made {
    first: i64,
    last: i64,
    node: usize,
    life: u32,
    /// Since when the row knows it, or would have to.
    row: Option<i64>,
    /// Since when the record of the master knows it, or must not count.
    record: Option<i64>,
}

/// Something acknowledged that tokens must say or stop saying.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    at: i64,
    claims: Option<usize>,
    /// Since when it might have begun to spread through the hot state, and when it was everywhere.
    since: i64,
    spread: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct Check {
    generations: Vec<Made>,
    /// Per node, what its process made by the row without the record, and no head tells of yet: since when, and which.
    by_row: Vec<Vec<(i64, i64)>>,
    /// Per node, what its process made by the row without a record that it will bring up.
    unfollowed: Vec<Vec<(i64, i64)>>,
    /// All of that, whoever knows it.
    past_records: Vec<(i64, i64)>,
    /// Per node, what its process made by the record: since when, and which.
    by_record: Vec<Vec<(i64, i64)>>,
    row: Option<Family>,
    late: Vec<i64>,
    news: Vec<Acknowledged>,
    /// How often the hot state forgot something.
    pub(crate) losses: u32,
    /// The loss that no head tells of yet.
    lost_at: Option<i64>,
    last_loss: i64,
    /// Nodes that must know a later head than the one that is left.
    knows_better: Vec<bool>,
    thief: bool,
    /// The owner cannot be told from a thief, or was revoked.
    pub(crate) excused: bool,
    pub(crate) broken: Option<String>,
}

impl Check {
    pub(crate) fn new(now: i64, nodes: usize, thief: bool) -> Self {
        let first = Made { first: now, last: now, node: 0, life: 0, row: Some(now), record: None };
        Self {
            generations: vec![first],
            by_row: vec![Vec::new(); nodes],
            unfollowed: vec![Vec::new(); nodes],
            past_records: Vec::new(),
            by_record: vec![Vec::new(); nodes],
            row: None,
            late: Vec::new(),
            news: Vec::new(),
            losses: 0,
            lost_at: None,
            last_loss: 0,
            knows_better: vec![false; nodes],
            thief,
            excused: false,
            broken: None,
        }
    }

    fn broken(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn generation(&mut self, generation: i64) -> Option<&mut Made> {
        usize::try_from(generation).ok().and_then(|index| self.generations.get_mut(index))
    }

    pub(crate) fn made(&mut self, now: i64, family: &Family, node: usize, life: u32) {
        let new = Made { first: now, last: now, node, life, row: None, record: None };
        let next = i64::try_from(self.generations.len()).unwrap_or(i64::MAX);
        if family.generation > next {
            self.broken(format!("R1: generation {} was made out of nothing", family.generation));
        } else if family.generation == next {
            self.generations.push(new);
        } else if let Some(made) = self.generation(family.generation) {
            made.last = now;
        }
    }

    /// The row made it without the record, which the node brings up to it later.
    pub(crate) fn unfollowed(&mut self, now: i64, node: usize, generation: i64) {
        self.unfollowed[node].push((now, generation));
        self.past_records.push((now, generation));
    }

    pub(crate) fn followed(&mut self, node: usize, generation: i64) {
        self.unfollowed[node].retain(|(_, other)| *other > generation);
    }

    pub(crate) fn made_by_row(&mut self, now: i64, node: usize, generation: i64) {
        self.by_row[node].push((now, generation));
        self.past_records.push((now, generation));
    }

    /// A node reaches the hot state again, having read the database without it for long enough: it speaks for all who were
    /// as blind, also for those who are no more.
    pub(crate) fn sees_again(&mut self, now: i64, n: usize, node: &Node) {
        let since = node.blind_since;
        if node.up && node.attached.max(node.database_since) <= since && since < now - BLIND {
            self.by_row[n].extend(self.past_records.iter().filter(|(at, _)| *at >= since));
        }
    }

    pub(crate) fn made_by_record(&mut self, now: i64, node: usize, generation: i64) {
        self.by_record[node].push((now, generation));
    }

    /// A process that is no more cannot tell what it did.
    pub(crate) fn started(&mut self, node: usize) {
        self.knows_better[node] = false;
        self.by_row[node].clear();
        self.unfollowed[node].clear();
        self.by_record[node].clear();
    }

    pub(crate) fn in_row(&mut self, now: i64, family: &Family) {
        if let Some(before) = self.row.replace(*family).filter(|before| before.merged(*family) != *family) {
            self.broken(format!("thief: the row was {before:?} and forgot, now {family:?}"));
        }
        for generation in (0..=family.generation).rev() {
            match self.generation(generation) {
                Some(made) if made.row.is_none() => made.row = Some(now),
                Some(_) => return,
                None => {}
            }
        }
    }

    pub(crate) fn in_record(&mut self, now: i64, family: &Family, master: bool) {
        if master && let Some(made) = self.generation(family.generation) {
            made.record.get_or_insert(now);
        }
    }

    /// A node has written a head to the master, which it made up its mind about at `decided`.
    pub(crate) fn head_written(&mut self, (now, decided): (i64, i64), node: usize, new: &FeedHead) {
        let records_since = new.records_since.as_micros();
        let (told, untold) = std::mem::take(&mut self.by_row[node]).into_iter().partition(|(at, _)| *at <= decided);
        self.by_row[node] = untold;
        let told: Vec<(i64, i64)> = told;
        for (_, generation) in told {
            if let Some(made) = self.generation(generation) {
                made.record.get_or_insert(now);
            }
        }
        if self.lost_at.is_some_and(|lost| records_since + 20 * MILLI >= lost) {
            self.lost_at = None;
            self.knows_better.fill(false);
            for made in &mut self.generations {
                made.record = made.record.or(made.row.map(|_| now));
            }
        }
    }

    /// What must have been written behind by now.
    pub(crate) fn owe(&mut self, now: i64, nodes: &[Node]) {
        for made in &mut self.generations {
            let maker = &nodes[made.node];
            let faithful = maker.up && maker.life == made.life && maker.database_since <= made.first;
            if made.row.is_none() && faithful && made.first < now - WRITE_BEHIND {
                made.row = Some(now);
            }
        }
    }

    /// The hot state becomes what it was at `moment`.
    pub(crate) fn lost(&mut self, now: i64, moment: i64, nodes: &[Node], master: usize) {
        let then = now - BEAT;
        let quiet = self.last_loss <= then;
        for (knows, node) in self.knows_better.iter_mut().zip(nodes) {
            let linked = node.up && node.server == master && node.redis_since.max(node.attached) <= then;
            let saw = linked && node.complete.is_some_and(|reading| reading.began <= then);
            let before_it = moment < self.last_loss && self.lost_at.is_some();
            *knows = !before_it && (saw && quiet && moment < then || *knows);
        }
        self.losses += 1;
        self.lost_at = Some(now);
        self.last_loss = now;
        for made in &mut self.generations {
            made.record = made.record.filter(|since| *since <= moment);
        }
        for news in &mut self.news {
            (news.since, news.spread) = (now, None);
        }
    }

    pub(crate) fn revoked(&mut self, now: i64, _number: i64) {
        self.news.push(Acknowledged { at: now, claims: None, since: now, spread: None });
    }

    pub(crate) fn changed(&mut self, now: i64, _number: i64, claims: usize) {
        self.news.push(Acknowledged { at: now, claims: Some(claims), since: now, spread: None });
    }

    /// Notes what has spread through the master, because a node reached both for long enough.
    pub(crate) fn spread(&mut self, now: i64, nodes: &[Node], master: usize) {
        for news in &mut self.news {
            let linked =
                |node: &Node| (node.up && node.server == master).then(|| node.database_since.max(node.redis_since));
            let since = nodes.iter().filter_map(linked).min().unwrap_or(i64::MAX).max(news.since);
            let spread = since.saturating_add(SPREAD);
            if spread <= now {
                news.spread = Some(news.spread.map_or(spread, |known| known.min(spread)));
            }
        }
    }

    /// A refresh was granted: the promises about that.
    pub(crate) fn granted(
        &mut self,
        now: i64,
        call: &Call,
        (family, claims, late): (Family, usize, bool),
        path: Path,
        nodes: &[Node],
        master: usize,
    ) {
        let (presented, arrived) = (call.presented, call.arrived_at);
        let by = format!("generation {presented} at node {}, by {path:?}", call.node);
        if family.generation <= presented || family.generation > presented + 2 {
            self.broken(format!("R1: {} was answered to {by}", family.generation));
        }
        self.spread(now, nodes, master);
        let at_master = call.from_master == Some(self.losses);
        let binding = |news: &&Acknowledged| match path {
            Path::Row | Path::Hot => news.at < arrived,
            Path::Grace => at_master && news.spread.is_some_and(|spread| spread < arrived),
        };
        let stale = self.news.iter().filter(binding).find(|news| news.claims.is_none_or(|least| claims < least));
        if let Some(news) = stale {
            let promise = if news.claims.is_some() { "R6" } else { "R3" };
            let ago = (arrived - news.at) / MILLI;
            self.broken(format!("{promise}: granted {ago} ms after the acknowledgement, {by}"));
        }
        if path == Path::Grace && at_master && self.knows_better[call.node] {
            self.broken(format!("R5: the hot state was lost, and the node could know, {by}"));
        }
        let margin = 2 * i64::try_from(CLOCK_SKEW.as_micros()).unwrap_or(0) + MILLI;
        let counts = |made: &Made| {
            let row = path != Path::Grace && made.row.is_some_and(|since| since < arrived);
            let record = path != Path::Row && at_master && made.record.is_some_and(|since| since < arrived);
            made.last < arrived - margin && (row || record)
        };
        let unwritten = |(_, generation): &&(i64, i64)| {
            usize::try_from(*generation)
                .ok()
                .and_then(|index| self.generations.get(index))
                .is_some_and(|made| made.row.is_none())
        };
        let by_row = self.by_row[call.node].iter().chain(&self.unfollowed[call.node]);
        let own = by_row.chain(self.by_record[call.node].iter().filter(unwritten));
        let own = own.filter(|(at, _)| path == Path::Grace && *at < arrived - margin);
        let own = own.map(|(_, generation)| *generation).max();
        let known = self.generations.iter().rposition(counts).and_then(|index| i64::try_from(index).ok());
        if let Some(known) = known.max(own).filter(|known| presented + 2 <= *known) {
            self.broken(format!("R4: a token superseded by {known} was good for {}, {by}", family.generation));
        }
        if late {
            self.late_redelivery(family.generation, &by);
        }
    }

    fn late_redelivery(&mut self, generation: i64, by: &str) {
        // Tolerated: a generation that was made by the record meanwhile knows nothing of it.
        let newest = usize::try_from(generation).is_ok_and(|index| index + 1 == self.generations.len());
        if newest && !self.late.contains(&generation) {
            self.late.push(generation);
        }
        if self.losses == 0 && [1, 2].iter().all(|before| self.late.contains(&(generation - before))) {
            self.broken(format!("thief: late at three generations in a row and served, {by}"));
        }
    }

    /// A client was told that its session is over.
    pub(crate) fn told_over(&mut self, who: usize, presented: i64) {
        if who == 0 && !self.thief && !self.excused {
            self.broken(format!("R2: the owner, alone, was told that all is over, for generation {presented}"));
        }
    }

    pub(crate) fn not_served(&mut self, call: &Call) {
        if !self.thief && !self.excused {
            self.broken(format!("R2: everything is reachable, and the owner got {:?}", call.outcome));
        }
    }

    pub(crate) fn never_served(&mut self) {
        if !self.thief && !self.excused {
            self.broken("R2: everything has been reachable for long, and the owner was not served".to_owned());
        }
    }
}
