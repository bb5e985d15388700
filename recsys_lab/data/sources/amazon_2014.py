"""Amazon Reviews 2014, 5-core, one set per category: `amazon-2014-beauty`, `amazon-2014-toys-and-games`, ...

McAuley, Targett, Shi, van den Hengel: Image-based Recommendations on Styles and Substitutes, SIGIR 2015.

The publisher states no checksums, only the number of reviews per category, so that number is compared (and users and
items too where papers agree on them). Times are days: most events of a user on one day tie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables

URL = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
COLUMNS = Columns(user="reviewerID", item="asin", timestamp="unixReviewTime", rating="overall")
COUNTS = {
    "Books": Counts(8_898_041),
    "Electronics": Counts(1_689_188),
    "Movies_and_TV": Counts(1_697_533),
    "CDs_and_Vinyl": Counts(1_097_592),
    "Clothing_Shoes_and_Jewelry": Counts(278_677),
    "Home_and_Kitchen": Counts(551_682),
    "Kindle_Store": Counts(982_619),
    "Sports_and_Outdoors": Counts(296_337, users=35_598, items=18_357),
    "Cell_Phones_and_Accessories": Counts(194_439),
    "Health_and_Personal_Care": Counts(346_355),
    "Toys_and_Games": Counts(167_597, users=19_412, items=11_924),
    "Video_Games": Counts(231_780),
    "Tools_and_Home_Improvement": Counts(134_476),
    "Beauty": Counts(198_502, users=22_363, items=12_101),
    "Apps_for_Android": Counts(752_937),
    "Office_Products": Counts(53_258),
    "Pet_Supplies": Counts(157_836),
    "Automotive": Counts(20_473),
    "Grocery_and_Gourmet_Food": Counts(151_254),
    "Patio_Lawn_and_Garden": Counts(13_272),
    "Baby": Counts(160_792),
    "Digital_Music": Counts(64_706),
    "Musical_Instruments": Counts(10_261),
    "Amazon_Instant_Video": Counts(37_126),
}
"""Every category of the publisher's page of 2014 and the number of reviews it states."""


def _parser(file: str) -> Callable[[Mapping[str, Path]], RawTables]:
    return lambda files: RawTables(read_interactions([files[file]], "jsonl", COLUMNS, further=False))


def _source(category: str, counts: Counts) -> PublicSource:
    file = f"reviews_{category}_5.json.gz"
    return PublicSource(
        name=f"amazon-2014-{category.lower().replace('_', '-')}",
        licence="Amazon Reviews 2014 (McAuley lab): research use, no formal licence, cite the authors",
        homepage="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        citation="McAuley et al.: Image-based Recommendations on Styles and Substitutes, SIGIR 2015",
        files=(PublicFile(file, (URL + file,)),),
        parse=_parser(file),
        counts=counts,
    )


SOURCES = [_source(category, counts) for category, counts in COUNTS.items()]
