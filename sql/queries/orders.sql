-- The store statements expect a session with enable_seqscan and enable_sort off. A plan that was cached
-- while a table was tiny would read the whole table, or the whole shop by an index that begins with it,
-- for every record, and stay cached while the table grows.

-- name: known_orders
-- $1 shop_id, $2 ids, $3 digests of the same orders, $4 owner, $5 epoch. The ids of those orders that are stored
-- with this very content; NULL when there are none, or when the lease is not the caller's. An array
-- spares a row for each.
SELECT array_agg(sent.id)
  FROM unnest($2::text[], $3::bytea[]) AS sent (id, digest)
 CROSS JOIN LATERAL (
       SELECT o._digest
         FROM tiktok.orders AS o
        WHERE o.shop_id = $1 AND o.order_id BETWEEN sent.id AND sent.id
        ORDER BY o.order_id
        LIMIT 1) AS stored
 WHERE stored._digest = sent.digest
   AND EXISTS (SELECT FROM sync.leases AS l
                WHERE l.shop_id = $1 AND l.owner = $4 AND l.epoch = $5 AND l.expires_at > now());

-- name: store_orders
-- $1 shop_id, $2 records (UTF-8 bytes of a JSON array of orders as Get Order List sends them, each with
-- an id), $3 fetched_at, $4 scrubbed (ids of the records whose text was scrubbed), $5 digests (in the order of
-- the records; NULL for one that must not be taken for known), $6 rejected (ids whose stored row may lack
-- values: equal content does not count as stored), $7 the row of sync.slices that accounts for the read.
-- One row: inserted, updated, stale, unchanged (distinct orders; their sum is the number of ids sent).
-- The newest update_time wins, among equal ones (or without one) the later fetch. An order that is
-- stored with this very content is not touched. Line items follow their order: new and changed ones
-- are written, vanished ones deleted, equal ones left alone; what may be missing from a list that cannot
-- be read stays. Orders are written in the order of their
-- ids, so pages that overlap cannot deadlock. Raises serialization_failure when another session stored
-- another version of one of these orders meanwhile: store the page again.
WITH page AS MATERIALIZED (
    SELECT DISTINCT ON (order_id) order_id, update_time, record, digest
      FROM (SELECT sent.value->>'id' AS order_id, epoch(sent.value->>'update_time') AS update_time,
                   sent.value AS record, sent.digest, sent.place
              FROM ROWS FROM (jsonb_array_elements(convert_from($2, 'UTF8')::jsonb), unnest($5::bytea[]))
                   WITH ORDINALITY AS sent (value, digest, place)) AS record
     ORDER BY order_id, update_time DESC NULLS LAST, place DESC
), judged AS MATERIALIZED (
    -- BETWEEN, ORDER BY and LIMIT keep this one probe of the primary key per id, whatever the planner
    -- believes about the table. In an empty one all indexes that begin with shop_id cost the same for
    -- an equality, and a plan cached then would scan the whole shop ever after.
    SELECT p.order_id, p.update_time, p.record, p.digest, s.version, s._raw AS prior,
           CASE WHEN s.version IS NULL THEN 'new'
                WHEN p.update_time > s.update_time THEN 'newer'
                -- A time that lay far ahead of its own answer would keep every true version out for ever.
                WHEN p.update_time < s.update_time
                     AND s.update_time <= s._fetched_at + interval '1 hour' THEN 'stale'
                WHEN p.record = s._raw AND p.order_id <> ALL ($6) THEN 'unchanged'
                WHEN $3 >= s._fetched_at THEN 'newer'
                ELSE 'stale' END AS verdict
      FROM page AS p
      LEFT JOIN LATERAL (
           SELECT o.update_time, o._fetched_at, o._raw, o.xmin::text AS version
             FROM tiktok.orders AS o
            WHERE o.shop_id = $1 AND o.order_id BETWEEN p.order_id AND p.order_id
            ORDER BY o.order_id
            LIMIT 1) AS s ON true
), changed AS MATERIALIZED (
    SELECT j.order_id, j.update_time, j.version, j.prior, j.record, j.digest,
           j.record->'payment' AS payment, j.record->'recipient_address' AS address
      FROM judged AS j
     WHERE j.verdict IN ('new', 'newer')
), written AS (
    INSERT INTO tiktok.orders AS o (
        shop_id, order_id,
        status, order_type, commerce_platform, fulfillment_type, delivery_type, shipping_type, create_time,
        update_time, paid_time, rts_time, collection_time, delivery_time, cancel_time, request_cancel_time,
        rts_sla_time, tts_sla_time, delivery_sla_time, cancel_order_sla_time, fast_dispatch_sla_time,
        fast_rts_sla_time, fast_collection_sla_time, instore_pickup_sla_time, shipping_due_time,
        collection_due_time, delivery_due_time, pick_up_cut_off_time, recommended_shipping_time,
        delivery_option_required_delivery_time, release_date, cancel_reason, cancellation_initiator,
        currency, total_amount, sub_total, original_total_product_price, seller_discount, platform_discount,
        payment_platform_discount, payment_discount_service_fee, shipping_fee, original_shipping_fee,
        shipping_fee_seller_discount, shipping_fee_platform_discount, shipping_fee_cofunded_discount, tax,
        product_tax, shipping_fee_tax, retail_delivery_fee, buyer_service_fee, small_order_fee,
        handling_fee, shipping_insurance_fee, item_insurance_fee, item_insurance_tax, distance_shipping_fee,
        distance_fee, payment_method_name, is_cod, is_sample_order, is_refundable_sample,
        is_replacement_order, replaced_order_id, is_exchange_order, exchange_source_order_id,
        is_subscription_order, is_on_hold_order, is_buyer_request_cancel, has_updated_recipient_address,
        authentication_required, buyer_user_id, buyer_nickname, buyer_avatar, buyer_email, buyer_message,
        seller_note, cpf, cpf_name, need_upload_invoice, recipient_name, recipient_first_name,
        recipient_last_name, recipient_first_name_local_script, recipient_last_name_local_script,
        recipient_phone_number, recipient_full_address, recipient_address_detail, recipient_address_line1,
        recipient_address_line2, recipient_address_line3, recipient_address_line4, recipient_postal_code,
        recipient_post_town, recipient_region_code, recipient_district_info, recipient_drop_off_location,
        warehouse_id, shipping_provider_id, shipping_provider, tracking_number, delivery_option_id,
        delivery_option_name, split_or_combine_tag, auto_combine_group_id, packages, fast_delivery_program,
        fulfillment_priority_level, handling_duration_days, handling_duration_type, order_rights,
        consultation_id,
        _raw, _scrubbed, _digest, _synced_at, _fetched_at, _slice)
    SELECT $1, order_id,
           word(record->>'status'), word(record->>'order_type'), word(record->>'commerce_platform'),
           word(record->>'fulfillment_type'), word(record->>'delivery_type'),
           word(record->>'shipping_type'), epoch(record->>'create_time'), epoch(record->>'update_time'),
           epoch(record->>'paid_time'), epoch(record->>'rts_time'), epoch(record->>'collection_time'),
           epoch(record->>'delivery_time'), epoch(record->>'cancel_time'),
           epoch(record->>'request_cancel_time'), epoch(record->>'rts_sla_time'),
           epoch(record->>'tts_sla_time'), epoch(record->>'delivery_sla_time'),
           epoch(record->>'cancel_order_sla_time'), epoch(record->>'fast_dispatch_sla_time'),
           epoch(record->>'fast_rts_sla_time'), epoch(record->>'fast_collection_sla_time'),
           epoch(record->>'instore_pickup_sla_time'), epoch(record->>'shipping_due_time'),
           epoch(record->>'collection_due_time'), epoch(record->>'delivery_due_time'),
           epoch(record->>'pick_up_cut_off_time'), epoch(record->>'recommended_shipping_time'),
           epoch(record->>'delivery_option_required_delivery_time'), epoch(record->>'release_date'),
           word(record->>'cancel_reason'), word(record->>'cancellation_initiator'),
           word(payment->>'currency'), money(payment->>'total_amount'), money(payment->>'sub_total'),
           money(payment->>'original_total_product_price'), money(payment->>'seller_discount'),
           money(payment->>'platform_discount'), money(payment->>'payment_platform_discount'),
           money(payment->>'payment_discount_service_fee'), money(payment->>'shipping_fee'),
           money(payment->>'original_shipping_fee'), money(payment->>'shipping_fee_seller_discount'),
           money(payment->>'shipping_fee_platform_discount'),
           money(payment->>'shipping_fee_cofunded_discount'), money(payment->>'tax'),
           money(payment->>'product_tax'), money(payment->>'shipping_fee_tax'),
           money(payment->>'retail_delivery_fee'), money(payment->>'buyer_service_fee'),
           money(payment->>'small_order_fee'), money(payment->>'handling_fee'),
           money(payment->>'shipping_insurance_fee'), money(payment->>'item_insurance_fee'),
           money(payment->>'item_insurance_tax'), money(payment->>'distance_shipping_fee'),
           money(payment->>'distance_fee'), word(record->>'payment_method_name'), flag(record->>'is_cod'),
           flag(record->>'is_sample_order'), flag(record->>'is_refundable_sample'),
           flag(record->>'is_replacement_order'), word(record->>'replaced_order_id'),
           flag(record->>'is_exchange_order'), word(record->>'exchange_source_order_id'),
           flag(record->>'is_subscription_order'), flag(record->>'is_on_hold_order'),
           flag(record->>'is_buyer_request_cancel'), flag(record->>'has_updated_recipient_address'),
           flag(record->>'authentication_required'), word(record->>'user_id'),
           word(record->>'buyer_nickname'), word(record->>'buyer_avatar'), word(record->>'buyer_email'),
           word(record->>'buyer_message'), word(record->>'seller_note'), word(record->>'cpf'),
           word(record->>'cpf_name'), word(record->>'need_upload_invoice'), word(address->>'name'),
           word(address->>'first_name'), word(address->>'last_name'),
           word(address->>'first_name_local_script'), word(address->>'last_name_local_script'),
           word(address->>'phone_number'), word(address->>'full_address'), word(address->>'address_detail'),
           word(address->>'address_line1'), word(address->>'address_line2'),
           word(address->>'address_line3'), word(address->>'address_line4'), word(address->>'postal_code'),
           word(address->>'post_town'), word(address->>'region_code'), node(address->'district_info'),
           word(address->'delivery_preferences'->>'drop_off_location'), word(record->>'warehouse_id'),
           word(record->>'shipping_provider_id'), word(record->>'shipping_provider'),
           word(record->>'tracking_number'), word(record->>'delivery_option_id'),
           word(record->>'delivery_option_name'), word(record->>'split_or_combine_tag'),
           word(record->>'auto_combine_group_id'), node(record->'packages'),
           word(record->>'fast_delivery_program'), whole(record->>'fulfillment_priority_level'),
           whole(record->'handling_duration'->>'days'), word(record->'handling_duration'->>'type'),
           node(record->'order_rights'), word(record->>'consultation_id'),
           record, order_id = ANY ($4), digest, now(), $3, $7::bigint
      FROM changed
     ORDER BY order_id
    ON CONFLICT (shop_id, order_id) DO UPDATE SET (
        status, order_type, commerce_platform, fulfillment_type, delivery_type, shipping_type, create_time,
        update_time, paid_time, rts_time, collection_time, delivery_time, cancel_time, request_cancel_time,
        rts_sla_time, tts_sla_time, delivery_sla_time, cancel_order_sla_time, fast_dispatch_sla_time,
        fast_rts_sla_time, fast_collection_sla_time, instore_pickup_sla_time, shipping_due_time,
        collection_due_time, delivery_due_time, pick_up_cut_off_time, recommended_shipping_time,
        delivery_option_required_delivery_time, release_date, cancel_reason, cancellation_initiator,
        currency, total_amount, sub_total, original_total_product_price, seller_discount, platform_discount,
        payment_platform_discount, payment_discount_service_fee, shipping_fee, original_shipping_fee,
        shipping_fee_seller_discount, shipping_fee_platform_discount, shipping_fee_cofunded_discount, tax,
        product_tax, shipping_fee_tax, retail_delivery_fee, buyer_service_fee, small_order_fee,
        handling_fee, shipping_insurance_fee, item_insurance_fee, item_insurance_tax, distance_shipping_fee,
        distance_fee, payment_method_name, is_cod, is_sample_order, is_refundable_sample,
        is_replacement_order, replaced_order_id, is_exchange_order, exchange_source_order_id,
        is_subscription_order, is_on_hold_order, is_buyer_request_cancel, has_updated_recipient_address,
        authentication_required, buyer_user_id, buyer_nickname, buyer_avatar, buyer_email, buyer_message,
        seller_note, cpf, cpf_name, need_upload_invoice, recipient_name, recipient_first_name,
        recipient_last_name, recipient_first_name_local_script, recipient_last_name_local_script,
        recipient_phone_number, recipient_full_address, recipient_address_detail, recipient_address_line1,
        recipient_address_line2, recipient_address_line3, recipient_address_line4, recipient_postal_code,
        recipient_post_town, recipient_region_code, recipient_district_info, recipient_drop_off_location,
        warehouse_id, shipping_provider_id, shipping_provider, tracking_number, delivery_option_id,
        delivery_option_name, split_or_combine_tag, auto_combine_group_id, packages, fast_delivery_program,
        fulfillment_priority_level, handling_duration_days, handling_duration_type, order_rights,
        consultation_id,
        _raw, _scrubbed, _digest, _synced_at, _fetched_at, _slice)
        = ROW (
            EXCLUDED.status, EXCLUDED.order_type, EXCLUDED.commerce_platform, EXCLUDED.fulfillment_type,
            EXCLUDED.delivery_type, EXCLUDED.shipping_type, EXCLUDED.create_time, EXCLUDED.update_time,
            EXCLUDED.paid_time, EXCLUDED.rts_time, EXCLUDED.collection_time, EXCLUDED.delivery_time,
            EXCLUDED.cancel_time, EXCLUDED.request_cancel_time, EXCLUDED.rts_sla_time,
            EXCLUDED.tts_sla_time, EXCLUDED.delivery_sla_time, EXCLUDED.cancel_order_sla_time,
            EXCLUDED.fast_dispatch_sla_time, EXCLUDED.fast_rts_sla_time, EXCLUDED.fast_collection_sla_time,
            EXCLUDED.instore_pickup_sla_time, EXCLUDED.shipping_due_time, EXCLUDED.collection_due_time,
            EXCLUDED.delivery_due_time, EXCLUDED.pick_up_cut_off_time, EXCLUDED.recommended_shipping_time,
            EXCLUDED.delivery_option_required_delivery_time, EXCLUDED.release_date, EXCLUDED.cancel_reason,
            EXCLUDED.cancellation_initiator, EXCLUDED.currency, EXCLUDED.total_amount, EXCLUDED.sub_total,
            EXCLUDED.original_total_product_price, EXCLUDED.seller_discount, EXCLUDED.platform_discount,
            EXCLUDED.payment_platform_discount, EXCLUDED.payment_discount_service_fee,
            EXCLUDED.shipping_fee, EXCLUDED.original_shipping_fee, EXCLUDED.shipping_fee_seller_discount,
            EXCLUDED.shipping_fee_platform_discount, EXCLUDED.shipping_fee_cofunded_discount, EXCLUDED.tax,
            EXCLUDED.product_tax, EXCLUDED.shipping_fee_tax, EXCLUDED.retail_delivery_fee,
            EXCLUDED.buyer_service_fee, EXCLUDED.small_order_fee, EXCLUDED.handling_fee,
            EXCLUDED.shipping_insurance_fee, EXCLUDED.item_insurance_fee, EXCLUDED.item_insurance_tax,
            EXCLUDED.distance_shipping_fee, EXCLUDED.distance_fee, EXCLUDED.payment_method_name,
            EXCLUDED.is_cod, EXCLUDED.is_sample_order, EXCLUDED.is_refundable_sample,
            EXCLUDED.is_replacement_order, EXCLUDED.replaced_order_id, EXCLUDED.is_exchange_order,
            EXCLUDED.exchange_source_order_id, EXCLUDED.is_subscription_order, EXCLUDED.is_on_hold_order,
            EXCLUDED.is_buyer_request_cancel, EXCLUDED.has_updated_recipient_address,
            EXCLUDED.authentication_required, EXCLUDED.buyer_user_id, EXCLUDED.buyer_nickname,
            EXCLUDED.buyer_avatar, EXCLUDED.buyer_email, EXCLUDED.buyer_message, EXCLUDED.seller_note,
            EXCLUDED.cpf, EXCLUDED.cpf_name, EXCLUDED.need_upload_invoice, EXCLUDED.recipient_name,
            EXCLUDED.recipient_first_name, EXCLUDED.recipient_last_name,
            EXCLUDED.recipient_first_name_local_script, EXCLUDED.recipient_last_name_local_script,
            EXCLUDED.recipient_phone_number, EXCLUDED.recipient_full_address,
            EXCLUDED.recipient_address_detail, EXCLUDED.recipient_address_line1,
            EXCLUDED.recipient_address_line2, EXCLUDED.recipient_address_line3,
            EXCLUDED.recipient_address_line4, EXCLUDED.recipient_postal_code, EXCLUDED.recipient_post_town,
            EXCLUDED.recipient_region_code, EXCLUDED.recipient_district_info,
            EXCLUDED.recipient_drop_off_location, EXCLUDED.warehouse_id, EXCLUDED.shipping_provider_id,
            EXCLUDED.shipping_provider, EXCLUDED.tracking_number, EXCLUDED.delivery_option_id,
            EXCLUDED.delivery_option_name, EXCLUDED.split_or_combine_tag, EXCLUDED.auto_combine_group_id,
            EXCLUDED.packages, EXCLUDED.fast_delivery_program, EXCLUDED.fulfillment_priority_level,
            EXCLUDED.handling_duration_days, EXCLUDED.handling_duration_type, EXCLUDED.order_rights,
            EXCLUDED.consultation_id,
            EXCLUDED._raw, EXCLUDED._scrubbed, EXCLUDED._digest, EXCLUDED._synced_at, EXCLUDED._fetched_at,
            EXCLUDED._slice)
        -- The version judged above may be written over. One that came meanwhile is judged here, and
        -- where it is older the page has to be repeated: its line items are invisible to this statement.
        WHERE (o.order_id, o.xmin::text) IN (SELECT c.order_id, c.version FROM changed AS c)
           OR CASE WHEN EXCLUDED.update_time <> o.update_time THEN EXCLUDED.update_time > o.update_time
                   ELSE EXCLUDED._fetched_at >= o._fetched_at AND EXCLUDED._raw <> o._raw END
              AND sync_strict.give_way(o.order_id)
    RETURNING o.order_id, o.xmax = 0 AS is_new
), line AS MATERIALIZED (
    SELECT DISTINCT ON (line_item_id) line_item_id, order_id, item
      FROM (SELECT key(listed.value->>'id') AS line_item_id, c.order_id, listed.value AS item,
                   c.update_time, listed.ordinality AS place
              FROM changed AS c
              JOIN written AS w ON w.order_id = c.order_id
             CROSS JOIN jsonb_array_elements(list(c.record->'line_items')) WITH ORDINALITY AS listed) AS item
     WHERE line_item_id IS NOT NULL
     ORDER BY line_item_id, update_time DESC NULLS LAST, order_id, place DESC
), known_line AS MATERIALIZED (
    -- The stored items of the orders written: another order may have taken over what the version before
    -- listed. As of before this statement, as all reads here.
    SELECT s.line_item_id, s.order_id, s.address
      FROM written AS w
     CROSS JOIN LATERAL (
           SELECT k.line_item_id, k.order_id, k.ctid AS address
             FROM tiktok.order_line_items AS k
            WHERE k.shop_id = $1 AND k.order_id BETWEEN w.order_id AND w.order_id
            ORDER BY k.order_id
           OFFSET 0) AS s
     WHERE NOT w.is_new
), prior_line AS MATERIALIZED (
    SELECT c.order_id, listed.value AS item
      FROM changed AS c
     CROSS JOIN jsonb_array_elements(sync_lenient.list(c.prior->'line_items')) AS listed
     WHERE c.prior IS NOT NULL
), written_line AS (
    INSERT INTO tiktok.order_line_items AS l (
        shop_id, line_item_id,
        order_id, product_id, sku_id, seller_sku, product_name, sku_name, sku_image, sku_type,
        display_status, package_status, package_id, tracking_number, shipping_provider_id,
        shipping_provider_name, rts_time, cancel_reason, cancel_user, currency, original_price, sale_price,
        seller_discount, platform_discount, gift_retail_price, retail_delivery_fee, buyer_service_fee,
        small_order_fee, pfand_fee, distance_shipping_fee, distance_fee, shipping_vat_amount,
        shipping_vat_rate, item_tax, is_gift, is_dangerous_good, needs_prescription, is_unboxing_item,
        unboxing_sku_code, unboxing_case_list, is_pod_customized, pod_info_id, product_listing_type,
        room_id, combined_listing_skus, sub_item_info, handling_duration_days,
        _synced_at, _fetched_at)
    SELECT $1, line_item_id,
           order_id, word(item->>'product_id'), word(item->>'sku_id'), word(item->>'seller_sku'),
           word(item->>'product_name'), word(item->>'sku_name'), word(item->>'sku_image'),
           word(item->>'sku_type'), word(item->>'display_status'), word(item->>'package_status'),
           word(item->>'package_id'), word(item->>'tracking_number'), word(item->>'shipping_provider_id'),
           word(item->>'shipping_provider_name'), epoch(item->>'rts_time'), word(item->>'cancel_reason'),
           word(item->>'cancel_user'), word(item->>'currency'), money(item->>'original_price'),
           money(item->>'sale_price'), money(item->>'seller_discount'), money(item->>'platform_discount'),
           money(item->>'gift_retail_price'), money(item->>'retail_delivery_fee'),
           money(item->>'buyer_service_fee'), money(item->>'small_order_fee'), money(item->>'pfand_fee'),
           money(item->>'distance_shipping_fee'), money(item->>'distance_fee'),
           money(item->>'shipping_vat_amount'), money(item->>'shipping_vat_rate'), node(item->'item_tax'),
           flag(item->>'is_gift'), flag(item->>'is_dangerous_good'), flag(item->>'needs_prescription'),
           flag(item->>'is_unboxing_item'), word(item->>'unboxing_sku_code'),
           node(item->'unboxing_case_list'), flag(item->>'is_pod_customized'), word(item->>'pod_info_id'),
           word(item->>'product_listing_type'), word(item->>'room_id'), node(item->'combined_listing_skus'),
           node(item->'sub_item_info'), whole(item->>'handling_duration_days'),
           now(), $3
      FROM line
     WHERE (order_id, item) NOT IN (SELECT p.order_id, p.item FROM prior_line AS p WHERE p.order_id <> ALL ($6))
        OR (line_item_id, order_id) NOT IN (SELECT n.line_item_id, n.order_id FROM known_line AS n)
     ORDER BY line_item_id
    ON CONFLICT (shop_id, line_item_id) DO UPDATE SET (
        order_id, product_id, sku_id, seller_sku, product_name, sku_name, sku_image, sku_type,
        display_status, package_status, package_id, tracking_number, shipping_provider_id,
        shipping_provider_name, rts_time, cancel_reason, cancel_user, currency, original_price, sale_price,
        seller_discount, platform_discount, gift_retail_price, retail_delivery_fee, buyer_service_fee,
        small_order_fee, pfand_fee, distance_shipping_fee, distance_fee, shipping_vat_amount,
        shipping_vat_rate, item_tax, is_gift, is_dangerous_good, needs_prescription, is_unboxing_item,
        unboxing_sku_code, unboxing_case_list, is_pod_customized, pod_info_id, product_listing_type,
        room_id, combined_listing_skus, sub_item_info, handling_duration_days,
        _synced_at, _fetched_at)
        = ROW (
            EXCLUDED.order_id, EXCLUDED.product_id, EXCLUDED.sku_id, EXCLUDED.seller_sku,
            EXCLUDED.product_name, EXCLUDED.sku_name, EXCLUDED.sku_image, EXCLUDED.sku_type,
            EXCLUDED.display_status, EXCLUDED.package_status, EXCLUDED.package_id, EXCLUDED.tracking_number,
            EXCLUDED.shipping_provider_id, EXCLUDED.shipping_provider_name, EXCLUDED.rts_time,
            EXCLUDED.cancel_reason, EXCLUDED.cancel_user, EXCLUDED.currency, EXCLUDED.original_price,
            EXCLUDED.sale_price, EXCLUDED.seller_discount, EXCLUDED.platform_discount,
            EXCLUDED.gift_retail_price, EXCLUDED.retail_delivery_fee, EXCLUDED.buyer_service_fee,
            EXCLUDED.small_order_fee, EXCLUDED.pfand_fee, EXCLUDED.distance_shipping_fee,
            EXCLUDED.distance_fee, EXCLUDED.shipping_vat_amount, EXCLUDED.shipping_vat_rate,
            EXCLUDED.item_tax, EXCLUDED.is_gift, EXCLUDED.is_dangerous_good, EXCLUDED.needs_prescription,
            EXCLUDED.is_unboxing_item, EXCLUDED.unboxing_sku_code, EXCLUDED.unboxing_case_list,
            EXCLUDED.is_pod_customized, EXCLUDED.pod_info_id, EXCLUDED.product_listing_type,
            EXCLUDED.room_id, EXCLUDED.combined_listing_skus, EXCLUDED.sub_item_info,
            EXCLUDED.handling_duration_days,
            EXCLUDED._synced_at, EXCLUDED._fetched_at)
        -- An item that another order took over later stays there.
        WHERE l.order_id = EXCLUDED.order_id OR l._fetched_at <= EXCLUDED._fetched_at
), vanished_line AS (
    -- Never one that was just written: an item may move to another order of the same page.
    DELETE FROM tiktok.order_line_items AS l
     WHERE l.ctid = ANY (ARRAY (
           SELECT n.address
             FROM known_line AS n
            WHERE n.line_item_id NOT IN (SELECT i.line_item_id FROM line AS i)
              AND n.order_id NOT IN (
                  SELECT c.order_id FROM changed AS c WHERE is_broken(c.record->'line_items', 'id'))))
)
SELECT (SELECT count(*) FROM written AS w WHERE w.is_new) AS inserted,
       (SELECT count(*) FROM written AS w WHERE NOT w.is_new) AS updated,
       (SELECT count(*) FROM judged AS j WHERE j.verdict <> 'unchanged')
       - (SELECT count(*) FROM written) AS stale,
       (SELECT count(*) FROM judged AS j WHERE j.verdict = 'unchanged') AS unchanged;
