-- The first schema. A migration never changes once it has landed; the next one expands, a later one contracts.
--
-- Moments are microseconds since 1970-01-01T00:00:00Z. JSON columns hold lists and tagged values that are only read
-- and written whole.

-- What a server must be able to read to use this database; raised by a migration that older servers cannot live with.
CREATE TABLE schema_compatibility (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    oldest_reader INTEGER NOT NULL
) STRICT;
INSERT INTO schema_compatibility (id, oldest_reader) VALUES (1, 1);

CREATE TABLE users (
    id BLOB PRIMARY KEY,
    email TEXT NOT NULL,
    -- The normalised address: what makes two spellings one account.
    email_key TEXT NOT NULL UNIQUE,
    email_verified_time INTEGER,
    -- Folded to lower case before it is stored.
    username TEXT UNIQUE,
    display_name TEXT NOT NULL,
    password_hash TEXT,
    password_time INTEGER,
    -- 'active' or 'suspended'. Not checked here, so that a further word needs no new table on SQLite.
    state TEXT NOT NULL,
    -- Sessions and tokens that carry a smaller epoch are dead.
    epoch INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT;

CREATE TABLE roles (
    name TEXT PRIMARY KEY,
    permissions TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT;
INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('admin', '["*"]', 0, 0);

CREATE TABLE user_roles (
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL REFERENCES roles (name),
    assign_time INTEGER NOT NULL,
    PRIMARY KEY (user_id, role)
) STRICT;
CREATE INDEX user_roles_by_role ON user_roles (role);

-- A session is a refresh-token family: `generation` counts its refresh tokens.
CREATE TABLE sessions (
    id BLOB PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The user's epoch when the password was checked.
    epoch INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    audience TEXT NOT NULL,
    scope TEXT NOT NULL,
    auth_time INTEGER NOT NULL,
    amr TEXT NOT NULL,
    acr TEXT NOT NULL,
    device_name TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    last_used_time INTEGER NOT NULL,
    absolute_expire_time INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    generation_time INTEGER NOT NULL,
    refresh_key INTEGER NOT NULL,
    late_streak INTEGER NOT NULL,
    late_now INTEGER NOT NULL,
    end_time INTEGER,
    end_reason TEXT
) STRICT;
-- No indexed column changes at a refresh, so that the row can be updated in place.
CREATE INDEX sessions_by_user ON sessions (user_id, id);
CREATE INDEX sessions_by_absolute_expiry ON sessions (absolute_expire_time);
CREATE INDEX sessions_by_end ON sessions (end_time) WHERE end_time IS NOT NULL;

-- What tokens must stop saying. The head row is locked until commit, so that numbers follow commits without gaps.
CREATE TABLE feed_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Another value means another history: everybody reloads.
    incarnation BLOB NOT NULL,
    number INTEGER NOT NULL,
    -- The longest life of an access token that any server ever gave out, in microseconds.
    longest_access_ttl INTEGER NOT NULL
) STRICT;
INSERT INTO feed_head (id, incarnation, number, longest_access_ttl) VALUES (1, randomblob(16), 0, 0);

CREATE TABLE feed (
    number INTEGER PRIMARY KEY,
    revocation TEXT NOT NULL,
    time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT;
CREATE INDEX feed_by_expiry ON feed (expire_time);

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    algorithm TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    -- PKCS#8, encrypted under the master key and bound to this row.
    private_key_sealed BLOB NOT NULL,
    publish_time INTEGER NOT NULL,
    activate_time INTEGER NOT NULL,
    retire_time INTEGER,
    remove_time INTEGER
) STRICT;

-- Never removed: a refresh token lives as long as its session's row says, and the key must be there to read it.
CREATE TABLE refresh_keys (
    id INTEGER PRIMARY KEY,
    -- An HMAC key, encrypted under the master key and bound to this row.
    key_sealed BLOB NOT NULL,
    publish_time INTEGER NOT NULL,
    activate_time INTEGER NOT NULL,
    retire_time INTEGER
) STRICT;

-- Keys that personal data in audit events is encrypted under, one for each user and a nil one for everybody else.
-- To destroy a user's key is to erase that data.
CREATE TABLE data_keys (
    owner_id BLOB PRIMARY KEY,
    key_sealed BLOB NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;

-- Append-only. Written in the transaction of the effect.
CREATE TABLE audit_events (
    id BLOB PRIMARY KEY,
    time INTEGER NOT NULL,
    act TEXT NOT NULL,
    succeeded INTEGER NOT NULL,
    actor TEXT NOT NULL,
    actor_id BLOB,
    subject_id BLOB,
    session_id BLOB,
    request_id TEXT NOT NULL,
    -- Nothing personal and nothing secret.
    detail TEXT NOT NULL,
    -- Address and agent, encrypted under the data key of the subject.
    personal_sealed BLOB
) STRICT;
CREATE INDEX audit_events_by_time ON audit_events (time, id);
CREATE INDEX audit_events_by_subject ON audit_events (subject_id, time);
