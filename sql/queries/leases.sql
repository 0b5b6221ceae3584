-- name: acquire_leases
-- $1 shop_ids, $2 owner, $3 holder (for people), $4 seconds to live. Run on the lease connection.
-- A row for each shop whose lease is the owner's now, and none while another owner is alive. An
-- owner is dead when its time is over or its lease connection is gone. A backend of another role
-- shows no start: it counts as alive.
-- A row without an epoch: free, but locked by somebody, perhaps by a dead owner's last page, which
-- has to commit before anyone else may have the shop. The other shops do not wait for it.
WITH wanted AS (
    SELECT shop_id FROM unnest($1::text[]) AS shop_id
), free AS MATERIALIZED (
    SELECT l.shop_id FROM sync.leases AS l
     WHERE l.shop_id = ANY ($1::text[])
       AND (l.expires_at < now() OR l.owner = $2 OR NOT EXISTS (
            SELECT FROM pg_stat_activity AS a
             WHERE a.pid = l.session_pid
               AND (a.backend_start = l.session_start OR a.backend_start IS NULL)))
), locked AS MATERIALIZED (
    SELECT l.shop_id, l.owner FROM sync.leases AS l
     WHERE l.shop_id = ANY ($1::text[])
       AND (l.expires_at < now() OR l.owner = $2 OR NOT EXISTS (
            SELECT FROM pg_stat_activity AS a
             WHERE a.pid = l.session_pid
               AND (a.backend_start = l.session_start OR a.backend_start IS NULL)))
       FOR UPDATE SKIP LOCKED
), me AS MATERIALIZED (
    SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
), taken AS (
    UPDATE sync.leases AS l
       SET owner = $2, epoch = l.epoch + 1, expires_at = now() + make_interval(secs => $4), holder = $3,
           session_pid = me.pid, session_start = me.backend_start
      FROM locked, me
     WHERE l.shop_id = locked.shop_id
    RETURNING l.shop_id, l.epoch, locked.owner IS DISTINCT FROM $2 AS taken_over, l.learned_rate
), made AS (
    INSERT INTO sync.leases AS l (shop_id, owner, epoch, expires_at, holder, session_pid, session_start)
    SELECT w.shop_id, $2, 1, now() + make_interval(secs => $4), $3, me.pid, me.backend_start
      FROM wanted AS w, me
     WHERE NOT EXISTS (SELECT FROM sync.leases AS o WHERE o.shop_id = w.shop_id)
    ON CONFLICT (shop_id) DO NOTHING
    RETURNING l.shop_id, l.epoch, NULL::boolean AS taken_over, l.learned_rate
)
SELECT * FROM taken
UNION ALL
SELECT * FROM made
UNION ALL
SELECT f.shop_id, NULL, NULL, NULL FROM free AS f
 WHERE NOT EXISTS (SELECT FROM locked AS o WHERE o.shop_id = f.shop_id);

-- name: renew_leases
-- $1 owner, $2 shop_ids, $3 seconds to live. The shops that are still this owner's.
UPDATE sync.leases
   SET expires_at = now() + make_interval(secs => $3)
 WHERE owner = $1 AND shop_id = ANY ($2::text[]) AND expires_at > now()
RETURNING shop_id;

-- name: release_leases
-- $1 owner, $2 shop_ids, $3 epochs, $4 the rate that each was found to be allowed, or NULL: three
-- arrays, one element a shop. Free for the next one at once; the epoch is kept.
UPDATE sync.leases AS l SET expires_at = '-infinity', learned_rate = given.learned_rate
  FROM unnest($2::text[], $3::bigint[], $4::float8[]) AS given (shop_id, epoch, learned_rate)
 WHERE l.shop_id = given.shop_id AND l.owner = $1 AND l.epoch = given.epoch;

-- name: hold_lease
-- $1 shop_id, $2 owner, $3 epoch. A row while the lease is still the caller's; it stays so until
-- the transaction ends, because taking it over has to wait for this lock. Renewing has not: the
-- pages of a busy shop hold it without a pause.
SELECT 1 FROM sync.leases WHERE shop_id = $1 AND owner = $2 AND epoch = $3 AND expires_at > now()
   FOR KEY SHARE;

-- name: hold_leases
-- $1 shop_ids, $2 owners, $3 epochs, $4 streams: four arrays, one element a claim. Like hold_lease for
-- each of them, with the cursor: the claims that are right, of which nobody has a row locked. Only
-- where nothing is stored: the transaction's end does not wait for the disk, since coverage that a
-- crash forgets is read again.
SELECT l.shop_id, l.owner, l.epoch, u.stream
  FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[]) AS c (shop_id, owner, epoch, stream)
  JOIN sync.leases AS l ON l.shop_id = c.shop_id AND l.owner = c.owner AND l.epoch = c.epoch
  JOIN sync.cursors AS u ON u.shop_id = c.shop_id AND u.stream = c.stream
 WHERE l.expires_at > now()
   AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
   FOR KEY SHARE OF l SKIP LOCKED
   FOR NO KEY UPDATE OF u SKIP LOCKED;

-- name: revoke_lease
-- $1 shop_id. Whoever holds the lease is fenced off at its next write.
UPDATE sync.leases SET epoch = epoch + 1, expires_at = '-infinity' WHERE shop_id = $1;
