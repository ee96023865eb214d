//! JSON objects inside of what is packed: formats that do not describe themselves cannot hold a value of any kind, so there it
//! is its text. For `#[serde(with)]`.

use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Map, Value};

/// Writes the object, as a text where it has to be; an empty text for an empty one.
pub(super) fn serialize<S: Serializer>(map: &Map<String, Value>, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return map.serialize(serializer);
    }
    if map.is_empty() {
        return serializer.serialize_str("");
    }
    serializer.serialize_str(&serde_json::to_string(map).map_err(S::Error::custom)?)
}

/// Reads it again.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    if deserializer.is_human_readable() {
        return Map::deserialize(deserializer);
    }
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(Map::new()) } else { serde_json::from_str(&text).map_err(D::Error::custom) }
}
