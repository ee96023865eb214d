//! Every column of the schema: given to the person whom it is about, or not for a reason that is written down. A new column is in
//! one of the two lists, or this fails.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, Kind};
use vouchsafe::pb::FILE_DESCRIPTOR_SET;

use crate::support::{Backend, TestDatabase};

/// Columns, and the field of `PersonalRecord` that tells them.
const TOLD: &[(&str, &str)] = &[
    ("users.id", "account.user.id"),
    ("users.email", "account.user.email"),
    ("users.email_verified_time", "account.email_verified_time"),
    ("users.username", "account.user.username"),
    ("users.display_name", "account.user.display_name"),
    ("users.password_time", "account.password_time"),
    ("users.state", "account.user.state"),
    ("users.epoch", "account.epoch"),
    ("users.create_time", "account.user.create_time"),
    ("users.update_time", "account.user.update_time"),
    ("users.revision", "account.user.etag"),
    ("users.attributes", "account.user.attributes"),
    ("users.custom_claims", "account.user.custom_claims"),
    ("users.phone_number", "account.user.phone_number"),
    ("users.locale", "account.user.locale"),
    ("password_history.replace_time", "account.former_passwords.replace_time"),
    ("totp_factors.id", "account.totp.id"),
    ("totp_factors.create_time", "account.totp.create_time"),
    ("totp_factors.confirm_time", "account.totp.confirm_time"),
    ("totp_factors.last_step", "account.totp.last_code_time"),
    ("recovery_codes.create_time", "account.recovery_codes_time"),
    ("user_roles.role", "role.name"),
    ("user_roles.assign_time", "role.assign_time"),
    ("roles.name", "role.name"),
    ("roles.description", "role.description"),
    ("roles.permissions", "role.permissions"),
    ("roles.custom_claims", "role.custom_claims"),
    ("sessions.id", "session.id"),
    ("sessions.client_id", "session.client_id"),
    ("sessions.audience", "session.audience"),
    ("sessions.scope", "session.scope"),
    ("sessions.auth_time", "session.auth_time"),
    ("sessions.amr", "session.amr"),
    ("sessions.acr", "session.acr"),
    ("sessions.device_name", "session.device_name"),
    ("sessions.user_agent", "session.user_agent"),
    ("sessions.ip_address", "session.ip_address"),
    ("sessions.create_time", "session.create_time"),
    ("sessions.last_used_time", "session.last_used_time"),
    ("sessions.absolute_expire_time", "session.absolute_expire_time"),
    ("sessions.epoch", "session.live"),
    ("sessions.generation", "session.refreshes"),
    ("sessions.generation_time", "session.refresh_time"),
    ("sessions.end_time", "session.end_time"),
    ("sessions.end_reason", "session.end_reason"),
    ("sessions.device_id", "session.device_id"),
    ("known_devices.id", "device.id"),
    ("known_devices.create_time", "device.create_time"),
    ("known_devices.last_used_time", "device.last_used_time"),
    ("email_changes.id", "email_change.id"),
    ("email_changes.old_email_key", "email_change.old_email"),
    ("email_changes.new_email", "email_change.new_email"),
    ("email_changes.old_confirmed", "email_change.old_confirmed"),
    ("email_changes.new_confirmed", "email_change.new_confirmed"),
    ("email_changes.create_time", "email_change.create_time"),
    ("email_changes.expire_time", "email_change.expire_time"),
    ("registrations.email", "registration.email"),
    ("registrations.create_time", "registration.create_time"),
    ("registrations.expire_time", "registration.expire_time"),
    ("mailed_codes.purpose", "code.purpose"),
    ("mailed_codes.email_key", "code.email"),
    ("mailed_codes.create_time", "code.create_time"),
    ("mailed_codes.expire_time", "code.expire_time"),
    ("challenges.kind", "challenge.kind"),
    ("challenges.pending", "challenge.device_name"),
    ("challenges.failures", "challenge.failures"),
    ("challenges.create_time", "challenge.create_time"),
    ("challenges.expire_time", "challenge.expire_time"),
    ("outbox.id", "message.id"),
    ("outbox.channel", "message.channel"),
    ("outbox.message_sealed", "message.content"),
    ("outbox.create_time", "message.create_time"),
    ("outbox.expire_time", "message.expire_time"),
    ("outbox.attempts", "message.attempts"),
    ("outbox.due_time", "message.due_time"),
    ("outbox.dead_time", "message.dead_time"),
    ("outbox.last_error", "message.last_error"),
    ("imports.id", "import.id"),
    ("imports.imported", "import.imported"),
    ("imports.failed", "import.failed"),
    ("imports.create_time", "import.create_time"),
    ("imports.update_time", "import.update_time"),
    ("create_requests.request_id", "request.request_id"),
    ("create_requests.actor", "request.asked"),
    ("create_requests.created_id", "request.asked"),
    ("create_requests.create_time", "request.create_time"),
    ("feed.revocation", "revocation.session_id"),
    ("feed.time", "revocation.time"),
    ("feed.expire_time", "revocation.expire_time"),
    ("audit_events.id", "event.event_id"),
    ("audit_events.time", "event.time"),
    ("audit_events.act", "event.act"),
    ("audit_events.succeeded", "event.succeeded"),
    ("audit_events.actor", "event.actor"),
    ("audit_events.actor_id", "event.actor_id"),
    ("audit_events.subject_id", "event.subject_id"),
    ("audit_events.session_id", "event.session_id"),
    ("audit_events.request_id", "event.request_id"),
    ("audit_events.detail", "event.detail"),
    ("audit_events.personal_sealed", "event.ip_address"),
];

/// Columns that are told to nobody, and why.
const NOT_TOLD: &[(&str, &[&str])] = &[
    (
        "by it the person's rows are found, and the id is told as account.user.id",
        &[
            "password_history.user_id",
            "totp_factors.user_id",
            "recovery_codes.user_id",
            "user_roles.user_id",
            "sessions.user_id",
            "known_devices.user_id",
            "email_changes.user_id",
            "mailed_codes.user_id",
            "mailed_codes.registration_id",
            "mailed_codes.change_id",
            "challenges.user_id",
            "outbox.user_id",
            "imports.actor",
        ],
    ),
    (
        "another spelling of an address that is told",
        &["users.email_key", "email_changes.new_email_key", "registrations.email_key"],
    ),
    ("the hash of a password: told is how it was made", &["users.password_hash", "password_history.password_hash"]),
    (
        "chosen by somebody who has not shown that the address is theirs",
        &[
            "registrations.id",
            "registrations.username",
            "registrations.display_name",
            "registrations.locale",
            "registrations.password_hash",
        ],
    ),
    (
        "the keyed hash of a secret",
        &[
            "recovery_codes.code_hash",
            "known_devices.secret_hash",
            "mailed_codes.code_hash",
            "challenges.handle_hash",
            "challenges.code_hash",
        ],
    ),
    ("a secret", &["totp_factors.seed_sealed"]),
    ("a keyed hash of what was asked for, which is told", &["create_requests.fingerprint"]),
    (
        "a counter of the account when the row was made, by which it is known to be of before",
        &["email_changes.epoch", "mailed_codes.epoch", "challenges.epoch"],
    ),
    ("the order of passwords, in which they are told", &["password_history.revision"]),
    (
        "how refresh tokens are made and arrived: nothing about the person",
        &["sessions.refresh_key", "sessions.late_streak", "sessions.late_now"],
    ),
    ("which node is at it", &["outbox.lease"]),
    ("where an import goes on", &["imports.next_row"]),
    ("the place in a list", &["feed.number"]),
    (
        "what proves the place of an event in the trail",
        &["audit_events.lane", "audit_events.position", "audit_events.hash"],
    ),
    (
        "about a role, not about who has it",
        &["roles.create_time", "roles.update_time", "roles.revision", "roles.built_in"],
    ),
    (
        "what was wrong with a row of a file, without what was in it",
        &["import_errors.import_id", "import_errors.place", "import_errors.field", "import_errors.description"],
    ),
    (
        "by a keyed hash of what was typed, which leads to nobody without it, and gone within days",
        &["throttles.key_hash", "throttles.failures", "throttles.time", "budgets.key_hash", "budgets.spent_until"],
    ),
    ("a key, and whose it is", &["data_keys.owner_id", "data_keys.key_sealed", "data_keys.create_time"]),
    ("about somebody who is no user any more", &["erasures.user_id", "erasures.time"]),
    (
        "about the service, or about programs that use it",
        &[
            "audit_lanes.id",
            "audit_lanes.position",
            "audit_lanes.hash",
            "audit_lanes.mac",
            "audit_lanes.base_position",
            "audit_lanes.base_hash",
            "audit_lanes.base_mac",
            "feed_head.id",
            "feed_head.incarnation",
            "feed_head.number",
            "feed_head.longest_access_ttl",
            "refresh_keys.id",
            "refresh_keys.key_sealed",
            "refresh_keys.publish_time",
            "refresh_keys.activate_time",
            "refresh_keys.retire_time",
            "revoked_keys.kid",
            "revoked_keys.time",
            "schema_compatibility.id",
            "schema_compatibility.oldest_reader",
            "service_accounts.id",
            "service_accounts.display_name",
            "service_accounts.spiffe_id",
            "service_accounts.epoch",
            "service_accounts.revision",
            "service_accounts.create_time",
            "service_accounts.update_time",
            "service_account_roles.service_account_id",
            "service_account_roles.role",
            "service_account_roles.assign_time",
            "service_account_secrets.id",
            "service_account_secrets.service_account_id",
            "service_account_secrets.hash",
            "service_account_secrets.create_time",
            "service_account_secrets.expire_time",
            "signing_keys.kid",
            "signing_keys.algorithm",
            "signing_keys.public_jwk",
            "signing_keys.private_key_sealed",
            "signing_keys.publish_time",
            "signing_keys.activate_time",
            "signing_keys.retire_time",
            "signing_keys.remove_time",
            "stored_secrets.name",
            "stored_secrets.secret_sealed",
            "stored_secrets.create_time",
        ],
    ),
];

pub(super) async fn every_column_is_told_or_not_for_a_reason(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let sql = if database.postgres_pool().is_some() {
        "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'"
    } else {
        "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    };
    let columns = database.texts(sql).await.into_iter().filter(|name| !name.starts_with("_sqlx_migrations."));
    let columns: BTreeSet<String> = columns.collect();
    assert!(columns.len() > 150);
    let mut known = BTreeSet::new();
    let listed =
        TOLD.iter().map(|(column, _)| *column).chain(NOT_TOLD.iter().flat_map(|(_, columns)| *columns).copied());
    for column in listed {
        assert!(known.insert(column.to_owned()), "{column} is listed twice");
    }
    let unknown: Vec<_> = columns.difference(&known).collect();
    let gone: Vec<_> = known.difference(&columns).collect();
    assert!(unknown.is_empty(), "tell the person of these in an export, or say here why not: {unknown:?}");
    assert!(gone.is_empty(), "these are not there: {gone:?}");
    database.remove().await;
}

/// The field that tells of a column is one.
#[test]
fn every_field_that_tells_is_there() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let record = pool.get_message_by_name("vouchsafe.v1.PersonalRecord").unwrap();
    for (column, path) in TOLD {
        let mut message = Some(record.clone());
        for name in path.split('.') {
            let field = message.and_then(|message| message.get_field_by_name(name));
            let field = field.unwrap_or_else(|| panic!("{path}, which tells of {column}, has no {name}"));
            message = match field.kind() {
                Kind::Message(message) => Some(message),
                _ => None,
            };
        }
    }
}
