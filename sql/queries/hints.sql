-- name: hear_notifications
-- $1 notification_ids, $2 shop_ids, $3 apps that signed them: three arrays, one element a notification, each
-- id once. $4 places of notifications in them (from 1), $5 streams, $6 keys, $7 when TikTok Shop says it
-- changed or NULL: four arrays, one element a hint. A row for each notification: its place and what
-- became of it, 'hinted', 'duplicate', 'unknown_shop' or 'other_app'. What is hinted at again is
-- due at once, and a read of it that is under way settles nothing.
WITH given AS MATERIALIZED (
    SELECT g.place, g.notification_id, g.shop_id,
           CASE WHEN s.app IS NULL THEN 'unknown_shop' WHEN s.app <> g.app THEN 'other_app' END AS refusal
      FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS g (notification_id, shop_id, app, place)
      LEFT JOIN LATERAL (
           SELECT c.app FROM sync.shops AS s JOIN sync.credentials AS c USING (credential_id)
            WHERE s.shop_id = g.shop_id AND s.state IN ('active', 'inactive') OFFSET 0) AS s ON true
), heard AS (
    INSERT INTO sync.notifications (notification_id)
    SELECT notification_id FROM given WHERE refusal IS NULL ORDER BY notification_id
    ON CONFLICT (notification_id) DO NOTHING
    RETURNING notification_id
), hinted AS (
    -- In the order of the key, so that two processes that hear of the same records cannot deadlock.
    INSERT INTO sync.hints AS o (shop_id, stream, key, source, changed_at)
    SELECT g.shop_id, h.stream, h.key, 'notification', max(h.changed_at)
      FROM unnest($4::bigint[], $5::text[], $6::text[], $7::timestamptz[]) AS h (place, stream, key, changed_at)
      JOIN given AS g USING (place)
      JOIN heard USING (notification_id)
     GROUP BY g.shop_id, h.stream, h.key
     ORDER BY g.shop_id, h.stream, h.key
    ON CONFLICT (shop_id, stream, key) DO UPDATE
       SET source = 'notification', version = o.version + 1, tries = 0, due_at = now(),
           changed_at = greatest(o.changed_at, EXCLUDED.changed_at)
)
SELECT g.place, coalesce(g.refusal, CASE WHEN h.notification_id IS NULL THEN 'duplicate' ELSE 'hinted' END)
       AS outcome
  FROM given AS g
  LEFT JOIN heard AS h USING (notification_id);

-- name: due_hints
-- $1 shop_id, $2 streams, $3 at most so many of each. What is to be read of the shop now. What is hinted at of
-- a parked stream is forgotten: nothing of it can be read.
WITH parked AS MATERIALIZED (
    SELECT stream FROM sync.cursors WHERE shop_id = $1 AND parked_reason IS NOT NULL
), forgotten AS (
    DELETE FROM sync.hints AS h
     WHERE h.ctid = ANY (ARRAY (
           SELECT n.ctid FROM parked AS p
            CROSS JOIN LATERAL (SELECT h.ctid FROM sync.hints AS h
                                 WHERE h.shop_id = $1 AND h.stream = p.stream ORDER BY h.key OFFSET 0) AS n))
)
SELECT h.stream, h.key, h.version, h.source, h.changed_at, h.heard_at
  FROM unnest($2::text[]) AS s (stream)
 CROSS JOIN LATERAL (
       SELECT * FROM sync.hints AS h
        WHERE h.shop_id = $1 AND h.stream = s.stream AND h.due_at <= now()
        ORDER BY h.key LIMIT $3) AS h
 WHERE s.stream NOT IN (SELECT p.stream FROM parked AS p);

-- name: settle_hints
-- $1 shop_id, $2 streams, $3 keys, $4 versions: three arrays, one element a hint. They were read, or are given
-- up, and are gone, but for those that came again meanwhile. How many are gone. Locked in the order of the
-- key, as they are hinted at. Nobody waits for the disk: what a crash brings back is read again.
WITH held AS MATERIALIZED (
    SELECT h.ctid
      FROM unnest($2::text[], $3::text[], $4::bigint[]) AS r (stream, key, version)
      JOIN sync.hints AS h ON h.shop_id = $1 AND h.stream = r.stream AND h.key = r.key AND h.version = r.version
     WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
     ORDER BY h.stream, h.key
       FOR UPDATE OF h
), settled AS (
    DELETE FROM sync.hints AS h USING held WHERE h.ctid = held.ctid RETURNING 1)
SELECT count(*) FROM settled;

-- name: postpone_hints
-- $1 shop_id, $2 streams, $3 keys, $4 versions: like settle_hints. $5 seconds until the second try; each further
-- one takes twice as long. $6 after so many tries a hint is given up: the rounds find what it names.
WITH tried AS MATERIALIZED (
    SELECT h.ctid, h.tries + 1 AS tries
      FROM unnest($2::text[], $3::text[], $4::bigint[]) AS r (stream, key, version)
      JOIN sync.hints AS h ON h.shop_id = $1 AND h.stream = r.stream AND h.key = r.key AND h.version = r.version
     ORDER BY h.stream, h.key
       FOR UPDATE OF h
), dropped AS (
    DELETE FROM sync.hints AS h USING tried AS t WHERE h.ctid = t.ctid AND t.tries >= $6
)
UPDATE sync.hints AS h SET tries = t.tries, due_at = now() + make_interval(secs => $5::float8 * 2 ^ (t.tries - 1))
  FROM tried AS t
 WHERE h.ctid = t.ctid AND t.tries < $6;

-- name: drop_hints
-- $1 shop_id. Nothing of the shop can be read for long; the rounds find what changes.
DELETE FROM sync.hints WHERE shop_id = $1;

-- name: hinted_shops
-- Active shops with something to read out of turn, and whether some process holds the shop or waits for it.
SELECT h.shop_id,
       EXISTS (SELECT FROM sync.leases AS l
                WHERE l.shop_id = h.shop_id
                  AND (l.wanted_at > now() - interval '3 seconds'
                       OR l.expires_at > now()
                          AND EXISTS (SELECT FROM pg_stat_activity AS a
                                       WHERE a.pid = l.session_pid
                                         AND (a.backend_start = l.session_start OR a.backend_start IS NULL))))
       AS is_held
  FROM sync.hinted_shops AS h
  JOIN sync.shops AS s USING (shop_id)
 WHERE s.state = 'active' AND h.due_at <= now();

-- name: want_lease
-- $1 shop_id. Whoever holds the shop for single changes only is asked to give way.
UPDATE sync.leases SET wanted_at = now() WHERE shop_id = $1;

-- name: wanted_shops
-- $1 shop_ids. Those of them that a process waits for.
SELECT shop_id FROM sync.leases WHERE shop_id = ANY ($1::text[]) AND wanted_at > now() - interval '3 seconds';

-- name: begin_rereads
-- $1 seconds in which every open order has its turn. Every active shop has a place in the slow round, the new
-- ones at any moment of it, so that they do not come together. Nobody waits longer than a round.
WITH shortened AS (
    UPDATE sync.rereads SET due_at = now() + make_interval(secs => $1::float8 * random())
     WHERE due_at > now() + make_interval(secs => $1::float8))
INSERT INTO sync.rereads (shop_id, due_at)
SELECT s.shop_id, now() + make_interval(secs => $1::float8 * random())
  FROM sync.shops AS s
 WHERE s.state = 'active' AND NOT EXISTS (SELECT FROM sync.rereads AS r WHERE r.shop_id = s.shop_id)
ON CONFLICT (shop_id) DO NOTHING;

-- name: take_turns
-- $1 seconds in which every open order has its turn, $2 orders in one request, $3 at most so many shops, $4 the
-- least seconds between two requests of a shop. The shops whose next open orders are hinted at now, each
-- so long after its last that the round takes as long as it should. A round ends with the last order that
-- was open at its beginning: at the pace of that moment it would never catch up with a sale. Who has not
-- read the last ones yet gets no more.
WITH due AS MATERIALIZED (
    SELECT r.* FROM sync.rereads AS r
     -- LIMIT keeps this a probe for each, however few shops there are when it is planned.
     CROSS JOIN LATERAL (SELECT FROM sync.shops AS s
                          WHERE s.shop_id = r.shop_id AND s.state = 'active' LIMIT 1) AS s
     WHERE r.due_at <= now()
       AND (SELECT h.key FROM sync.hints AS h
             WHERE h.shop_id = r.shop_id AND h.stream = 'orders' AND h.source = 'reread'
             ORDER BY h.key LIMIT 1) IS NULL
     ORDER BY r.due_at LIMIT $3
       FOR UPDATE OF r SKIP LOCKED
), round AS MATERIALIZED (
    SELECT d.shop_id, d.after_order, d.round_orders, d.round_began, d.open_orders, d.until_order
      FROM due AS d WHERE d.after_order <> ''
     UNION ALL
    SELECT d.shop_id, '', 0, now(), o.orders, coalesce(o.last, '')
      FROM due AS d
     CROSS JOIN LATERAL (SELECT count(*) AS orders, max(o.order_id) AS last FROM tiktok.orders AS o
                          WHERE o.shop_id = d.shop_id
                            AND o.status IS DISTINCT FROM 'COMPLETED' AND o.status IS DISTINCT FROM 'CANCELLED') AS o
     WHERE d.after_order = ''
), next AS MATERIALIZED (
    SELECT r.shop_id, o.order_id
      FROM round AS r
     CROSS JOIN LATERAL (
           SELECT o.order_id FROM tiktok.orders AS o
            WHERE o.shop_id = r.shop_id AND o.order_id > r.after_order COLLATE "C"
              AND o.order_id <= r.until_order COLLATE "C"
              AND o.status IS DISTINCT FROM 'COMPLETED' AND o.status IS DISTINCT FROM 'CANCELLED'
            ORDER BY o.order_id LIMIT $2) AS o
), hinted AS (
    INSERT INTO sync.hints (shop_id, stream, key, source)
    SELECT shop_id, 'orders', order_id, 'reread' FROM next ORDER BY 1, 3
    ON CONFLICT (shop_id, stream, key) DO NOTHING
), turns AS MATERIALIZED (
    SELECT r.shop_id, r.round_orders + n.orders AS round_orders, n.orders, n.last, r.round_began, r.open_orders,
           r.until_order, n.orders < $2 OR n.last = r.until_order COLLATE "C" AS ends
      FROM round AS r
     CROSS JOIN LATERAL (SELECT count(*) AS orders, max(order_id) AS last FROM next
                          WHERE next.shop_id = r.shop_id) AS n
)
UPDATE sync.rereads AS r
   SET due_at = now() + make_interval(secs => greatest($4::float8, $1::float8 * $2::bigint / greatest(t.open_orders, $2::bigint))),
       after_order = CASE WHEN t.ends THEN '' ELSE t.last END, until_order = t.until_order,
       round_orders = CASE WHEN t.ends THEN 0 ELSE t.round_orders END,
       round_began = t.round_began, open_orders = t.open_orders,
       last_round_s = CASE WHEN t.ends THEN extract(epoch FROM now() - t.round_began)::float8
                           ELSE r.last_round_s END,
       last_round_orders = CASE WHEN t.ends THEN t.round_orders ELSE r.last_round_orders END
  FROM turns AS t
 WHERE r.shop_id = t.shop_id
RETURNING r.shop_id, t.orders;

-- name: reread_costs
-- For people: each shop's open orders, how the slow round through them stands, and what waits to be read.
SELECT s.shop_id,
       (SELECT count(*) FROM tiktok.orders AS o
         WHERE o.shop_id = s.shop_id AND o.status IS DISTINCT FROM 'COMPLETED'
           AND o.status IS DISTINCT FROM 'CANCELLED') AS open_orders,
       r.last_round_s AS last_reread_round_s, r.last_round_orders AS last_reread_round_orders,
       (SELECT count(*) FROM sync.hints AS h WHERE h.shop_id = s.shop_id) AS hints_waiting
  FROM sync.shops AS s
  LEFT JOIN sync.rereads AS r USING (shop_id)
 WHERE s.state <> 'disconnected';

-- name: forget_notifications
-- $1 days after which nobody sends a notification again, $2 at most so many. How many are forgotten. Hints
-- that nobody reads, of shops that are not synced any more, go after a day.
WITH lost AS (
    DELETE FROM sync.hints AS h USING sync.hinted_shops AS s
     WHERE s.due_at < now() - interval '1 day'
       AND h.shop_id = s.shop_id AND h.due_at < now() - interval '1 day'
), forgotten AS (
    -- By their addresses: a join would read all that are kept.
    DELETE FROM sync.notifications
     WHERE ctid = ANY (ARRAY (SELECT n.ctid FROM sync.notifications AS n
                               WHERE n.received_at < now() - make_interval(days => $1)
                               ORDER BY n.received_at LIMIT $2))
    RETURNING 1)
SELECT count(*) FROM forgotten;
