
-- name: describe_shop
-- $1 shop_id, $2 name, $3 region, $4 seller_type, $5 code, $6 raw without the cipher, $7 fetched_at.
-- What people may know of the shop. The timezone follows the region once; people may correct it.
INSERT INTO tiktok.shops AS s (
    shop_id, name, region, seller_type, code, timezone, connected_at, _raw, _fetched_at)
VALUES ($1, $2, $3, $4, $5,
        CASE $3 WHEN 'US' THEN 'America/Los_Angeles' WHEN 'GB' THEN 'Europe/London'
                WHEN 'IE' THEN 'Europe/Dublin' WHEN 'DE' THEN 'Europe/Berlin' WHEN 'FR' THEN 'Europe/Paris'
                WHEN 'IT' THEN 'Europe/Rome' WHEN 'ES' THEN 'Europe/Madrid' WHEN 'VN' THEN 'Asia/Ho_Chi_Minh'
                WHEN 'ID' THEN 'Asia/Jakarta' WHEN 'TH' THEN 'Asia/Bangkok' WHEN 'MY' THEN 'Asia/Kuala_Lumpur'
                WHEN 'PH' THEN 'Asia/Manila' WHEN 'SG' THEN 'Asia/Singapore' WHEN 'JP' THEN 'Asia/Tokyo'
                WHEN 'BR' THEN 'America/Sao_Paulo' WHEN 'MX' THEN 'America/Mexico_City' ELSE 'UTC' END,
        now(), $6::jsonb, $7)
ON CONFLICT (shop_id) DO UPDATE
   SET name = EXCLUDED.name, region = EXCLUDED.region, seller_type = EXCLUDED.seller_type,
       code = EXCLUDED.code, _raw = EXCLUDED._raw, _fetched_at = EXCLUDED._fetched_at, _synced_at = now(),
       connected_at = CASE WHEN s.disconnected_at IS NULL THEN s.connected_at ELSE now() END,
       disconnected_at = NULL
 WHERE s._raw IS DISTINCT FROM EXCLUDED._raw OR s.disconnected_at IS NOT NULL;

-- name: set_shop_state
-- $1 shop_id, $2 state, $3 reason. The shop's id, or no row when it is unknown.
UPDATE sync.shops
   SET state = $2, state_reason = $3, state_since = CASE WHEN state = $2 THEN state_since ELSE now() END
 WHERE shop_id = $1
RETURNING shop_id;

-- name: note_shop_state
-- $1 shop_id, $2 state, $3 reason. For a sync: what a person has decided stays.
UPDATE sync.shops
   SET state = $2, state_reason = $3, state_since = CASE WHEN state = $2 THEN state_since ELSE now() END
 WHERE shop_id = $1 AND state IN ('active', 'inactive');

-- name: note_cipher
-- $1 shop_id, $2 cipher. TikTok names the shop by another one now.
UPDATE sync.shops SET cipher = $2 WHERE shop_id = $1 AND cipher <> $2;

-- name: mark_disconnected
-- $1 shop_id. For people: since when the copy is not kept any more.
UPDATE tiktok.shops SET disconnected_at = now(), _synced_at = now()
 WHERE shop_id = $1 AND disconnected_at IS NULL;

-- name: forget_credential
-- $1 shop_id. The tokens behind a disconnected shop go when no other shop needs them.
DELETE FROM sync.credentials AS c
 WHERE c.credential_id = (SELECT credential_id FROM sync.shops WHERE shop_id = $1)
   AND NOT EXISTS (SELECT FROM sync.shops AS o
                    WHERE o.credential_id = c.credential_id AND o.state <> 'disconnected');

-- name: list_shops
-- $1 shop_ids or NULL for all. Everything a sync, or a person who lists them, needs of a shop.
-- Each by its id, whichever are asked for: a condition that may be true of all would read all.
SELECT s.shop_id, coalesce(t.name, '') AS name, coalesce(t.region, '') AS region, s.credential_id, s.cipher,
       s.state, s.state_reason, s.state_since, coalesce(c.app, '') AS app, coalesce(c.seller_name, '') AS seller_name,
       coalesce(c.granted_scopes, '{}') AS granted_scopes, c.access_expires_at, c.refresh_expires_at, t.connected_at
  FROM sync.shops AS s
  LEFT JOIN LATERAL (SELECT * FROM tiktok.shops AS t WHERE t.shop_id = s.shop_id OFFSET 0) AS t ON true
  LEFT JOIN LATERAL (SELECT * FROM sync.credentials AS c WHERE c.credential_id = s.credential_id OFFSET 0)
       AS c ON true
 WHERE s.shop_id = ANY (coalesce($1::text[], ARRAY(SELECT shop_id FROM sync.shops)))
 ORDER BY t.connected_at, s.shop_id;

-- name: make_due
-- $1 shop_id. All its streams are due now, parked or not: whoever asks for it may have mended the cause.
UPDATE sync.cursors
   SET due_at = now(), failures = 0, last_error = NULL, last_error_at = NULL, parked_reason = NULL
 WHERE shop_id = $1;
