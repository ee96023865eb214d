//! When a certificate ends: the one field that operators want to hear of and rustls keeps to itself.
//!
//! Reads DER as far as `notAfter` (RFC 5280 §4.1) and no further. Nothing is decided by it, only said: whether a certificate is
//! valid is its peer's to judge.

use time::{Date, Month, PrimitiveDateTime, Time};

use crate::domain::time::Timestamp;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`: the version, which certificates of version 1 leave out.
const VERSION: u8 = 0xa0;

/// The end of a certificate's validity. `None` if this is not a certificate as we know them.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_version, after)) = element(rest, VERSION) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_not_before, rest) = moment(validity)?;
    Some(moment(rest)?.0)
}

/// The content of the element at the front, which must have this tag, and what comes after it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = input.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The time at the front, in the two forms of RFC 5280 §4.1.2.5, and what comes after it.
fn moment(input: &[u8]) -> Option<(Timestamp, &[u8])> {
    let ((text, rest), digits_of_year) = match element(input, UTC_TIME) {
        Some(found) => (found, 2),
        None => (element(input, GENERALIZED_TIME)?, 4),
    };
    let (year, others) = text.strip_suffix(b"Z")?.split_at_checked(digits_of_year)?;
    let (pairs, []) = others.as_chunks::<2>() else { return None };
    let &[month, day, hour, minute, second] = pairs else { return None };
    let year = match (digits_of_year, number(year)?) {
        (2, year @ 50..) => 1900 + year,
        (2, year) => 2000 + year,
        (_, year) => year,
    };
    let small = |pair: [u8; 2]| u8::try_from(number(&pair)?).ok();
    let date = Date::from_calendar_date(i32::from(year), Month::try_from(small(month)?).ok()?, small(day)?).ok()?;
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some((Timestamp::from_seconds(seconds), rest))
}

fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn ending(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_found_in_both_forms_of_time() {
        for (year, month, day, seconds) in
            [(2026, 11, 22, 1_795_305_600), (2049, 12, 31, 2_524_521_600), (2050, 1, 1, 2_524_608_000)]
        {
            assert_eq!(not_after(&ending(year, month, day)), Some(Timestamp::from_seconds(seconds)), "{year}");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_certificate_says_nothing_and_harms_nobody() {
        let whole = ending(2030, 1, 1);
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
        assert_eq!(not_after(&[0x30, 0x80, 0, 0]), None, "a length that DER does not have");
        assert_eq!(moment(b"\x17\x0d26113124595xZ"), None);
        assert_eq!(moment(b"\x17\x0d261131235959Z"), None, "no such day");
    }

    proptest::proptest! {
        #[test]
        fn bytes_do_not_make_it_panic(position in 0_usize..300, byte: u8) {
            let mut certificate = ending(2030, 1, 1);
            let length = certificate.len();
            certificate[position % length] = byte;
            let _ = not_after(&certificate);
        }
    }
}
