//! Where randomness enters the process.

use crate::domain::secret::Entropy;

/// The random generator of the crypto library, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the edge: the one place that draws from the system")]
    #[expect(clippy::expect_used, reason = "without randomness every key would be guessable: better no answer at all")]
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system's random generator works");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::random;

    #[test]
    fn two_draws_differ_and_any_length_is_filled() {
        assert_ne!(random::<32>(&SystemEntropy), random::<32>(&SystemEntropy));
        let mut long = vec![0; 100_000];
        SystemEntropy.fill(&mut long);
        assert!(long.chunks(1_000).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
        SystemEntropy.fill(&mut []);
    }
}
