-- Stock per SKU over all warehouses, of SKUs that still exist.
CREATE OR REPLACE VIEW bi.stock_on_hand AS
SELECT i.shop_id,
       s.name AS shop_name,
       i.sku_id,
       i.product_id,
       p.title AS product_title,
       coalesce(k.seller_sku, min(i.seller_sku)) AS seller_sku,
       p.status AS product_status,
       k.currency,
       k.price,
       count(*) AS warehouses,
       sum(coalesce(i.available_quantity, 0))::bigint AS available,
       sum(coalesce(i.committed_quantity, 0))::bigint AS committed,
       sum(coalesce(i.available_quantity, 0) + coalesce(i.committed_quantity, 0))::bigint AS on_hand
  FROM tiktok.inventory AS i
  LEFT JOIN tiktok.skus AS k ON k.shop_id = i.shop_id AND k.sku_id = i.sku_id
  LEFT JOIN tiktok.products AS p ON p.shop_id = i.shop_id AND p.product_id = i.product_id
  LEFT JOIN tiktok.shops AS s ON s.shop_id = i.shop_id
 WHERE i._deleted_at IS NULL AND k._deleted_at IS NULL AND p._deleted_at IS NULL
 GROUP BY i.shop_id, s.name, i.sku_id, i.product_id, p.title, k.seller_sku, p.status, k.currency, k.price;

COMMENT ON VIEW bi.stock_on_hand IS
    'Stock now, one row per SKU: sums over its warehouses. Deleted products, SKUs and stock rows are left out; SKUs that only the inventory knows are in, without price or title.';
COMMENT ON COLUMN bi.stock_on_hand.shop_id IS 'Shop; joins tiktok.shops.';
COMMENT ON COLUMN bi.stock_on_hand.shop_name IS 'Name of the shop.';
COMMENT ON COLUMN bi.stock_on_hand.sku_id IS 'SKU; joins tiktok.skus.';
COMMENT ON COLUMN bi.stock_on_hand.product_id IS 'Product; joins tiktok.products.';
COMMENT ON COLUMN bi.stock_on_hand.product_title IS 'Name of the product now.';
COMMENT ON COLUMN bi.stock_on_hand.seller_sku IS 'The seller''s own code; may be NULL, not unique.';
COMMENT ON COLUMN bi.stock_on_hand.product_status IS 'tiktok.products.status; only ACTIVATE is on sale.';
COMMENT ON COLUMN bi.stock_on_hand.currency IS 'Currency of price (ISO 4217).';
COMMENT ON COLUMN bi.stock_on_hand.price IS 'Price of one unit now, in `currency`.';
COMMENT ON COLUMN bi.stock_on_hand.warehouses IS 'Number of warehouses that list the SKU.';
COMMENT ON COLUMN bi.stock_on_hand.available IS 'Units that can still be sold.';
COMMENT ON COLUMN bi.stock_on_hand.committed IS 'Units that orders have reserved.';
COMMENT ON COLUMN bi.stock_on_hand.on_hand IS 'available + committed.';
