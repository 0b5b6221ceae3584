-- The store statements expect a session with enable_seqscan and enable_sort off. A plan that was cached
-- while a table was tiny would read the whole table, or the whole shop by an index that begins with it,
-- for every record, and stay cached while the table grows.

-- name: store_inventory
-- $1 shop_id, $2 records (UTF-8 bytes of a JSON array as Inventory Search sends it: one element per
-- product, each with a product_id and all its SKUs), $3 fetched_at, $4 scrubbed (product ids whose text
-- was scrubbed), $5 rejected (product ids whose stored rows may lack values: equal content does not count
-- as stored), $6 the row of sync.slices that accounts for the read.
-- One row: inserted, updated, stale, unchanged (rows of SKU x warehouse; marking as deleted is an update).
-- Products that are stored as deleted are passed over. The later fetch wins. A row that is stored with this very SKU is not touched. Rows of a product of the
-- answer that the answer lacks are marked deleted as of the fetch, unless it cannot be read whole, or has no SKU; what is listed again is unmarked.
-- Other quantities, or none, close the open row of the history and open the next one. Rows are written
-- in the order of their ids, so answers that overlap cannot deadlock. Raises serialization_failure when
-- another session stored another version of one of these rows, or deleted one of these products,
-- meanwhile: store the page again.
WITH product AS MATERIALIZED (
    SELECT sent.value->>'product_id' AS product_id, sent.value AS record, sent.ordinality AS place
      FROM jsonb_array_elements(convert_from($2, 'UTF8')::jsonb) WITH ORDINALITY AS sent
           -- An answer that was under way while the product was deleted must not bring its stock back:
           -- nobody would ask for it again.
     WHERE (SELECT d._deleted_at FROM tiktok.products AS d
             WHERE d.shop_id = $1
               AND d.product_id BETWEEN sent.value->>'product_id' AND sent.value->>'product_id'
             ORDER BY d.product_id
             LIMIT 1) IS NULL
), page AS MATERIALIZED (
    SELECT DISTINCT ON (sku_id, warehouse_id) product_id, sku_id, warehouse_id, sku, level
      FROM (SELECT p.product_id, key(sku.value->>'id') AS sku_id,
                   key(level.value->>'warehouse_id') AS warehouse_id,
                   sku.value AS sku, level.value AS level, p.place,
                   sku.ordinality AS sku_place, level.ordinality AS level_place
              FROM product AS p
             CROSS JOIN jsonb_array_elements(list(p.record->'skus')) WITH ORDINALITY AS sku
             -- What is no object lists no stock, and must not pass for a SKU without any.
             CROSS JOIN jsonb_array_elements(list(CASE jsonb_typeof(sku.value)
                                                  WHEN 'object' THEN sku.value->'warehouse_inventory'
                                                  ELSE '"no SKU"' END))
                        WITH ORDINALITY AS level) AS listed
     WHERE sku_id IS NOT NULL AND warehouse_id IS NOT NULL
     ORDER BY sku_id, warehouse_id, place DESC, sku_place DESC, level_place DESC
), judged AS MATERIALIZED (
    -- BETWEEN, ORDER BY and LIMIT keep this one probe of the primary key per row, whatever the planner
    -- believes about the table. In an empty one all indexes that begin with shop_id cost the same for
    -- an equality, and a plan cached then would scan the whole shop ever after.
    SELECT p.product_id, p.sku_id, p.warehouse_id, p.sku, p.level, s.version,
           s.version IS NULL OR s._deleted_at IS NOT NULL OR s.product_id <> p.product_id AS is_raised,
           CASE WHEN s.version IS NULL THEN 'new'
                WHEN s._deleted_at IS NULL AND s.product_id = p.product_id AND s._raw = p.sku
                     AND p.product_id <> ALL ($5) THEN 'unchanged'
                WHEN $3 >= s._fetched_at THEN 'newer'
                ELSE 'stale' END AS verdict
      FROM page AS p
      LEFT JOIN LATERAL (
           SELECT i.product_id, i._raw, i._deleted_at, i._fetched_at, i.xmin::text AS version
             FROM tiktok.inventory AS i
            WHERE i.shop_id = $1 AND i.sku_id BETWEEN p.sku_id AND p.sku_id
              AND i.warehouse_id = p.warehouse_id
            ORDER BY i.sku_id
            LIMIT 1) AS s ON true
), raised AS MATERIALIZED (
    -- The products whose stock gets live rows that their deletion could not see: either it waits until they
    -- are there, or its outcome is waited for here. In the order in which product pages write.
    SELECT p.product_id, d._deleted_at
      FROM (SELECT DISTINCT j.product_id FROM judged AS j WHERE j.is_raised ORDER BY j.product_id) AS p
     CROSS JOIN LATERAL (
           SELECT k._deleted_at
             FROM tiktok.products AS k
            WHERE k.shop_id = $1 AND k.product_id BETWEEN p.product_id AND p.product_id
            ORDER BY k.product_id
            LIMIT 1
              FOR SHARE) AS d
), absent AS MATERIALIZED (
    SELECT s.*
      FROM (SELECT product_id
              FROM product
             GROUP BY product_id
            HAVING NOT bool_or(
                is_broken(record->'skus', 'id')
                OR NOT EXISTS (SELECT FROM jsonb_array_elements(sync_lenient.list(record->'skus')))
                OR EXISTS (SELECT FROM jsonb_array_elements(sync_lenient.list(record->'skus')) AS sku
                            WHERE is_broken(sku.value->'warehouse_inventory', 'warehouse_id')))) AS p
     CROSS JOIN LATERAL (
           SELECT i.*, i.xmin::text AS version
             FROM tiktok.inventory AS i
            WHERE i.shop_id = $1 AND i.product_id = p.product_id
              AND i._deleted_at IS NULL AND i._fetched_at <= $3
           OFFSET 0) AS s
     WHERE (s.sku_id, s.warehouse_id) NOT IN (SELECT n.sku_id, n.warehouse_id FROM page AS n)
), changed AS MATERIALIZED (
    SELECT j.product_id, j.sku_id, j.warehouse_id, j.version,
           word(j.sku->>'seller_sku') AS seller_sku,
           whole(j.level->>'available_quantity') AS available_quantity,
           whole(j.level->>'committed_quantity') AS committed_quantity,
           whole(j.sku->>'total_available_quantity') AS total_available_quantity,
           whole(j.sku->>'total_committed_quantity') AS total_committed_quantity,
           whole(j.sku->'total_available_inventory_distribution'->'in_shop_inventory'->>'quantity')
           AS in_shop_quantity,
           node(j.sku->'total_available_inventory_distribution'->'campaign_inventory') AS campaign_inventory,
           node(j.sku->'total_available_inventory_distribution'->'creator_inventory') AS creator_inventory,
           j.sku AS _raw, j.product_id = ANY ($4) AS _scrubbed, NULL::timestamptz AS _deleted_at
      FROM judged AS j
     WHERE j.verdict IN ('new', 'newer')
           -- Deleted meanwhile: the next time the product is passed over.
       AND ((SELECT count(*) FROM raised AS r WHERE r._deleted_at IS NOT NULL) = 0
            OR sync_strict.give_way((SELECT min(r.product_id) FROM raised AS r)))
     UNION ALL
    SELECT a.product_id, a.sku_id, a.warehouse_id, a.version, a.seller_sku,
           a.available_quantity, a.committed_quantity, a.total_available_quantity,
           a.total_committed_quantity, a.in_shop_quantity, a.campaign_inventory, a.creator_inventory,
           a._raw, a._scrubbed, $3
      FROM absent AS a
), written AS (
    INSERT INTO tiktok.inventory AS i (
        shop_id, sku_id, warehouse_id, product_id, seller_sku, available_quantity, committed_quantity,
        total_available_quantity, total_committed_quantity, in_shop_quantity, campaign_inventory,
        creator_inventory, _raw, _scrubbed, _deleted_at, _synced_at, _fetched_at, _slice)
    SELECT $1, sku_id, warehouse_id, product_id, seller_sku, available_quantity, committed_quantity,
           total_available_quantity, total_committed_quantity, in_shop_quantity, campaign_inventory,
           creator_inventory, _raw, _scrubbed, _deleted_at, now(), $3, $6::bigint
      FROM changed
     ORDER BY product_id, sku_id, warehouse_id
    ON CONFLICT (shop_id, sku_id, warehouse_id) DO UPDATE SET (
        product_id, seller_sku, available_quantity, committed_quantity, total_available_quantity,
        total_committed_quantity, in_shop_quantity, campaign_inventory, creator_inventory,
        _raw, _scrubbed, _deleted_at, _synced_at, _fetched_at, _slice)
        = ROW (
            EXCLUDED.product_id, EXCLUDED.seller_sku, EXCLUDED.available_quantity,
            EXCLUDED.committed_quantity, EXCLUDED.total_available_quantity,
            EXCLUDED.total_committed_quantity, EXCLUDED.in_shop_quantity, EXCLUDED.campaign_inventory,
            EXCLUDED.creator_inventory, EXCLUDED._raw, EXCLUDED._scrubbed, EXCLUDED._deleted_at,
            EXCLUDED._synced_at, EXCLUDED._fetched_at, EXCLUDED._slice)
        -- The version judged above may be written over. One that came meanwhile stays when its fetch
        -- was later; else the page has to be repeated, for its history is invisible to this statement.
        WHERE (i.sku_id, i.warehouse_id, i.xmin::text) IN (
                  SELECT c.sku_id, c.warehouse_id, c.version FROM changed AS c)
           OR (EXCLUDED._fetched_at >= i._fetched_at AND sync_strict.give_way(i.sku_id))
    RETURNING i.sku_id, i.warehouse_id, i.product_id, i.available_quantity, i.committed_quantity,
              i._deleted_at, i.xmax = 0 AS is_new
), moved AS MATERIALIZED (
    -- Rows whose quantities are not those of the open row of their history.
    SELECT w.sku_id, w.warehouse_id, w.product_id, w.available_quantity, w.committed_quantity,
           w._deleted_at, h.address, h.valid_from
      FROM written AS w
      LEFT JOIN LATERAL (
           SELECT x.ctid AS address, x.valid_from, x.available_quantity, x.committed_quantity
             FROM tiktok.inventory_history AS x
            WHERE x.shop_id = $1 AND x.sku_id BETWEEN w.sku_id AND w.sku_id
              AND x.warehouse_id = w.warehouse_id AND x.valid_to IS NULL
            ORDER BY x.sku_id
            LIMIT 1) AS h ON true
     WHERE h.address IS NULL
        OR w._deleted_at IS NOT NULL
        OR h.available_quantity IS DISTINCT FROM w.available_quantity
        OR h.committed_quantity IS DISTINCT FROM w.committed_quantity
), closed AS (
    UPDATE tiktok.inventory_history AS h
       SET valid_to = $3, _synced_at = now(), _fetched_at = $3
     WHERE h.ctid = ANY (ARRAY (
           -- One that this very moment opened is written over below instead.
           SELECT m.address FROM moved AS m WHERE m._deleted_at IS NOT NULL OR m.valid_from < $3))
    RETURNING h.sku_id
), opened AS (
    INSERT INTO tiktok.inventory_history AS h (
        shop_id, sku_id, warehouse_id, valid_from, product_id, available_quantity, committed_quantity,
        _synced_at, _fetched_at)
    SELECT $1, m.sku_id, m.warehouse_id, $3, m.product_id, m.available_quantity, m.committed_quantity,
           now(), $3
      FROM moved AS m
     -- Counting makes all closing come first: two open rows at once would break the unique index.
     WHERE m._deleted_at IS NULL AND (SELECT count(*) FROM closed) >= 0
     ORDER BY m.sku_id, m.warehouse_id
    ON CONFLICT (shop_id, sku_id, warehouse_id, valid_from) DO UPDATE SET
        valid_to = NULL, product_id = EXCLUDED.product_id,
        available_quantity = EXCLUDED.available_quantity, committed_quantity = EXCLUDED.committed_quantity,
        _synced_at = EXCLUDED._synced_at, _fetched_at = EXCLUDED._fetched_at
)
SELECT (SELECT count(*) FROM written AS w WHERE w.is_new) AS inserted,
       (SELECT count(*) FROM written AS w WHERE NOT w.is_new) AS updated,
       (SELECT count(*) FROM judged AS j WHERE j.verdict <> 'unchanged')
       + (SELECT count(*) FROM absent) - (SELECT count(*) FROM written) AS stale,
       (SELECT count(*) FROM judged AS j WHERE j.verdict = 'unchanged') AS unchanged;
