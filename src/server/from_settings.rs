//! Settings as each part wants them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    thread,
};

use tracing::Level;
use tracing_subscriber::filter::Targets;

use super::StartError;
use crate::{
    breached::Filter,
    config::{Backend, Channel, Passwords, RegistrationMode, Settings, Throttle},
    crypto::{Argon2Params, PoolConfig},
    domain::{
        claim_rules::{ClaimRules, SaidMark},
        secret::SecretString,
        session::{SessionLimit, SessionPolicy},
        signing_key::RotationPolicy,
        throttle::{Rate, Steps, ThrottleLimits},
    },
    notify::LOG_TARGET,
    service::{Encryption, PasswordRules, Policy, RuleOptions},
    state::{
        HotState,
        redis::{self, OpenError},
    },
    store::{Location, Options},
    verifier::wrapping::read_key_file,
};

/// Messages to one recipient at once: somebody who looks for a mail that does not come, and asks again.
const RECIPIENT_BURST: u32 = 5;

/// Where the settings say that the database is.
pub(super) fn location(settings: &Settings) -> Location {
    match &settings.database.backend {
        Backend::Sqlite { file, .. } => Location::Sqlite(file.clone()),
        Backend::Postgres { url } => {
            let url = SecretString::new(url.expose_complete().to_owned());
            if settings.database.pgbouncer { Location::PgBouncer(url) } else { Location::Postgres(url) }
        }
    }
}

/// The hot state that the settings name. It connects in the background, and need not be there yet.
pub(super) fn hot_state(settings: &Settings) -> Result<Option<Arc<dyn HotState>>, OpenError> {
    settings.redis.options().map(|options| redis::open(&options)).transpose()
}

/// How the settings say that connections are held.
pub(super) fn options(settings: &Settings) -> Options {
    let database = &settings.database;
    Options { max_connections: database.max_connections, acquire_timeout: database.acquire_timeout }
}

/// The operator's decisions, as far as the use cases need them.
pub(super) fn policy(settings: &Settings, claims: ClaimRules) -> Policy {
    let Settings {
        issuer,
        http,
        tokens,
        sessions,
        login,
        keys,
        registration,
        passwords,
        factors,
        notify,
        throttle,
        audit,
        ..
    } = settings;
    Policy {
        issuer: issuer.clone(),
        public_url: http.public_url.clone().map_or_else(OnceLock::new, OnceLock::from),
        algorithm: tokens.algorithm,
        access_ttl: tokens.access_ttl,
        audiences: tokens.audiences.clone(),
        default_audience: tokens.default_audience.clone(),
        // Read from its file by whoever issues tokens.
        encryption: Encryption::default(),
        scopes: tokens.scopes.clone(),
        token_permissions: tokens.permissions,
        said_mark: SaidMark::of(&claims.said_attributes()),
        said_attributes: claims.said_attributes(),
        claims,
        client_id: tokens.client_id.clone(),
        sessions: SessionPolicy { idle: sessions.idle_timeout, absolute: sessions.absolute_timeout },
        session_limit: SessionLimit { most: sessions.max_per_user, at_limit: sessions.at_limit },
        redelivery_window: sessions.redelivery_window,
        database_grace: sessions.database_grace,
        rotation: RotationPolicy { period: keys.rotation_period, lead: keys.publish_lead },
        registration_open: registration.mode == RegistrationMode::Open,
        verified_email_required: registration.require_verified_email,
        login_codes: login.codes.clone(),
        recent_authentication: sessions.recent_authentication,
        totp_issuer: factors.totp_issuer.clone(),
        sends_email: notify.email != Channel::Off,
        sends_sms: notify.sms != Channel::Off,
        throttle: throttle_limits(throttle),
        max_staleness: tokens.max_staleness,
        hash_wait: passwords.max_wait,
        audit_retention: Some(audit.retention).filter(|retention| !retention.is_zero()),
    }
}

/// How the settings say that guesses and messages are limited.
fn throttle_limits(throttle: &Throttle) -> ThrottleLimits {
    let messages = throttle.messages_overall;
    ThrottleLimits {
        identifier: Steps::identifier(throttle.account_failures),
        account: Steps::account(throttle.account_failures),
        address: Rate::per_minute(throttle.address_failures),
        overall: Rate::per_minute(throttle.overall_failures),
        recipient: Rate::per_hour(throttle.messages_per_recipient, RECIPIENT_BURST),
        // A tenth at once; the few that a small limit has, all.
        messages: Rate::per_hour(messages, (messages / 10).max(100)),
    }
}

/// The rules of passwords that the settings name.
///
/// # Errors
/// If the list of known passwords cannot be used.
pub fn password_rules(settings: &Settings) -> Result<PasswordRules, StartError> {
    let Passwords { min_strength, history, breached_filter, .. } = &settings.passwords;
    let breached = breached_filter
        .as_ref()
        .map(|path| Filter::open(path).map_err(|problem| StartError::Breached { path: path.clone(), problem }));
    let (min_strength, history, breached) = (*min_strength, *history, breached.transpose()?);
    let options = RuleOptions { min_strength, history, issuer: &settings.issuer, breached };
    PasswordRules::new(options).map_err(StartError::Thread)
}

/// The keys that the settings name to encrypt tokens for.
///
/// # Errors
/// If the file cannot be used, or every user of the machine can read a secret in it.
pub fn encryption(settings: &Settings) -> Result<Encryption, StartError> {
    let tokens = &settings.tokens;
    let Some(path) = &tokens.encryption_keys else { return Ok(Encryption::default()) };
    let refuse = |problem: String| StartError::Encryption { path: path.clone(), problem };
    let (text, access) = read_key_file(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let parsed = Encryption::parse(&text, &tokens.audiences, &tokens.default_audience);
    let encryption = parsed.map_err(|problems| refuse(problems.to_string()))?;
    if access.writes {
        let advice = format!("chmod o= {}", path.display());
        return Err(refuse(format!("every user of this machine can change it: `{advice}`")));
    }
    if access.reads && encryption.holds_secret() {
        let advice = format!("chmod o= {}", path.display());
        return Err(refuse(format!("holds a secret, and every user of this machine can read it: `{advice}`")));
    }
    Ok(encryption)
}

/// How the settings say that passwords are hashed.
pub(super) fn pool_config(settings: &Settings) -> PoolConfig {
    let passwords = &settings.passwords;
    let spare = || thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    PoolConfig {
        threads: passwords.threads.map_or_else(spare, NonZeroUsize::get),
        queue: passwords.queue,
        niceness: passwords.niceness.into(),
        params: Argon2Params {
            memory_kib: passwords.memory_kib,
            iterations: passwords.iterations,
            parallelism: passwords.parallelism,
        },
    }
}

/// Memory in KiB and passes, at least as strong as each other: the minimum for argon2id in OWASP's Password Storage Cheat Sheet.
/// Lanes change how the work is spread, not how much it is.
const OWASP_MINIMUM: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// What to tell an operator whose settings make passwords cheap to guess, if they do.
pub(super) fn cheap_passwords(passwords: &Passwords) -> Option<String> {
    let Passwords { memory_kib, iterations, .. } = passwords;
    let enough = OWASP_MINIMUM.iter().any(|(memory, passes)| memory_kib >= memory && iterations >= passes);
    (!enough).then(|| {
        format!(
            "passwords.memory_kib={memory_kib} with passwords.iterations={iterations} is below the minimum that OWASP \
             recommends for argon2id: whoever gets hold of the database guesses passwords cheaply; set at least 19456 with 2, \
             or 47104 with 1, 12288 with 3, 9216 with 4, 7168 with 5"
        )
    })
}

/// What to tell an operator whose messages end in the log, where others than their recipients read them. On SQLite nobody else
/// is expected, and the log is how a newcomer sees a code.
pub(super) fn logged_codes(settings: &Settings) -> Option<String> {
    let Settings { database, notify, .. } = settings;
    let logged = [("notify.email", notify.email), ("notify.sms", notify.sms)];
    let (key, _) = logged.into_iter().find(|(_, channel)| *channel == Channel::Log)?;
    matches!(database.backend, Backend::Postgres { .. })
        .then(|| format!("{key} is log: messages are not sent, and whoever reads this log can use the codes in them"))
}

/// What to tell an operator whose messages end in the log, and whose log does not show them: then they end nowhere.
pub(super) fn hidden_codes(settings: &Settings) -> Option<String> {
    let Settings { notify, log, .. } = settings;
    let logged = [("notify.email", notify.email), ("notify.sms", notify.sms)];
    let (key, _) = logged.into_iter().find(|(_, channel)| *channel == Channel::Log)?;
    // A filter by spans or fields, which this cannot read, may show them.
    let shown = log.filter.parse::<Targets>().ok()?.would_enable(LOG_TARGET, &Level::INFO);
    (!shown).then(|| {
        let filter = &log.filter;
        format!("{key} is log, but log.filter={filter} hides what is sent there: add {LOG_TARGET}=info to it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn messages_that_the_log_would_not_show_are_warned_of() {
        let warning = |more: &[&str]| {
            let sets = more.iter().map(|&set| set.to_owned()).collect();
            let sources = Sources { file: None, env: Vec::new(), sets, data_dir: Some("d".to_owned()) };
            hidden_codes(&load(sources).unwrap())
        };
        for shown in ["info", "debug", "warn,vouchsafe=info", "error,vouchsafe::notify::log=info"] {
            assert_eq!(warning(&[&format!("log.filter={shown}")]), None, "{shown}");
        }
        for hidden in ["warn", "error,tower=info", "info,vouchsafe=warn"] {
            let warned = warning(&[&format!("log.filter={hidden}")]).unwrap();
            assert!(warned.starts_with("notify.email is log") && warned.contains(hidden), "{warned}");
        }
        assert_eq!(warning(&["log.filter=warn", "notify.email=off", "notify.sms=off"]), None);
    }

    #[test]
    fn codes_in_the_log_of_a_shared_service_are_warned_of() {
        let warning = |more: &[&str]| {
            let sets = more.iter().map(|&set| set.to_owned()).collect();
            let sources = Sources { file: None, env: Vec::new(), sets, data_dir: Some("d".to_owned()) };
            logged_codes(&load(sources).unwrap())
        };
        let postgres =
            ["database.url=postgres://u:p@localhost/v", "issuer=https://id.example.com", "keys.master_key=x"];
        assert_eq!(warning(&[]), None);
        assert_eq!(warning(&postgres), None);
        for key in ["notify.email", "notify.sms"] {
            let warned = warning(&[&postgres[..], &[&format!("{key}=log")]].concat()).unwrap();
            assert!(warned.starts_with(&format!("{key} is log")), "{warned}");
        }
    }

    #[test]
    fn passwords_that_are_cheaper_than_owasp_recommends_are_warned_of() {
        let sets = |memory: u32, passes: u32| {
            vec![format!("passwords.memory_kib={memory}"), format!("passwords.iterations={passes}")]
        };
        let warning = |sets: Vec<String>| {
            let sources = Sources { file: None, env: Vec::new(), sets, data_dir: Some("d".to_owned()) };
            cheap_passwords(&load(sources).unwrap().passwords)
        };
        assert_eq!(warning(Vec::new()), None, "the default");
        for (memory, passes) in OWASP_MINIMUM {
            assert_eq!(warning(sets(memory, passes)), None);
            assert!(warning(sets(memory - 1, passes)).unwrap().contains(&format!("memory_kib={}", memory - 1)));
        }
        assert_eq!(warning(sets(7_168, 16)), None);
        assert_eq!(warning(sets(262_144, 1)), None);
        assert!(warning(sets(7_167, 16)).unwrap().contains("OWASP"));
    }
}
