-- The store statements expect a session with enable_seqscan and enable_sort off. A plan that was cached
-- while a table was tiny would read the whole table, or the whole shop by an index that begins with it,
-- for every record, and stay cached while the table grows.

-- name: product_ids
-- $1 shop_id. The products of the shop that are not deleted, in the order of their ids.
SELECT p.product_id
  FROM tiktok.products AS p
 WHERE p.shop_id = $1 AND p._deleted_at IS NULL
 ORDER BY p.product_id;

-- name: known_products
-- $1 shop_id, $2 ids, $3 digests of the same products, $4 owner, $5 epoch. The ids of those products that are stored
-- with this very content; NULL when there are none, or when the lease is not the caller's. An array
-- spares a row for each.
SELECT array_agg(sent.id)
  FROM unnest($2::text[], $3::bytea[]) AS sent (id, digest)
 CROSS JOIN LATERAL (
       SELECT o._digest
         FROM tiktok.products AS o
        WHERE o.shop_id = $1 AND o.product_id BETWEEN sent.id AND sent.id
        ORDER BY o.product_id
        LIMIT 1) AS stored
 WHERE stored._digest = sent.digest
   AND EXISTS (SELECT FROM sync.leases AS l
                WHERE l.shop_id = $1 AND l.owner = $4 AND l.epoch = $5 AND l.expires_at > now());

-- name: store_products
-- $1 shop_id, $2 records (UTF-8 bytes of a JSON array of products as Search Products sends them, each
-- with an id), $3 fetched_at, $4 scrubbed (ids of the records whose text was scrubbed), $5 digests (in the order of
-- the records; NULL for one that must not be taken for known), $6 rejected (ids whose stored row may lack
-- values: equal content does not count as stored), $7 the row of sync.slices that accounts for the read.
-- One row: inserted, updated, stale, unchanged (distinct products; their sum is the number of ids sent).
-- The newest update_time wins, among equal ones (or without one) the later fetch. A product that is
-- stored with this very content is not touched. SKUs follow their product: new and changed ones are
-- written, equal ones left alone, absent ones marked deleted as of the fetch, unless they may be missing from
-- a list that cannot be read, or is empty though the product is no draft. Status DELETED marks the
-- product and all its SKUs deleted as of its update_time. What is marked takes its stock rows along and
-- closes their history; what is listed again is unmarked (stock rows by the next inventory answer). Rejects
-- of a deleted product's stock are forgiven: nobody asks for it again.
-- Rows are written in the order of their ids, so pages that overlap cannot deadlock. Raises
-- serialization_failure when another session stored another version of one of these products
-- meanwhile: store the page again.
WITH page AS MATERIALIZED (
    SELECT DISTINCT ON (product_id) product_id, update_time, record, digest
      FROM (SELECT sent.value->>'id' AS product_id, epoch(sent.value->>'update_time') AS update_time,
                   sent.value AS record, sent.digest, sent.place
              FROM ROWS FROM (jsonb_array_elements(convert_from($2, 'UTF8')::jsonb), unnest($5::bytea[]))
                   WITH ORDINALITY AS sent (value, digest, place)) AS record
     ORDER BY product_id, update_time DESC NULLS LAST, place DESC
), judged AS MATERIALIZED (
    -- BETWEEN, ORDER BY and LIMIT keep this one probe of the primary key per id, whatever the planner
    -- believes about the table: a plan cached while the table was empty would scan the whole shop ever after.
    SELECT p.product_id, p.update_time, p.record, p.digest, s.version, s._raw AS prior,
           CASE WHEN s.version IS NULL THEN 'new'
                WHEN p.update_time > s.update_time THEN 'newer'
                -- A time that lay far ahead of its own answer would keep every true version out for ever.
                WHEN p.update_time < s.update_time
                     AND s.update_time <= s._fetched_at + interval '1 hour' THEN 'stale'
                WHEN p.record = s._raw AND p.product_id <> ALL ($6)
                     -- One that had vanished, and is shown again as it was, lives again.
                     AND (s._deleted_at IS NULL OR p.record->>'status' = 'DELETED') THEN 'unchanged'
                WHEN $3 >= s._fetched_at THEN 'newer'
                ELSE 'stale' END AS verdict
      FROM page AS p
      LEFT JOIN LATERAL (
           SELECT o.update_time, o._fetched_at, o._raw, o._deleted_at, o.xmin::text AS version
             FROM tiktok.products AS o
            WHERE o.shop_id = $1 AND o.product_id BETWEEN p.product_id AND p.product_id
            ORDER BY o.product_id
            LIMIT 1) AS s ON true
), changed AS MATERIALIZED (
    SELECT j.product_id, j.update_time, j.version, j.prior, j.record, j.digest,
           CASE WHEN j.record->>'status' = 'DELETED' THEN coalesce(j.update_time, $3) END AS deleted_at
      FROM judged AS j
     WHERE j.verdict IN ('new', 'newer')
), written AS (
    INSERT INTO tiktok.products AS o (
        shop_id, product_id,
        title, status, create_time, update_time, audit_status, audit_pre_approved_reasons, has_draft,
        is_not_for_sale, selling_format, listing_quality_tier, is_enabled_scheduled_sale,
        schedule_sale_time, sales_regions, product_tags, product_sync_fail_reasons, recommended_categories,
        integrated_platform_statuses, product_families,
        _raw, _scrubbed, _digest, _deleted_at, _synced_at, _fetched_at, _slice)
    SELECT $1, product_id,
           word(record->>'title'), word(record->>'status'), epoch(record->>'create_time'),
           epoch(record->>'update_time'), word(record->'audit'->>'status'),
           node(record->'audit'->'pre_approved_reasons'), flag(record->>'has_draft'),
           flag(record->>'is_not_for_sale'), word(record->>'selling_format'),
           word(record->>'listing_quality_tier'),
           flag(record->'scheduled_sale'->>'is_enabled_scheduled_sale'),
           epoch_ms(record->'scheduled_sale'->>'schedule_sale_time'), node(record->'sales_regions'),
           node(record->'product_tags'), node(record->'product_sync_fail_reasons'),
           node(record->'recommended_categories'), node(record->'integrated_platform_statuses'),
           node(record->'product_families'),
           record, product_id = ANY ($4), digest, deleted_at, now(), $3, $7::bigint
      FROM changed
     ORDER BY product_id
    ON CONFLICT (shop_id, product_id) DO UPDATE SET (
        title, status, create_time, update_time, audit_status, audit_pre_approved_reasons, has_draft,
        is_not_for_sale, selling_format, listing_quality_tier, is_enabled_scheduled_sale,
        schedule_sale_time, sales_regions, product_tags, product_sync_fail_reasons, recommended_categories,
        integrated_platform_statuses, product_families,
        _raw, _scrubbed, _digest, _deleted_at, _synced_at, _fetched_at, _slice)
        = ROW (
            EXCLUDED.title, EXCLUDED.status, EXCLUDED.create_time, EXCLUDED.update_time,
            EXCLUDED.audit_status, EXCLUDED.audit_pre_approved_reasons, EXCLUDED.has_draft,
            EXCLUDED.is_not_for_sale, EXCLUDED.selling_format, EXCLUDED.listing_quality_tier,
            EXCLUDED.is_enabled_scheduled_sale, EXCLUDED.schedule_sale_time, EXCLUDED.sales_regions,
            EXCLUDED.product_tags, EXCLUDED.product_sync_fail_reasons, EXCLUDED.recommended_categories,
            EXCLUDED.integrated_platform_statuses, EXCLUDED.product_families,
            EXCLUDED._raw, EXCLUDED._scrubbed, EXCLUDED._digest,
            -- Edited after its deletion: deleted as of the first time.
            CASE WHEN EXCLUDED._deleted_at IS NOT NULL THEN coalesce(o._deleted_at, EXCLUDED._deleted_at) END,
            EXCLUDED._synced_at, EXCLUDED._fetched_at, EXCLUDED._slice)
        -- The version judged above may be written over. One that came meanwhile is judged here, and
        -- where it is older the page has to be repeated: its SKUs are invisible to this statement.
        WHERE (o.product_id, o.xmin::text) IN (SELECT c.product_id, c.version FROM changed AS c)
           OR CASE WHEN EXCLUDED.update_time <> o.update_time THEN EXCLUDED.update_time > o.update_time
                   ELSE EXCLUDED._fetched_at >= o._fetched_at AND EXCLUDED._raw <> o._raw END
              AND sync_strict.give_way(o.product_id)
    RETURNING o.product_id, o._deleted_at AS deleted_at, o.xmax = 0 AS is_new
), listed AS MATERIALIZED (
    SELECT DISTINCT ON (sku_id) sku_id, product_id, deleted_at, item
      FROM (SELECT key(element.value->>'id') AS sku_id, w.product_id, w.deleted_at, element.value AS item,
                   c.update_time, element.ordinality AS place
              FROM changed AS c
              JOIN written AS w ON w.product_id = c.product_id
             CROSS JOIN jsonb_array_elements(list(c.record->'skus')) WITH ORDINALITY AS element) AS item
     WHERE sku_id IS NOT NULL
     ORDER BY sku_id, update_time DESC NULLS LAST, product_id, place DESC
), known AS MATERIALIZED (
    -- The stored SKUs of the products written. The version before this statement, as all reads here.
    SELECT s.sku_id, s.product_id, s._deleted_at AS deleted_at
      FROM written AS w
     CROSS JOIN LATERAL (
           SELECT k.sku_id, k.product_id, k._deleted_at
             FROM tiktok.skus AS k
            WHERE k.shop_id = $1 AND k.product_id BETWEEN w.product_id AND w.product_id
            ORDER BY k.product_id
           OFFSET 0) AS s
     WHERE NOT w.is_new
), prior_sku AS MATERIALIZED (
    SELECT c.product_id, element.value AS item
      FROM changed AS c
     CROSS JOIN jsonb_array_elements(sync_lenient.list(c.prior->'skus')) AS element
     WHERE c.prior IS NOT NULL
), written_sku AS (
    INSERT INTO tiktok.skus AS k (
        shop_id, sku_id,
        product_id, seller_sku, currency, price, tax_exclusive_price, starting_bid_price, list_price,
        list_price_currency, external_list_prices, status, deactivation_source, pre_sale_type,
        pre_sale_handling_duration_days, pre_sale_release_date, inventory, fees,
        _deleted_at, _synced_at, _fetched_at)
    SELECT $1, sku_id,
           product_id, word(item->>'seller_sku'), word(item->'price'->>'currency'),
           money(item->'price'->>'sale_price'), money(item->'price'->>'tax_exclusive_price'),
           money(item->'price'->>'starting_bid_price'), money(item->'list_price'->>'amount'),
           word(item->'list_price'->>'currency'), node(item->'external_list_prices'),
           word(item->'status_info'->>'status'), word(item->'status_info'->>'deactivation_source'),
           word(item->'pre_sale'->>'type'),
           whole(item->'pre_sale'->'fulfillment_type'->>'handling_duration_days'),
           epoch(item->'pre_sale'->'fulfillment_type'->>'release_date'), node(item->'inventory'),
           node(item->'fees'),
           deleted_at, now(), $3
      FROM listed
     WHERE (product_id, item) NOT IN (
           SELECT p.product_id, p.item FROM prior_sku AS p WHERE p.product_id <> ALL ($6))
        OR (sku_id, product_id, deleted_at IS NULL) NOT IN (
            SELECT n.sku_id, n.product_id, n.deleted_at IS NULL FROM known AS n)
     ORDER BY sku_id
    ON CONFLICT (shop_id, sku_id) DO UPDATE SET (
        product_id, seller_sku, currency, price, tax_exclusive_price, starting_bid_price, list_price,
        list_price_currency, external_list_prices, status, deactivation_source, pre_sale_type,
        pre_sale_handling_duration_days, pre_sale_release_date, inventory, fees,
        _deleted_at, _synced_at, _fetched_at)
        = ROW (
            EXCLUDED.product_id, EXCLUDED.seller_sku, EXCLUDED.currency, EXCLUDED.price,
            EXCLUDED.tax_exclusive_price, EXCLUDED.starting_bid_price, EXCLUDED.list_price,
            EXCLUDED.list_price_currency, EXCLUDED.external_list_prices, EXCLUDED.status,
            EXCLUDED.deactivation_source, EXCLUDED.pre_sale_type, EXCLUDED.pre_sale_handling_duration_days,
            EXCLUDED.pre_sale_release_date, EXCLUDED.inventory, EXCLUDED.fees,
            CASE WHEN EXCLUDED._deleted_at IS NOT NULL THEN coalesce(k._deleted_at, EXCLUDED._deleted_at) END,
            EXCLUDED._synced_at, EXCLUDED._fetched_at)
        -- A SKU that another product took over later stays there.
        WHERE k.product_id = EXCLUDED.product_id OR k._fetched_at <= EXCLUDED._fetched_at
), absent AS MATERIALIZED (
    SELECT n.sku_id, n.product_id, coalesce(w.deleted_at, $3) AS deleted_at
      FROM known AS n
      JOIN written AS w ON w.product_id = n.product_id
     WHERE n.deleted_at IS NULL
       AND (w.deleted_at IS NOT NULL OR n.product_id NOT IN (
            SELECT c.product_id FROM changed AS c
             WHERE is_broken(c.record->'skus', 'id')
                -- A product on sale has SKUs: one without any is an answer that went wrong.
                OR (c.record->>'status' IS DISTINCT FROM 'DRAFT'
                    AND NOT EXISTS (SELECT FROM jsonb_array_elements(sync_lenient.list(c.record->'skus'))))))
       AND n.sku_id NOT IN (SELECT l.sku_id FROM listed AS l)
), marked_sku AS (
    UPDATE tiktok.skus AS k
       SET _deleted_at = (SELECT a.deleted_at FROM absent AS a WHERE a.sku_id = k.sku_id),
           _synced_at = now(), _fetched_at = $3
     WHERE k.ctid = ANY (ARRAY (
           SELECT (SELECT x.ctid FROM tiktok.skus AS x
                    WHERE x.shop_id = $1 AND x.sku_id BETWEEN a.sku_id AND a.sku_id
                      AND x.product_id = a.product_id
                    ORDER BY x.sku_id
                    LIMIT 1)
             FROM absent AS a))
), stock AS MATERIALIZED (
    -- Locked in the order in which inventory answers write. An answer fetched later knows better which
    -- SKUs there are, but not about a deleted product: nobody asks for its stock again.
    SELECT x.sku_id, x.warehouse_id, x.address, coalesce(w.deleted_at, $3) AS deleted_at
      FROM (SELECT w.product_id, w.deleted_at
              FROM written AS w
             WHERE w.deleted_at IS NOT NULL OR w.product_id IN (SELECT a.product_id FROM absent AS a)
             ORDER BY w.product_id) AS w
     CROSS JOIN LATERAL (
           SELECT i.sku_id, i.warehouse_id, i.ctid AS address
             FROM tiktok.inventory AS i
            WHERE i.shop_id = $1 AND i.product_id BETWEEN w.product_id AND w.product_id
              AND i._deleted_at IS NULL
              AND (w.deleted_at IS NOT NULL
                   OR (i._fetched_at <= $3 AND i.sku_id IN (SELECT a.sku_id FROM absent AS a)))
            ORDER BY i.product_id, i.sku_id, i.warehouse_id
              FOR UPDATE) AS x
), marked_stock AS (
    UPDATE tiktok.inventory AS i
       SET _deleted_at = (SELECT s.deleted_at FROM stock AS s
                           WHERE s.sku_id = i.sku_id AND s.warehouse_id = i.warehouse_id),
           _synced_at = now(), _fetched_at = greatest($3, i._fetched_at)
     WHERE i.ctid = ANY (ARRAY (SELECT s.address FROM stock AS s))
    RETURNING i.sku_id, i.warehouse_id
), closed AS (
    UPDATE tiktok.inventory_history AS h
       SET valid_to = greatest($3, h.valid_from), _synced_at = now(), _fetched_at = greatest($3, h._fetched_at)
     WHERE h.ctid = ANY (ARRAY (
           SELECT (SELECT x.ctid FROM tiktok.inventory_history AS x
                    WHERE x.shop_id = $1 AND x.sku_id = m.sku_id AND x.warehouse_id = m.warehouse_id
                      AND x.valid_to IS NULL)
             FROM marked_stock AS m))
), forgiven AS (
    DELETE FROM sync.rejects AS r
     WHERE r.ctid = ANY (ARRAY (
           SELECT (SELECT x.ctid FROM sync.rejects AS x
                    WHERE x.shop_id = $1 AND x.stream = 'inventory'
                      AND x.record_id = w.product_id COLLATE "default")
             FROM written AS w
            WHERE w.deleted_at IS NOT NULL AND NOT w.is_new))
)
SELECT (SELECT count(*) FROM written AS w WHERE w.is_new) AS inserted,
       (SELECT count(*) FROM written AS w WHERE NOT w.is_new) AS updated,
       (SELECT count(*) FROM judged AS j WHERE j.verdict <> 'unchanged')
       - (SELECT count(*) FROM written) AS stale,
       (SELECT count(*) FROM judged AS j WHERE j.verdict = 'unchanged') AS unchanged
       -- A stock row that changed after this statement began was locked but not marked.
 WHERE ((SELECT count(*) FROM stock) = (SELECT count(*) FROM marked_stock)
        OR sync_strict.give_way((SELECT min(s.sku_id) FROM stock AS s)))
       -- One that came after this statement began is only seen by a statement of its own.
   AND (NOT EXISTS (
            SELECT FROM written AS w
             WHERE w.deleted_at IS NOT NULL AND NOT w.is_new
               AND sync_strict.has_other_stock($1, w.product_id, ARRAY (SELECT s.address FROM stock AS s)))
        OR sync_strict.give_way((SELECT min(w.product_id) FROM written AS w WHERE w.deleted_at IS NOT NULL)));
