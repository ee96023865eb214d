//! Every metric there is. `docs/OBSERVABILITY.md` lists the same, which a test compares.

use super::family::{Description, Kind};

const fn counter(name: &'static str, prometheus: &'static str, unit: &'static str, help: &'static str) -> Description {
    Description { name, prometheus, kind: Kind::Counter, unit, help }
}

const fn gauge(name: &'static str, prometheus: &'static str, unit: &'static str, help: &'static str) -> Description {
    Description { name, prometheus, kind: Kind::Gauge, unit, help }
}

const fn seconds(name: &'static str, prometheus: &'static str, help: &'static str) -> Description {
    Description { name, prometheus, kind: Kind::Histogram, unit: "s", help }
}

macro_rules! catalog {
    ($($name:ident = $description:expr;)+) => {
        $(pub(super) const $name: &Description = &$description;)+
        /// Every metric, in the order of a scrape.
        pub const CATALOG: &[&Description] = &[$($name),+];
    };
}

#[rustfmt::skip] // A table is read by its rows.
catalog! {
    RPC_DURATION = seconds("rpc.server.call.duration", "rpc_server_call_duration_seconds", "How long RPCs took, until the last byte of the answer was handed over or the caller went away.");

    LOGINS = counter("vouchsafe.logins", "vouchsafe_logins_total", "{login}", "Logins by how they ended.");
    SERVICE_TOKENS = counter("vouchsafe.service_tokens", "vouchsafe_service_tokens_total", "{token}", "Requests of service accounts for a token by how they ended.");
    REGISTRATIONS = counter("vouchsafe.registrations", "vouchsafe_registrations_total", "{registration}", "Registrations by how they ended.");
    THROTTLED = counter("vouchsafe.throttled", "vouchsafe_throttled_total", "{call}", "Calls refused, and messages not sent, because something was tried or asked for too often, by what.");
    REFRESHES = counter("vouchsafe.refreshes", "vouchsafe_refreshes_total", "{refresh}", "Refresh tokens of this issuer by what was decided about them, and by what it was decided.");
    REPLAYS = counter("vouchsafe.refresh.replays", "vouchsafe_refresh_replays_total", "{replay}", "Superseded refresh tokens that came back: a session was ended each time, because somebody may hold a stolen token.");
    VERIFICATIONS = counter("vouchsafe.verifications", "vouchsafe_verifications_total", "{verification}", "Access tokens by what was said of them, by Verify and at the service's own API.");

    MESSAGES = counter("vouchsafe.messages", "vouchsafe_messages_total", "{message}", "Attempts of this node to deliver messages by how they ended, and messages that were never sent.");
    MESSAGES_DUE = gauge("vouchsafe.messages.due", "vouchsafe_messages_due", "{message}", "Messages that are due and that no node has taken yet, when this node last looked; counted up to 1000.");

    HASH_WAIT = seconds("vouchsafe.password.hash.wait", "vouchsafe_password_hash_wait_seconds", "How long passwords waited for a hashing thread.");
    HASH_DURATION = seconds("vouchsafe.password.hash.duration", "vouchsafe_password_hash_duration_seconds", "How long a hashing thread took for a password.");
    HASH_QUEUE = gauge("vouchsafe.password.hash.queue", "vouchsafe_password_hash_queue", "{password}", "Passwords that wait for a hashing thread.");
    HASH_RUNNING = gauge("vouchsafe.password.hash.running", "vouchsafe_password_hash_running", "{password}", "Passwords that are being hashed.");
    HASH_SHED = counter("vouchsafe.password.hash.shed", "vouchsafe_password_hash_shed_total", "{password}", "Calls sent away with RESOURCE_EXHAUSTED because their password would not have been hashed in time.");

    REVOCATION_LAG = seconds("vouchsafe.revocation.lag", "vouchsafe_revocation_lag_seconds", "Time from a revocation on another node to its effect on this one.");
    FEED_HEAD = gauge("vouchsafe.feed.head", "vouchsafe_feed_head", "{entry}", "Number up to which this node has read the revocation feed.");
    FEED_STALENESS = gauge("vouchsafe.feed.staleness", "vouchsafe_feed_staleness_seconds", "s", "Time since this node last read the feed to its end from the database.");
    REVOCATIONS_HELD = gauge("vouchsafe.revocations.held", "vouchsafe_revocations_held", "{revocation}", "Revoked sessions, tokens, users and keys in memory.");
    WATCHERS = gauge("vouchsafe.revocation.watchers", "vouchsafe_revocation_watchers", "{watcher}", "Verifiers that watch this node's revocations.");
    WATCHED = counter("vouchsafe.revocation.watched", "vouchsafe_revocation_watched_total", "{revocation}", "Revocations told to watchers, those at the beginning of a watch included.");
    WATCHES_ENDED = counter("vouchsafe.revocation.watches_ended", "vouchsafe_revocation_watches_ended_total", "{watch}", "Watches of revocations that ended by why they did.");
    AUDIT_WATCHERS = gauge("vouchsafe.audit.watchers", "vouchsafe_audit_watchers", "{watcher}", "Streams of audit events that this node serves.");

    KEY_AGE = gauge("vouchsafe.signing_key.age", "vouchsafe_signing_key_age_seconds", "s", "How long the key that signs access tokens has been signing.");
    KEY_NEXT = gauge("vouchsafe.signing_key.next_activation", "vouchsafe_signing_key_next_activation_timestamp_seconds", "s", "When the next signing key takes over, in seconds since 1970; missing while none is published.");

    CONNECTIONS = gauge("vouchsafe.grpc.connections", "vouchsafe_grpc_connections", "{connection}", "Open gRPC connections.");
    DATABASE_CONNECTIONS = gauge("vouchsafe.database.connections", "vouchsafe_database_connections", "{connection}", "Connections to the database by state.");
    HOT_STATE_UP = gauge("vouchsafe.hot_state.up", "vouchsafe_hot_state_up", "1", "Whether the hot state answers: 1 or 0; missing where there is none.");

    BUILD_INFO = gauge("vouchsafe.build.info", "vouchsafe_build_info", "1", "Always 1; the label says which version runs.");
    PROCESS_CPU = counter("process.cpu.time", "process_cpu_seconds_total", "s", "Processor time used.");
    PROCESS_MEMORY = gauge("process.memory.usage", "process_resident_memory_bytes", "By", "Resident memory.");
    PROCESS_FDS = gauge("process.open_file_descriptor.count", "process_open_fds", "{file_descriptor}", "Open file descriptors.");
    PROCESS_MAX_FDS = gauge("process.open_file_descriptor.limit", "process_max_fds", "{file_descriptor}", "Most file descriptors that may be open.");
    PROCESS_START = gauge("process.start_time", "process_start_time_seconds", "s", "When the server started, in seconds since 1970.");
}
