//! The verifier in process beside the signature check that is inside it, in one thread and in small batches in turn: the bare
//! core, and what services embed, with tokens that it sees for the first time and that it has seen before.

use std::{
    cell::Cell,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use vouchsafe::{
    domain::{
        audience::Audience,
        signing_key::Algorithm,
        time::{Clock, Timestamp},
    },
    jose::{KeySet, SigningKeyPair},
    verifier::{AudiencePolicy, RevocationSet, Rule, TokenVerifier, Verifier},
};

use crate::{
    report::{Bound, Report},
    stats::{Paired, median},
};

/// Checks in a row before it is the other's turn.
const BATCH: u32 = 10;
const ISSUER: &str = "http://localhost:50052";
const NOW: i64 = 1_800_000_000;

/// Tokens in turn, so many more than are remembered that each comes as if for the first time.
const TOKENS: usize = 2_048;

/// It is always now.
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(NOW + 1)
    }
}

/// What a service embeds, with given keys; it remembers so many tokens.
fn embedded(case: &Case, remembered: usize) -> Verifier {
    let builder = Verifier::builder(ISSUER, ["vouchsafe"]).keys(case.keys.clone()).without_revocations();
    let starting = builder.remember(remembered).clock(Arc::new(Fixed)).start();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(starting).unwrap()
}

/// A token as the server writes them, and all that its check takes.
struct Case {
    verifier: TokenVerifier,
    keys: KeySet,
    revocations: RevocationSet,
    pair: SigningKeyPair,
    token: String,
    /// Where the signed part ends, and the signature.
    signed: usize,
    signature: Vec<u8>,
}

impl Case {
    fn new(algorithm: Algorithm) -> Self {
        let pair = SigningKeyPair::generate(algorithm).unwrap();
        let claims = claims("01a20076-bdf9-7356-ab8c-3a5183c61e3d");
        let token = pair.sign("at+jwt", &claims).unwrap();
        let signed = token.rfind('.').unwrap();
        let own = Audience::try_from("vouchsafe".to_owned()).unwrap();
        Self {
            verifier: TokenVerifier::new(ISSUER.to_owned(), AudiencePolicy::AnyOf(vec![own])).unwrap(),
            keys: KeySet::from_keys(vec![pair.public_key().clone()]).unwrap(),
            revocations: RevocationSet::new(),
            signature: URL_SAFE_NO_PAD.decode(&token[signed + 1..]).unwrap(),
            pair,
            token,
            signed,
        }
    }

    /// Microseconds each.
    fn verify(&self) -> f64 {
        timed(|| {
            let now = Timestamp::from_seconds(NOW + 1);
            let token = black_box(self.token.as_str());
            black_box(self.verifier.verify(token, &self.keys, &self.revocations, now).unwrap());
        })
    }

    /// The check by aws-lc-rs with a parsed key, of bytes that lie ready.
    fn bare(&self) -> f64 {
        let message = &self.token.as_bytes()[..self.signed];
        timed(|| black_box(self.pair.public_key()).verify(black_box(message), black_box(&self.signature)).unwrap())
    }
}

/// What a token says.
fn claims(jti: &str) -> serde_json::Value {
    json!({
        "iss": ISSUER, "sub": "01a20076-bd5d-7314-8f70-4a3162dbb03c", "aud": ["vouchsafe"], "exp": NOW + 300, "iat": NOW,
        "jti": jti, "sid": "01a20076-bdf6-719f-9201-974ae84c5232", "client_id": "vouchsafe-password", "roles": ["admin"],
        "auth_time": NOW, "amr": ["pwd"], "acr": "aal1", "epoch": 0,
    })
}

fn timed(mut check: impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..BATCH {
        check();
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH)
}

fn alternate(budget: Duration, mut a: impl FnMut() -> f64, mut b: impl FnMut() -> f64) -> Paired {
    let (begun, mut paired) = (Instant::now(), Paired::default());
    while begun.elapsed() < budget {
        let of_a = a();
        paired.push(of_a, b());
        let of_b = b();
        paired.push(a(), of_b);
    }
    paired
}

/// Every algorithm in turn.
pub(crate) fn run(budget: Duration, report: &mut Report) {
    for algorithm in Algorithm::ALL {
        let case = Case::new(algorithm);
        let floor = alternate(budget / 6, || case.bare(), || case.bare());
        let paired = alternate(budget / 3, || case.verify(), || case.bare());
        let (whole, bare) = (median(&paired.a), median(&paired.b));
        let outside: Vec<f64> = paired.a.iter().zip(&paired.b).map(|(whole, bare)| whole - bare).collect();
        let name = algorithm.as_str();
        let detail = format!("{whole:.1} µs, of which the signature {bare:.1} µs");
        let what = format!("embedded verification, cold, {name} : bare signature check");
        report.ratio(&what, paired.ratios(), Some(floor.ratios()), Bound::AtMost(1.08), &detail);
        let what = format!("embedded verification, cold, {name}, outside the signature check");
        report.figure(&what, median(&outside), "µs", Bound::AtMost(5.0), "median of paired differences");
        shells(&case, name, budget, report);
    }
}

/// What a service calls: `Verifier::verify_now`, with its memory, its freshness and its counters.
fn shells(case: &Case, name: &str, budget: Duration, report: &mut Report) {
    let rule = Rule::required();
    let signed = |number: usize| {
        let token = case.pair.sign("at+jwt", &claims(&format!("01a20076-bdf9-7356-ab8c-{number:012x}"))).unwrap();
        let end = token.rfind('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(&token[end + 1..]).unwrap();
        (token, end, signature)
    };
    let tokens: Vec<_> = (0..TOKENS).map(signed).collect();
    // The same ones on both sides: the same signature again and again is quicker to check than one after the other.
    let [mine, bare] = [const { Cell::new(0) }; 2];
    let next = |place: &Cell<usize>| {
        place.set((place.get() + 1) % TOKENS);
        &tokens[place.get()]
    };
    let forgetful = embedded(case, 64);
    let cold = || timed(|| drop(black_box(forgetful.verify_now(black_box(&next(&mine).0), &rule).unwrap())));
    let bare = || {
        timed(|| {
            let (token, end, signature) = next(&bare);
            black_box(case.pair.public_key())
                .verify(black_box(&token.as_bytes()[..*end]), black_box(signature))
                .unwrap();
        })
    };
    let paired = alternate(budget / 3, cold, bare);
    let what = format!("`Verifier`, token not seen before, {name} : bare signature check");
    let detail = format!("{:.1} µs, of which the signature {:.1} µs", median(&paired.a), median(&paired.b));
    report.ratio(&what, paired.ratios(), None, Bound::AtMost(1.08), &detail);

    let verifier = embedded(case, 10_000);
    let warm = || timed(|| drop(black_box(verifier.verify_now(black_box(&case.token), &rule).unwrap())));
    let paired = alternate(budget / 6, warm, || case.bare());
    let what = format!("`Verifier`, token seen before, {name}");
    let detail = "SHA-256 of the token, the memory, audience, time, revocation";
    report.figure(&what, median(&paired.a), "µs", Bound::AtMost(2.0), detail);
}
