//! Codes of authenticator apps: TOTP (RFC 6238) as every app knows it, SHA-1, six digits, 30 seconds.

use totp_rs::{Algorithm, Builder};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::base32;
use crate::domain::{
    secret::{Entropy, SecretString, random},
    time::Timestamp,
};

/// How long a code lasts, in seconds.
pub const STEP_SECONDS: i64 = 30;

/// The digits of a code.
const DIGITS: u8 = 6;

/// What the app and the server share: 160 bits, the length of the hash (RFC 4226 section 4).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TotpSeed([u8; 20]);

impl TotpSeed {
    /// A new seed.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(random(entropy))
    }

    /// A seed that was stored. `None`: it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The seed itself.
    pub const fn expose(&self) -> &[u8; 20] {
        &self.0
    }

    /// The seed as apps take it: 32 digits of base32.
    pub fn base32(&self) -> SecretString {
        SecretString::new(base32::encode(base32::RFC4648, &self.0))
    }

    /// The time step that `code` belongs to: the present one, or one before or after it, as clocks differ. `None` if it is not
    /// the code of any of them that comes later than step `after`: a code is good once (RFC 6238 section 5.2).
    pub fn matching_step(&self, code: &str, now: Timestamp, after: i64) -> Option<i64> {
        let totp = Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_step_duration(STEP_SECONDS.unsigned_abs())
            .with_skew(0)
            .with_secret(self.0)
            .build()
            .ok()?;
        let present = now.as_seconds().div_euclid(STEP_SECONDS);
        let is_code = |step: i64| {
            let time = u64::try_from(step.checked_mul(STEP_SECONDS)?).ok()?;
            // Compared in constant time by the library.
            totp.check(code, time).map(|_| step)
        };
        // All are looked at, whichever matches.
        let matching = [present - 1, present, present + 1].map(is_code);
        matching.into_iter().flatten().find(|step| *step > after)
    }
}

impl std::fmt::Debug for TotpSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSeed([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 appendix B, shortened to six digits.
    #[test]
    fn the_codes_are_those_of_the_rfc_within_one_step_and_once() {
        let seed = TotpSeed::from_bytes(b"12345678901234567890").unwrap();
        let at = Timestamp::from_seconds;
        for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            let step = time / 30;
            for (now, found) in
                [(time, true), (time + 30, true), (time - 30, true), (time + 60, false), (time - 60, false)]
            {
                assert_eq!(seed.matching_step(code, at(now), 0), found.then_some(step), "{code} at {now}");
            }
            assert_eq!(seed.matching_step(code, at(time), step), None, "spent");
        }
        for bad in ["", "28708", "2870822", "28708x", "٢٨٧٠٨٢", " 287082"] {
            assert_eq!(seed.matching_step(bad, at(59), 0), None, "{bad:?}");
        }
    }
}
