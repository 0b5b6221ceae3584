-- Rows whose parent is missing. Empty when the copy is complete.
CREATE OR REPLACE VIEW bi.orphans AS
SELECT 'line item without order' AS kind, i.shop_id, i.line_item_id AS id, i.order_id AS parent_id,
       i._synced_at AS since
  FROM tiktok.order_line_items AS i
 WHERE NOT EXISTS (SELECT FROM tiktok.orders AS o WHERE o.shop_id = i.shop_id AND o.order_id = i.order_id)
 UNION ALL
SELECT 'sku without product', k.shop_id, k.sku_id, k.product_id, k._synced_at
  FROM tiktok.skus AS k
 WHERE NOT EXISTS (
       SELECT FROM tiktok.products AS p WHERE p.shop_id = k.shop_id AND p.product_id = k.product_id)
 UNION ALL
SELECT 'inventory without sku', i.shop_id, i.sku_id || ' @ ' || i.warehouse_id, i.sku_id, i._synced_at
  FROM tiktok.inventory AS i
 WHERE i._deleted_at IS NULL
   AND NOT EXISTS (SELECT FROM tiktok.skus AS k WHERE k.shop_id = i.shop_id AND k.sku_id = i.sku_id);

COMMENT ON VIEW bi.orphans IS
    'Rows whose parent is missing: should be empty. A row may show up for moments while its parent''s stream is still on the way.';
COMMENT ON COLUMN bi.orphans.kind IS 'What is missing: line item without order, sku without product, inventory without sku.';
COMMENT ON COLUMN bi.orphans.shop_id IS 'Shop; joins tiktok.shops.';
COMMENT ON COLUMN bi.orphans.id IS 'The row: its line_item_id, its sku_id, or its sku_id and warehouse_id.';
COMMENT ON COLUMN bi.orphans.parent_id IS 'The missing parent: an order_id, a product_id or a sku_id.';
COMMENT ON COLUMN bi.orphans.since IS 'When the row last changed.';
