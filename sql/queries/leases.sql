-- name: acquire_lease
-- $1 shop_id, $2 owner, $3 holder (for people), $4 seconds to live. Run on the lease connection.
-- The epoch, or no row while another owner is alive. An owner is dead when its time is over or
-- its lease connection is gone. A backend of another role shows no start: it counts as alive.
-- `free` waits for the dead owner's last page, which holds the row until it has committed.
WITH free AS (
    SELECT l.shop_id, l.owner FROM sync.leases AS l
     WHERE l.shop_id = $1
       AND (l.expires_at < now() OR l.owner = $2 OR NOT EXISTS (
            SELECT FROM pg_stat_activity AS a
             WHERE a.pid = l.session_pid
               AND (a.backend_start = l.session_start OR a.backend_start IS NULL)))
       FOR UPDATE)
INSERT INTO sync.leases AS l (shop_id, owner, epoch, expires_at, holder, session_pid, session_start)
SELECT $1, $2, 1, now() + make_interval(secs => $4), $3, me.pid, me.backend_start
  FROM pg_stat_activity AS me
 WHERE me.pid = pg_backend_pid()
ON CONFLICT (shop_id) DO UPDATE
   SET owner = EXCLUDED.owner, epoch = l.epoch + 1, expires_at = EXCLUDED.expires_at,
       holder = EXCLUDED.holder, session_pid = EXCLUDED.session_pid, session_start = EXCLUDED.session_start
 WHERE EXISTS (SELECT FROM free WHERE free.owner = l.owner)
RETURNING l.epoch, (SELECT free.owner IS DISTINCT FROM $2 FROM free) AS taken_over;

-- name: renew_leases
-- $1 owner, $2 shop_ids, $3 seconds to live. The shops that are still this owner's.
UPDATE sync.leases
   SET expires_at = now() + make_interval(secs => $3)
 WHERE owner = $1 AND shop_id = ANY ($2::text[]) AND expires_at > now()
RETURNING shop_id;

-- name: release_lease
-- $1 shop_id, $2 owner. Free for the next one at once; the epoch is kept.
UPDATE sync.leases SET expires_at = '-infinity' WHERE shop_id = $1 AND owner = $2;

-- name: hold_lease
-- $1 shop_id, $2 owner, $3 epoch. A row while the lease is still the caller's; it stays so until
-- the transaction ends, because taking it over has to wait for this lock. Renewing has not: the
-- pages of a busy shop hold it without a pause.
SELECT 1 FROM sync.leases WHERE shop_id = $1 AND owner = $2 AND epoch = $3 AND expires_at > now()
   FOR KEY SHARE;

-- name: revoke_lease
-- $1 shop_id. Whoever holds the lease is fenced off at its next write.
UPDATE sync.leases SET epoch = epoch + 1, expires_at = '-infinity' WHERE shop_id = $1;
