-- Sales per shop, day and currency. An order counts on the day it was placed, in the shop's time zone,
-- once it is paid; cancelled orders, samples and replacements do not count.
CREATE OR REPLACE VIEW bi.daily_sales AS
SELECT o.shop_id,
       s.name AS shop_name,
       s.region,
       (o.create_time AT TIME ZONE coalesce(s.timezone, 'UTC'))::date AS order_date,
       o.currency,
       count(*) AS orders,
       sum(l.units)::bigint AS units,
       sum(l.gift_units)::bigint AS gift_units,
       sum(l.gross_merchandise) AS gross_merchandise,
       sum(l.seller_discount) AS seller_discount,
       sum(l.platform_discount) AS platform_discount,
       sum(l.net_merchandise) AS net_merchandise,
       sum(coalesce(o.shipping_fee, 0)) AS shipping_fee,
       sum(coalesce(o.tax, 0)) AS tax,
       sum(coalesce(o.total_amount, 0)) AS sales
  FROM tiktok.orders AS o
  LEFT JOIN tiktok.shops AS s ON s.shop_id = o.shop_id
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE i.is_gift IS NOT TRUE) AS units,
              count(*) FILTER (WHERE i.is_gift) AS gift_units,
              coalesce(sum(i.original_price) FILTER (WHERE i.is_gift IS NOT TRUE), 0) AS gross_merchandise,
              coalesce(sum(i.seller_discount) FILTER (WHERE i.is_gift IS NOT TRUE), 0) AS seller_discount,
              coalesce(sum(i.platform_discount) FILTER (WHERE i.is_gift IS NOT TRUE), 0) AS platform_discount,
              coalesce(sum(i.sale_price) FILTER (WHERE i.is_gift IS NOT TRUE), 0) AS net_merchandise
         FROM tiktok.order_line_items AS i
        WHERE i.shop_id = o.shop_id AND i.order_id = o.order_id
          AND i.display_status IS DISTINCT FROM 'CANCELLED') AS l
 WHERE o.paid_time IS NOT NULL
   AND o.status IS DISTINCT FROM 'CANCELLED'
   AND o.is_sample_order IS NOT TRUE
   AND o.is_replacement_order IS NOT TRUE
   AND o.create_time IS NOT NULL
 GROUP BY 1, 2, 3, 4, 5;

COMMENT ON VIEW bi.daily_sales IS
    'Sales per shop, local day and currency. Counts orders that are paid (paid_time is set), not CANCELLED, no sample and no replacement, on the day they were placed (create_time) in the shop''s time zone. A day changes later when an order of it is paid or cancelled. Refunds are not subtracted. Never add amounts of different currencies.';
COMMENT ON COLUMN bi.daily_sales.shop_id IS 'Shop; joins tiktok.shops.';
COMMENT ON COLUMN bi.daily_sales.shop_name IS 'Name of the shop.';
COMMENT ON COLUMN bi.daily_sales.region IS 'Country the shop sells in (ISO 3166-1 alpha-2).';
COMMENT ON COLUMN bi.daily_sales.order_date IS 'Day of orders.create_time in shops.timezone; UTC where the shop has none.';
COMMENT ON COLUMN bi.daily_sales.currency IS 'Currency of all amounts of the row (ISO 4217).';
COMMENT ON COLUMN bi.daily_sales.orders IS 'Number of orders that count.';
COMMENT ON COLUMN bi.daily_sales.units IS 'Their line items that are neither gifts nor CANCELLED; one line item is one unit.';
COMMENT ON COLUMN bi.daily_sales.gift_units IS 'Their line items that are gifts and not CANCELLED.';
COMMENT ON COLUMN bi.daily_sales.gross_merchandise IS 'Sum of original_price of the units, before discounts, in `currency`.';
COMMENT ON COLUMN bi.daily_sales.seller_discount IS 'Sum of seller_discount of the units, in `currency`.';
COMMENT ON COLUMN bi.daily_sales.platform_discount IS 'Sum of platform_discount of the units, in `currency`.';
COMMENT ON COLUMN bi.daily_sales.net_merchandise IS 'Sum of sale_price of the units, after discounts, in `currency`.';
COMMENT ON COLUMN bi.daily_sales.shipping_fee IS 'Sum of orders.shipping_fee, after shipping discounts, in `currency`.';
COMMENT ON COLUMN bi.daily_sales.tax IS 'Sum of orders.tax, in `currency`.';
COMMENT ON COLUMN bi.daily_sales.sales IS 'Sum of orders.total_amount: what buyers pay, shipping, taxes and fees included, in `currency`.';
