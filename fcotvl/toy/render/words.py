"""Words of the renders; most become one token of the tiny tokenizer."""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MONTHS = _split("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")

SHORT = _split(
    """Oats Rice Figs Corn Beef Fish Milk Eggs Salt Tea Wine Plum Pear Lime Kiwi Peas Soup Cake Nuts
    Coal Gas Wind Oil Sun Iron Gold Zinc Tin Lead Wood Wool Silk Bus Car Bike Tram Ship Van Cab Jet
    Rome Oslo Lima Cork Bern Nice York Bath Kiev Riga Doha Baku Cuba Iran Peru Fiji Mali Chad Togo
    Bed Sofa Desk Lamp Fork Mug Pan Rug Pen Ink Map Book Film Game Golf Polo Judo Yoga"""
)
"""At most four letters: labels under bars and in narrow cells."""

LONG = _split(
    """Apples Bread Butter Carrot Cheese Cherry Coffee Flour Garlic Grapes Honey Juice Lemon Mango
    Melon Onion Orange Papaya Pasta Peach Pepper Potato Pumpkin Sugar Tomato Vanilla Walnut Yogurt
    Athens Berlin Boston Cairo Dakar Delhi Dublin Geneva Havana Lisbon London Madrid Manila Milan
    Moscow Munich Nairobi Naples Paris Prague Quito Seoul Sydney Tokyo Vienna Warsaw Zurich
    Brazil Canada Chile China Egypt France Ghana Greece India Italy Japan Kenya Mexico Nepal Norway
    Poland Qatar Russia Spain Sweden Turkey Uganda Chairs Tables Shelf Mirror Pillow Carpet Candle
    Hammer Ladder Screws Shovel Bucket Paint Engine Filter Mouse Printer Router Screen Tablet Camera
    Energy Health Media Mining Music Retail Sports Tourism Travel Water Hotel Museum Forest Garden
    School Library Airport Bridge Railway Harbor Market Stadium Theater Tunnel"""
)
"""Five to eight letters: items, cities, countries, trades."""

NAMES = _split(
    """Adams Baker Clark Davis Evans Foster Grant Harris Irving Jones Keller Lopez Miller Nolan
    Owens Parker Quinn Reed Smith Taylor Usher Vargas Wagner Xavier Young Ziegler Brown Cohen Duncan
    Fisher Garcia Hansen Jensen Kumar Larsen Meyer Novak Olsen Perez Rossi Silva Tanaka Weber
    Wong"""
)

TITLES = _split(
    """Sales Output Exports Imports Visitors Budget Prices Orders Profit Stock Survey Results
    Report Summary Figures Review Trends Demand Supply Growth Costs Income Traffic Users
    Members Votes"""
)

PAPERS = _split("Invoice Receipt Order Notice Memo Ticket Permit Claim Bill Letter Form")

TEXT_FIELDS = _split("Name Client Agent Owner Buyer Seller Author Doctor Tenant Manager")
PLACE_FIELDS = _split("City Branch Office Origin Depot Venue Region")
CODE_FIELDS = _split("Code Ref Serial Badge Permit Account File Batch Parcel Policy")
DATE_FIELDS = _split("Date Due Issued Start Expiry Signed Paid Sent")
AMOUNT_FIELDS = _split("Rent Tax Fee Deposit Price Credit Refund Wage Fine Bonus Freight Postage Discount Rate")
