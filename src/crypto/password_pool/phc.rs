//! Stored argon2 hashes in the PHC string format, read strictly.
//!
//! `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`, salt and hash in unpadded standard base64. Hashes may be imported, so a
//! stored string is not to be trusted: it can be nonsense, or ask for hours of work.

use argon2::{Algorithm, Params, Version};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{Argon2Params, HashError};
use crate::domain::user::PhcString;

/// Memory beyond which no hash is computed, in KiB: 256 MiB.
pub(super) const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// Passes beyond which no hash is computed. With [`MAX_MEMORY_KIB`] that is a few seconds of work at most.
pub(super) const MAX_ITERATIONS: u32 = 16;
/// Lanes beyond which no hash is computed.
pub(super) const MAX_PARALLELISM: u32 = 8;
const SALT_LEN: std::ops::RangeInclusive<usize> = 8..=64;
const OUTPUT_LEN: std::ops::RangeInclusive<usize> = 16..=64;
/// Longer than the longest string within all bounds, so that a megabyte is refused unread.
const MAX_TEXT_LEN: usize = 256;

/// How a hash is computed, short of password and salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: Argon2Params,
    /// Length of the hash in bytes.
    pub(super) output_len: usize,
}

impl Recipe {
    /// What new hashes are made with: argon2id, version 19, 32 bytes.
    pub(super) const fn today(params: Argon2Params) -> Self {
        Self { algorithm: Algorithm::Argon2id, version: Version::V0x13, params, output_len: 32 }
    }

    /// The argon2 crate's form. Refused only where argon2 itself has no such hash.
    pub(super) fn params(&self) -> Result<Params, HashError> {
        let Argon2Params { memory_kib, iterations, parallelism } = self.params;
        Params::new(memory_kib, iterations, parallelism, Some(self.output_len))
            .map_err(|_| HashError::Malformed("argon2 allows no such parameters"))
    }

    /// The work, in KiB filled. Time grows with it nearly in proportion.
    pub(super) fn cost(&self) -> u64 {
        u64::from(self.params.memory_kib) * u64::from(self.params.iterations)
    }
}

/// A stored hash, within the bounds of what will be computed.
#[derive(Clone)]
pub(super) struct StoredHash {
    pub(super) recipe: Recipe,
    pub(super) salt: Vec<u8>,
    pub(super) output: Vec<u8>,
}

impl StoredHash {
    /// Parses a stored hash: order, spelling of numbers and base64 as the format demands, nothing left over.
    pub(super) fn parse(stored: &PhcString) -> Result<Self, HashError> {
        let malformed = HashError::Malformed;
        let text = stored.expose();
        if text.len() > MAX_TEXT_LEN {
            return Err(malformed("it is too long"));
        }
        let text = text.strip_prefix('$').ok_or(malformed("it does not begin with $"))?;
        let mut fields = text.split('$').peekable();
        let algorithm = match fields.next() {
            Some("argon2id") => Algorithm::Argon2id,
            Some("argon2i") => Algorithm::Argon2i,
            Some("argon2d") => Algorithm::Argon2d,
            _ => return Err(malformed("it is not argon2")),
        };
        // Hashes older than version 19 carry no version.
        let version = match fields.next_if(|field| field.starts_with("v=")) {
            None | Some("v=16") => Version::V0x10,
            Some("v=19") => Version::V0x13,
            Some(_) => return Err(malformed("its version is unknown")),
        };
        let params = params(fields.next().unwrap_or_default())?;
        let salt = bytes(fields.next(), SALT_LEN)?;
        let output = bytes(fields.next(), OUTPUT_LEN)?;
        if fields.next().is_some() {
            return Err(malformed("something follows the hash"));
        }
        let recipe = Recipe { algorithm, version, params, output_len: output.len() };
        recipe.params()?;
        Ok(Self { recipe, salt, output })
    }

    /// The PHC string.
    pub(super) fn to_phc(&self) -> PhcString {
        let Argon2Params { memory_kib, iterations, parallelism } = self.recipe.params;
        PhcString::new(format!(
            "${}$v={}$m={memory_kib},t={iterations},p={parallelism}${}${}",
            self.recipe.algorithm.as_str(),
            u32::from(self.recipe.version),
            STANDARD_NO_PAD.encode(&self.salt),
            STANDARD_NO_PAD.encode(&self.output),
        ))
    }
}

/// `m=…,t=…,p=…`, in this order and with nothing else (`keyid` and `data` hold what is not stored here).
fn params(text: &str) -> Result<Argon2Params, HashError> {
    let mut fields = text.split(',');
    let mut number = |prefix| {
        let digits = fields.next().and_then(|field| field.strip_prefix(prefix)).unwrap_or_default();
        decimal(digits).ok_or(HashError::Malformed("its parameters are not m, t and p"))
    };
    let params = Argon2Params { memory_kib: number("m=")?, iterations: number("t=")?, parallelism: number("p=")? };
    if fields.next().is_some() {
        return Err(HashError::Malformed("it has parameters other than m, t and p"));
    }
    if params.exceed_bounds() { Err(HashError::TooCostly) } else { Ok(params) }
}

/// A decimal number in its one spelling. What does not fit 32 bits is as good as the largest that does: too costly.
fn decimal(digits: &str) -> Option<u32> {
    let canonical = (1..=10).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    canonical.then(|| digits.parse().unwrap_or(u32::MAX))
}

fn bytes(field: Option<&str>, length: std::ops::RangeInclusive<usize>) -> Result<Vec<u8>, HashError> {
    let text = field.ok_or(HashError::Malformed("its salt or hash is missing"))?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| HashError::Malformed("its salt or hash is not base64"))?;
    if length.contains(&bytes.len()) {
        Ok(bytes)
    } else {
        Err(HashError::Malformed("its salt or hash has a strange length"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: &str = "AAECAwQFBgcICQoLDA0ODw";
    const HASH: &str = "gYJZtjEAJqjg26xdLmknq8/bB7MiWPrE9hsYuA+SkIU";

    fn parse(text: &str) -> Result<StoredHash, HashError> {
        StoredHash::parse(&PhcString::new(text.to_owned()))
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}");
        let stored = parse(&text).unwrap();
        let params = Argon2Params { memory_kib: 19_456, iterations: 2, parallelism: 1 };
        assert_eq!(stored.recipe, Recipe::today(params));
        assert_eq!(stored.salt, (0..16).collect::<Vec<u8>>());
        assert_eq!(stored.to_phc().expose(), text);
    }

    #[test]
    fn older_kinds_are_read_for_what_they_are() {
        let kind = |head: &str| parse(&format!("{head}$m=64,t=2,p=1${SALT}${HASH}")).unwrap().recipe;
        assert_eq!(kind("$argon2i$v=19").algorithm, Algorithm::Argon2i);
        assert_eq!(kind("$argon2d$v=19").algorithm, Algorithm::Argon2d);
        assert_eq!(kind("$argon2id$v=16").version, Version::V0x10);
        assert_eq!(kind("$argon2id").version, Version::V0x10);
    }

    #[test]
    fn nonsense_is_an_error() {
        let with = |params: &str| format!("$argon2id$v=19${params}${SALT}${HASH}");
        for bad in [
            String::new(),
            "$".to_owned(),
            "$$$$$".to_owned(),
            "x".repeat(1_000_000),
            format!("argon2id$v=19$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$argon2$v=19$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$ARGON2ID$v=19$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$2b$12${SALT}${HASH}"),
            format!("$argon2id$v=18$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$v=019$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$v=19$v=19$m=64,t=2,p=1${SALT}${HASH}"),
            with(""),
            with("m=64,t=2"),
            with("t=2,m=64,p=1"),
            with("m=064,t=2,p=1"),
            with("m=+64,t=2,p=1"),
            with("m=-1,t=2,p=1"),
            with("m= 64,t=2,p=1"),
            with("m=64,t=2,p=1,data=AAAA"),
            with("m=64,t=2,p=1,"),
            with("m=64,t=0,p=1"),
            with("m=64,t=2,p=0"),
            with("m=7,t=2,p=1"),
            with("m=15,t=2,p=2"),
            with("m=99999999999,t=2,p=1"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}${HASH}$"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}=={HASH}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}==${HASH}="),
            format!("$argon2id$v=19$m=64,t=2,p=1$AAECAw${HASH}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}$AAECAw"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}${}", "A".repeat(88)),
            format!("$argon2id$v=19$m=64,t=2,p=1${}${HASH}", "A".repeat(88)),
            format!("$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0OD_${HASH}"),
            format!("$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODx${HASH}"),
        ] {
            assert!(matches!(parse(&bad), Err(HashError::Malformed(_))), "{bad:.120}");
        }
    }

    #[test]
    fn what_would_cost_too_much_is_refused() {
        let with = |params: &str| parse(&format!("$argon2id$v=19${params}${SALT}${HASH}")).map(|_| ());
        assert_eq!(with("m=262144,t=16,p=8"), Ok(()));
        for params in
            ["m=262145,t=1,p=1", "m=64,t=17,p=1", "m=256,t=1,p=9", "m=4294967295,t=1,p=1", "m=9999999999,t=1,p=1"]
        {
            assert_eq!(with(params), Err(HashError::TooCostly), "{params}");
        }
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_it_panic(text in "(\\$argon2(i|d|id))?(\\$v=(16|19))?\\$m=[0-9]{1,11},t=[0-9]{0,3},p=[0-9]{0,3}\\$[A-Za-z0-9+/=]{0,90}\\$[A-Za-z0-9+/=]{0,90}|\\PC{0,260}") {
            if let Ok(stored) = parse(&text) {
                prop_assert!(!stored.recipe.params.exceed_bounds());
                let again = StoredHash::parse(&stored.to_phc()).unwrap();
                prop_assert_eq!((again.recipe, again.salt, again.output), (stored.recipe, stored.salt, stored.output));
            }
        }
    }
}
