-- What tokens say besides, an audit trail that shows whether it was tampered with, keys that outlive the master key.

-- The indexes on the audit trail take as long as it is.
SET LOCAL statement_timeout = 0;

-- The place of an event in the trail. NULL for events of versions that knew of none, until they are taken in.
ALTER TABLE audit_events ADD COLUMN lane BIGINT;
ALTER TABLE audit_events ADD COLUMN position BIGINT;
-- SHA-256 over the event, its place and the hash of the one before it in the lane.
ALTER TABLE audit_events ADD COLUMN hash BYTEA;
CREATE UNIQUE INDEX audit_events_by_place ON audit_events (lane, position);
CREATE INDEX audit_events_without_place ON audit_events (id) WHERE lane IS NULL;
CREATE INDEX audit_events_by_actor ON audit_events (actor_id, time, id);
CREATE INDEX audit_events_by_act ON audit_events (act, time, id);
CREATE INDEX audit_events_by_session ON audit_events (session_id, time, id) WHERE session_id IS NOT NULL;

-- The trail is many chains side by side, so that those who write at the same time do not wait for each other: whoever
-- writes takes a lane that nobody holds.
CREATE TABLE audit_lanes (
    id BIGINT PRIMARY KEY,
    -- The place and the hash of the last event; 0 and zeros before the first.
    position BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    -- HMAC over the head, so that nobody who has the database alone can write a lane anew. NULL before the first event.
    mac BYTEA,
    -- The same of the last event that was removed because it was old.
    base_position BIGINT NOT NULL DEFAULT 0,
    base_hash BYTEA NOT NULL,
    base_mac BYTEA
) WITH (fillfactor = 20);
INSERT INTO audit_lanes (id, position, hash, base_hash)
SELECT n, 0, decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex') FROM generate_series(0, 63) AS n;

-- Keys of hashes and seals that were once derived from the master key and stay the same when that is changed.
CREATE TABLE stored_secrets (
    name TEXT PRIMARY KEY,
    -- 32 bytes, encrypted under the master key and bound to this row.
    secret_sealed BYTEA NOT NULL,
    create_time BIGINT NOT NULL
);

-- Users who were deleted, so that a restored backup can be told of them.
CREATE TABLE erasures (
    user_id UUID PRIMARY KEY,
    time BIGINT NOT NULL
);
CREATE INDEX erasures_by_time ON erasures (time, user_id);

-- What was never tried goes first.
CREATE INDEX outbox_fresh ON outbox ((CASE WHEN attempts = 0 THEN 0 ELSE 1 END), due_time) WHERE dead_time IS NULL;

-- Last, because whoever reads a user waits for it.
-- Claims that an administrator gives: a JSON object, or NULL for none.
ALTER TABLE users ADD COLUMN custom_claims JSONB;
ALTER TABLE roles ADD COLUMN custom_claims JSONB;
