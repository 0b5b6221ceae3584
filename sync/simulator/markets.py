"""The markets the simulated shops sell in: money, names, places and who carries parcels there."""

from __future__ import annotations

from dataclasses import dataclass, field

# Amounts repeat; formatting each one anew was a tenth of the time that an order takes.
_CENTS: dict[int, str] = {}


@dataclass(frozen=True, slots=True)
class Market:
    """One country: ``decimals`` is the number of minor digits its prices show, ``per_usd`` a rough rate."""

    region: str
    country: str
    currency: str
    decimals: int
    per_usd: float
    price_step: int
    utc_offset_h: int
    dial: str
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    streets: tuple[str, ...]
    places: tuple[tuple[str, str, str], ...]
    carriers: tuple[tuple[str, str], ...]
    payments: tuple[str, ...]
    cod_share: float = 0.0
    tax_rate: float = 0.0
    is_sea: bool = False
    is_eu: bool = False
    levels: tuple[str, ...] = field(default=("Country", "State", "City"))

    def minor(self, usd: float) -> int:
        """A dollar price in this market's minor unit, on a price point a shop would choose."""
        raw = usd * self.per_usd * 10**self.decimals
        return max(int(raw / self.price_step) * self.price_step, self.price_step) - (
            1 if self.decimals else 0
        )

    def money(self, minor: int) -> str:
        """The decimal string the API sends for an amount in minor units; zero is "0"."""
        if not self.decimals or minor == 0:
            return str(minor)
        text = _CENTS.get(minor)
        if text is None:
            sign, size = ("-" if minor < 0 else ""), abs(minor)
            text = _CENTS[minor] = f"{sign}{size // 100}.{size % 100:02d}"
        return text


US = Market(
    "US", "United States", "USD", 2, 1.0, 50, -5, "+1",
    ("Ashley", "Brandon", "Carmen", "Derrick", "Emily", "Hannah", "Jamal", "Olivia", "Priya", "Zoë"),
    ("Alvarez", "Brooks", "Chen", "Davis", "Foster", "Johnson", "Nguyen", "O'Neil", "Patel", "Williams"),
    ("Maple Avenue", "N 4th Street", "Sunset Boulevard", "Oak Ridge Drive", "County Road 12"),
    (("Austin", "Texas", "78704"), ("Denver", "Colorado", "80203"), ("San Jose", "California", "95110"),
     ("Tampa", "Florida", "33602"), ("Minneapolis", "Minnesota", "55401")),
    (("USPS", "7117858858072016686"), ("UPS", "7117859084333745966"), ("FedEx", "7129720299146184490")),
    ("Credit card", "PayPal", "Apple Pay", "Klarna"),
    tax_rate=0.0825,
)  # fmt: skip
GB = Market(
    "GB", "United Kingdom", "GBP", 2, 0.79, 50, 0, "+44",
    ("Alfie", "Beth", "Callum", "Freya", "George", "Imogen", "Niamh", "Oscar", "Saoirse", "Yusuf"),
    ("Ahmed", "Baker", "Clarke", "Davies", "Evans", "Hughes", "Khan", "MacLeod", "Smith-Jones", "Taylor"),
    ("High Street", "Victoria Road", "Church Lane", "The Crescent", "Mill Hill"),
    (("Leeds", "West Yorkshire", "LS1 4DY"), ("Bristol", "Avon", "BS1 5TR"), ("Cardiff", "Wales", "CF10 1EP"),
     ("Ripon", "North Yorkshire", "HG4 1QT"), ("Glasgow", "Scotland", "G2 1DY")),
    (("Royal Mail", "7057915283009571"), ("Evri", "7057915283009588"), ("Yodel", "7057915283009603")),
    ("Credit card", "PayPal", "Google Pay", "Clearpay"),
    levels=("Country", "County", "Town"),
)  # fmt: skip
DE = Market(
    "DE", "Germany", "EUR", 2, 0.92, 50, 1, "+49",
    ("Anke", "Björn", "Clara", "Dieter", "Frauke", "Jürgen", "Lena", "Mehmet", "Sören", "Uta"),
    ("Bauer", "Fischer", "Groß", "Hoffmann", "Krüger", "Müller", "Schäfer", "Schmidt", "Weiß", "Yılmaz"),
    ("Hauptstraße", "Bahnhofstraße", "Am Mühlbach", "Schillerplatz", "Lindenallee"),
    (("Köln", "Nordrhein-Westfalen", "50667"), ("Hamburg", "Hamburg", "20095"),
     ("Dresden", "Sachsen", "01067"), ("München", "Bayern", "80331"), ("Görlitz", "Sachsen", "02826")),
    (("DHL Paket", "7310021165403440"), ("Hermes", "7310021165403457"), ("DPD", "7310021165403471")),
    ("Credit card", "PayPal", "Klarna", "SEPA direct debit"),
    is_eu=True, levels=("Land", "Bundesland", "Ort"),
)  # fmt: skip
VN = Market(
    "VN", "Vietnam", "VND", 0, 25400.0, 1000, 7, "+84",
    ("Anh", "Bảo", "Châu", "Dũng", "Hạnh", "Khánh", "Linh", "Minh", "Phương", "Thảo"),
    ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Võ", "Đặng", "Bùi", "Đỗ"),
    ("Đường Lê Lợi", "Đường Nguyễn Huệ", "Hẻm 32 Cách Mạng Tháng 8", "Phố Hàng Bông", "Đường Trần Phú"),
    (("Quận 1", "TP. Hồ Chí Minh", "700000"), ("Hoàn Kiếm", "Hà Nội", "100000"),
     ("Hải Châu", "Đà Nẵng", "550000"), ("Ninh Kiều", "Cần Thơ", "900000")),
    (("J&T Express", "6841743441349706241"), ("Giao Hàng Nhanh", "6841743441349706258"),
     ("Viettel Post", "6841743441349706272")),
    ("Cash on delivery", "MoMo", "ZaloPay", "ATM card"),
    cod_share=0.55, is_sea=True, levels=("Country", "Province", "District"),
)  # fmt: skip
ID = Market(
    "ID", "Indonesia", "IDR", 0, 15800.0, 500, 7, "+62",
    ("Agus", "Budi", "Citra", "Dewi", "Fitri", "Hendra", "Indah", "Putri", "Rizky", "Siti"),
    ("Gunawan", "Halim", "Kusuma", "Lestari", "Pratama", "Saputra", "Siregar", "Susanto", "Wijaya"),
    ("Jl. Merdeka", "Jl. Sudirman", "Gg. Melati RT 03/RW 05", "Jl. Diponegoro", "Perum Griya Asri Blok C"),
    (("Kebayoran Baru", "DKI Jakarta", "12110"), ("Coblong", "Jawa Barat", "40132"),
     ("Gubeng", "Jawa Timur", "60281"), ("Denpasar Selatan", "Bali", "80224")),
    (("J&T Express", "6841743441349706301"), ("JNE Reguler", "6841743441349706318"),
     ("SiCepat", "6841743441349706332")),
    ("GoPay", "OVO", "BCA virtual account", "Cash on delivery"),
    cod_share=0.2, is_sea=True, levels=("Country", "Province", "District"),
)  # fmt: skip
TH = Market(
    "TH", "Thailand", "THB", 2, 35.5, 100, 7, "+66",
    ("กนกวรรณ", "ชัยวัฒน์", "ณัฐพล", "ปรียา", "พิมพ์ชนก", "สมชาย"),
    ("ใจดี", "ทองสุข", "บุญมี", "ศรีสุข", "แสงทอง", "วงศ์ไทย"),
    ("ถนนสุขุมวิท", "ถนนนิมมานเหมินท์", "ซอยลาดพร้าว 15", "ถนนเพชรเกษม"),
    (("วัฒนา", "กรุงเทพมหานคร", "10110"), ("เมืองเชียงใหม่", "เชียงใหม่", "50200"), ("หาดใหญ่", "สงขลา", "90110")),
    (("Flash Express", "6841743441349706401"), ("Kerry Express", "6841743441349706418")),
    ("PromptPay", "TrueMoney", "Cash on delivery"),
    cod_share=0.3, is_sea=True, levels=("Country", "Province", "District"),
)  # fmt: skip
JP = Market(
    "JP", "Japan", "JPY", 0, 151.0, 10, 9, "+81",
    ("葵", "翔太", "美咲", "健一", "さくら", "蓮"),
    ("佐藤", "鈴木", "高橋", "田中", "渡辺", "小林"),
    ("桜丘町1丁目", "本町2-8-4", "北一条西3", "中央3丁目12-7"),
    (("渋谷区", "東京都", "150-0031"), ("札幌市中央区", "北海道", "060-0001"),
     ("仙台市青葉区", "宮城県", "980-0811")),
    (("ヤマト運輸", "7457915283009571"), ("佐川急便", "7457915283009588")),
    ("Credit card", "PayPay", "Konbini"),
    levels=("Country", "Prefecture", "City"),
)  # fmt: skip
BR = Market(
    "BR", "Brazil", "BRL", 2, 5.4, 10, -3, "+55",
    ("Beatriz", "Caio", "Fernanda", "João", "Larissa", "Thiago"),
    ("Araújo", "Carvalho", "Gonçalves", "Lima", "Oliveira", "Souza"),
    ("Rua das Flores", "Avenida Paulista", "Travessa São João", "Rua XV de Novembro"),
    (("São Paulo", "SP", "01310-100"), ("Curitiba", "PR", "80020-310"), ("Recife", "PE", "50030-230")),
    (("Correios", "7557915283009571"), ("Jadlog", "7557915283009588")),
    ("Pix", "Cartão de crédito", "Boleto"),
    levels=("Country", "Estado", "Cidade"),
)  # fmt: skip

# The first five are the default shops; more shops go round the whole ring, so that the fields which
# only these last three markets send can be met as well.
MARKETS = (US, GB, DE, VN, ID, TH, JP, BR)
