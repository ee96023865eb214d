//! The paths of HTTP requests in one form, and the patterns that rules name them by.
//!
//! A rule is worth nothing if another spelling of a path gets around it, and what a backend takes for the same path cannot be
//! known from outside. So:
//!
//! - **What no honest client sends is refused**: an encoded slash, backslash, semicolon, control byte or dot segment, an
//!   escape within an escape, bytes that are no UTF-8, a path that climbs above its root, one that does not begin with `/`, and
//!   a `..` that takes back an empty segment: `/a//../b` is `/a/b` by RFC 3986, and `/b` where slashes are merged first.
//! - **Everything else has one normal form** ([`NormalPath`]): without query; what needs no escape is written without, what does
//!   need one has it, in upper-case hex; no empty segments; dot segments resolved (RFC 3986 §5.2.4, §6.2.2).
//! - **A pattern fits it in one of two ways** ([`Fit`]). [`Fit::Exact`]: the path was sent in its normal form and reads as the
//!   pattern does. [`Fit::Loose`]: some backend could take it for such a path: another case, a slash more or less at the end, or
//!   a spelling that is not the normal form. Case is folded in ASCII only.
//!
//! Whoever decides by patterns must let a route that fits loosely only add demands to what holds for the path otherwise, and
//! never take some away. Then no spelling is asked for less than the path itself, nor than what is written for that spelling.

use std::{borrow::Cow, fmt};

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("does not begin with /")]
    NotAbsolute,
    /// A control character, a space, a byte that is not ASCII, or `#`, which ends no path of a request.
    #[error("has a character that no path may have")]
    Character,
    /// `%` without two hexadecimal digits behind it.
    #[error("has % without two hexadecimal digits behind it")]
    Escape,
    /// An escape that stands for a control character, or bytes that are no UTF-8.
    #[error("has an escape that stands for no text")]
    NotText,
    /// A slash or backslash that is encoded, or a plain backslash.
    #[error("has a hidden separator")]
    Separator,
    /// A semicolon, encoded or not: some backends cut off what follows.
    #[error("has a semicolon")]
    Parameters,
    /// What is decoded twice reads differently: `%2541`.
    #[error("has an escape within an escape")]
    Twice,
    /// A dot segment that is written with escapes.
    #[error("has an encoded dot segment")]
    HiddenDots,
    /// More `..` than there is to leave.
    #[error("climbs above its root")]
    AboveRoot,
    /// A `..` that takes back an empty segment, which some backends have dropped by then: `/a//../b`.
    #[error("has .. after an empty segment")]
    EmptyParent,
}

/// The path of a request in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'r> {
    text: Cow<'r, str>,
    /// The same as backends read it that keep its empty segments, its dot segments or both; nothing if it had none.
    others: Vec<String>,
    as_written: bool,
}

impl<'r> NormalPath<'r> {
    /// The path of a request target: everything before `?`.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn of(raw: &'r str) -> Result<Self, PathError> {
        let path = raw.split_once('?').map_or(raw, |(path, _query)| path);
        if !path.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if path.bytes().all(|byte| byte == b'/' || is_plain(byte)) && !path.contains("//") && !path.contains("/.") {
            return Ok(Self { text: Cow::Borrowed(path), others: Vec::new(), as_written: true });
        }
        let mut decoded = String::with_capacity(path.len());
        let mut respelled = false;
        for segment in path[1..].split('/') {
            decoded.push('/');
            respelled |= respell(segment, &mut decoded)?;
        }
        // Since no `..` takes back an empty segment, it does not matter which of the two is done first.
        let resolved = resolved(&decoded)?;
        let text = merged(&resolved);
        if text == decoded {
            return Ok(Self { text: Cow::Owned(text), others: Vec::new(), as_written: !respelled });
        }
        let others = vec![merged(&decoded), resolved, decoded];
        Ok(Self { text: Cow::Owned(text), others, as_written: false })
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it was sent so. The case of hexadecimal digits does not count.
    pub const fn is_as_written(&self) -> bool {
        self.as_written
    }
}

/// What stands in a segment as itself: RFC 3986 `pchar` without escapes and without the semicolon.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

/// Appends the normal form of one segment. Whether it is another than was sent.
fn respell(segment: &str, out: &mut String) -> Result<bool, PathError> {
    let (mut respelled, mut escaped_dot) = (false, false);
    let start = out.len();
    let mut octets = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let (octet, escaped) = if byte == b'%' {
            let digits = bytes.next().zip(bytes.next()).and_then(|(high, low)| Some((hex(high)?, hex(low)?)));
            let (high, low) = digits.ok_or(PathError::Escape)?;
            (high << 4 | low, true)
        } else {
            (byte, false)
        };
        match octet {
            b'/' | b'\\' => return Err(PathError::Separator),
            b';' => return Err(PathError::Parameters),
            0..0x20 | 0x7f if escaped => return Err(PathError::NotText),
            b'#' | 0..=0x20 | 0x7f.. if !escaped => return Err(PathError::Character),
            _ => octets.push(octet),
        }
        if is_plain(octet) {
            out.push(char::from(octet));
            respelled |= escaped;
            escaped_dot |= escaped && octet == b'.';
        } else {
            out.extend(['%', upper_hex(octet >> 4), upper_hex(octet & 0xf)]);
            respelled |= !escaped;
        }
    }
    if str::from_utf8(&octets).is_err() {
        return Err(PathError::NotText);
    }
    if octets
        .windows(3)
        .any(|window| window[0] == b'%' && window[1].is_ascii_hexdigit() && window[2].is_ascii_hexdigit())
    {
        return Err(PathError::Twice);
    }
    if escaped_dot && matches!(&out[start..], "." | "..") {
        return Err(PathError::HiddenDots);
    }
    Ok(respelled)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const fn upper_hex(nibble: u8) -> char {
    (if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }) as char
}

/// Without dot segments, as RFC 3986 §5.2.4 removes them: an empty segment is one like any other.
fn resolved(path: &str) -> Result<String, PathError> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => match kept.pop() {
                None => return Err(PathError::AboveRoot),
                Some("") => return Err(PathError::EmptyParent),
                Some(_) => {}
            },
            other => kept.push(other),
        }
        // What ends in a dot segment is a folder.
        if matches!(segment, "." | "..") && segments.peek().is_none() {
            kept.push("");
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

/// Without empty segments; a slash at the end stays.
fn merged(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        text.push('/');
        text.push_str(segment);
    }
    if path.ends_with('/') {
        text.push('/');
    }
    text
}

/// How a pattern fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The path was sent in its normal form and reads as the pattern does.
    Exact,
    /// Some backend could take it for a path that reads as the pattern does.
    Loose,
}

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Its path is not one.
    #[error("{0}")]
    Path(#[from] PathError),
    /// Not in the normal form, which is this.
    #[error("is not how paths are compared: write {0}")]
    NotNormal(String),
    /// It has a query.
    #[error("has a query, which patterns do not look at")]
    Query,
    /// A star among other characters.
    #[error("has a * among other characters: * stands for one whole segment, and ** at the end for any number")]
    Star,
    /// Not a host name.
    #[error("is not a host: write example.com, or *.example.com for all names below it, without a port")]
    Host,
}

/// A pattern for paths: `/orders`, `/orders/*` (one segment), `/orders/**` (any number of them, none too).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    /// Whether it ends in `**`.
    tail: bool,
    /// Whether it ends in `/`.
    slash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.contains('?') {
            return Err(PatternError::Query);
        }
        let normal = NormalPath::of(text)?;
        if normal.as_str() != text {
            return Err(PatternError::NotNormal(normal.as_str().to_owned()));
        }
        let (inner, slash) = inner(text);
        let mut segments: Vec<_> = split(inner).collect();
        let tail = !slash && segments.pop_if(|last| *last == "**").is_some();
        let segments = segments.into_iter().map(|segment| match segment {
            "*" => Ok(Segment::Any),
            other if other.contains('*') => Err(PatternError::Star),
            other => Ok(Segment::Literal(other.to_owned())),
        });
        Ok(Self { text: text.to_owned(), segments: segments.collect::<Result<_, _>>()?, tail, slash })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether and how it fits.
    pub fn fits(&self, path: &NormalPath<'_>) -> Option<Fit> {
        let (inner, slash) = inner(path.as_str());
        if path.as_written && (self.tail || slash == self.slash) && self.reads_as(inner, str::eq) {
            return Some(Fit::Exact);
        }
        let others = || path.others.iter().any(|text| self.could_be(self::inner(text).0));
        (self.could_be(inner) || others()).then_some(Fit::Loose)
    }

    fn could_be(&self, inner: &str) -> bool {
        self.reads_as(inner, str::eq_ignore_ascii_case)
    }

    fn reads_as(&self, inner: &str, same: impl Fn(&str, &str) -> bool) -> bool {
        let mut sent = split(inner);
        let all = self.segments.iter().all(|segment| match (segment, sent.next()) {
            (_, None) => false,
            (Segment::Any, Some(_)) => true,
            (Segment::Literal(literal), Some(sent)) => same(literal, sent),
        });
        all && (self.tail || sent.next().is_none())
    }

    /// Whether it fits exactly wherever the other does.
    pub fn covers(&self, other: &Self) -> bool {
        let enough = if self.tail {
            self.segments.len() <= other.segments.len()
        } else {
            !other.tail && self.slash == other.slash && self.segments.len() == other.segments.len()
        };
        enough && self.segments.iter().zip(&other.segments).all(|(own, other)| *own == Segment::Any || own == other)
    }
}

/// What stands between the first slash and one at the end, and whether there is one at the end.
fn inner(path: &str) -> (&str, bool) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.strip_suffix('/') {
        Some(inner) => (inner, true),
        None => (path, path.is_empty()),
    }
}

fn split(inner: &str) -> impl Iterator<Item = &str> {
    // Of nothing there are no segments.
    inner.split('/').skip(usize::from(inner.is_empty()))
}

/// A pattern for hosts: `example.com`, or `*.example.com` for every name below it, however deep. Ports and case do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError::Host`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        match host_of(name) {
            Some(host) if host == name && !name.is_empty() => Ok(Self { name: name.to_ascii_lowercase(), below }),
            _ => Err(PatternError::Host),
        }
    }

    /// Whether it fits a host as [`host_of`] reads it.
    pub fn fits(&self, host: &str) -> bool {
        if !self.below {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let Some(dot) = host.len().checked_sub(self.name.len() + 1) else { return false };
        // A host is ASCII.
        dot > 0 && host.as_bytes()[dot] == b'.' && host[dot + 1..].eq_ignore_ascii_case(&self.name)
    }

    /// Whether it fits wherever the other does.
    pub fn covers(&self, other: &Self) -> bool {
        self == other
            || (self.below && self.fits(&other.name))
            || (self.below && other.below && self.name == other.name)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

/// The name in a `Host` header or an `:authority`, without its port and without a dot at its end. Empty for none; `None` if it is
/// no name and no address.
pub fn host_of(authority: &str) -> Option<&str> {
    let host = if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        is_port(&authority[end..]).then_some(&authority[..end])?
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        is_port(&authority[end..]).then_some(&authority[..end])?
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'[' | b']' | b':');
    host.bytes().all(plain).then(|| host.strip_suffix('.').unwrap_or(host))
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
