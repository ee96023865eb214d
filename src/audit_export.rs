//! The audit trail as a file: JSON Lines that say all that is hashed, so that whoever has the file can check it without the
//! database. `docs/AUDIT.md` describes the form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    crypto::audit_chain::{ChainHash, Place},
    domain::{
        audit::Personal,
        id::{EventId, SessionId},
        time::Timestamp,
    },
    store::port::{ChainLink, LaneEnd, RecordedEvent},
};

pub mod verify;

/// The form of an export.
pub const EXPORT_FORM: &str = "vouchsafe audit export v1";

/// The form of a checkpoint.
pub const CHECKPOINT_FORM: &str = "vouchsafe audit checkpoint v1";

/// A line of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first one.
    Header(Header),
    /// An event. Those of one lane come in their order.
    Event(Box<EventLine>),
    /// The last one, without which the file was cut off.
    End(End),
}

/// What an export begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`EXPORT_FORM`].
    pub form: String,
    /// When it was made.
    pub time: Moment,
    /// The base of every lane: the last event that was removed because it was old.
    pub lanes: Vec<LaneLine>,
}

/// What an export ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How many events there are in the file.
    pub events: u64,
    /// The last event of every lane.
    pub lanes: Vec<LaneLine>,
}

/// Where the lanes ended when somebody looked: to be kept where nobody who can write to the database can change it, and
/// held against the trail later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// [`CHECKPOINT_FORM`].
    pub form: String,
    /// When that was.
    pub time: Moment,
    /// The last event of every lane.
    pub lanes: Vec<LaneLine>,
}

/// An end of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneLine {
    /// Which lane.
    pub lane: i64,
    /// Which of its events; 0 for none.
    pub position: i64,
    /// The event's hash.
    pub hash: Hex<[u8; 32]>,
    /// The MAC over it.
    pub mac: Option<Hex<[u8; 32]>>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLine {
    /// Its id.
    pub id: EventId,
    /// When.
    pub time: Moment,
    /// What.
    pub act: String,
    /// How it ended.
    pub succeeded: bool,
    /// Which kind of actor.
    pub actor: String,
    /// Who.
    pub actor_id: Option<Uuid>,
    /// Whose account.
    pub subject_id: Option<Uuid>,
    /// Which session.
    pub session_id: Option<Uuid>,
    /// By which request.
    pub request_id: String,
    /// The rest.
    pub detail: Value,
    /// What is personal, as it is stored.
    pub personal_sealed: Option<Hex<Vec<u8>>>,
    /// Which lane.
    pub lane: i64,
    /// Where in it.
    pub position: i64,
    /// The hash of it and of all before it.
    pub hash: Hex<[u8; 32]>,
    /// What is personal, for whoever reads the file. Not hashed: it may be taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<Personal>,
}

impl From<LaneEnd> for LaneLine {
    fn from(LaneEnd { link, mac }: LaneEnd) -> Self {
        let ChainLink { place: Place { lane, position }, hash } = link;
        Self { lane, position, hash: Hex(hash), mac: mac.map(Hex) }
    }
}

impl From<LaneLine> for LaneEnd {
    fn from(LaneLine { lane, position, hash: Hex(hash), mac }: LaneLine) -> Self {
        Self { link: ChainLink { place: Place { lane, position }, hash }, mac: mac.map(|Hex(mac)| mac) }
    }
}

impl EventLine {
    /// The event as its row says it.
    pub fn recorded(&self) -> RecordedEvent {
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
            lane,
            position,
            hash,
            personal: _,
        } = self.clone();
        let hash: ChainHash = hash.0;
        RecordedEvent {
            id,
            time: time.0,
            act,
            succeeded,
            actor,
            actor_id,
            subject_id,
            session_id: session_id.map(SessionId::from_uuid),
            request_id,
            detail,
            personal_sealed: personal_sealed.map(|Hex(sealed)| sealed),
            link: Some(ChainLink { place: Place { lane, position }, hash }),
        }
    }
}

/// Bytes in lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<B>(pub B);

impl<B: AsRef<[u8]>> fmt::Display for Hex<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<B: TryFrom<Vec<u8>>> FromStr for Hex<B> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err("is not lower-case hexadecimal"),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err("is not lower-case hexadecimal") };
        let bytes: Vec<u8> =
            pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect::<Result<_, Self::Err>>()?;
        B::try_from(bytes).map(Self).map_err(|_| "has another length")
    }
}

impl<B: AsRef<[u8]>> Serialize for Hex<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, B: TryFrom<Vec<u8>>> Deserialize<'de> for Hex<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A moment as RFC 3339 has it, in UTC and to the microsecond, which is what is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Timestamp::from_seconds(self.0.as_seconds()).to_string();
        match seconds.strip_suffix('Z') {
            Some(seconds) => write!(f, "{seconds}.{:06}Z", self.0.subsec_micros()),
            // Of no year that has four digits.
            None => write!(f, "{seconds}"),
        }
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    /// One spelling only.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = "is no moment like 2026-01-31T12:00:00.000000Z";
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| problem)?;
        let micros = i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).map_err(|_| problem)?;
        let moment = Self(Timestamp::from_micros(micros));
        if moment.to_string() == text { Ok(moment) } else { Err(problem) }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crypto::audit_chain::NOTHING;

    fn event() -> Value {
        json!({
            "type": "event", "id": "018bcfe5-6800-7000-8000-000000000001", "time": "2023-11-14T22:13:20.000001Z",
            "act": "login.failed", "succeeded": false, "actor": "anonymous", "actor_id": null,
            "subject_id": "018bcfe5-6800-7000-8000-000000000002", "session_id": null, "request_id": "r",
            "detail": { "cause": "wrong_password", "a": 1 }, "personal_sealed": "00ff", "lane": 3, "position": 7,
            "hash": "01".repeat(32), "personal": { "ip_address": "192.0.2.1", "user_agent": "" },
        })
    }

    #[test]
    fn an_event_comes_back_as_it_was_hashed() {
        let Line::Event(line) = serde_json::from_value(event()).unwrap() else { panic!("another line") };
        let recorded = line.recorded();
        assert_eq!(recorded.time, Timestamp::from_micros(1_700_000_000_000_001));
        assert_eq!(recorded.personal_sealed.as_deref(), Some(&[0, 255][..]));
        assert_eq!(recorded.link.unwrap().place, Place { lane: 3, position: 7 });
        let written = serde_json::to_string(&Line::Event(line)).unwrap();
        let Line::Event(again) = serde_json::from_str(&written).unwrap() else { panic!("another line") };
        let place = Place { lane: 3, position: 7 };
        assert_eq!(again.recorded().chained().hash(place, &NOTHING), recorded.chained().hash(place, &NOTHING));
    }

    #[test]
    fn a_line_has_one_spelling() {
        let with = |member: &str, value: Value| {
            let mut line = event();
            line[member] = value;
            serde_json::from_value::<Line>(line)
        };
        assert!(with("lane", json!(4)).is_ok());
        for (member, value) in [
            ("more", json!(1)),
            ("hash", json!("01".repeat(31))),
            ("hash", json!("0A".repeat(32))),
            ("personal_sealed", json!("0")),
            ("time", json!("2023-11-14T22:13:20Z")),
            ("time", json!("2023-11-14T23:13:20.000001+01:00")),
            ("lane", json!(null)),
        ] {
            assert!(with(member, value.clone()).is_err(), "{member} {value}");
        }
        let old = Moment(Timestamp::from_micros(-1));
        assert_eq!(old.to_string(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(old.to_string().parse(), Ok(old));
    }
}
