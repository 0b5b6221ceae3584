-- name: store_warehouses
-- $1 shop_id, $2 records (UTF-8 bytes of a JSON array of warehouses as Get Warehouse List sends them, each
-- with an id), $3 fetched_at, $4 scrubbed (ids whose text was scrubbed), $5 rejected (ids whose stored row
-- may lack values: equal content does not count as stored), $6 is_whole (these are all warehouses of the
-- shop; a page without any is not stored, for it may be an answer that lacks the list), $7 the row of
-- sync.slices that accounts for the read.
-- One row: inserted, updated, stale, unchanged (warehouses; marking as deleted is an update).
-- The later fetch wins. A warehouse that is stored with this very content is not touched, one that a
-- whole list lacks is marked deleted as of the fetch, one that is listed again is unmarked. Rows are written
-- in the order of their ids, so lists cannot deadlock.
WITH page AS MATERIALIZED (
    SELECT DISTINCT ON (warehouse_id) warehouse_id, record
      FROM (SELECT sent.value->>'id' AS warehouse_id, sent.value AS record, sent.ordinality AS place
              FROM jsonb_array_elements(convert_from($2, 'UTF8')::jsonb) WITH ORDINALITY AS sent) AS record
     ORDER BY warehouse_id, place DESC
), judged AS MATERIALIZED (
    SELECT p.warehouse_id, p.record,
           CASE WHEN s.warehouse_id IS NULL THEN 'new'
                WHEN s._deleted_at IS NULL AND s._raw = p.record AND p.warehouse_id <> ALL ($5) THEN 'unchanged'
                WHEN $3 >= s._fetched_at THEN 'newer'
                ELSE 'stale' END AS verdict
      FROM page AS p
      LEFT JOIN tiktok.warehouses AS s ON s.shop_id = $1 AND s.warehouse_id = p.warehouse_id
), changed AS MATERIALIZED (
    SELECT warehouse_id,
           word(record->>'entity_id') AS entity_id, word(record->>'name') AS name,
           word(record->>'effect_status') AS effect_status, word(record->>'type') AS type,
           word(record->>'sub_type') AS sub_type, flag(record->>'is_default') AS is_default,
           coalesce(word(record->'address'->>'region_code'), word(record->'address'->>'region')) AS region,
           word(record->'address'->>'region') AS region_name, word(record->'address'->>'state') AS state,
           word(record->'address'->>'city') AS city, word(record->'address'->>'distict') AS district,
           word(record->'address'->>'town') AS town, word(record->'address'->>'postal_code') AS postal_code,
           word(record->'address'->>'full_address') AS full_address,
           word(record->'address'->>'address_line1') AS address_line1,
           word(record->'address'->>'address_line2') AS address_line2,
           word(record->'address'->>'address_line3') AS address_line3,
           word(record->'address'->>'address_line4') AS address_line4,
           word(record->'address'->>'contact_person') AS contact_person,
           word(record->'address'->>'first_name') AS first_name,
           word(record->'address'->>'last_name') AS last_name,
           word(record->'address'->>'first_name_local_script') AS first_name_local_script,
           word(record->'address'->>'last_name_local_script') AS last_name_local_script,
           word(record->'address'->>'phone_number') AS phone_number,
           money(record->'address'->'geolocation'->>'latitude') AS latitude,
           money(record->'address'->'geolocation'->>'longitude') AS longitude,
           record AS _raw, warehouse_id = ANY ($4) AS _scrubbed, NULL::timestamptz AS _deleted_at
      FROM judged
     WHERE verdict IN ('new', 'newer')
     UNION ALL
    SELECT w.warehouse_id,
           w.entity_id, w.name, w.effect_status, w.type, w.sub_type, w.is_default, w.region, w.region_name,
           w.state, w.city, w.district, w.town, w.postal_code, w.full_address, w.address_line1,
           w.address_line2, w.address_line3, w.address_line4, w.contact_person, w.first_name, w.last_name,
           w.first_name_local_script, w.last_name_local_script, w.phone_number, w.latitude, w.longitude,
           w._raw, w._scrubbed, $3
      FROM tiktok.warehouses AS w
     WHERE $6 AND w.shop_id = $1 AND w._deleted_at IS NULL AND w._fetched_at <= $3
       AND w.warehouse_id NOT IN (SELECT p.warehouse_id FROM page AS p)
), written AS (
    INSERT INTO tiktok.warehouses AS w (
        shop_id, warehouse_id,
        entity_id, name, effect_status, type, sub_type, is_default, region, region_name, state, city,
        district, town, postal_code, full_address, address_line1, address_line2, address_line3,
        address_line4, contact_person, first_name, last_name, first_name_local_script,
        last_name_local_script, phone_number, latitude, longitude,
        _raw, _scrubbed, _deleted_at, _synced_at, _fetched_at, _slice)
    SELECT $1, warehouse_id,
           entity_id, name, effect_status, type, sub_type, is_default, region, region_name, state, city,
        district, town, postal_code, full_address, address_line1, address_line2, address_line3,
        address_line4, contact_person, first_name, last_name, first_name_local_script,
        last_name_local_script, phone_number, latitude, longitude,
           _raw, _scrubbed, _deleted_at, now(), $3, $7::bigint
      FROM changed
     ORDER BY warehouse_id
    ON CONFLICT (shop_id, warehouse_id) DO UPDATE SET (
        entity_id, name, effect_status, type, sub_type, is_default, region, region_name, state, city,
        district, town, postal_code, full_address, address_line1, address_line2, address_line3,
        address_line4, contact_person, first_name, last_name, first_name_local_script,
        last_name_local_script, phone_number, latitude, longitude,
        _raw, _scrubbed, _deleted_at, _synced_at, _fetched_at, _slice)
        = ROW (
            EXCLUDED.entity_id, EXCLUDED.name, EXCLUDED.effect_status, EXCLUDED.type, EXCLUDED.sub_type,
            EXCLUDED.is_default, EXCLUDED.region, EXCLUDED.region_name, EXCLUDED.state, EXCLUDED.city,
            EXCLUDED.district, EXCLUDED.town, EXCLUDED.postal_code, EXCLUDED.full_address,
            EXCLUDED.address_line1, EXCLUDED.address_line2, EXCLUDED.address_line3, EXCLUDED.address_line4,
            EXCLUDED.contact_person, EXCLUDED.first_name, EXCLUDED.last_name,
            EXCLUDED.first_name_local_script, EXCLUDED.last_name_local_script, EXCLUDED.phone_number,
            EXCLUDED.latitude, EXCLUDED.longitude,
            EXCLUDED._raw, EXCLUDED._scrubbed, EXCLUDED._deleted_at, EXCLUDED._synced_at,
            EXCLUDED._fetched_at, EXCLUDED._slice)
        WHERE EXCLUDED._fetched_at >= w._fetched_at
    RETURNING w.xmax = 0 AS is_new
)
SELECT (SELECT count(*) FROM written AS w WHERE w.is_new) AS inserted,
       (SELECT count(*) FROM written AS w WHERE NOT w.is_new) AS updated,
       (SELECT count(*) FROM judged AS j WHERE j.verdict <> 'unchanged')
       + (SELECT count(*) FROM changed AS c WHERE c._deleted_at IS NOT NULL)
       - (SELECT count(*) FROM written) AS stale,
       (SELECT count(*) FROM judged AS j WHERE j.verdict = 'unchanged') AS unchanged;
