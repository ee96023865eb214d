//! The settings as a TOML file that would give the same ones, with secrets left out.

use std::{fmt::Write as _, num::NonZeroUsize, path::PathBuf};

use toml::Value;

use super::settings::{
    Audit, Backend, DATABASE_FILE, Database, Factors, Grpc, Http, Keys, Log, Login, MasterKey, Notify, Passwords,
    Redis, Registration, Sessions, Settings, Shutdown, Telemetry, Throttle, Tls, Tokens,
};
use crate::domain::{audience::Audience, duration, web_origin::WebOrigin};

/// What stands where a secret would.
const REDACTED: &str = "[redacted]";

impl Settings {
    /// Every setting with the value it has, as TOML, in the order of the reference. Secrets read `[redacted]`; what does
    /// not apply (the data directory on Postgres, a master key that is generated, the bound address) is left out.
    pub fn redacted_dump(&self) -> String {
        let mut dump = String::new();
        let mut current = "";
        for (key, value) in entries(self) {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            if section != current {
                // Writing to a String cannot fail.
                let _ = writeln!(dump, "\n[{section}]");
                current = section;
            }
            let _ = writeln!(dump, "{name} = {value}");
        }
        dump
    }
}

/// Every setting that applies. The structs are taken apart whole, so that a new field cannot be forgotten.
pub(super) fn entries(settings: &Settings) -> Vec<(&'static str, Value)> {
    let Settings {
        issuer,
        database,
        redis,
        grpc,
        http,
        tokens,
        sessions,
        login,
        keys,
        registration,
        passwords,
        factors,
        throttle,
        audit,
        notify,
        log,
        telemetry,
        shutdown,
    } = settings;
    let mut entries = vec![("issuer", text(issuer))];
    entries.extend(database_entries(database));
    entries.extend(redis_entries(redis));
    entries.extend(listener_entries(grpc, http));
    entries.extend(token_entries(tokens));
    entries.extend(session_entries(sessions));
    let Login { codes } = login;
    entries.push(("login.codes", list(codes.iter().map(|channel| channel.as_str()))));
    entries.extend(key_entries(keys));
    let Registration { mode, require_verified_email } = registration;
    entries.extend([
        ("registration.mode", text(mode.as_str())),
        ("registration.require_verified_email", Value::Boolean(*require_verified_email)),
    ]);
    entries.extend(password_entries(passwords));
    let Factors { totp_issuer } = factors;
    entries.push(("factors.totp_issuer", text(totp_issuer)));
    entries.extend(throttle_entries(throttle));
    let Audit { retention } = audit;
    entries.push(("audit.retention", span(*retention)));
    entries.extend(notify_entries(notify));
    let Log { format, filter } = log;
    entries.extend([("log.format", text(format.as_str())), ("log.filter", text(filter))]);
    let Telemetry { metrics, otlp_endpoint, trace_percent } = telemetry;
    entries.extend([
        ("telemetry.metrics", Value::Boolean(*metrics)),
        ("telemetry.otlp_endpoint", text(otlp_endpoint.as_deref().unwrap_or_default())),
        ("telemetry.trace_percent", number(*trace_percent)),
    ]);
    let Shutdown { pause, drain } = shutdown;
    entries.extend([("shutdown.pause", span(*pause)), ("shutdown.drain", span(*drain))]);
    entries
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn span(value: std::time::Duration) -> Value {
    Value::String(duration::format(value))
}

fn number(value: impl Into<i64>) -> Value {
    Value::Integer(value.into())
}

fn count(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn list<'a>(values: impl IntoIterator<Item = &'a str>) -> Value {
    Value::Array(values.into_iter().map(text).collect())
}

fn networks(networks: &[ipnet::IpNet]) -> Value {
    Value::Array(networks.iter().map(|network| text(&network.to_string())).collect())
}

fn database_entries(database: &Database) -> Vec<(&'static str, Value)> {
    let Database { backend, max_connections, acquire_timeout, migrate_on_start, pgbouncer } = database;
    let mut entries = match backend {
        Backend::Sqlite { file, data_dir } => {
            let in_data_dir = *file == data_dir.join(DATABASE_FILE);
            let url = if in_data_dir { String::new() } else { format!("sqlite:{}", file.display()) };
            vec![("data_dir", text(&data_dir.to_string_lossy())), ("database.url", text(&url))]
        }
        Backend::Postgres { url } => vec![("database.url", text(&url.to_string()))],
    };
    entries.extend([
        ("database.max_connections", number(*max_connections)),
        ("database.acquire_timeout", span(*acquire_timeout)),
        ("database.migrate_on_start", Value::Boolean(*migrate_on_start)),
        ("database.pgbouncer", Value::Boolean(*pgbouncer)),
    ]);
    entries
}

fn redis_entries(redis: &Redis) -> Vec<(&'static str, Value)> {
    let Redis { url, timeout, tls_roots } = redis;
    let tls_roots = tls_roots.as_deref().map_or_else(String::new, |path| path.to_string_lossy().into_owned());
    vec![
        ("redis.url", text(&url.as_ref().map_or_else(String::new, ToString::to_string))),
        ("redis.timeout", span(*timeout)),
        ("redis.tls_roots", text(&tls_roots)),
    ]
}

fn listener_entries(grpc: &Grpc, http: &Http) -> Vec<(&'static str, Value)> {
    let Grpc {
        listen,
        allow_plaintext,
        tls,
        open_verification,
        max_deadline,
        max_concurrent_streams,
        trusted_proxies,
        web_origins,
    } = grpc;
    let Http { listen: http_listen, allow_plaintext: http_allow_plaintext, tls: http_tls, public_url } = http;
    let mut entries =
        vec![("grpc.listen", text(&listen.to_string())), ("grpc.allow_plaintext", Value::Boolean(*allow_plaintext))];
    entries.extend(tls_entries(["grpc.tls_cert", "grpc.tls_key", "grpc.client_ca"], tls.as_ref()));
    entries.extend([
        ("grpc.open_verification", Value::Boolean(*open_verification)),
        ("grpc.max_deadline", span(*max_deadline)),
        ("grpc.max_concurrent_streams", number(*max_concurrent_streams)),
        ("grpc.trusted_proxies", networks(trusted_proxies)),
        ("grpc.web_origins", list(web_origins.iter().map(WebOrigin::as_str))),
        ("http.listen", text(&http_listen.to_string())),
        ("http.allow_plaintext", Value::Boolean(*http_allow_plaintext)),
    ]);
    entries.extend(tls_entries(["http.tls_cert", "http.tls_key", "http.client_ca"], http_tls.as_ref()));
    entries.extend(public_url.as_deref().map(|url| ("http.public_url", text(url))));
    entries
}

fn tls_entries(names: [&'static str; 3], tls: Option<&Tls>) -> [(&'static str, Value); 3] {
    let path = |path: Option<&PathBuf>| text(&path.map(|path| path.to_string_lossy()).unwrap_or_default());
    let [certificate, key, client_ca] = names;
    [
        (certificate, path(tls.map(|tls| &tls.certificate))),
        (key, path(tls.map(|tls| &tls.key))),
        (client_ca, path(tls.and_then(|tls| tls.client_ca.as_ref()))),
    ]
}

fn token_entries(tokens: &Tokens) -> Vec<(&'static str, Value)> {
    let Tokens {
        algorithm,
        access_ttl,
        audiences,
        default_audience,
        encryption_keys,
        scopes,
        permissions,
        claims,
        client_id,
        max_staleness,
    } = tokens;
    let path =
        |path: &Option<PathBuf>| path.as_deref().map_or_else(String::new, |path| path.to_string_lossy().into_owned());
    let (encryption_keys, claims) = (path(encryption_keys), path(claims));
    vec![
        ("tokens.algorithm", text(algorithm.as_str())),
        ("tokens.access_ttl", span(*access_ttl)),
        ("tokens.audiences", list(audiences.iter().map(Audience::as_str))),
        ("tokens.default_audience", list(default_audience.iter().map(Audience::as_str))),
        ("tokens.encryption_keys", text(&encryption_keys)),
        ("tokens.scopes", list(scopes.tokens())),
        ("tokens.permissions", Value::Boolean(*permissions)),
        ("tokens.claims", text(&claims)),
        ("tokens.client_id", text(client_id)),
        ("tokens.max_staleness", span(*max_staleness)),
    ]
}

fn session_entries(sessions: &Sessions) -> Vec<(&'static str, Value)> {
    let Sessions {
        idle_timeout,
        absolute_timeout,
        redelivery_window,
        database_grace,
        recent_authentication,
        max_per_user,
        at_limit,
    } = sessions;
    vec![
        ("sessions.idle_timeout", span(*idle_timeout)),
        ("sessions.absolute_timeout", span(*absolute_timeout)),
        ("sessions.redelivery_window", span(*redelivery_window)),
        ("sessions.database_grace", span(*database_grace)),
        ("sessions.recent_authentication", span(*recent_authentication)),
        ("sessions.max_per_user", number(*max_per_user)),
        ("sessions.at_limit", text(at_limit.as_str())),
    ]
}

fn key_entries(keys: &Keys) -> Vec<(&'static str, Value)> {
    let Keys { master_key, previous_master_key, rotation_period, publish_lead } = keys;
    let mut entries = match master_key {
        MasterKey::Given(_) => vec![("keys.master_key", text(REDACTED))],
        MasterKey::Generated { data_dir: _ } => Vec::new(),
    };
    entries.push(("keys.previous_master_key", text(if previous_master_key.is_some() { REDACTED } else { "" })));
    entries.extend([("keys.rotation_period", span(*rotation_period)), ("keys.publish_lead", span(*publish_lead))]);
    entries
}

fn notify_entries(notify: &Notify) -> Vec<(&'static str, Value)> {
    let Notify { email, sms, smtp_url, smtp_tls_roots, from, webhook_url, webhook_secret, templates, link_url, locale } =
        notify;
    let path = |path: &Option<PathBuf>| text(&path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default());
    let optional = |value: &Option<String>| text(value.as_deref().unwrap_or_default());
    vec![
        ("notify.email", text(email.as_str())),
        ("notify.sms", text(sms.as_str())),
        ("notify.smtp_url", text(&smtp_url.as_ref().map(ToString::to_string).unwrap_or_default())),
        ("notify.smtp_tls_roots", path(smtp_tls_roots)),
        ("notify.from", optional(from)),
        ("notify.webhook_url", optional(webhook_url)),
        ("notify.webhook_secret", text(if webhook_secret.is_some() { REDACTED } else { "" })),
        ("notify.templates", path(templates)),
        ("notify.link_url", optional(link_url)),
        ("notify.locale", text(locale.as_str())),
    ]
}

fn password_entries(passwords: &Passwords) -> Vec<(&'static str, Value)> {
    let Passwords {
        memory_kib,
        iterations,
        parallelism,
        threads,
        queue,
        niceness,
        max_wait,
        min_strength,
        history,
        breached_filter,
    } = passwords;
    let breached_filter =
        breached_filter.as_deref().map_or_else(String::new, |path| path.to_string_lossy().into_owned());
    vec![
        ("passwords.memory_kib", number(*memory_kib)),
        ("passwords.iterations", number(*iterations)),
        ("passwords.parallelism", number(*parallelism)),
        ("passwords.threads", count(threads.map_or(0, NonZeroUsize::get))),
        ("passwords.queue", count(*queue)),
        ("passwords.niceness", number(*niceness)),
        ("passwords.max_wait", span(*max_wait)),
        ("passwords.min_strength", number(*min_strength)),
        ("passwords.history", number(*history)),
        ("passwords.breached_filter", text(&breached_filter)),
    ]
}

fn throttle_entries(throttle: &Throttle) -> Vec<(&'static str, Value)> {
    let Throttle { account_failures, address_failures, overall_failures, messages_per_recipient, messages_overall } =
        throttle;
    vec![
        ("throttle.account_failures", number(*account_failures)),
        ("throttle.address_failures", number(*address_failures)),
        ("throttle.overall_failures", number(*overall_failures)),
        ("throttle.messages_per_recipient", number(*messages_per_recipient)),
        ("throttle.messages_overall", number(*messages_overall)),
    ]
}
