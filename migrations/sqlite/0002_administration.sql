-- What administrators manage: users with attributes, roles with a description, service accounts, imports.

-- Raised by every change that an administrator or the owner makes; the `etag` of the API.
ALTER TABLE users ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
-- A JSON object, or NULL for an empty one.
ALTER TABLE users ADD COLUMN attributes TEXT;
-- Listing pages by the time of creation, or by what is searched for.
CREATE INDEX users_by_creation ON users (create_time, id);
CREATE INDEX users_by_email ON users (email_key, id);
CREATE INDEX users_by_username ON users (username, id) WHERE username IS NOT NULL;
CREATE INDEX users_suspended ON users (create_time, id) WHERE state = 'suspended';
CREATE INDEX user_roles_by_role_and_user ON user_roles (role, user_id);
DROP INDEX user_roles_by_role;

ALTER TABLE roles ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE roles ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE roles ADD COLUMN built_in INTEGER NOT NULL DEFAULT 0;
UPDATE roles SET built_in = 1, description = 'May do everything.' WHERE name = 'admin';

CREATE TABLE service_accounts (
    id BLOB PRIMARY KEY,
    display_name TEXT NOT NULL,
    -- The URI SAN of its client certificate.
    spiffe_id TEXT UNIQUE,
    -- Tokens that carry a smaller epoch are dead.
    epoch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT;

CREATE TABLE service_account_roles (
    service_account_id BLOB NOT NULL REFERENCES service_accounts (id) ON DELETE CASCADE,
    role TEXT NOT NULL REFERENCES roles (name),
    assign_time INTEGER NOT NULL,
    PRIMARY KEY (service_account_id, role)
) STRICT;
CREATE INDEX service_account_roles_by_role ON service_account_roles (role);

CREATE TABLE service_account_secrets (
    id BLOB PRIMARY KEY,
    service_account_id BLOB NOT NULL REFERENCES service_accounts (id) ON DELETE CASCADE,
    -- SHA-256 of a secret of 256 random bits.
    hash BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER
) STRICT;
CREATE INDEX service_account_secrets_by_account ON service_account_secrets (service_account_id);

-- Creations that may be asked for again: who asked, with which request id, and what was made.
CREATE TABLE create_requests (
    request_id BLOB NOT NULL,
    actor TEXT NOT NULL,
    -- A keyed hash of what was asked for, so that a request id is not taken for another request's.
    fingerprint BLOB NOT NULL,
    created_id BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    PRIMARY KEY (request_id, actor)
) STRICT;
CREATE INDEX create_requests_by_time ON create_requests (create_time);

CREATE TABLE imports (
    id BLOB PRIMARY KEY,
    -- Who began it; nobody else goes on with it.
    actor TEXT NOT NULL,
    next_row INTEGER NOT NULL,
    imported INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT;

CREATE TABLE import_errors (
    import_id BLOB NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    field TEXT NOT NULL,
    description TEXT NOT NULL,
    PRIMARY KEY (import_id, place)
) STRICT;
