-- The account life cycle: verified addresses, one-time codes, second factors, devices, throttles, messages.

ALTER TABLE users ADD COLUMN phone_number TEXT;
ALTER TABLE users ADD COLUMN locale TEXT;
-- The known device that a session was begun on.
ALTER TABLE sessions ADD COLUMN device_id BLOB;

-- Accounts that begin to exist when their address is verified. Several may wait for one address; whoever reads its mail decides.
CREATE TABLE registrations (
    id BLOB PRIMARY KEY,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    -- Reserved as long as the row lives.
    username TEXT UNIQUE,
    display_name TEXT NOT NULL,
    locale TEXT,
    password_hash TEXT,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT;
CREATE INDEX registrations_by_email ON registrations (email_key);
CREATE INDEX registrations_by_expiry ON registrations (expire_time);

-- Changes of address that wait for their confirmations.
CREATE TABLE email_changes (
    id BLOB PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The user's epoch when it was asked for.
    epoch INTEGER NOT NULL,
    -- The address then: with another one there is nothing to change any more.
    old_email_key TEXT NOT NULL,
    new_email TEXT NOT NULL,
    new_email_key TEXT NOT NULL,
    old_confirmed INTEGER NOT NULL,
    new_confirmed INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT;
CREATE INDEX email_changes_by_user ON email_changes (user_id);
CREATE INDEX email_changes_by_expiry ON email_changes (expire_time);

-- Codes in mails. What a code is for stands in `purpose`; it is good as long as its row lives.
CREATE TABLE mailed_codes (
    -- A keyed hash of a code with 256 random bits.
    code_hash BLOB PRIMARY KEY,
    purpose TEXT NOT NULL,
    user_id BLOB REFERENCES users (id) ON DELETE CASCADE,
    registration_id BLOB REFERENCES registrations (id) ON DELETE CASCADE,
    change_id BLOB REFERENCES email_changes (id) ON DELETE CASCADE,
    -- The user's epoch when it was sent, and the address it was sent to: with either changed it is good for nothing.
    epoch INTEGER NOT NULL,
    email_key TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT;
CREATE INDEX mailed_codes_by_user ON mailed_codes (user_id);
CREATE INDEX mailed_codes_by_registration ON mailed_codes (registration_id);
CREATE INDEX mailed_codes_by_change ON mailed_codes (change_id);
CREATE INDEX mailed_codes_by_expiry ON mailed_codes (expire_time);

-- Sign-ins and confirmations that wait for a code. An answered one is deleted.
CREATE TABLE challenges (
    -- A keyed hash of the handle.
    handle_hash BLOB PRIMARY KEY,
    -- What an answer does: 'second_factor', 'login_code', 'phone'.
    kind TEXT NOT NULL,
    -- NULL for one that belongs to nobody and only looks like one.
    user_id BLOB REFERENCES users (id) ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    -- A keyed hash of the code that was sent, if one was.
    code_hash BLOB,
    -- What goes on when it is answered.
    pending TEXT NOT NULL,
    failures INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT;
CREATE INDEX challenges_by_user ON challenges (user_id);
CREATE INDEX challenges_by_expiry ON challenges (expire_time);

CREATE TABLE totp_factors (
    user_id BLOB PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- Another id with each enrolment.
    id BLOB NOT NULL,
    -- The seed, encrypted under the master key and bound to `id`.
    seed_sealed BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    -- NULL until the app has shown that it has the seed.
    confirm_time INTEGER,
    -- The last time step of which a code was accepted: it and those before are spent.
    last_step INTEGER NOT NULL
) STRICT;

-- Recovery codes not used yet.
CREATE TABLE recovery_codes (
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- A keyed hash.
    code_hash BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    PRIMARY KEY (user_id, code_hash)
) STRICT;

-- Passwords of before.
CREATE TABLE password_history (
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    password_hash TEXT NOT NULL,
    -- The user's revision that it was replaced at: the order of these, whatever clocks say.
    revision INTEGER NOT NULL,
    -- When it was replaced.
    replace_time INTEGER NOT NULL,
    PRIMARY KEY (user_id, revision)
) STRICT;

-- Devices that were signed in on.
CREATE TABLE known_devices (
    id BLOB PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- A keyed hash of the secret that the device keeps.
    secret_hash BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    last_used_time INTEGER NOT NULL
) STRICT;
CREATE INDEX known_devices_by_user ON known_devices (user_id, last_used_time);

-- Failures in a row, by a keyed hash of what failed: an identifier that was typed, an account's codes.
CREATE TABLE throttles (
    key_hash BLOB PRIMARY KEY,
    failures INTEGER NOT NULL,
    -- The last failure.
    time INTEGER NOT NULL
) STRICT;
CREATE INDEX throttles_by_time ON throttles (time);

-- What may be sent, by a keyed hash of to whom: the moment up to which the budget is spent.
CREATE TABLE budgets (
    key_hash BLOB PRIMARY KEY,
    spent_until INTEGER NOT NULL
) STRICT;
CREATE INDEX budgets_by_time ON budgets (spent_until);

-- Messages to be sent. A row goes when its message has been taken.
CREATE TABLE outbox (
    id BLOB PRIMARY KEY,
    -- 'email', 'sms'; 'none' for a message to nobody.
    channel TEXT NOT NULL,
    user_id BLOB REFERENCES users (id) ON DELETE CASCADE,
    -- Recipient and content, encrypted under the master key and bound to this row.
    message_sealed BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    -- After it the message is of no use.
    expire_time INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    -- When it is to be tried (again). Whoever tries moves it first, so that nobody else does meanwhile.
    due_time INTEGER NOT NULL,
    -- Who tries.
    lease BLOB,
    -- When it was given up.
    dead_time INTEGER,
    last_error TEXT
) STRICT;
CREATE INDEX outbox_due ON outbox (due_time) WHERE dead_time IS NULL;
CREATE INDEX outbox_by_user ON outbox (user_id);
CREATE INDEX outbox_dead ON outbox (dead_time) WHERE dead_time IS NOT NULL;
