//! Durations as people write them: a whole number and one unit.

use std::time::Duration;

/// Units from the longest, with their length in milliseconds. The order matters to [`format`].
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `30d`, `24h`, `15m`, `10s` or `500ms`. `None` for anything else, also for a number without a unit: `30` could
/// mean anything.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))
}

/// Reads a duration such as `500ms`, `10s`, `15m`, `24h` or `30d`. The error says what is right.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    parse(text).ok_or("is not a duration: write a whole number with ms, s, m, h or d, for instance 10s")
}

/// Writes a duration in the longest unit that loses nothing. What is below a millisecond is dropped.
#[cfg(any(feature = "server", test))]
pub(crate) fn format(duration: Duration) -> String {
    let total = duration.as_millis();
    if total == 0 {
        return "0s".to_owned();
    }
    UNITS
        .into_iter()
        .find(|(_, millis)| total.is_multiple_of(u128::from(*millis)))
        .map_or_else(|| format!("{total}ms"), |(unit, millis)| format!("{}{unit}", total / u128::from(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_and_one_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
            ("007s", 7_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text:?}");
        }
        let nonsense = [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1.5h",
            "1h30m",
            "1 h",
            " 1h",
            "1h ",
            "1H",
            "1w",
            "1é",
            "99999999999999999999s",
        ];
        for bad in nonsense.into_iter().chain(["999999999999999999d"]) {
            assert_eq!(parse(bad), None, "{bad:?}");
            assert!(parse_duration(bad).is_err());
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0s", "1ms", "1500ms", "90s", "1m", "90m", "1h", "25h", "30d"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_undoes_writing(millis in 0u64..=u64::from(u32::MAX) * 1_000) {
            let duration = Duration::from_millis(millis);
            proptest::prop_assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
