//! The hash that chains audit events: over what an event says, where it stands and the hash of the one before it; and what
//! the ends of a chain are vouched for with.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::{id::EventId, time::Timestamp};

/// Hashed first: another form of hashing gets another text.
const FORM: &[u8] = b"vouchsafe audit event v1";

/// A SHA-256 over an event and everything before it in its lane.
pub type ChainHash = [u8; 32];

/// Before the first event of a lane.
pub const NOTHING: ChainHash = [0; 32];

/// In place of a hash that was stored and is none, because it has not even the length. No event and no end of a lane fits it.
pub const UNREADABLE: ChainHash = [0xff; 32];

/// A hash as it was stored.
pub fn stored_hash(bytes: Vec<u8>) -> ChainHash {
    bytes.try_into().unwrap_or(UNREADABLE)
}

/// Where an event stands. Positions of a lane begin with 1 and have no gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which chain.
    pub lane: i64,
    /// Which of its events.
    pub position: i64,
}

/// What is vouched for of the last event of a lane. Of no lane's end is anything else ever said in this form, so that whoever
/// can write to the database but has no key can neither write a lane anew nor cut it off where they like.
pub fn head_statement(place: Place, hash: &ChainHash) -> Vec<u8> {
    statement(b"audit lane head v1", place, hash)
}

/// The same of the last event that was removed because it was old. Another form, or a lane could be emptied by calling its
/// base its head.
pub fn base_statement(place: Place, hash: &ChainHash) -> Vec<u8> {
    statement(b"audit lane base v1", place, hash)
}

fn statement(form: &[u8], place: Place, hash: &ChainHash) -> Vec<u8> {
    [form, &place.lane.to_be_bytes(), &place.position.to_be_bytes(), hash].concat()
}

/// What is hashed of an event: everything that its row says.
#[derive(Clone, Copy, Debug)]
pub struct ChainedEvent<'a> {
    /// Its id.
    pub id: EventId,
    /// When.
    pub time: Timestamp,
    /// What.
    pub act: &'a str,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Which kind of actor.
    pub actor: &'a str,
    /// Who.
    pub actor_id: Option<Uuid>,
    /// Whose account it is about.
    pub subject_id: Option<Uuid>,
    /// Which session it is about.
    pub session_id: Option<Uuid>,
    /// By which request.
    pub request_id: &'a str,
    /// The rest. The members of its objects are hashed in the order of their names, however they are stored. No number in it
    /// has a fraction: databases write such numbers in ways of their own.
    pub detail: &'a Value,
    /// Personal data as it is stored: encrypted. To erase it is to lose its key, not its bytes.
    pub personal_sealed: Option<&'a [u8]>,
}

impl ChainedEvent<'_> {
    /// The hash of this event at its place after `previous`.
    pub fn hash(&self, place: Place, previous: &ChainHash) -> ChainHash {
        let Self {
            id,
            time,
            act,
            succeeded,
            actor,
            actor_id,
            subject_id,
            session_id,
            request_id,
            detail,
            personal_sealed,
        } = self;
        let mut hashed = Parts(Context::new(&SHA256));
        hashed.part(FORM);
        hashed.part(previous);
        hashed.part(&place.lane.to_be_bytes());
        hashed.part(&place.position.to_be_bytes());
        hashed.part(id.as_uuid().as_bytes());
        hashed.part(&time.as_micros().to_be_bytes());
        hashed.part(act.as_bytes());
        hashed.part(&[u8::from(*succeeded)]);
        hashed.part(actor.as_bytes());
        for id in [actor_id, subject_id, session_id] {
            hashed.optional(id.as_ref().map(|id| id.as_bytes().as_slice()));
        }
        hashed.part(request_id.as_bytes());
        hashed.part(canonical(detail).as_bytes());
        hashed.optional(*personal_sealed);
        hashed.finish()
    }
}

/// JSON without white space, the members of objects in the order of their names. Not left to `to_string`: what order that
/// writes depends on what other crates ask of `serde_json`.
fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    let mut separator = "";
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in members {
                text.push_str(std::mem::replace(&mut separator, ","));
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                text.push_str(std::mem::replace(&mut separator, ","));
                write_canonical(value, text);
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

/// Parts with their lengths, so that no two sequences of parts are one sequence of bytes.
struct Parts(Context);

impl Parts {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// What is not there differs from what is empty.
    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.part(&[u8::from(bytes.is_some())]);
        self.part(bytes.unwrap_or_default());
    }

    fn finish(self) -> ChainHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_a_row_says_is_in_its_hash() {
        let (detail, other) = (json!({ "role": "a", "generation": 1 }), json!({ "role": "b", "generation": 1 }));
        let place = Place { lane: 3, position: 7 };
        let event = ChainedEvent {
            id: EventId::from_uuid(Uuid::from_u128(1)),
            time: Timestamp::from_seconds(1),
            act: "role.assigned",
            succeeded: true,
            actor: "user",
            actor_id: Some(Uuid::from_u128(2)),
            subject_id: Some(Uuid::from_u128(3)),
            session_id: None,
            request_id: "r",
            detail: &detail,
            personal_sealed: None,
        };
        let hashes = [
            event.hash(place, &NOTHING),
            event.hash(Place { lane: 4, ..place }, &NOTHING),
            event.hash(Place { position: 8, ..place }, &NOTHING),
            event.hash(place, &[1; 32]),
            ChainedEvent { id: EventId::from_uuid(Uuid::from_u128(9)), ..event }.hash(place, &NOTHING),
            ChainedEvent { time: Timestamp::from_seconds(2), ..event }.hash(place, &NOTHING),
            ChainedEvent { act: "role.unassigned", ..event }.hash(place, &NOTHING),
            ChainedEvent { succeeded: false, ..event }.hash(place, &NOTHING),
            ChainedEvent { actor: "service", ..event }.hash(place, &NOTHING),
            ChainedEvent { actor_id: None, ..event }.hash(place, &NOTHING),
            ChainedEvent { subject_id: None, ..event }.hash(place, &NOTHING),
            ChainedEvent { session_id: event.subject_id, ..event }.hash(place, &NOTHING),
            ChainedEvent { subject_id: None, session_id: event.subject_id, ..event }.hash(place, &NOTHING),
            ChainedEvent { request_id: "", ..event }.hash(place, &NOTHING),
            ChainedEvent { detail: &other, ..event }.hash(place, &NOTHING),
            ChainedEvent { personal_sealed: Some(&[]), ..event }.hash(place, &NOTHING),
        ];
        for (n, hash) in hashes.iter().enumerate() {
            assert_eq!(hashes.iter().filter(|other| *other == hash).count(), 1, "hash {n} is its own");
        }
        let reordered = serde_json::from_str(r#"{ "generation": 1, "role": "a" }"#).unwrap();
        assert_eq!(ChainedEvent { detail: &reordered, ..event }.hash(place, &NOTHING), hashes[0]);
    }

    #[test]
    fn members_are_in_the_order_of_their_names_at_every_depth() {
        let value =
            serde_json::from_str(r#"{ "b": [ { "d": null, "c": true } ], "a\"": -1, "": "\u00e9\n" }"#).unwrap();
        assert_eq!(canonical(&value), r#"{"":"é\n","a\"":-1,"b":[{"c":true,"d":null}]}"#);
    }

    /// Computed by Python's hashlib and json from what ADR 29 says of the form.
    #[test]
    fn others_who_read_the_form_come_to_the_same_hash() {
        let detail = json!({ "role": "é\"\n", "generation": 1, "list": [{ "b": null, "a": true }] });
        let event = ChainedEvent {
            id: EventId::from_uuid(Uuid::from_u128(1)),
            time: Timestamp::from_seconds(1),
            act: "role.assigned",
            succeeded: true,
            actor: "user",
            actor_id: Some(Uuid::from_u128(2)),
            subject_id: Some(Uuid::from_u128(3)),
            session_id: None,
            request_id: "r",
            detail: &detail,
            personal_sealed: Some(b"s"),
        };
        let hash = event.hash(Place { lane: 3, position: 7 }, &NOTHING);
        let expected = "6ae9a71802ba89afec538b4e42b35d96cc7c47195b71ed018ba24fe52ee676e9";
        let hex: Vec<u8> = hash
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| b"0123456789abcdef"[usize::from(digit)])
            .collect();
        assert_eq!(hex, expected.as_bytes());
    }

    #[test]
    fn a_head_is_not_vouched_for_by_what_vouches_for_a_base() {
        let place = Place { lane: 1, position: 2 };
        let statements = [
            head_statement(place, &NOTHING),
            base_statement(place, &NOTHING),
            head_statement(Place { position: 3, ..place }, &NOTHING),
            head_statement(Place { lane: 2, ..place }, &NOTHING),
            head_statement(place, &[1; 32]),
        ];
        for (n, statement) in statements.iter().enumerate() {
            assert_eq!(statements.iter().filter(|other| *other == statement).count(), 1, "statement {n} is its own");
        }
    }
}
