//! From what was given to [`Settings`]: each value parsed, then what must hold between them.

use std::{collections::BTreeMap, num::NonZeroUsize, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    backend,
    listener::{self, Listener},
    names::env_name,
    reader::Reader,
    settings::{
        Audit, Backend, Channel, Database, Factors, Grpc, Http, Keys, Log, Login, MasterKey, Notify, Passwords, Redis,
        Registration, RegistrationMode, Sessions, Settings, Shutdown, Telemetry, Throttle, Tokens,
    },
    uri,
    value::{self, Raw},
};
use crate::{
    domain::{
        audience::{Audience, OWN_AUDIENCE},
        challenge::CodeChannel,
        locale::Locale,
        password_policy::{MAX_HISTORY, MAX_STRENGTH},
        secret::SecretString,
        session::AtLimit,
        throttle::Steps,
    },
    notify::{SmtpUrl, WebhookSecret},
    state::redis::RedisUrl,
    telemetry::{LogFormat, parse_filter},
};

/// Long enough for anything, short enough that no sum of two overflows a timestamp.
const TEN_YEARS: Duration = Duration::from_hours(3_650 * 24);

/// Builds the settings and notes every problem. `None` only if there is one. A field is read whether or not the one
/// before it was refused: hence the reading first and the `?` afterwards.
pub(super) fn settings(r: &mut Reader, env: &BTreeMap<String, String>) -> Option<Settings> {
    let place = backend::read(r, env);
    let embedded = place.as_ref().map(|place| matches!(place, Backend::Sqlite { .. }));
    let issuer = backend::issuer(r, embedded);
    let database = database(r, place.clone());
    let redis = redis(r);
    let grpc = grpc(r);
    let http = http(r, issuer.as_deref(), embedded);
    let tokens = tokens(r);
    let sessions = sessions(r);
    let login = login(r);
    let keys = keys(r, place);
    let registration = registration(r);
    let passwords = passwords(r);
    let factors = factors(r, issuer.as_deref());
    let throttle = throttle(r);
    let audit = audit(r);
    let notify = notify(r, embedded);
    let log = log(r);
    let telemetry = telemetry(r);
    let shutdown = shutdown(r);
    let (grpc, http) = (grpc?, http?);
    if grpc.listen == http.listen && grpc.listen.port() != 0 {
        r.conflict("http.listen", "Set http.listen to another port than grpc.listen", "both are the same");
    }
    let (redis, sessions, keys) = (redis?, sessions?, keys?);
    if redis.url.is_some() && keys.publish_lead < sessions.database_grace {
        let advice = "Set keys.publish_lead to at least sessions.database_grace, or shorten that";
        let cause = "a server that goes on without the database could sign with a key that the others have forgotten";
        r.conflict("keys.publish_lead", advice, cause);
    }
    let (registration, notify) = (registration?, notify?);
    if registration.require_verified_email && notify.email == Channel::Off {
        let advice = "Set notify.email to a way that mail can be sent, or registration.require_verified_email to false";
        r.conflict("registration.require_verified_email", advice, "nobody could register without getting a code");
    }
    Some(Settings {
        issuer: issuer?,
        database: database?,
        redis,
        grpc,
        http,
        tokens: tokens?,
        sessions,
        login: login?,
        keys,
        registration,
        passwords: passwords?,
        factors: factors?,
        throttle: throttle?,
        audit: audit?,
        notify,
        log: log?,
        telemetry: telemetry?,
        shutdown: shutdown?,
    })
}

const fn seconds(least: u64, most: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(least)..=Duration::from_secs(most)
}

fn database(r: &mut Reader, backend: Option<Backend>) -> Option<Database> {
    let max_connections = r.read("database.max_connections", |raw| value::number(raw, &(2..=500)));
    let acquire_timeout = r.read("database.acquire_timeout", |raw| {
        value::duration(raw, &(Duration::from_millis(10)..=Duration::from_mins(1)))
    });
    let given = r.is_given("database.migrate_on_start");
    let migrate_on_start = r.read("database.migrate_on_start", value::flag);
    let pgbouncer = r.read("database.pgbouncer", value::flag);
    let backend = backend?;
    if let (Some(true), Backend::Postgres { url }) = (pgbouncer, &backend) {
        if given && migrate_on_start == Some(true) {
            let advice =
                "Set database.migrate_on_start to false, and run `vouchsafe migrate` with the server's own URL";
            r.conflict("database.migrate_on_start", advice, "a migration cannot go through PgBouncer");
        }
        if url.has("options") {
            let advice =
                "Set database.url to one without options, and database.pgbouncer to false or the options elsewhere";
            r.conflict("database.url", advice, "PgBouncer refuses a connection that has options");
        }
    }
    let by_default = (!given).then_some(matches!(backend, Backend::Sqlite { .. }));
    Some(Database {
        backend,
        max_connections: max_connections?,
        acquire_timeout: acquire_timeout?,
        migrate_on_start: migrate_on_start.or(by_default)?,
        pgbouncer: pgbouncer?,
    })
}

fn redis(r: &mut Reader) -> Option<Redis> {
    let url = r.read("redis.url", |raw| {
        let text = value::any_text(raw, "a URL in quotes")?;
        if text.is_empty() {
            return Ok(None);
        }
        RedisUrl::parse(&text).map(Some).map_err(|error| format!("nothing, {error}"))
    });
    let timeout =
        r.read("redis.timeout", |raw| value::duration(raw, &(Duration::from_millis(10)..=Duration::from_secs(5))));
    let tls_roots = r.read("redis.tls_roots", |raw| value::any_text(raw, "the path of a file"));
    let (url, tls_roots) = (url?, tls_roots?);
    let tls_roots = (!tls_roots.is_empty()).then(|| PathBuf::from(tls_roots));
    if tls_roots.is_some() && !url.as_ref().is_some_and(RedisUrl::is_tls) {
        let advice = "Set redis.url to one that begins with rediss, or remove redis.tls_roots";
        r.conflict("redis.tls_roots", advice, "roots are for TLS, which redis.url does not ask for");
    }
    Some(Redis { url, timeout: timeout?, tls_roots })
}

fn grpc(r: &mut Reader) -> Option<Grpc> {
    let listener = listener::read(r, "grpc");
    let open_verification = r.read("grpc.open_verification", value::flag);
    let max_deadline = r.read("grpc.max_deadline", |raw| value::duration(raw, &seconds(1, 600)));
    let max_concurrent_streams = r.read("grpc.max_concurrent_streams", |raw| value::number(raw, &(1..=10_000)));
    let trusted_proxies = r.read("grpc.trusted_proxies", value::networks);
    let web_origins = r.read("grpc.web_origins", value::web_origins);
    let Listener { listen, allow_plaintext, tls } = listener?;
    Some(Grpc {
        listen,
        allow_plaintext,
        tls,
        open_verification: open_verification?,
        max_deadline: max_deadline?,
        max_concurrent_streams: max_concurrent_streams?,
        trusted_proxies: trusted_proxies?,
        web_origins: web_origins?,
    })
}

fn http(r: &mut Reader, issuer: Option<&str>, embedded: Option<bool>) -> Option<Http> {
    let listener = listener::read(r, "http");
    let wanted = "an http(s) URL without login, query or fragment such as https://id.example.com";
    let public_url = if r.is_given("http.public_url") {
        let url = r.read("http.public_url", |raw| {
            value::text(raw, wanted).and_then(|t| if uri::is_http_url(&t) { Ok(t) } else { Err(wanted.to_owned()) })
        });
        Some(Some(url?))
    } else if issuer.is_some_and(|issuer| !uri::is_http_url(issuer)) {
        r.problem(
            format!("Set http.public_url to {wanted}"),
            "verifiers must be told where the keys are, and issuer is not such a URL",
        );
        None
    } else {
        // The embedded server's own issuer names a fixed port, and need not be where it listens.
        issuer.map(|issuer| (embedded != Some(true) || issuer != backend::EMBEDDED_ISSUER).then(|| issuer.to_owned()))
    };
    let Listener { listen, allow_plaintext, tls } = listener?;
    Some(Http { listen, allow_plaintext, tls, public_url: public_url?.map(|url| url.trim_end_matches('/').to_owned()) })
}

fn tokens(r: &mut Reader) -> Option<Tokens> {
    let algorithm = r.read("tokens.algorithm", |raw| value::parsed(raw, "ES256, EdDSA or RS256"));
    let access_ttl = r.read("tokens.access_ttl", |raw| value::whole_seconds(raw, &seconds(30, 24 * 3_600)));
    let audiences = r.read("tokens.audiences", |raw| with_own(value::names(raw)?));
    let default_audience = r.read("tokens.default_audience", |raw| with_own(value::names(raw)?));
    let encryption_keys = r.read("tokens.encryption_keys", |raw| path(raw, "the path of a file"));
    let scopes = r.read("tokens.scopes", value::scopes);
    let permissions = r.read("tokens.permissions", value::flag);
    let claims = r.read("tokens.claims", |raw| path(raw, "the path of a file"));
    let client_id = r.read("tokens.client_id", |raw| {
        let wanted = "1 to 255 visible ASCII characters";
        value::text(raw, wanted).and_then(|t| {
            // RFC 6749 appendix A.1, without the space.
            if t.len() <= 255 && t.bytes().all(|b| b.is_ascii_graphic()) { Ok(t) } else { Err(wanted.to_owned()) }
        })
    });
    let max_staleness = r.read("tokens.max_staleness", |raw| value::duration(raw, &seconds(2, 3_600)));
    let (audiences, default_audience) = (audiences?, default_audience?);
    for unknown in default_audience.iter().filter(|name| !audiences.contains(name)) {
        let advice = format!("Add {unknown} to tokens.audiences, or remove it from tokens.default_audience");
        r.conflict("tokens.default_audience", advice, "a default audience must be one that exists");
    }
    Some(Tokens {
        algorithm: algorithm?,
        access_ttl: access_ttl?,
        audiences,
        default_audience,
        encryption_keys: encryption_keys?,
        scopes: scopes?,
        permissions: permissions?,
        claims: claims?,
        client_id: client_id?,
        max_staleness: max_staleness?,
    })
}

fn with_own(names: Vec<Audience>) -> Result<Vec<Audience>, String> {
    if names.iter().any(|name| name.as_str() == OWN_AUDIENCE) {
        Ok(names)
    } else {
        Err(format!("a list that includes {OWN_AUDIENCE}, the audience of Vouchsafe's own API"))
    }
}

fn sessions(r: &mut Reader) -> Option<Sessions> {
    let whole = Duration::from_secs(1)..=TEN_YEARS;
    let idle_timeout = r.read("sessions.idle_timeout", |raw| value::duration(raw, &whole));
    let absolute_timeout = r.read("sessions.absolute_timeout", |raw| value::duration(raw, &whole));
    let redelivery_window = r.read("sessions.redelivery_window", |raw| value::duration(raw, &seconds(0, 300)));
    let database_grace = r.read("sessions.database_grace", |raw| value::duration(raw, &seconds(0, 3_600)));
    let recent_authentication =
        r.read("sessions.recent_authentication", |raw| value::duration(raw, &seconds(60, 86_400)));
    let max_per_user = r.read("sessions.max_per_user", |raw| value::number(raw, &(1..=10_000)));
    let words = [AtLimit::EvictOldest, AtLimit::Refuse].map(|what| (what.as_str(), what));
    let at_limit = r.read("sessions.at_limit", |raw| value::word(raw, &words));
    let (idle_timeout, absolute_timeout) = (idle_timeout?, absolute_timeout?);
    if absolute_timeout < idle_timeout {
        let advice = "Set sessions.absolute_timeout to at least sessions.idle_timeout";
        r.conflict("sessions.absolute_timeout", advice, "a session cannot idle longer than it lives");
    }
    let (redelivery_window, database_grace) = (redelivery_window?, database_grace?);
    Some(Sessions {
        idle_timeout,
        absolute_timeout,
        redelivery_window,
        database_grace,
        recent_authentication: recent_authentication?,
        max_per_user: max_per_user?,
        at_limit: at_limit?,
    })
}

fn login(r: &mut Reader) -> Option<Login> {
    let words = [CodeChannel::Email, CodeChannel::Sms].map(|channel| (channel.as_str(), channel));
    Some(Login { codes: r.read("login.codes", |raw| value::words(raw, &words))? })
}

fn keys(r: &mut Reader, backend: Option<Backend>) -> Option<Keys> {
    let master_key = if r.is_given("keys.master_key") {
        r.read("keys.master_key", |raw| value::text(raw, "32 random bytes in base64 (openssl rand -base64 32)"))
            .map(|text| MasterKey::Given(SecretString::new(text)))
    } else {
        backend.and_then(|backend| match backend {
            Backend::Sqlite { data_dir, .. } => Some(MasterKey::Generated { data_dir }),
            Backend::Postgres { .. } => {
                let advice = format!(
                    "Set keys.master_key to 32 random bytes in base64 (openssl rand -base64 32), with environment variable {0} or {0}_FILE",
                    env_name("keys.master_key")
                );
                r.problem(advice, "on Postgres none is generated, because all nodes must have the same");
                None
            }
        })
    };
    let previous_master_key = r.read("keys.previous_master_key", |raw| {
        optional(raw, "32 bytes in base64", |text| Ok(SecretString::new(text.to_owned())))
    });
    if let (Some(Some(_)), Some(MasterKey::Generated { .. })) = (&previous_master_key, &master_key) {
        let advice = "Set keys.master_key as well, or leave keys.previous_master_key out: a master key that is generated is changed by `vouchsafe keys rotate-master`, without settings";
        r.conflict("keys.previous_master_key", advice, "it stands beside a master key that is given");
    }
    let rotation_period =
        r.read("keys.rotation_period", |raw| value::duration(raw, &(Duration::from_mins(1)..=TEN_YEARS)));
    let publish_lead = r.read("keys.publish_lead", |raw| value::duration(raw, &(Duration::from_secs(1)..=TEN_YEARS)));
    let (rotation_period, publish_lead) = (rotation_period?, publish_lead?);
    if publish_lead >= rotation_period {
        let advice = "Set keys.publish_lead to less than keys.rotation_period";
        r.conflict("keys.publish_lead", advice, "a key would be replaced before it signs");
    }
    Some(Keys { master_key: master_key?, previous_master_key: previous_master_key?, rotation_period, publish_lead })
}

fn registration(r: &mut Reader) -> Option<Registration> {
    let words = [RegistrationMode::Open, RegistrationMode::Closed].map(|mode| (mode.as_str(), mode));
    let mode = r.read("registration.mode", |raw| value::word(raw, &words));
    let require_verified_email = r.read("registration.require_verified_email", value::flag);
    Some(Registration { mode: mode?, require_verified_email: require_verified_email? })
}

fn passwords(r: &mut Reader) -> Option<Passwords> {
    let memory_kib = r.read("passwords.memory_kib", |raw| value::number(raw, &(8..=262_144_u32)));
    let iterations = r.read("passwords.iterations", |raw| value::number(raw, &(1..=16)));
    let parallelism = r.read("passwords.parallelism", |raw| value::number(raw, &(1..=8_u32)));
    let threads = r.read("passwords.threads", |raw| value::number(raw, &(0..=256)));
    let queue = r.read("passwords.queue", |raw| value::number(raw, &(1..=100_000)));
    let niceness = r.read("passwords.niceness", |raw| value::number(raw, &(0..=19)));
    let max_wait = r
        .read("passwords.max_wait", |raw| value::duration(raw, &(Duration::from_millis(100)..=Duration::from_mins(5))));
    let min_strength = r.read("passwords.min_strength", |raw| value::number(raw, &(0..=MAX_STRENGTH)));
    let history = r.read("passwords.history", |raw| value::number(raw, &(0..=MAX_HISTORY)));
    let breached_filter = r.read("passwords.breached_filter", |raw| value::any_text(raw, "the path of a file"))?;
    let (memory_kib, parallelism) = (memory_kib?, parallelism?);
    // RFC 9106 §3.1.
    if memory_kib < 8 * parallelism {
        let advice = format!("Set passwords.memory_kib to at least {}", 8 * parallelism);
        r.conflict("passwords.memory_kib", advice, "argon2id needs 8 KiB for each lane of passwords.parallelism");
    }
    Some(Passwords {
        memory_kib,
        iterations: iterations?,
        parallelism,
        threads: NonZeroUsize::new(threads?),
        queue: queue?,
        niceness: niceness?,
        max_wait: max_wait?,
        min_strength: min_strength?,
        history: history?,
        breached_filter: (!breached_filter.is_empty()).then(|| PathBuf::from(breached_filter)),
    })
}

/// What accounts are shown under in apps where neither an operator nor the issuer names it.
const NAMELESS_ISSUER: &str = "Vouchsafe";

fn factors(r: &mut Reader, issuer: Option<&str>) -> Option<Factors> {
    if !r.is_given("factors.totp_issuer") {
        let named = issuer.and_then(uri::host).filter(|host| is_totp_issuer(host));
        return Some(Factors { totp_issuer: named.unwrap_or_else(|| NAMELESS_ISSUER.to_owned()) });
    }
    let totp_issuer = r.read("factors.totp_issuer", |raw| {
        let wanted = "1 to 64 characters without a colon";
        value::text(raw, wanted).and_then(|t| if is_totp_issuer(&t) { Ok(t) } else { Err(wanted.to_owned()) })
    });
    Some(Factors { totp_issuer: totp_issuer? })
}

/// A colon stands between the name and the account in what apps read.
fn is_totp_issuer(text: &str) -> bool {
    (1..=64).contains(&text.chars().count())
        && text.trim() == text
        && !text.contains(|c: char| c == ':' || c.is_control())
}

fn throttle(r: &mut Reader) -> Option<Throttle> {
    let account_failures = r.read("throttle.account_failures", |raw| value::number(raw, &Steps::CAPS));
    let address_failures = r.read("throttle.address_failures", |raw| value::number(raw, &(0..=1_000_000)));
    let overall_failures = r.read("throttle.overall_failures", |raw| value::number(raw, &(0..=10_000_000)));
    let per_recipient = r.read("throttle.messages_per_recipient", |raw| value::number(raw, &(1..=1_000)));
    let messages_overall = r.read("throttle.messages_overall", |raw| value::number(raw, &(1..=10_000_000)));
    Some(Throttle {
        account_failures: account_failures?,
        address_failures: address_failures?,
        overall_failures: overall_failures?,
        messages_per_recipient: per_recipient?,
        messages_overall: messages_overall?,
    })
}

fn audit(r: &mut Reader) -> Option<Audit> {
    let day = Duration::from_hours(24);
    let retention = r.read("audit.retention", |raw| match value::duration(raw, &(Duration::ZERO..=TEN_YEARS))? {
        short if !short.is_zero() && short < day => {
            Err("0s, or a duration from 1d to 3650d such as \"400d\"".to_owned())
        }
        retention => Ok(retention),
    });
    Some(Audit { retention: retention? })
}

fn notify(r: &mut Reader, embedded: Option<bool>) -> Option<Notify> {
    use Channel::{Log, Off, Smtp, Webhook};
    let by_default = || embedded.map(|embedded| if embedded { Log } else { Off });
    let mut channel = |key, ways: &[Channel]| {
        if !r.is_given(key) {
            return by_default();
        }
        let words: Vec<_> = ways.iter().map(|way| (way.as_str(), *way)).collect();
        r.read(key, |raw| value::word(raw, &words))
    };
    let email = channel("notify.email", &[Log, Smtp, Webhook, Off]);
    let sms = channel("notify.sms", &[Log, Webhook, Off]);
    let smtp_url = r.read("notify.smtp_url", |raw| {
        optional(raw, "a URL in quotes", |text| SmtpUrl::parse(text).map_err(|error| format!("nothing, or {error}")))
    });
    let smtp_tls_roots = r.read("notify.smtp_tls_roots", |raw| path(raw, "the path of a file"));
    let from = r.read("notify.from", |raw| {
        let wanted = "noreply@example.com or Example <noreply@example.com>";
        let sender = |text: &str| text.parse::<lettre::message::Mailbox>().map(|_| text.to_owned()).ok();
        optional(raw, wanted, |text| sender(text).ok_or_else(|| wanted.to_owned()))
    });
    let webhook_url = r.read("notify.webhook_url", |raw| {
        let wanted = "an https URL such as https://sms.example.com/send, or an http URL on this machine";
        optional(raw, wanted, |text| checked(text, uri::is_webhook, wanted))
    });
    let webhook_secret = r.read("notify.webhook_secret", |raw| {
        optional(raw, "a text in quotes", |text| WebhookSecret::parse(text).map_err(|error| error.to_string()))
    });
    let templates = r.read("notify.templates", |raw| path(raw, "the path of a folder"));
    let link_url = r.read("notify.link_url", |raw| {
        let wanted = "an http(s) URL without login, query or fragment such as https://app.example.com/verify";
        optional(raw, wanted, |text| checked(text, uri::is_http_url, wanted))
    });
    let locale = r.read("notify.locale", |raw| {
        let wanted = "a language tag such as en or pt-BR";
        value::text(raw, wanted).and_then(|text| Locale::parse(&text).map_err(|_| wanted.to_owned()))
    });
    let notify = Notify {
        email: email?,
        sms: sms?,
        smtp_url: smtp_url?,
        smtp_tls_roots: smtp_tls_roots?,
        from: from?,
        webhook_url: webhook_url?,
        webhook_secret: webhook_secret?,
        templates: templates?,
        link_url: link_url?,
        locale: locale?,
    };
    check_ways(r, &notify);
    Some(notify)
}

/// What a way of sending messages cannot do without.
fn check_ways(r: &mut Reader, notify: &Notify) {
    let Notify { email, sms, smtp_url, smtp_tls_roots, from, webhook_url, webhook_secret, .. } = notify;
    let by = |way| [("notify.email", *email), ("notify.sms", *sms)].into_iter().find(|(_, chosen)| *chosen == way);
    let needs = [
        (Channel::Smtp, "notify.smtp_url", smtp_url.is_none()),
        (Channel::Smtp, "notify.from", from.is_none()),
        (Channel::Webhook, "notify.webhook_url", webhook_url.is_none()),
        (Channel::Webhook, "notify.webhook_secret", webhook_secret.is_none()),
    ];
    for (way, missing, is_missing) in needs {
        if let (Some((key, _)), true) = (by(way), is_missing) {
            let cause = format!("{key} is {}, which cannot do without", way.as_str());
            r.conflict(key, format!("Set {missing} as well, or {key} to another way"), cause);
        }
    }
    if smtp_tls_roots.is_some() && !smtp_url.as_ref().is_some_and(SmtpUrl::is_tls) {
        let advice = "Set notify.smtp_url to one with TLS, or remove notify.smtp_tls_roots";
        r.conflict("notify.smtp_tls_roots", advice, "roots are for TLS, which notify.smtp_url does not ask for");
    }
}

/// A value that may be missing: empty.
fn optional<T>(raw: &Raw, wanted: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    let text = value::any_text(raw, wanted)?;
    if text.is_empty() { Ok(None) } else { parse(&text).map(Some) }
}

/// The text itself, if it is as it should be.
fn checked(text: &str, is_right: fn(&str) -> bool, wanted: &str) -> Result<String, String> {
    if is_right(text) { Ok(text.to_owned()) } else { Err(wanted.to_owned()) }
}

/// A path that may be missing.
fn path(raw: &Raw, wanted: &str) -> Result<Option<PathBuf>, String> {
    let text = value::any_text(raw, wanted)?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn log(r: &mut Reader) -> Option<Log> {
    let words = [LogFormat::Pretty, LogFormat::Json].map(|format| (format.as_str(), format));
    let format = r.read("log.format", |raw| value::word(raw, &words));
    let filter = r.read("log.filter", |raw| {
        let wanted = "a log filter such as info or info,vouchsafe=debug";
        value::text(raw, wanted).and_then(|t| parse_filter(&t).map(|_| t).map_err(|_| wanted.to_owned()))
    });
    Some(Log { format: format?, filter: filter? })
}

fn telemetry(r: &mut Reader) -> Option<Telemetry> {
    let metrics = r.read("telemetry.metrics", value::flag);
    let otlp_endpoint = r.read("telemetry.otlp_endpoint", |raw| {
        let wanted = "an http(s) URL without login, query or fragment such as http://localhost:4317";
        match value::any_text(raw, wanted)? {
            none if none.is_empty() => Ok(None),
            url if uri::is_http_url(&url) => Ok(Some(url)),
            _ => Err(wanted.to_owned()),
        }
    });
    let trace_percent = r.read("telemetry.trace_percent", |raw| value::number(raw, &(0..=100)));
    Some(Telemetry { metrics: metrics?, otlp_endpoint: otlp_endpoint?, trace_percent: trace_percent? })
}

fn shutdown(r: &mut Reader) -> Option<Shutdown> {
    let pause = r.read("shutdown.pause", |raw| value::duration(raw, &seconds(0, 300)));
    let drain = r.read("shutdown.drain", |raw| value::duration(raw, &seconds(0, 600)));
    Some(Shutdown { pause: pause?, drain: drain? })
}
