-- Signing keys that were revoked, for ever: whoever stole one writes what expiry he likes into his tokens, and a verifier
-- elsewhere may have kept the key for as long.
CREATE TABLE revoked_keys (
    kid TEXT PRIMARY KEY,
    time INTEGER NOT NULL
) STRICT;
-- Those of before, whose entries in the feed have expired.
INSERT INTO revoked_keys (kid, time)
SELECT json_extract(detail, '$.key'), MIN(time) FROM audit_events
WHERE act = 'key.revoked' AND json_extract(detail, '$.key') IS NOT NULL GROUP BY 1;
