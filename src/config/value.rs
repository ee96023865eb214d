//! A value as it was given, and how it becomes a type.
//!
//! A parser returns what would be right ("a duration such as 5m") and leaves the sentence around it, with the key and
//! the place, to the reader, which also knows whether the value may be shown.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;

use crate::domain::{
    audience::{Audience, Scope},
    duration,
    web_origin::WebOrigin,
};

/// A value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    /// From a place that knows only text (environment, command line): numbers, flags and lists are spelled out in it.
    Text(String),
    /// A string in a TOML file. Not taken for a number, a flag or a list.
    String(String),
    /// An integer in a TOML file.
    Integer(i64),
    /// A boolean in a TOML file.
    Boolean(bool),
    /// A list of strings in a TOML file.
    List(Vec<String>),
    /// Something in a TOML file that no setting takes, as it would be shown.
    Other(String),
}

impl Raw {
    /// As it is shown to people, shortened.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::String(text) => shortened(text),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(|i| shortened(i)).collect::<Vec<_>>().join(", ")),
            Self::Other(what) => what.clone(),
        }
    }

    /// Whether it may be a URL with a password in it, where none belongs.
    pub(super) fn may_hold_login(&self) -> bool {
        self.text().is_some_and(|text| text.contains("://") && text.contains('@'))
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What would be right, with a hint where only the quotes are wrong.
    fn unquoted(&self, wanted: String) -> String {
        if matches!(self, Self::String(_)) { wanted + ", without quotes" } else { wanted }
    }
}

/// In quotes with control characters escaped, so that it cannot disturb a terminal.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Text that is not empty. `wanted` says what for.
pub(super) fn text(raw: &Raw, wanted: &str) -> Result<String, String> {
    raw.text().filter(|t| !t.is_empty()).map(str::to_owned).ok_or_else(|| wanted.to_owned())
}

/// Text, also empty.
pub(super) fn any_text(raw: &Raw, wanted: &str) -> Result<String, String> {
    raw.text().map(str::to_owned).ok_or_else(|| wanted.to_owned())
}

/// A whole number in `range`.
pub(super) fn number<T>(raw: &Raw, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    let given = match raw {
        Raw::Integer(number) => Some(*number),
        Raw::Text(text) => text.parse().ok(),
        _ => None,
    };
    given
        .and_then(|n| T::try_from(n).ok())
        .filter(|n| range.contains(n))
        .ok_or_else(|| raw.unquoted(format!("a whole number from {} to {}", range.start(), range.end())))
}

/// `true` or `false`.
pub(super) fn flag(raw: &Raw) -> Result<bool, String> {
    match raw {
        Raw::Boolean(flag) => Ok(*flag),
        Raw::Text(text) if text == "true" => Ok(true),
        Raw::Text(text) if text == "false" => Ok(false),
        _ => Err(raw.unquoted("true or false".to_owned())),
    }
}

/// A duration in `range`.
pub(super) fn duration(raw: &Raw, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    raw.text().and_then(duration::parse).filter(|d| range.contains(d)).ok_or_else(|| {
        let (least, most) = (duration::format(*range.start()), duration::format(*range.end()));
        format!("a duration from {least} to {most}, a whole number with ms, s, m, h or d such as {most:?}")
    })
}

/// A duration in `range` that is a whole number of seconds.
pub(super) fn whole_seconds(raw: &Raw, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    match duration(raw, range)? {
        duration if duration.subsec_nanos() == 0 => Ok(duration),
        _ => Err("a duration in whole seconds".to_owned()),
    }
}

/// An IP address and a port.
pub(super) fn address(raw: &Raw) -> Result<SocketAddr, String> {
    raw.text()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| "an IP address and a port such as 127.0.0.1:50051 or [::1]:50051".to_owned())
}

/// One of a few words.
pub(super) fn word<T: Copy>(raw: &Raw, words: &[(&str, T)]) -> Result<T, String> {
    words
        .iter()
        .find(|(word, _)| raw.text() == Some(word))
        .map(|(_, value)| *value)
        .ok_or_else(|| words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or "))
}

/// A list of a few words, each kept once.
pub(super) fn words<T: Copy + PartialEq>(raw: &Raw, words: &[(&str, T)]) -> Result<Vec<T>, String> {
    let mut values = Vec::new();
    for name in names(raw)? {
        let Some((_, value)) = words.iter().find(|(word, _)| *word == name.as_str()) else {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            return Err(format!("a list of {}", known.join(" and ")));
        };
        if !values.contains(value) {
            values.push(*value);
        }
    }
    Ok(values)
}

/// Anything with a parser of its own.
pub(super) fn parsed<T: FromStr>(raw: &Raw, wanted: &str) -> Result<T, String> {
    raw.text().and_then(|t| t.parse().ok()).ok_or_else(|| wanted.to_owned())
}

/// The items of a list.
fn items(raw: &Raw) -> Result<Vec<&str>, String> {
    match raw {
        Raw::List(items) => Ok(items.iter().map(String::as_str).collect()),
        Raw::Text(text) if text.is_empty() => Ok(Vec::new()),
        Raw::Text(text) => Ok(text.split(',').map(str::trim).collect()),
        Raw::String(_) => Err("a list such as [\"one\", \"two\"]".to_owned()),
        _ => Err("a list of names in quotes such as [\"one\", \"two\"]".to_owned()),
    }
}

/// A list of networks, each kept once.
pub(super) fn networks(raw: &Raw) -> Result<Vec<IpNet>, String> {
    let mut networks: Vec<IpNet> = Vec::new();
    for item in items(raw)? {
        let network = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| "a list of networks such as 10.0.0.0/8 or fd00::/8".to_owned())?.trunc();
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(networks)
}

/// A list of origins of web pages, each kept once.
pub(super) fn web_origins(raw: &Raw) -> Result<Vec<WebOrigin>, String> {
    let mut origins: Vec<WebOrigin> = Vec::new();
    for item in items(raw)? {
        let origin = WebOrigin::parse(item).map_err(|error| error.to_string())?;
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    Ok(origins)
}

/// A list of names, each kept once.
pub(super) fn names(raw: &Raw) -> Result<Vec<Audience>, String> {
    let items = items(raw)?;
    let mut names: Vec<Audience> = Vec::new();
    for item in items {
        let name = Audience::try_from(item.to_owned()).map_err(|_| {
            "a list of names, each of 1 to 255 visible ASCII characters without quotes or backslashes".to_owned()
        })?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A list of scopes, each kept once.
pub(super) fn scopes(raw: &Raw) -> Result<Scope, String> {
    // A scope is a name like an audience, so that joining and parsing them again loses nothing.
    let joined = names(raw)?.iter().map(Audience::as_str).collect::<Vec<_>>().join(" ");
    Scope::try_from(joined).map_err(|error| error.to_string())
}
