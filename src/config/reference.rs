//! The settings: what exists, what holds when nothing is set, and what each one means. The one source of truth.

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultText {
    /// Always this value, written as in the environment.
    Fixed(&'static str),
    /// It depends; in words.
    Depends(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingDoc {
    /// The section and the name, with a dot between them.
    pub key: &'static str,
    /// What holds when it is not given.
    pub default: DefaultText,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// What it does, in sentences without `|`.
    pub help: &'static str,
}

const fn fixed(key: &'static str, default: &'static str, help: &'static str) -> SettingDoc {
    SettingDoc { key, default: DefaultText::Fixed(default), secret: false, help }
}

const fn depends(key: &'static str, default: &'static str, help: &'static str) -> SettingDoc {
    SettingDoc { key, default: DefaultText::Depends(default), secret: false, help }
}

impl SettingDoc {
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// Every setting there is. What is not in this list is refused.
#[rustfmt::skip] // A table is read by its rows.
pub const REFERENCE: &[SettingDoc] = &[
    depends("issuer", "`http://localhost:50052` on SQLite; required on Postgres", "The `iss` of every token, compared character by character. A URL without query or fragment, or another URI. Changing it invalidates every token."),
    depends("data_dir", "`$XDG_DATA_HOME/vouchsafe`, else `$HOME/.local/share/vouchsafe`", "Directory for the SQLite database and the generated master key. Not used on Postgres."),

    fixed("database.url", "", "Empty: SQLite in `data_dir`. `sqlite:/path/file.db`: SQLite in that file, for one server at a time. `postgres://user:password@host/database`: Postgres; `?sslmode=verify-full`, `require` or `disable` behind it is required where the host is another machine. libpq's variables (`PGHOST`, `PGSSLMODE`, ...) and its password file do not count.").secret(),
    fixed("database.max_connections", "16", "Most connections to the database at once, 2 to 500."),
    fixed("database.acquire_timeout", "2s", "How long a call waits for a free connection before it is answered UNAVAILABLE, 10ms to 1m."),
    depends("database.migrate_on_start", "`true` on SQLite, `false` on Postgres", "Whether `serve` brings the schema up to date. Otherwise run `vouchsafe migrate` first."),
    fixed("database.pgbouncer", "false", "Whether `database.url` leads through PgBouncer in transaction mode. Not used on SQLite."),

    fixed("redis.url", "", "Empty: no Redis, the database serves alone. `redis://user:password@host:6379/0`: one Redis or Valkey server, `redis+unix:///path?user=…&password=…&db=0`: the same on this machine. `redis+sentinel://user:password@host1:26379,host2:26379/master-name`: the master that these sentinels name; their own login in the parameters `sentinel_user` and `sentinel_password`. `redis+cluster://user:password@host1:6379,host2:6379`: a cluster. `rediss` instead of `redis`: with TLS.").secret(),
    fixed("redis.timeout", "250ms", "Longest one call to Redis may take before the database is asked instead, 10ms to 5s."),
    fixed("redis.tls_roots", "", "PEM file with the roots that a Redis with TLS is trusted by. Empty: the system's."),

    fixed("grpc.listen", "127.0.0.1:50051", "Address and port for gRPC."),
    fixed("grpc.allow_plaintext", "false", "Allow `grpc.listen` to be reachable from other machines without TLS. Only where something in front encrypts."),
    fixed("grpc.tls_cert", "", "PEM file with the certificate for gRPC over TLS, and the intermediate ones after it. Taken over within seconds when it changes, as the other TLS files are. Empty: no TLS."),
    fixed("grpc.tls_key", "", "PEM file with the private key of `grpc.tls_cert`, not encrypted.").secret(),
    fixed("grpc.client_ca", "", "PEM file with the authorities that sign clients' certificates. With it, every client must present one (mTLS), and may then call `Verify` and VerifierService. Empty: none is asked for."),
    fixed("grpc.open_verification", "false", "Let anybody who reaches the gRPC port call `Verify` and VerifierService, also where it does not listen on loopback."),
    fixed("grpc.max_deadline", "30s", "Longest a call may take; a caller's own shorter deadline counts. 1s to 10m."),
    fixed("grpc.max_concurrent_streams", "200", "Most calls at once on one connection, 1 to 10000."),
    fixed("grpc.trusted_proxies", "", "Networks of the proxies in front of the gRPC port, such as `10.0.0.0/8,fd00::/8`. Over a connection from one of them the client's address is the last in `x-forwarded-for` that is not one of them itself; from anybody else the header changes nothing. Behind a proxy that is not listed, all callers have one address, and share its limits."),
    fixed("grpc.web_origins", "", "Whose web pages may call, by gRPC-Web (docs/WEB.md): origins such as `https://app.example.com,http://localhost:3000`, each by its name. With it the port also speaks HTTP/1.1, for these pages only. Empty: no page may call."),

    fixed("http.listen", "127.0.0.1:50052", "Address and port for HTTP: JWKS, key discovery, liveness, readiness."),
    fixed("http.allow_plaintext", "false", "Allow `http.listen` to be reachable from other machines without TLS."),
    fixed("http.tls_cert", "", "PEM file with the certificate for HTTPS, and the intermediate ones after it. Empty: no TLS."),
    fixed("http.tls_key", "", "PEM file with the private key of `http.tls_cert`, not encrypted.").secret(),
    fixed("http.client_ca", "", "As `grpc.client_ca`, for the HTTP port: probes and whoever fetches the keys then need a certificate as well."),
    depends("http.public_url", "`issuer` if that is set to a URL; the bound address if `issuer` is not set; otherwise required", "The http(s) URL at which others reach the HTTP port; `jwks_uri` points there."),

    fixed("tokens.algorithm", "ES256", "Signature algorithm of new keys: `ES256`, `EdDSA`, or `RS256` for verifiers that know nothing else."),
    fixed("tokens.access_ttl", "5m", "How long an access token is valid, 30s to 24h in whole seconds."),
    fixed("tokens.audiences", "vouchsafe", "The audiences a login may ask for. Must include `vouchsafe`, the audience of Vouchsafe's own API."),
    fixed("tokens.default_audience", "vouchsafe", "The audiences of a token when the login names none. Each must be in `tokens.audiences`; must include `vouchsafe`."),
    fixed("tokens.encryption_keys", "", "JSON file `{\"audiences\": {\"billing\": JWK}}` with the key for which tokens of an audience are encrypted (docs/ENCRYPTION.md). Each must be in `tokens.audiences`, and `vouchsafe` cannot be. With a secret in it, not everybody may be able to read it. Empty: none."),
    fixed("tokens.scopes", "", "The scopes a login may ask for. One with a colon, or `*`, names a permission, and a token gets it only as far as roles hold it."),
    fixed("tokens.permissions", "false", "Say in tokens what the roles allow, as the claim `permissions`."),
    fixed("tokens.claims", "", "A TOML file that says what tokens say beside, by audience and by attributes of the user: see docs/CLAIMS.md. Read when a node starts."),
    fixed("tokens.client_id", "vouchsafe-password", "The `client_id` of tokens from a login with a password."),
    fixed("tokens.max_staleness", "1m", "With the database away, `Verify` goes on from memory for this long and then answers UNAVAILABLE, because revocations could be missing, 2s to 1h. With Redis there, for `sessions.database_grace` if that is longer."),

    fixed("sessions.idle_timeout", "30d", "A session not refreshed for this long ends, 1s to 3650d."),
    fixed("sessions.absolute_timeout", "180d", "A session ends this long after its login, refreshed or not. At least `sessions.idle_timeout`, at most 3650d."),
    fixed("sessions.redelivery_window", "10s", "How long the previous refresh token is still answered, with the same successor, because an answer may get lost. 0s to 5m."),
    fixed("sessions.database_grace", "15m", "With the database away, sessions whose state is in Redis are refreshed from there for this long, 0s (never) to 1h. Not used without Redis."),
    fixed("sessions.recent_authentication", "10m", "How recent the sign-in must be to change the e-mail address, the phone number or a second factor, or to delete the account, 1m to 1d."),
    fixed("sessions.max_per_user", "100", "Most live sessions of one user, 1 to 10000."),
    fixed("sessions.at_limit", "evict_oldest", "What a sign-in does that would be one session too many: `evict_oldest` ends those that were not used for the longest time, `refuse` is refused with TOO_MANY_SESSIONS."),

    fixed("login.codes", "email", "How `SendLoginCode` may send codes to sign in with instead of a password: `email`, `sms`, both or, if it is empty, not at all. Only as far as `notify.email` and `notify.sms` send anything."),

    depends("keys.master_key", "generated into `data_dir` on SQLite; required on Postgres", "Encrypts private keys at rest: 32 random bytes in base64 (`openssl rand -base64 32`). The same on every node.").secret(),
    fixed("keys.previous_master_key", "", "While the master key is being changed: the other one of the two. What either sealed is opened, what is new is sealed under `keys.master_key` (docs/OPERATIONS.md).").secret(),
    fixed("keys.rotation_period", "90d", "How long a signing key signs before the next one takes over, 1m to 3650d."),
    fixed("keys.publish_lead", "1h", "How long a signing key is published before it signs. Longer than verifiers cache keys, shorter than `keys.rotation_period`; at least 1s, and with Redis at least `sessions.database_grace`."),

    fixed("registration.mode", "open", "Who may register: `open` (anybody) or `closed` (nobody; create accounts with `vouchsafe admin create`)."),
    fixed("registration.require_verified_email", "false", "Whether an account begins to exist only when a mailed code has confirmed its e-mail address. Needs `notify.email`."),

    fixed("passwords.memory_kib", "19456", "argon2id: memory in KiB, 8 to 262144, at least 8 for each lane of `passwords.parallelism`."),
    fixed("passwords.iterations", "2", "argon2id: passes over the memory, 1 to 16."),
    fixed("passwords.parallelism", "1", "argon2id: lanes, 1 to 8."),
    fixed("passwords.threads", "0", "Threads that hash passwords, 0 to 256. 0: one less than there are cores, at least one."),
    fixed("passwords.queue", "256", "How many calls may wait for a hashing thread before further ones are answered RESOURCE_EXHAUSTED, 1 to 100000."),
    fixed("passwords.niceness", "5", "Niceness of the hashing threads, 0 to 19, so that a login storm does not slow down everything else."),
    fixed("passwords.max_wait", "5s", "Longest a call waits for its password to be hashed before it is answered RESOURCE_EXHAUSTED, 100ms to 5m."),
    fixed("passwords.min_strength", "3", "How hard a new password must be to guess, 0 (not asked) to 4, as zxcvbn counts; one less beside a second factor. Whatever it is, a password needs 15 characters, 8 beside a second factor, and must be neither common nor made of the user's names (docs/PASSWORDS.md)."),
    fixed("passwords.history", "3", "How many former passwords of a user are kept, as hashes, and refused as a new one, 0 to 24. The present one is always refused."),
    fixed("passwords.breached_filter", "", "File of `vouchsafe passwords build-filter` with passwords that were stolen somewhere, which are refused as new ones. Read anew at each start. Empty: none."),

    depends("factors.totp_issuer", "the host of `issuer`, `Vouchsafe` if that has none", "What authenticator apps show accounts of this server under, 1 to 64 characters without a colon."),

    fixed("throttle.account_failures", "40", "Wrong passwords in a row for one e-mail address or user name, 5 to 45, from which on no other is looked at until the owner is known by something else (a known device, a code, a reset, an administrator) or 30 days have passed. The first 5 are free; then each waits twice as long as the one before, up to 15 minutes. Codes of an app have a count of their own, so that an account never sees more than 100 of both; codes that were sent are good for 5 guesses each, at any time."),
    fixed("throttle.address_failures", "30", "Failures in a minute from one IPv4 address or IPv6 /64 network from which on it must wait, and requests for messages, and registrations, likewise, each counted apart, 0 (no limit) to 1000000. Failures of known devices are exempt."),
    fixed("throttle.overall_failures", "6000", "Failures in a minute of all callers together from which on all must wait, 0 (no limit) to 10000000. Known devices are exempt."),
    fixed("throttle.messages_per_recipient", "10", "Messages of one kind (sign-in codes, resets, verifications, registrations, changes) in an hour that may be asked for with one identifier, and that one recipient may get, 1 to 1000; at most 5 of them at once. The known devices of an account with a verified address have as many sign-in codes of their own, together."),
    fixed("throttle.messages_overall", "10000", "Messages in an hour that may be asked for altogether, 1 to 10000000; a tenth of them, or 100, at once."),

    fixed("audit.retention", "400d", "How long audit events are kept, in whole days from midnight UTC, 1d to 3650d, or 0s: for ever. Older ones are removed from the beginnings of the chains, which can be verified as before."),

    depends("notify.email", "`log` on SQLite, `off` on Postgres", "How e-mail is sent: `log` (written to the log with its codes: to try things out), `smtp`, `webhook`, or `off`."),
    depends("notify.sms", "`log` on SQLite, `off` on Postgres", "How SMS are sent: `log`, `webhook`, or `off`."),
    fixed("notify.smtp_url", "", "The mail server. `smtp://user:password@host:587`: with STARTTLS, never without. `smtps://user:password@host:465`: with TLS from the beginning. `smtp://localhost:25?tls=none`: not encrypted, only for a server on this machine.").secret(),
    fixed("notify.smtp_tls_roots", "", "PEM file with the roots that the mail server is trusted by. Empty: the system's."),
    fixed("notify.from", "", "The sender of e-mail: `noreply@example.com`, or `Example <noreply@example.com>`."),
    fixed("notify.webhook_url", "", "The web service that is called for each message, by https, or by http on this machine (docs/MESSAGES.md)."),
    fixed("notify.webhook_secret", "", "What those calls are signed with: 24 to 64 random bytes in base64 (`openssl rand -base64 32`), with or without `whsec_` before them.").secret(),
    fixed("notify.templates", "", "Folder with templates in place of those that are built in: `de/verify_email.txt` and so on (docs/MESSAGES.md). Empty: none."),
    fixed("notify.link_url", "", "The page of yours that links in messages lead to, with `?kind=` and `&code=` behind it. Empty: messages have the code alone."),
    fixed("notify.locale", "en", "The language of messages to those who have none, or one that there are no templates for: `en` and `de` are built in, for another one there must be templates."),

    fixed("log.format", "pretty", "`pretty` for people, `json` for machines."),
    fixed("log.filter", "info", "What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module such as `info,vouchsafe=debug`."),

    fixed("telemetry.metrics", "true", "Whether `/metrics` on the HTTP port answers a Prometheus scrape. It names no user, but tells how much the service is used."),
    fixed("telemetry.otlp_endpoint", "", "Where traces and metrics are sent by OTLP over gRPC, for instance `http://localhost:4317`. Empty: nowhere."),
    fixed("telemetry.trace_percent", "10", "How many in a hundred calls are traced if their caller did not decide by `traceparent`, 0 to 100."),

    fixed("shutdown.pause", "1s", "Time between reporting NOT_SERVING and refusing new calls, so that load balancers notice. 0s to 5m."),
    fixed("shutdown.drain", "10s", "Longest that calls under way may go on after that, 0s to 10m."),
];

/// The row for `key`.
pub(super) fn find(key: &str) -> Option<&'static SettingDoc> {
    REFERENCE.iter().find(|doc| doc.key == key)
}

/// The reference as a Markdown table, as it stands in the README.
pub fn markdown_table() -> String {
    let mut table = String::from("| Setting | Default | Meaning |\n|---|---|---|\n");
    for doc in REFERENCE {
        let default = match doc.default {
            DefaultText::Fixed("") => "empty".to_owned(),
            DefaultText::Fixed(value) => format!("`{value}`"),
            DefaultText::Depends(words) => words.to_owned(),
        };
        table.extend(["| `", doc.key, "` | ", &default, " | ", doc.help, " |\n"]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_setting() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), REFERENCE.len() + 2);
        assert!(table.contains("| `tokens.access_ttl` | `5m` | How long an access token"));
        assert!(table.contains("| `tokens.scopes` | empty | "));
        for line in table.lines() {
            assert_eq!(line.matches('|').count(), 4, "{line}");
        }
    }

    #[test]
    fn no_setting_is_listed_twice() {
        for (index, doc) in REFERENCE.iter().enumerate() {
            assert!(!REFERENCE[..index].iter().any(|other| other.key == doc.key), "{}", doc.key);
        }
    }
}
