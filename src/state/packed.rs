//! The bytes of a value in the hot state: a format number, then the value as postcard packs it.
//!
//! A value of another format counts as missing: the next refresh writes it anew. So the number only has to change whenever the
//! bytes would.

use serde::{Serialize, de::DeserializeOwned};

use crate::domain::{
    hot::{FeedHead, HotRecord},
    revocation::FeedEntry,
    throttle::Spent,
};

/// A value that is kept in the hot state.
pub trait Packed: Serialize + DeserializeOwned {
    /// The format, another one whenever the bytes change.
    const FORMAT: u8;
}

impl Packed for HotRecord {
    const FORMAT: u8 = 4;
}

impl Packed for FeedHead {
    const FORMAT: u8 = 1;
}

impl Packed for Spent {
    const FORMAT: u8 = 1;
}

/// The value's bytes.
pub fn pack<T: Packed>(value: &T) -> Vec<u8> {
    // Neither of the types has a part that postcard cannot write; if it ever could not, nothing readable is written.
    postcard::to_extend(value, vec![T::FORMAT]).unwrap_or_default()
}

/// The value, if the bytes are one of this format.
pub fn unpack<T: Packed>(bytes: &[u8]) -> Option<T> {
    let (&format, rest) = bytes.split_first()?;
    if format != T::FORMAT {
        return None;
    }
    // Trailing bytes would be a longer format's.
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

/// A feed entry as it goes through the stream: JSON, as in the database, because an older program must be able to skip what it
/// does not know.
pub fn entry_to_bytes(entry: &FeedEntry) -> Vec<u8> {
    // Neither map keys nor anything else that JSON cannot write.
    serde_json::to_vec(entry).unwrap_or_default()
}

/// The feed entry, if it is one this program knows.
pub fn entry_from_bytes(bytes: &[u8]) -> Option<FeedEntry> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        audience::{Audience, Scope},
        claim_rules::{OwnClaims, SaidMark},
        custom_claims::CustomClaims,
        hot::FeedPosition,
        id::{SessionId, UserId},
        refresh::Family,
        revocation::Revocation,
        role::{HeldRoles, Permissions},
        session::Grant,
        time::Timestamp,
        user::Attributes,
    };

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn claims(text: &str) -> CustomClaims {
        CustomClaims::new(serde_json::from_str(text).unwrap()).unwrap()
    }

    fn record() -> HotRecord {
        HotRecord {
            family: Family { generation: 5, made_at: at(1_700_000_000), key_id: 2, late_streak: 1, late_now: true },
            grant: Grant {
                user: UserId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
                epoch: 3,
                client_id: "app".to_owned(),
                audience: vec![Audience::try_from("vouchsafe".to_owned()).unwrap()],
                scope: Scope::try_from("a b".to_owned()).unwrap(),
                auth_time: at(1_600_000_000),
                amr: vec!["pwd".to_owned()],
                acr: "1".to_owned(),
            },
            held: HeldRoles {
                names: vec!["admin".to_owned()],
                permissions: Permissions::all(),
                claims: claims(r#"{"desk":1}"#),
            },
            own: OwnClaims { attributes: Attributes::default(), claims: claims(r#"{"a":"b"}"#) },
            said: SaidMark::of(&["plan".to_owned()].into()),
            create_time: at(1_600_000_000),
            absolute_expire_time: at(1_800_000_000),
            seen: FeedPosition { incarnation: Uuid::from_u128(9), number: 77 },
        }
    }

    #[test]
    fn the_format_is_what_it_was() {
        // Nodes of two versions share one hot state during an upgrade. If this changes, so must `FORMAT`.
        let hex = pack(&record()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(hex, GOLDEN);
        let head = FeedHead { number: 1, time: at(2), records_since: at(3), beat: 4 };
        assert_eq!(pack(&head), [1, 2, 128, 146, 244, 1, 128, 155, 238, 2, 4]);
        assert_eq!(pack(&Spent { until: at(2) }), [1, 128, 146, 244, 1]);
    }

    const GOLDEN: &str = "040a8080f28183898506040101100190000000007000800000000000000106036170700109766f756368736166650361\
                          20628080a0faa0ccd70501037077640131010561646d696e01012a0a7b226465736b223a317d00097b2261223a226222\
                          7d6c111e868080a0faa0ccd7058080c489e5c5b20610000000000000000000000000000000099a01";

    #[test]
    fn what_was_packed_is_what_is_read() {
        let record = record();
        assert_eq!(unpack(&pack(&record)), Some(record));
        let head = FeedHead { number: i64::MAX, time: at(1), records_since: at(-1), beat: u64::MAX };
        assert_eq!(unpack(&pack(&head)), Some(head));
    }

    #[test]
    fn nothing_else_is_read() {
        let bytes = pack(&record());
        for length in 0..bytes.len() {
            assert_eq!(unpack::<HotRecord>(&bytes[..length]), None, "cut to {length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(unpack::<HotRecord>(&longer), None);
        let other_format = [&[1], &bytes[1..]].concat();
        assert_eq!(unpack::<HotRecord>(&other_format), None);
        assert_eq!(unpack::<HotRecord>(b"\x02garbage"), None);
    }

    #[test]
    fn an_entry_survives_the_stream() {
        let session = SessionId::from_uuid(Uuid::from_u128(4));
        let revocation = Revocation::Session { session };
        let entry = FeedEntry { number: 3, revocation, time: at(1), expire_time: at(2) };
        assert_eq!(entry_from_bytes(&entry_to_bytes(&entry)), Some(entry));
        assert_eq!(
            entry_from_bytes(br#"{"number":3,"revocation":{"kind":"unheard_of"},"time":1,"expire_time":2}"#),
            None
        );
    }
}
