//! JSON as tokens need it: an object whose members are read by name, in one pass, each at most once.
//!
//! serde's derived structs will not do: they keep quiet about an unknown member that comes twice, and they take an array
//! for an object. Errors say nothing, because serde's quote the input, and the input is a token.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// Not the JSON that was asked for: not JSON, not an object, a member twice or of the wrong kind, or trailing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedJson;

/// The members of an object that somebody wants.
pub(crate) trait Members<'de>: Default {
    /// Reads the value of the member `name`, usually by [`once`]. `false`, with nothing read, if nobody wants it: then
    /// the value is checked for members named twice, and dropped.
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads a whole text that is one object.
pub(crate) fn parse_object<'de, M: Members<'de>>(json: &'de [u8]) -> Result<M, MalformedJson> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = deserializer.deserialize_map(ObjectVisitor(PhantomData)).map_err(|_| MalformedJson)?;
    deserializer.end().map_err(|_| MalformedJson)?;
    Ok(members)
}

/// The same for an object within another one.
pub(crate) struct Object<M>(pub(crate) M);

impl<'de, M: Members<'de>> Deserialize<'de> for Object<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// Reads a whole text of any kind in which no object names a member twice.
pub(crate) fn parse_value(json: &[u8]) -> Result<serde_json::Value, MalformedJson> {
    // `Value` keeps the last of two members without a word, hence the first pass.
    serde_json::from_slice::<Unwanted>(json).map_err(|_| MalformedJson)?;
    serde_json::from_slice(json).map_err(|_| MalformedJson)
}

/// Reads the value of a member into its slot; refuses a second one.
pub(crate) fn once<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    slot: &mut Option<T>,
    map: &mut A,
) -> Result<bool, A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom("member named twice"));
    }
    *slot = Some(map.next_value()?);
    Ok(true)
}

struct ObjectVisitor<M>(PhantomData<M>);

impl<'de, M: Members<'de>> Visitor<'de> for ObjectVisitor<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
        let mut members = M::default();
        let mut unwanted = Vec::new();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if !members.take(&name.0, &mut map)? {
                map.next_value::<Unwanted>()?;
                unwanted.push(name);
            }
        }
        all_different(unwanted)?;
        Ok(members)
    }
}

/// Sorting rather than comparing each with each: a header of 16 KiB is anybody's to send.
fn all_different<E: Error>(mut names: Vec<Text<'_>>) -> Result<(), E> {
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) { Err(E::custom("member named twice")) } else { Ok(()) }
}

/// A string, borrowed from the input unless it holds escapes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

/// A value of any kind in which no object names a member twice. serde_json bounds its depth.
struct Unwanted;

impl<'de> Deserialize<'de> for Unwanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnwantedVisitor)
    }
}

struct UnwantedVisitor;

impl<'de> Visitor<'de> for UnwantedVisitor {
    type Value = Unwanted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Unwanted, E> {
        Ok(Unwanted)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unwanted, E> {
        Ok(Unwanted)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unwanted, E> {
        Ok(Unwanted)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unwanted, E> {
        Ok(Unwanted)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unwanted, E> {
        Ok(Unwanted)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unwanted, E> {
        Ok(Unwanted)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unwanted, A::Error> {
        while items.next_element::<Unwanted>()?.is_some() {}
        Ok(Unwanted)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unwanted, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            map.next_value::<Unwanted>()?;
            names.push(name);
        }
        all_different(names)?;
        Ok(Unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Wanted<'a> {
        a: Option<Text<'a>>,
    }

    impl<'de> Members<'de> for Wanted<'de> {
        fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
            match name {
                "a" => once(&mut self.a, map),
                _ => Ok(false),
            }
        }
    }

    fn a(json: &str) -> Result<Option<String>, MalformedJson> {
        parse_object::<Wanted<'_>>(json.as_bytes()).map(|w| w.a.map(|t| t.0.into_owned()))
    }

    #[test]
    fn a_member_is_found_under_any_escaping() {
        assert_eq!(a(r#" {"b":[{"a":1},null,-1.5e3,true],"a":"x"} "#), Ok(Some("x".into())));
        assert_eq!(a(r#"{"\u0061":"\u0078"}"#), Ok(Some("x".into())));
        assert_eq!(a("{}"), Ok(None));
    }

    #[test]
    fn a_member_named_twice_is_refused_wherever_it_stands() {
        for json in [
            r#"{"a":"x","a":"x"}"#,
            r#"{"a":"x","\u0061":"y"}"#,
            r#"{"b":1,"c":2,"b":3}"#,
            r#"{"b":{"c":1,"c":1}}"#,
            r#"{"b":[[{"c":1,"d":2,"\u0063":1}]]}"#,
        ] {
            assert_eq!(a(json), Err(MalformedJson), "{json}");
            assert_eq!(parse_value(json.as_bytes()), Err(MalformedJson), "{json}");
        }
    }

    #[test]
    fn what_is_no_object_of_the_right_members_is_refused() {
        for json in
            ["", "null", "[]", r#"["x"]"#, r#""a""#, r#"{"a":null}"#, r#"{"a":1}"#, r#"{"a":"x"}x"#, r#"{"a":"x"}{}"#]
        {
            assert_eq!(a(json), Err(MalformedJson), "{json}");
        }
        assert_eq!(parse_object::<Wanted<'_>>(b"{\"a\":\"\xff\"}"), Err(MalformedJson));
        assert_eq!(a(&format!("{{\"b\":{}}}", "[".repeat(100_000))), Err(MalformedJson));
    }
}
