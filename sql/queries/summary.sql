-- name: table_counts
-- Rows of every table that people query, as they read it: deleted things not counted.
SELECT name, rows FROM (
SELECT 1 AS place, 'shops' AS name, count(*) AS rows FROM tiktok.shops WHERE disconnected_at IS NULL
UNION ALL SELECT 2, 'orders', count(*) FROM tiktok.orders
UNION ALL SELECT 3, 'order_line_items', count(*) FROM tiktok.order_line_items
UNION ALL SELECT 4, 'products', count(*) FROM tiktok.products WHERE _deleted_at IS NULL
UNION ALL SELECT 5, 'skus', count(*) FROM tiktok.skus WHERE _deleted_at IS NULL
UNION ALL SELECT 6, 'inventory', count(*) FROM tiktok.inventory WHERE _deleted_at IS NULL
UNION ALL SELECT 7, 'inventory_history', count(*) FROM tiktok.inventory_history
UNION ALL SELECT 8, 'warehouses', count(*) FROM tiktok.warehouses WHERE _deleted_at IS NULL
) AS counted ORDER BY place;

-- name: recent_sales
-- $1 days. Sales of each shop over its last days, newest day first.
SELECT shop_name, region, currency, order_date, orders, units, sales
  FROM bi.daily_sales
 WHERE order_date > (SELECT max(order_date) FROM bi.daily_sales) - $1::integer
 ORDER BY shop_name, order_date DESC;

-- name: stock_totals
-- Stock of each shop: SKUs, units that can be sold, units that orders have reserved, SKUs sold out.
SELECT shop_name, count(*) AS skus, sum(available)::bigint AS available, sum(committed)::bigint AS committed,
       count(*) FILTER (WHERE available = 0) AS sold_out
  FROM bi.stock_on_hand
 GROUP BY shop_id, shop_name
 ORDER BY shop_name;

-- name: order_versions
-- $1 shop_id. Every order with its state, to be compared with what is true.
SELECT order_id, status, extract(epoch FROM update_time)::bigint AS update_time
  FROM tiktok.orders WHERE shop_id = $1;

-- name: stock_levels
-- $1 shop_id. Every stock level, to be compared with what is true.
SELECT sku_id, warehouse_id, available_quantity, committed_quantity
  FROM tiktok.inventory WHERE shop_id = $1 AND _deleted_at IS NULL;
