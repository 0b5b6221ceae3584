-- Stock at a past moment, as far as it was seen then.
CREATE OR REPLACE FUNCTION bi.inventory_asof(moment timestamptz)
RETURNS TABLE (
    shop_id text, sku_id text, warehouse_id text, product_id text,
    available_quantity bigint, committed_quantity bigint, seen_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT h.shop_id, h.sku_id, h.warehouse_id, h.product_id,
           h.available_quantity, h.committed_quantity, h.valid_from
      FROM tiktok.inventory_history AS h
     WHERE h.valid_from <= moment AND (h.valid_to > moment OR h.valid_to IS NULL)
$$;

COMMENT ON FUNCTION bi.inventory_asof(timestamptz) IS
    'Stock at the given moment, one row per shop, SKU and warehouse: the quantities that the last answer before it had shown, and seen_at, when they were first seen. Nothing for SKUs not yet seen, or gone, by then.';
