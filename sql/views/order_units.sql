-- One row per unit sold, with what one usually needs of its order, shop and product.
CREATE OR REPLACE VIEW bi.order_units AS
SELECT i.shop_id,
       s.name AS shop_name,
       s.region,
       i.order_id,
       i.line_item_id,
       (o.create_time AT TIME ZONE coalesce(s.timezone, 'UTC'))::date AS order_date,
       o.create_time,
       o.paid_time,
       o.status AS order_status,
       i.display_status,
       (o.paid_time IS NOT NULL
        AND o.status IS DISTINCT FROM 'CANCELLED' AND i.display_status IS DISTINCT FROM 'CANCELLED'
        AND o.is_sample_order IS NOT TRUE AND o.is_replacement_order IS NOT TRUE
        AND i.is_gift IS NOT TRUE) AS counts_as_sale,
       i.product_id,
       i.product_name,
       i.sku_id,
       i.sku_name,
       i.seller_sku,
       i.currency,
       i.original_price,
       i.seller_discount,
       i.platform_discount,
       i.sale_price,
       i.is_gift,
       o.is_sample_order,
       o.is_replacement_order,
       o.is_cod,
       o.buyer_user_id,
       o.recipient_region_code,
       o.warehouse_id,
       o.fulfillment_type,
       i.package_id,
       i.tracking_number,
       i.cancel_reason
  FROM tiktok.order_line_items AS i
  JOIN tiktok.orders AS o ON o.shop_id = i.shop_id AND o.order_id = i.order_id
  LEFT JOIN tiktok.shops AS s ON s.shop_id = i.shop_id;

COMMENT ON VIEW bi.order_units IS
    'Units of all orders, one row each, beside their order and shop: the view to start from. All orders are here; WHERE counts_as_sale keeps the units that bi.daily_sales counts.';
COMMENT ON COLUMN bi.order_units.shop_id IS 'Shop; joins tiktok.shops.';
COMMENT ON COLUMN bi.order_units.shop_name IS 'Name of the shop.';
COMMENT ON COLUMN bi.order_units.region IS 'Country the shop sells in (ISO 3166-1 alpha-2).';
COMMENT ON COLUMN bi.order_units.order_id IS 'Order; joins tiktok.orders.';
COMMENT ON COLUMN bi.order_units.line_item_id IS 'The unit; joins tiktok.order_line_items.';
COMMENT ON COLUMN bi.order_units.order_date IS 'Day on which the order was placed, in shops.timezone; UTC where the shop has none.';
COMMENT ON COLUMN bi.order_units.create_time IS 'When the order was placed.';
COMMENT ON COLUMN bi.order_units.paid_time IS 'When the order was paid; NULL until then.';
COMMENT ON COLUMN bi.order_units.order_status IS 'tiktok.orders.status.';
COMMENT ON COLUMN bi.order_units.display_status IS 'tiktok.order_line_items.display_status: where this unit stands.';
COMMENT ON COLUMN bi.order_units.counts_as_sale IS 'True: order paid, neither order nor unit CANCELLED, no sample, no replacement, no gift.';
COMMENT ON COLUMN bi.order_units.product_id IS 'Product; joins tiktok.products.';
COMMENT ON COLUMN bi.order_units.product_name IS 'Title of the product when it was bought.';
COMMENT ON COLUMN bi.order_units.sku_id IS 'SKU; joins tiktok.skus.';
COMMENT ON COLUMN bi.order_units.sku_name IS 'Variant when it was bought.';
COMMENT ON COLUMN bi.order_units.seller_sku IS 'The seller''s own code when it was bought; not unique.';
COMMENT ON COLUMN bi.order_units.currency IS 'Currency of the amounts of the row (ISO 4217).';
COMMENT ON COLUMN bi.order_units.original_price IS 'Price before discounts, in `currency`.';
COMMENT ON COLUMN bi.order_units.seller_discount IS 'Discount borne by the seller, in `currency`.';
COMMENT ON COLUMN bi.order_units.platform_discount IS 'Discount borne by TikTok, in `currency`.';
COMMENT ON COLUMN bi.order_units.sale_price IS 'Price after discounts, in `currency`.';
COMMENT ON COLUMN bi.order_units.is_gift IS 'True: free gift.';
COMMENT ON COLUMN bi.order_units.is_sample_order IS 'True: the order is a sample.';
COMMENT ON COLUMN bi.order_units.is_replacement_order IS 'True: the order replaces another one.';
COMMENT ON COLUMN bi.order_units.is_cod IS 'True: paid in cash on delivery.';
COMMENT ON COLUMN bi.order_units.buyer_user_id IS 'The buyer, as a number of the platform.';
COMMENT ON COLUMN bi.order_units.recipient_region_code IS 'Country of the recipient (ISO 3166-1 alpha-2).';
COMMENT ON COLUMN bi.order_units.warehouse_id IS 'Warehouse the order ships from; joins tiktok.warehouses.';
COMMENT ON COLUMN bi.order_units.fulfillment_type IS 'Who fulfils the order.';
COMMENT ON COLUMN bi.order_units.package_id IS 'Parcel that carries the unit.';
COMMENT ON COLUMN bi.order_units.tracking_number IS 'Tracking number of the unit; NULL until shipped.';
COMMENT ON COLUMN bi.order_units.cancel_reason IS 'Why the unit was cancelled.';
