//! The bearer token of a request (RFC 6750 §2.1).

use http::{HeaderMap, header};

use super::rule::Denied;

/// The bearer token in these headers; `None` if there is no `authorization`, or one of another scheme.
///
/// # Errors
/// [`Denied::UnclearToken`] if there are two, or one that is no text.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    bearer_of(headers.get_all(header::AUTHORIZATION).iter().map(http::HeaderValue::as_bytes))
}

/// The same of the values of `authorization`.
///
/// # Errors
/// As [`bearer`].
pub fn bearer_of<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Option<&'v str>, Denied> {
    let mut values = values.into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Denied::UnclearToken);
    }
    let text = str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
    let text = text.ok_or(Denied::UnclearToken)?;
    Ok(match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_only_if_it_is_the_only_one() {
        let of = |values: &[&'static [u8]]| bearer_of(values.iter().copied());
        assert_eq!(of(&[b"bearer abc"]), Ok(Some("abc")));
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[b"Basic abc"]), Ok(None));
        for unclear in
            [&[&b"Bearer a"[..], b"Bearer b"][..], &[b"Bearer \xff"], &[b"Bearer a\tb"], &[b"Bearer \xc3\xa9"]]
        {
            assert_eq!(of(unclear), Err(Denied::UnclearToken), "{unclear:?}");
        }
    }
}
