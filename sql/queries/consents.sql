-- name: begin_consent
-- $1 state_digest, $2 app, $3 seconds that the state lives.
INSERT INTO sync.consents (state_digest, app, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3));

-- name: forget_consents
-- Nobody comes back with these any more. Sellers whom nobody confirmed are forgotten after 30 days.
WITH old AS (DELETE FROM sync.consents WHERE expires_at < now() - interval '1 day')
DELETE FROM sync.credentials AS c
 WHERE c.waiting_since < now() - interval '30 days'
   AND NOT EXISTS (SELECT FROM sync.shops AS s WHERE s.credential_id = c.credential_id);

-- name: take_consent
-- $1 state_digest. The app of the consent; no row unless this is the first time and in time. Of two who
-- come at once the second waits here for the first, and then finds the state used.
UPDATE sync.consents SET used_at = now()
 WHERE state_digest = $1 AND used_at IS NULL AND expires_at > now()
RETURNING app;

-- name: settle_consent
-- $1 state_digest, $2 outcome, $3 message, $4 shop_ids. For whoever waits for it.
UPDATE sync.consents SET outcome = $2, message = $3, shop_ids = $4 WHERE state_digest = $1;

-- name: read_consent
-- $1 state_digest.
SELECT app, used_at IS NOT NULL AS is_used, expires_at <= now() AS is_expired, outcome, message, shop_ids
  FROM sync.consents WHERE state_digest = $1;

-- name: moment
-- Now, by the one clock that all processes share.
SELECT clock_timestamp();

-- name: lock_shops
-- $1 shop_ids. Those that exist, with the credential of each. Locked in one order, whoever asks.
SELECT shop_id, credential_id FROM sync.shops WHERE shop_id = ANY ($1::text[]) ORDER BY shop_id FOR UPDATE;

-- name: is_known_seller
-- $1 credential_id. True when a shop of it is connected.
SELECT EXISTS (SELECT FROM sync.shops WHERE credential_id = $1 AND state <> 'disconnected');

-- name: connect_shop
-- $1 shop_id, $2 credential_id, $3 cipher, $4 whether one that was disconnected comes back. Active again,
-- unless a person decided otherwise. The state that it is in now.
INSERT INTO sync.shops AS s (shop_id, credential_id, cipher) VALUES ($1, $2, $3)
ON CONFLICT (shop_id) DO UPDATE
   SET credential_id = EXCLUDED.credential_id, cipher = EXCLUDED.cipher,
       state = CASE WHEN s.state = 'paused' OR s.state = 'disconnected' AND NOT $4 THEN s.state
                    ELSE 'active' END,
       state_reason = CASE WHEN s.state = 'paused' OR s.state = 'disconnected' AND NOT $4
                           THEN s.state_reason END,
       state_since = CASE WHEN s.state IN ('paused', 'active') OR s.state = 'disconnected' AND NOT $4
                          THEN s.state_since ELSE now() END
RETURNING state;

-- name: part_from_shops
-- $1 credential_id, $2 shop_ids that its newest consent reaches, $3 why the others wait. Their ids.
UPDATE sync.shops
   SET state = 'needs_reauth', state_reason = $3,
       state_since = CASE state WHEN 'needs_reauth' THEN state_since ELSE now() END
 WHERE credential_id = $1 AND shop_id <> ALL ($2::text[]) AND state IN ('active', 'inactive', 'needs_reauth')
RETURNING shop_id;

-- name: forget_spare_credentials
-- $1 credential_ids. Those that no connected shop needs any more are gone.
DELETE FROM sync.credentials AS c
 WHERE c.credential_id = ANY ($1::bigint[])
   AND NOT EXISTS (SELECT FROM sync.shops AS s
                    WHERE s.credential_id = c.credential_id AND s.state <> 'disconnected');

-- name: keep_waiting
-- $1 credential_id, $2 names of its shops. The seller waits to be confirmed.
UPDATE sync.credentials
   SET waiting_since = coalesce(waiting_since, now()), waiting_shops = $2
 WHERE credential_id = $1;

-- name: end_waiting
-- $1 credential_id.
UPDATE sync.credentials SET waiting_since = NULL, waiting_shops = '{}'
 WHERE credential_id = $1 AND waiting_since IS NOT NULL;

-- name: waiting_sellers
-- Sellers whom nobody here asked, the longest waiting first.
SELECT credential_id, app, seller_name, seller_region, waiting_since, waiting_shops
  FROM sync.credentials WHERE waiting_since IS NOT NULL ORDER BY waiting_since LIMIT 100;

-- name: lock_waiting_seller
-- $1 credential_id. The generation of its tokens, while it waits; one caller at a time.
SELECT generation FROM sync.credentials WHERE credential_id = $1 AND waiting_since IS NOT NULL FOR UPDATE;

-- name: send_away
-- $1 credential_id. A seller who waits is forgotten, tokens and all.
DELETE FROM sync.credentials
 WHERE credential_id = $1 AND waiting_since IS NOT NULL
RETURNING credential_id;
