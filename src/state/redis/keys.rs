//! What things are called in Redis. Everything begins with `vouchsafe:`, which is all that its user there needs access to.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::state::port::HotKey;

/// The key of a value.
pub(super) fn value(key: HotKey) -> String {
    match key {
        HotKey::Session(id) => format!("vouchsafe:s:{}", URL_SAFE_NO_PAD.encode(id.as_uuid().as_bytes())),
        HotKey::FeedHead(incarnation) => format!("vouchsafe:head:{}", incarnation.hyphenated()),
        HotKey::Spent(hash) => format!("vouchsafe:spent:{}", URL_SAFE_NO_PAD.encode(hash.as_bytes())),
    }
}

/// The key of a feed's stream.
pub(super) fn feed(incarnation: Uuid) -> String {
    format!("vouchsafe:feed:{}", incarnation.hyphenated())
}

/// A key that no value has, for trying whether a server answers. Its number decides where in a cluster it is.
pub(super) fn probe(number: u32) -> String {
    format!("vouchsafe:probe:{number}")
}

/// The slot of a key without braces: the CRC-16/XMODEM of its bytes, modulo 16384 (Redis cluster specification).
pub(super) fn slot(key: &str) -> u16 {
    let crc = key.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::SessionId;

    #[test]
    fn keys_are_short_and_ours() {
        let id = Uuid::from_bytes([0xff; 16]);
        assert_eq!(value(HotKey::Session(SessionId::from_uuid(id))), format!("vouchsafe:s:{}w", "_".repeat(21)));
        for key in [value(HotKey::FeedHead(id)), value(HotKey::Spent(id)), feed(id), probe(0)] {
            assert!(key.starts_with("vouchsafe:") && !key.contains(['{', '}']), "{key}");
        }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot(""), 0);
    }
}
