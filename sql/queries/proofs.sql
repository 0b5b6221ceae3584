-- What TikTok Shop counts is compared with the copy: by time of creation, which never changes.
-- Sessions have enable_seqscan off; every statement here goes by an index that begins with shop_id.

-- name: proof_target
-- $1 shop_id, $2 stream. Between which moments everything that was created is stored if nothing went
-- wrong: the newest stretch of update time that was read without a gap. A record is never updated
-- before it is created. No row before the first one.
SELECT lower(r.stretch) AS since, least(upper(r.stretch), c.synced_until) AS until
  FROM sync.cursors AS c
 CROSS JOIN LATERAL unnest(c.covered) AS r (stretch)
 WHERE c.shop_id = $1 AND c.stream = $2 AND c.synced_until > lower(r.stretch)
 ORDER BY r.stretch DESC
 LIMIT 1;

-- name: synced_until
-- $1 shop_id, $2 stream. The moment up to which the stream was read; NULL before the first time.
SELECT synced_until FROM sync.cursors WHERE shop_id = $1 AND stream = $2;

-- name: begin_proof
-- $1 shop_id, $2 stream, $3 since, $4 until (NULLs where ids are compared), $5 whether to begin anew. What
-- is still to be compared: one that was cut short within the last day goes on where it was.
WITH begun AS (
    INSERT INTO sync.proofs AS p (shop_id, stream, since, until) VALUES ($1, $2, $3, $4)
    ON CONFLICT (shop_id, stream) DO UPDATE
       SET (since, until, proven, proven_before, requests, api_rows, began_at, finished_at)
         = (SELECT $3, $4, CASE WHEN resumed THEN p.proven ELSE '{}' END,
                   CASE WHEN p.finished_at IS NULL THEN p.proven_before ELSE p.proven END, CASE WHEN resumed THEN p.requests ELSE 0 END,
                   CASE WHEN resumed THEN p.api_rows END, CASE WHEN resumed THEN p.began_at ELSE now() END, NULL::timestamptz
              FROM (SELECT p.finished_at IS NULL AND NOT $5 AND p.began_at > now() - interval '1 day'
                           AS resumed) AS r)
    RETURNING p.proven
)
SELECT lower(gap) AS since, upper(gap) AS until
  FROM begun CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange($3, $4)) - begun.proven) AS gap
 WHERE $3::timestamptz IS NOT NULL
 ORDER BY gap DESC;

-- name: note_compared
-- $1 shop_id, $2 stream, $3 since, $4 until, $5 requests that it took, $6 whether all is there, $7 what TikTok Shop
-- counts there. The stretch was looked at; what earlier comparisons found there and this one did not is over.
WITH pass AS MATERIALIZED (
    UPDATE sync.proofs
       SET proven = CASE WHEN $6 THEN proven + tstzmultirange(tstzrange($3, $4)) ELSE proven END,
           requests = requests + $5, api_rows = coalesce(api_rows, 0) + CASE WHEN $6 THEN $7::bigint ELSE 0 END
     WHERE shop_id = $1 AND stream = $2
    RETURNING began_at)
UPDATE sync.findings AS f SET ended_at = now(), ended_by = 'comparison'
  FROM pass
 WHERE f.shop_id = $1 AND f.stream = $2 AND f.ended_at IS NULL AND f.seen_in < pass.began_at
   AND f.since >= $3 AND f.since < $4;

-- name: end_proof
-- $1 shop_id, $2 stream, $3 verdict, $4 reason, $5 rows that TikTok Shop counts where not all was proven, $6 stored_rows, $7 requests not noted yet, $8 seconds
-- until the next one is due.
UPDATE sync.proofs
   SET verdict = $3, reason = $4, api_rows = coalesce(api_rows, 0) + $5, stored_rows = $6, requests = requests + $7,
       finished_at = now(), due_at = now() + make_interval(secs => $8)
 WHERE shop_id = $1 AND stream = $2
RETURNING api_rows, requests;

-- name: postpone_proofs
-- $1 shop_id, $2 streams, $3 seconds until they are due. Of a shop's streams that cannot be compared now.
INSERT INTO sync.proofs (shop_id, stream, due_at)
SELECT $1, stream, now() + make_interval(secs => $3) FROM unnest($2::text[]) AS stream
ON CONFLICT (shop_id, stream) DO UPDATE SET due_at = EXCLUDED.due_at;

-- name: ensure_proofs
-- $1 streams. Every stream that was read once has its turn to be compared.
INSERT INTO sync.proofs (shop_id, stream)
SELECT c.shop_id, c.stream FROM sync.cursors AS c
 WHERE c.stream = ANY ($1::text[]) AND c.succeeded_at IS NOT NULL
   AND NOT EXISTS (SELECT FROM sync.proofs AS p WHERE p.shop_id = c.shop_id AND p.stream = c.stream)
ON CONFLICT (shop_id, stream) DO NOTHING;

-- name: due_proofs
-- $1 streams, $2 at most so many shops, $3 seconds until what is due is due again, whatever becomes of it. Shops that
-- can be compared now, and which streams of each; longest waiting first.
WITH due AS MATERIALIZED (
    SELECT p.shop_id, p.stream, p.due_at
      FROM sync.proofs AS p
     WHERE p.due_at <= now() AND p.stream = ANY ($1::text[])
     ORDER BY p.due_at LIMIT 200
), fit AS MATERIALIZED (
    SELECT d.shop_id, d.stream, d.due_at
      FROM due AS d
     CROSS JOIN LATERAL (SELECT FROM sync.shops AS s
                          WHERE s.shop_id = d.shop_id AND s.state = 'active' LIMIT 1) AS s
     CROSS JOIN LATERAL (SELECT FROM sync.cursors AS c
                          WHERE c.shop_id = d.shop_id AND c.stream = d.stream
                            AND c.parked_reason IS NULL AND c.succeeded_at IS NOT NULL LIMIT 1) AS c
     WHERE NOT EXISTS (SELECT FROM sync.leases AS l WHERE l.shop_id = d.shop_id AND l.expires_at > now())
), chosen AS MATERIALIZED (
    SELECT f.shop_id, min(f.due_at) AS due_at FROM fit AS f GROUP BY f.shop_id ORDER BY 2, 1 LIMIT $2
), again AS (
    -- The chosen ones, and those that would stand in the others' way: not for long where somebody syncs the shop.
    UPDATE sync.proofs AS p
       SET due_at = now() + CASE WHEN d.shop_id NOT IN (SELECT c.shop_id FROM chosen AS c)
                                  AND EXISTS (SELECT FROM sync.leases AS l
                                               WHERE l.shop_id = d.shop_id AND l.expires_at > now())
                                 THEN interval '5 seconds' ELSE make_interval(secs => $3) END
      FROM due AS d
     WHERE p.shop_id = d.shop_id AND p.stream = d.stream
       AND (d.shop_id IN (SELECT c.shop_id FROM chosen AS c)
            OR (d.shop_id, d.stream) NOT IN (SELECT f.shop_id, f.stream FROM fit AS f))
)
SELECT c.shop_id, (SELECT array_agg(f.stream ORDER BY array_position($1, f.stream)) FROM fit AS f
                    WHERE f.shop_id = c.shop_id) AS streams
  FROM chosen AS c
 ORDER BY c.due_at;

-- name: end_findings_of_ids
-- $1 shop_id, $2 stream. What earlier comparisons found by ids, and this one did not, is over.
UPDATE sync.findings AS f SET ended_at = now(), ended_by = 'comparison'
  FROM sync.proofs AS p
 WHERE p.shop_id = $1 AND p.stream = $2 AND f.shop_id = $1 AND f.stream = $2
   AND f.ended_at IS NULL AND f.since IS NULL AND f.seen_in < p.began_at;

-- name: note_finding
-- $1 shop_id, $2 stream, $3 kind, $4 since, $5 until, $6 api_rows, $7 stored_rows, $8 keys, $9 reason, $10 whether it
-- was repaired. One that stands already is not noted twice.
WITH pass AS MATERIALIZED (
    SELECT began_at FROM sync.proofs WHERE shop_id = $1 AND stream = $2
), known AS (
    UPDATE sync.findings AS f
       SET api_rows = $6, stored_rows = $7, keys = $8, reason = $9, seen_in = pass.began_at,
           ended_at = CASE WHEN $10::boolean THEN now() END, ended_by = CASE WHEN $10 THEN 'repair' END
      FROM pass
     WHERE f.shop_id = $1 AND f.stream = $2 AND f.ended_at IS NULL AND f.kind = $3
       AND f.since IS NOT DISTINCT FROM $4 AND f.until IS NOT DISTINCT FROM $5
       AND (f.since IS NOT NULL OR f.keys = $8)
    RETURNING f.finding_id)
INSERT INTO sync.findings (
    shop_id, stream, kind, since, until, api_rows, stored_rows, keys, reason, seen_in, ended_at, ended_by)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, pass.began_at,
       CASE WHEN $10 THEN now() END, CASE WHEN $10 THEN 'repair' END
  FROM pass
 WHERE NOT EXISTS (SELECT FROM known);

-- name: count_orders
-- $1 shop_id, $2 since, $3 until. Stored orders that were created in [since, until).
SELECT count(*) FROM tiktok.orders WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3;

-- name: ids_orders
-- Like count_orders: their ids.
SELECT order_id FROM tiktok.orders
 WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3
 ORDER BY create_time;

-- name: cut_orders
-- Like count_orders, $4 rows in a part: moments that cut the stretch into parts of about so many rows.
SELECT DISTINCT date_trunc('second', create_time) AS moment
  FROM (SELECT create_time, row_number() OVER (ORDER BY create_time) AS place
          FROM tiktok.orders WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3) AS numbered
 WHERE place % $4 = 0
 ORDER BY moment;

-- name: count_live_products
-- $1 shop_id, $2 since, $3 until. Stored products that were created in [since, until) and are not deleted.
SELECT count(*) FROM tiktok.products
 WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND _deleted_at IS NULL;

-- name: ids_live_products
-- Like count_live_products: their ids.
SELECT product_id FROM tiktok.products
 WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND _deleted_at IS NULL
 ORDER BY create_time;

-- name: cut_live_products
-- Like count_live_products, $4 rows in a part: moments that cut the stretch into parts of about so many rows.
SELECT DISTINCT date_trunc('second', create_time) AS moment
  FROM (SELECT create_time, row_number() OVER (ORDER BY create_time) AS place
          FROM tiktok.products
         WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND _deleted_at IS NULL) AS numbered
 WHERE place % $4 = 0
 ORDER BY moment;

-- name: count_deleted_products
-- Like count_live_products, for those that TikTok Shop calls deleted.
SELECT count(*) FROM tiktok.products
 WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND status = 'DELETED';

-- name: ids_deleted_products
SELECT product_id FROM tiktok.products
 WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND status = 'DELETED'
 ORDER BY create_time;

-- name: cut_deleted_products
SELECT DISTINCT date_trunc('second', create_time) AS moment
  FROM (SELECT create_time, row_number() OVER (ORDER BY create_time) AS place
          FROM tiktok.products
         WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND status = 'DELETED') AS numbered
 WHERE place % $4 = 0
 ORDER BY moment;

-- name: count_all_products
-- Like count_live_products, for the live ones and those that TikTok Shop calls deleted.
SELECT count(*) FROM tiktok.products
 WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND (_deleted_at IS NULL OR status = 'DELETED');

-- name: ids_all_products
SELECT product_id FROM tiktok.products
 WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3 AND (_deleted_at IS NULL OR status = 'DELETED')
 ORDER BY create_time;

-- name: cut_all_products
SELECT DISTINCT date_trunc('second', create_time) AS moment
  FROM (SELECT create_time, row_number() OVER (ORDER BY create_time) AS place
          FROM tiktok.products
         WHERE shop_id = $1 AND create_time >= $2 AND create_time < $3
           AND (_deleted_at IS NULL OR status = 'DELETED')) AS numbered
 WHERE place % $4 = 0
 ORDER BY moment;

-- name: set_aside
-- $1 shop_id, $2 stream, $3 ids. Those of them that Postgres refused, or did not take whole.
SELECT record_id, reason FROM sync.rejects
 WHERE shop_id = $1 AND stream = $2 AND record_id = ANY ($3::text[]);

-- name: unlike_stock
-- $1 shop_id, $2 at most so many. Products whose live SKUs are not those that have live stock rows.
SELECT p.product_id
  FROM tiktok.products AS p
 WHERE p.shop_id = $1 AND p._deleted_at IS NULL
   AND (SELECT array_agg(k.sku_id ORDER BY k.sku_id) FROM tiktok.skus AS k
         WHERE k.shop_id = $1 AND k.product_id = p.product_id AND k._deleted_at IS NULL)
       IS DISTINCT FROM
       (SELECT array_agg(DISTINCT i.sku_id ORDER BY i.sku_id) FROM tiktok.inventory AS i
         WHERE i.shop_id = $1 AND i.product_id = p.product_id AND i._deleted_at IS NULL)
 ORDER BY p.product_id
 LIMIT $2;

-- name: stocked_skus
-- $1 shop_id, $2 product_ids. Their SKUs that have live stock rows.
SELECT DISTINCT i.product_id, i.sku_id
  FROM unnest($2::text[]) AS asked (product_id)
 CROSS JOIN LATERAL (SELECT x.product_id, x.sku_id FROM tiktok.inventory AS x
                      WHERE x.shop_id = $1 AND x.product_id = asked.product_id AND x._deleted_at IS NULL) AS i;

-- name: count_stocked_skus
-- $1 shop_id. SKUs with live stock rows.
SELECT count(DISTINCT sku_id) FROM tiktok.inventory WHERE shop_id = $1 AND _deleted_at IS NULL;

-- name: ids_warehouses
-- $1 shop_id. Live warehouses.
SELECT warehouse_id FROM tiktok.warehouses WHERE shop_id = $1 AND _deleted_at IS NULL;

-- name: bury_products
-- $1 shop_id, $2 product_ids, $3 as of, $4 owner, $5 epoch. Products that TikTok Shop shows no more are marked deleted as of
-- then, with their SKUs and stock, and their history is closed. Their content stays; when one is shown
-- again it is live again, even without a change. How many were marked; NULL when the lease is not the caller's.
-- None that was fetched later than that.
WITH held AS MATERIALIZED (
    SELECT shop_id FROM sync.leases WHERE shop_id = $1 AND owner = $4 AND epoch = $5 AND expires_at > now()
       FOR KEY SHARE
), buried AS (
    UPDATE tiktok.products AS p
       SET _deleted_at = $3, _digest = NULL, _synced_at = now(), _fetched_at = $3
     WHERE p.shop_id = $1 AND p.product_id = ANY ($2::text[]) AND p._deleted_at IS NULL AND p._fetched_at <= $3
       AND EXISTS (SELECT FROM held)
    RETURNING p.product_id
), skus AS (
    UPDATE tiktok.skus AS k SET _deleted_at = $3, _synced_at = now(), _fetched_at = greatest($3, k._fetched_at)
      FROM buried AS b
     WHERE k.shop_id = $1 AND k.product_id = b.product_id AND k._deleted_at IS NULL
), stock AS (
    UPDATE tiktok.inventory AS i SET _deleted_at = $3, _synced_at = now(), _fetched_at = greatest($3, i._fetched_at)
      FROM buried AS b
     WHERE i.shop_id = $1 AND i.product_id = b.product_id AND i._deleted_at IS NULL
    RETURNING i.sku_id, i.warehouse_id
), closed AS (
    UPDATE tiktok.inventory_history AS h
       SET valid_to = greatest($3, h.valid_from), _synced_at = now(), _fetched_at = greatest($3, h._fetched_at)
      FROM stock AS s
     WHERE h.shop_id = $1 AND h.sku_id = s.sku_id AND h.warehouse_id = s.warehouse_id AND h.valid_to IS NULL
), forgiven AS (
    DELETE FROM sync.rejects AS r USING buried AS b
     WHERE r.shop_id = $1 AND r.stream = 'inventory' AND r.record_id = b.product_id
)
SELECT CASE WHEN EXISTS (SELECT FROM held) THEN (SELECT count(*) FROM buried) END;
