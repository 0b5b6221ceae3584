"""What the simulated shops sell: goods, their variants, and titles a person would write."""

from __future__ import annotations

import random
from dataclasses import dataclass

COLORS = ("Black", "Ivory", "Sage Green", "Dusty Pink", "Navy", "Caramel")
SIZES = ("S", "M", "L", "XL")
SHADES = ("01 Porcelain", "02 Honey", "03 Rosewood", "04 Cocoa")
PACKS = ("1 pack", "3 pack", "6 pack")


@dataclass(frozen=True, slots=True)
class Good:
    """A kind of thing: its noun, its category, a dollar price and the attributes its variants differ in."""

    noun: str
    category_id: str
    category: str
    usd: float
    axes: tuple[tuple[str, tuple[str, ...]], ...]
    is_drink: bool = False
    is_dangerous: bool = False


_WEAR = (("Color", COLORS), ("Size", SIZES))
_BEAUTY = (("Shade", SHADES),)
_COLOR = (("Color", COLORS),)
_PACK = (("Quantity", PACKS),)

GOODS = (
    Good("Oversized Knit Cardigan", "601226", "Women's Knitwear", 34.0, _WEAR),
    Good("High-Waist Yoga Leggings", "601302", "Sports Bottoms", 24.0, _WEAR),
    Good("Linen Button-Up Shirt", "601245", "Men's Shirts", 29.0, _WEAR),
    Good("Ribbed Crop Top", "601228", "Women's Tops", 14.0, _WEAR),
    Good("Quilted Puffer Vest", "601231", "Women's Outerwear", 46.0, _WEAR),
    Good("Cushioned Running Socks", "601310", "Socks", 9.0, _PACK),
    Good("Matte Liquid Lipstick", "601450", "Lip Makeup", 11.0, _BEAUTY),
    Good("Dewy Cushion Foundation", "601452", "Face Makeup", 19.0, _BEAUTY),
    Good("Vitamin C Face Serum 30 ml", "601470", "Serums", 16.0, _PACK),
    Good("Rice Water Shampoo Bar", "601480", "Hair Care", 8.0, _PACK),
    Good("Heatless Curling Ribbon", "601486", "Hair Styling", 7.0, _COLOR),
    Good("Insulated Tumbler 1.1 l", "600942", "Drinkware", 27.0, _COLOR),
    Good("Cold Brew Coffee Can", "700437", "Soft Drinks", 3.0, _PACK, is_drink=True),
    Good("Sparkling Yuzu Soda", "700438", "Soft Drinks", 2.5, _PACK, is_drink=True),
    Good("Wireless Earbuds with Charging Case", "601739", "Earphones", 39.0, _COLOR, is_dangerous=True),
    Good("Magnetic Power Bank 10000 mAh", "601755", "Power Banks", 32.0, _COLOR, is_dangerous=True),
    Good("LED Strip Lights 10 m", "600812", "Lighting", 18.0, _PACK),
    Good("Sunset Projection Lamp", "600815", "Lighting", 21.0, _COLOR),
    Good("Non-Stick Mini Egg Pan", "600910", "Cookware", 15.0, _COLOR),
    Good("Pet Hair Remover Roller", "602110", "Pet Grooming", 13.0, _COLOR),
    Good("Weighted Jump Rope", "603014", "Fitness Equipment", 12.0, _COLOR),
    Good("Foldable Yoga Mat 6 mm", "603019", "Yoga", 26.0, _COLOR),
    Good("Minimalist Card Holder Wallet", "605240", "Wallets", 17.0, _COLOR),
    Good("Crossbody Sling Bag", "605210", "Bags", 28.0, _COLOR),
    Good("Bullet Journal A5, 160 g Paper", "604512", "Stationery", 14.0, _COLOR),
    Good("Gel Pen Set", "604520", "Stationery", 6.0, _PACK),
)

_BRANDS = ("Lumière", "NORTHFOLD", "Kumo & Co.", "Bare Theory", "Oakline", "MIRU", "Tiny Harbor", "Velvet 8")
_MOODS = ("Cozy", "Everyday", "Ultra-Soft", "Viral", "Premium", "Limited Edition", "Upgraded 2.0", "Classic")
_TAILS = {
    "US": ("– Free Shipping", "| Gift for Her", "for Women & Men", "(As Seen on TikTok)", ""),
    "GB": ("– UK Stock", "| Next Day Delivery", "for Autumn/Winter", "", "(Best Seller)"),
    "DE": ("– Größe wählbar", "| Geschenkidee", "für Damen & Herren", "", "mit Etui"),
    "VN": ("– Hàng chính hãng", "| Freeship toàn quốc", "mẫu mới 2026", "", "quà tặng ý nghĩa"),
    "ID": ("– Bisa COD", "| Garansi 100% Original", "model terbaru", "", "kado wanita & pria"),
    "TH": ("– พร้อมส่ง", "| ของแท้ 100%", "รุ่นใหม่", "", "ส่งฟรี"),
    "JP": ("【送料無料】", "| ギフトに最適", "男女兼用", "", "新作"),
    "BR": ("– Frete Grátis", "| Pronta Entrega", "para Presente", "", "Original"),
}


def compose_title(good: Good, region: str, *, rng: random.Random) -> str:
    """A listing title for this market: brand, praise, noun and the market's favourite ending."""
    parts = (rng.choice(_BRANDS), rng.choice(_MOODS), good.noun, rng.choice(_TAILS[region]))
    return " ".join(part for part in parts if part)


def compose_variants(good: Good, count: int, *, rng: random.Random) -> list[tuple[tuple[str, str], ...]]:
    """At most ``count`` different variants, each as (attribute, value) pairs."""
    variants: list[tuple[tuple[str, str], ...]] = [()]
    for name, values in good.axes:
        variants = [(*variant, (name, value)) for variant in variants for value in values]
    rng.shuffle(variants)
    return variants[:count]
