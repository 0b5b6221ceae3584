-- name: upsert_credential
-- $1 app, $2 open_id, $3 seller_name, $4 seller_region, $5 access_token, $6 refresh_token,
-- $7 access_expires_at, $8 refresh_expires_at, $9 granted_scopes, $10 obtained at, by TikTok's clock,
-- $11 when its code was exchanged, by this database's. The credential's id. A fresh consent replaces
-- whatever was there; no row when a newer one is there.
INSERT INTO sync.credentials AS c (
    app, open_id, seller_name, seller_region, access_token, refresh_token, access_expires_at,
    refresh_expires_at, granted_scopes, obtained_at, consented_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, now()))
ON CONFLICT (app, open_id) DO UPDATE
   SET seller_name = EXCLUDED.seller_name, seller_region = EXCLUDED.seller_region,
       access_token = EXCLUDED.access_token, refresh_token = EXCLUDED.refresh_token,
       previous_refresh_token = NULL, access_expires_at = EXCLUDED.access_expires_at,
       refresh_expires_at = EXCLUDED.refresh_expires_at, granted_scopes = EXCLUDED.granted_scopes,
       generation = c.generation + 1, obtained_at = EXCLUDED.obtained_at, needs_reauth = NULL,
       warned_at = NULL, consented_at = EXCLUDED.consented_at
 WHERE c.consented_at IS NULL OR c.consented_at <= EXCLUDED.consented_at
RETURNING credential_id;

-- name: begin_to_write_credentials
-- Until the transaction ends no rotation of the keys is completed.
LOCK TABLE sync.credentials IN ROW EXCLUSIVE MODE;

-- name: lock_credentials_against_writers
-- Until the transaction ends nobody else writes a credential, and nobody was about to.
LOCK TABLE sync.credentials IN SHARE ROW EXCLUSIVE MODE;

-- name: read_credential
-- $1 credential_id.
SELECT credential_id, app, open_id, access_token, refresh_token, previous_refresh_token, access_expires_at,
       refresh_expires_at, obtained_at, generation, needs_reauth
  FROM sync.credentials WHERE credential_id = $1;

-- name: lock_credential
-- $1 credential_id. Like read_credential; one caller at a time until the transaction ends.
SELECT credential_id, app, open_id, access_token, refresh_token, previous_refresh_token, access_expires_at,
       refresh_expires_at, obtained_at, generation, needs_reauth
  FROM sync.credentials WHERE credential_id = $1 FOR UPDATE;

-- name: store_refreshed
-- $1 credential_id, $2 access_token, $3 refresh_token, $4 access_expires_at, $5 refresh_expires_at,
-- $6 granted_scopes (empty: as before), $7 the generation that was refreshed, $8 obtained at, by
-- TikTok's clock. Nothing when that generation is past. A process that could not store the pair at once
-- may come after another one has found the old pair dead: what was condemned with it lives again.
WITH before AS (
    SELECT credential_id, needs_reauth FROM sync.credentials
     WHERE credential_id = $1 AND generation = $7 FOR UPDATE
), stored AS (
    UPDATE sync.credentials AS c
       SET previous_refresh_token = c.refresh_token, access_token = $2, refresh_token = $3,
           access_expires_at = $4, refresh_expires_at = $5, generation = c.generation + 1, obtained_at = $8,
           needs_reauth = NULL,
           granted_scopes = CASE WHEN cardinality($6::text[]) = 0 THEN c.granted_scopes ELSE $6::text[] END
      FROM before AS b WHERE c.credential_id = b.credential_id
), revived AS (
    UPDATE sync.shops AS s SET state = 'active', state_reason = NULL, state_since = now()
      FROM before AS b
     WHERE s.credential_id = b.credential_id AND b.needs_reauth IS NOT NULL AND s.state = 'needs_reauth'
    RETURNING s.shop_id)
UPDATE sync.cursors AS c SET due_at = now() FROM revived AS r WHERE c.shop_id = r.shop_id;

-- name: condemn_credential
-- $1 credential_id, $2 why, $3 the generation that was found dead. Every shop of it waits for a new
-- consent; a consent that came meanwhile is left alone.
WITH condemned AS (
    UPDATE sync.credentials SET needs_reauth = $2 WHERE credential_id = $1 AND generation = $3
    RETURNING credential_id)
UPDATE sync.shops AS s SET state = 'needs_reauth', state_reason = $2, state_since = now()
  FROM condemned AS c
 WHERE s.credential_id = c.credential_id AND s.state IN ('active', 'inactive');

-- name: note_ending_consents
-- $1 how long before its end a consent is spoken of. Those whose end is nearer, and of which nobody was
-- told for a day; they are marked as told. What is being refreshed now has its turn later.
WITH ending AS MATERIALIZED (
    SELECT credential_id FROM sync.credentials
     WHERE refresh_expires_at < now() + $1::interval AND needs_reauth IS NULL
       AND (warned_at IS NULL OR warned_at <= now() - interval '1 day')
       FOR UPDATE SKIP LOCKED)
UPDATE sync.credentials AS c SET warned_at = now() FROM ending AS e WHERE c.credential_id = e.credential_id
RETURNING c.credential_id, c.app, c.seller_name, c.refresh_expires_at AS ends_at,
          ARRAY(SELECT s.shop_id FROM sync.shops AS s WHERE s.credential_id = c.credential_id) AS shop_ids;

-- name: count_by_key
-- How many tokens are sealed with each key.
SELECT substring(sealed FOR 4) AS key_id, count(*) AS tokens
  FROM sync.credentials AS c
 CROSS JOIN LATERAL unnest(ARRAY[c.access_token, c.refresh_token, c.previous_refresh_token]) AS sealed
 WHERE sealed IS NOT NULL
 GROUP BY 1;

-- name: sealed_before
-- $1 id of the newest key, $2 the credential after which to go on, $3 at most so many. Those with a token
-- that is sealed with another key.
SELECT credential_id FROM sync.credentials
 WHERE credential_id > $2
   AND (substring(access_token FOR 4) <> $1 OR substring(refresh_token FOR 4) <> $1
        OR substring(previous_refresh_token FOR 4) <> $1)
 ORDER BY credential_id LIMIT $3;

-- name: reseal_credential
-- $1 credential_id, $2 access_token, $3 refresh_token, $4 previous_refresh_token: the same ones, sealed
-- anew. The generation stays, since nobody has to read them again.
UPDATE sync.credentials SET access_token = $2, refresh_token = $3, previous_refresh_token = $4
 WHERE credential_id = $1;
