"""A minimal tap on the Singer SDK: the orders of all shops as Singer messages on stdout."""

from __future__ import annotations

from typing import Any

from singer_sdk import RESTStream, Tap  # type: ignore[import-not-found]
from singer_sdk import typing as th

from tests.benchmarks.peers.signed import PATH, SHOPS, SINCE, URL, query_of, sign

_TEXTS = """
auto_combine_group_id buyer_avatar buyer_email buyer_message buyer_nickname cancel_reason
cancellation_initiator consultation_id delivery_option_id delivery_option_name delivery_type
exchange_source_order_id fast_delivery_program fulfillment_type order_type payment_method_name
replaced_order_id seller_note shipping_provider shipping_provider_id shipping_type
split_or_combine_tag status tracking_number user_id warehouse_id
"""
_TIMES = """
cancel_order_sla_time cancel_time collection_due_time collection_time create_time delivery_due_time
delivery_option_required_delivery_time delivery_sla_time delivery_time paid_time release_date
request_cancel_time rts_sla_time rts_time shipping_due_time tts_sla_time update_time
"""
_CLAIMS = """
authentication_required has_updated_recipient_address is_buyer_request_cancel is_cod
is_exchange_order is_on_hold_order is_refundable_sample is_replacement_order is_sample_order
is_subscription_order
"""
_OBJECTS = ("handling_duration", "payment", "recipient_address")
_LISTS = ("line_items", "packages")


class Orders(RESTStream):  # type: ignore[misc]
    """TikTok Shop 202309 Get Order List."""

    name = "orders"
    path = PATH
    http_method = "POST"
    primary_keys = ("id",)
    records_jsonpath = "$.data.orders[*]"
    next_page_token_jsonpath = "$.data.next_page_token"
    url_base = URL
    partitions = [{"shop_id": shop["shop_id"]} for shop in SHOPS]  # noqa: RUF012 - as the SDK has it
    schema = th.PropertiesList(
        th.Property("id", th.StringType, required=True),
        th.Property("shop_id", th.StringType),
        *(th.Property(name, th.StringType) for name in _TEXTS.split()),
        *(th.Property(name, th.IntegerType) for name in _TIMES.split()),
        *(th.Property(name, th.BooleanType) for name in _CLAIMS.split()),
        # Any content, so that nothing of it is cut away; one JSON column each in Postgres.
        *(th.Property(name, th.ObjectType(additional_properties=True)) for name in _OBJECTS),
        *(th.Property(name, th.ArrayType(th.ObjectType(additional_properties=True))) for name in _LISTS),
    ).to_dict()

    def get_url_params(self, context: Any, next_page_token: Any) -> dict[str, str]:
        query = query_of(next(shop for shop in SHOPS if shop["shop_id"] == context["shop_id"]))
        return query | ({"page_token": next_page_token} if next_page_token else {})

    def prepare_request_payload(self, context: Any, next_page_token: Any) -> dict[str, int]:
        return {"update_time_ge": SINCE}

    def prepare_request(self, context: Any, next_page_token: Any) -> Any:
        return sign(super().prepare_request(context, next_page_token))


class OrdersTap(Tap):  # type: ignore[misc]
    """Only this stream."""

    name = "tap-orders"
    config_jsonschema = th.PropertiesList().to_dict()

    def discover_streams(self) -> list[Orders]:
        return [Orders(tap=self)]


if __name__ == "__main__":
    OrdersTap.cli()
