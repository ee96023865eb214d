-- The first schema. A migration never changes once it has landed; the next one expands, a later one contracts.
--
-- Moments are microseconds since 1970-01-01T00:00:00Z. JSON columns hold lists and tagged values that are only read
-- and written whole.

-- What a server must be able to read to use this database; raised by a migration that older servers cannot live with.
CREATE TABLE schema_compatibility (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    oldest_reader BIGINT NOT NULL
);
INSERT INTO schema_compatibility (id, oldest_reader) VALUES (1, 1);

CREATE TABLE users (
    id UUID PRIMARY KEY,
    email TEXT NOT NULL,
    -- The normalised address: what makes two spellings one account.
    email_key TEXT NOT NULL UNIQUE,
    email_verified_time BIGINT,
    -- Folded to lower case before it is stored.
    username TEXT UNIQUE,
    display_name TEXT NOT NULL,
    password_hash TEXT,
    password_time BIGINT,
    -- 'active' or 'suspended'. Not checked here, so that a further word needs no new table on SQLite.
    state TEXT NOT NULL,
    -- Sessions and tokens that carry a smaller epoch are dead.
    epoch BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

CREATE TABLE roles (
    name TEXT PRIMARY KEY,
    permissions JSONB NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('admin', '["*"]', 0, 0);

CREATE TABLE user_roles (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL REFERENCES roles (name),
    assign_time BIGINT NOT NULL,
    PRIMARY KEY (user_id, role)
);
CREATE INDEX user_roles_by_role ON user_roles (role);

-- A session is a refresh-token family: `generation` counts its refresh tokens.
CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The user's epoch when the password was checked.
    epoch BIGINT NOT NULL,
    client_id TEXT NOT NULL,
    audience JSONB NOT NULL,
    scope TEXT NOT NULL,
    auth_time BIGINT NOT NULL,
    amr JSONB NOT NULL,
    acr TEXT NOT NULL,
    device_name TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    last_used_time BIGINT NOT NULL,
    absolute_expire_time BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    generation_time BIGINT NOT NULL,
    refresh_key BIGINT NOT NULL,
    late_streak BIGINT NOT NULL,
    late_now BOOLEAN NOT NULL,
    end_time BIGINT,
    end_reason TEXT
) WITH (fillfactor = 80);
-- No indexed column changes at a refresh, so that the row can be updated in place.
CREATE INDEX sessions_by_user ON sessions (user_id, id);
CREATE INDEX sessions_by_absolute_expiry ON sessions (absolute_expire_time);
CREATE INDEX sessions_by_end ON sessions (end_time) WHERE end_time IS NOT NULL;

-- What tokens must stop saying. The head row is locked until commit, so that numbers follow commits without gaps.
CREATE TABLE feed_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    -- Another value means another history: everybody reloads.
    incarnation UUID NOT NULL,
    number BIGINT NOT NULL,
    -- The longest life of an access token that any server ever gave out, in microseconds.
    longest_access_ttl BIGINT NOT NULL
);
INSERT INTO feed_head (id, incarnation, number, longest_access_ttl) VALUES (1, gen_random_uuid(), 0, 0);

CREATE TABLE feed (
    number BIGINT PRIMARY KEY,
    revocation JSONB NOT NULL,
    time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL
);
CREATE INDEX feed_by_expiry ON feed (expire_time);

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    algorithm TEXT NOT NULL,
    public_jwk JSONB NOT NULL,
    -- PKCS#8, encrypted under the master key and bound to this row.
    private_key_sealed BYTEA NOT NULL,
    publish_time BIGINT NOT NULL,
    activate_time BIGINT NOT NULL,
    retire_time BIGINT,
    remove_time BIGINT
);

-- Never removed: a refresh token lives as long as its session's row says, and the key must be there to read it.
CREATE TABLE refresh_keys (
    id BIGINT PRIMARY KEY,
    -- An HMAC key, encrypted under the master key and bound to this row.
    key_sealed BYTEA NOT NULL,
    publish_time BIGINT NOT NULL,
    activate_time BIGINT NOT NULL,
    retire_time BIGINT
);

-- Keys that personal data in audit events is encrypted under, one for each user and a nil one for everybody else.
-- To destroy a user's key is to erase that data.
CREATE TABLE data_keys (
    owner_id UUID PRIMARY KEY,
    key_sealed BYTEA NOT NULL,
    create_time BIGINT NOT NULL
);

-- Append-only. Written in the transaction of the effect.
CREATE TABLE audit_events (
    id UUID PRIMARY KEY,
    time BIGINT NOT NULL,
    act TEXT NOT NULL,
    succeeded BOOLEAN NOT NULL,
    actor TEXT NOT NULL,
    actor_id UUID,
    subject_id UUID,
    session_id UUID,
    request_id TEXT NOT NULL,
    -- Nothing personal and nothing secret.
    detail JSONB NOT NULL,
    -- Address and agent, encrypted under the data key of the subject.
    personal_sealed BYTEA
);
CREATE INDEX audit_events_by_time ON audit_events (time, id);
CREATE INDEX audit_events_by_subject ON audit_events (subject_id, time);
