"""Further columns, conditions and tables of `recsys-lab prepare` that are wrong, odd, or look wrong and are right."""

# ruff: noqa: E501  (a table: a line is a row)

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
from prepare_cases import GOOD, Case, T, good, parquet

USERS = {"user_id": [1, 1, 1, 2, 2, 2], "item_id": [10, 11, 12] * 2, "timestamp": [T + n for n in range(6)]}
FIELDS = r"fields    of events: "


def column(*values: object, name: str = "x", dtype: object = None) -> bytes:
    """The six events with a further column."""
    return parquet(**USERS, **{name: pl.Series(values, dtype=dtype, strict=False)})  # type: ignore[arg-type]


def of(name: str, content: bytes, message: str, options: str = "", code: int = 0) -> Case:
    return Case(name, {"log.parquet": content}, f"--input log.parquet {options}", code, message)


SIX = range(6)
DAYS = [dt.date(2020, 1, 1 + n) for n in SIX]
ITEMS = b"item_id,price,genre\n10,1.5,a\n11,,b\n12,2.5,a\n"
SHOWN = b"impression_id,user_id,item_id,timestamp,label\n1,1,10,5,1\n1,1,11,5,0\n"


def tables(name: str, options: str, message: str, code: int = 0, **files: bytes) -> Case:
    given = {"log.csv": GOOD.encode(), **{f"{n}.csv": content for n, content in files.items()}}
    return Case(name, given, f"--input log.csv {options}", code, message)


CASES = [
    # -- kinds by what is in the column
    of("dates", column(*DAYS), FIELDS + r"x \(numeric\)"),
    of("dates and times", column(*(dt.datetime(2020, 1, 1, n, tzinfo=dt.UTC) for n in SIX)), FIELDS + r"x \(numeric\)"),
    of("durations", column(*(dt.timedelta(hours=n) for n in SIX)), FIELDS + r"x \(numeric\)"),
    of("times of day", column(*(dt.time(n) for n in SIX)), FIELDS + r"x \(numeric\)"),
    of("decimals", column(*(Decimal(f"{n}.25") for n in SIX)), FIELDS + r"x \(numeric\)"),
    of("truth values", column(*[True, False, None] * 2), FIELDS + r"x \(categorical\)"),
    of("categories", column(*"aabbcc", dtype=pl.Categorical), FIELDS + r"x \(categorical\)"),
    of("an enum", column(*"aabbcc", dtype=pl.Enum(["a", "b", "c", "d"])), FIELDS + r"x \(categorical\)"),
    of("huge numbers", column(*[2**64 - 1, 2**63] * 3, dtype=pl.UInt64), FIELDS + r"x \(categorical\)"),
    of("a constant", column(*["a"] * 6), FIELDS + r"x \(categorical\)"),
    of("infinite numbers", column(float("inf"), *[1.5] * 5), FIELDS + r"x \(numeric\)"),
    of("arrays", column(*([n, 1.5] for n in SIX), dtype=pl.Array(pl.Float64, 2)), FIELDS + r"x \(vector\)"),
    of("all missing", column(*[None] * 6, dtype=pl.String), "column 'x' of the events has no value in any row, so it is left out .*--fields 'x=drop'"),
    of("no type at all", column(*[None] * 6), "column 'x' of the events has no value in any row, so it is left out"),
    of("nested structs", column(*[{"a": 1}] * 6), "column 'x' of the events is of type Struct.*plain values, or lists of them"),
    of("lists of lists", column(*[[[1]]] * 6), "column 'x' of the events is of type List.*so it is left out"),
    of("bytes", column(*[b"x"] * 6), "column 'x' of the events is of type Binary.*so it is left out"),
    of("lists of uneven length", column(*([1.5] * (1 + n) for n in SIX)), "'x' of the events has lists of 1 to 6 numbers; vectors are all of one length, so it is left out"),
    of("unicode names", column(*"aabbcc", name="größe 尺寸"), FIELDS + r"größe 尺寸 \(categorical\)"),
    of("names of file systems", column(*"aabbcc", name="../a/b:c*?"), FIELDS + r"\.\./a/b:c\*\? \(categorical\)"),
    of("names of ours", column(*"aabbcc", name="f0"), FIELDS + r"f0 \(categorical\)"),
    of("more names of ours", parquet(**USERS, __row=[*"aabbcc"], _row=[*"aabbcc"], user=[*"aabbcc"], item=[*"aabbcc"], time=[*"aabbcc"]),
       r"__row .*_row .*user .*item .*time \(categorical\)"),
    of("upper and lower case", parquet(**USERS, Size=[*"aabbcc"], size=[*"aabbcc"]), r"Size \(categorical\), size \(categorical\)"),
    good("numbers with words for missing", GOOD.replace("timestamp", "timestamp,x").replace(f"{T + 61}", f"{T + 61},NA").replace("\n2", ",1.5\n2"), FIELDS),
    # -- --fields
    of("an unknown column", column(*SIX), "--fields 'price=numeric': there is no column 'price'. Further columns: x", "--fields price=numeric", 2),
    of("an unknown kind", column(*SIX), "unknown kind 'numerical'. Did you mean 'numeric'", "--fields x=numerical", 2),
    of("an unknown scope", column(*SIX), "unknown scope 'items'. Did you mean 'item'", "--fields x=items.numeric", 2),
    of("an unknown time", column(*SIX), "unknown time 'asked'", "--fields x=numeric@asked", 2),
    of("no kind", column(*SIX), r"--fields 'x' is not of the form name=\[scope.\]kind", "--fields x", 2),
    of("a column twice", column(*SIX), "names 'x' twice", "--fields x=numeric,x=categorical", 2),
    of("words as numbers", column(*"abcdef"), "'x' of the events has 6 values that are no numbers, so it can't be numeric; --fields says 'x=numeric'", "--fields x=numeric", 2),
    of("dates in text as numbers", column(*["2020-02-01", "2020-02-01 12:00:00", None] * 2), FIELDS + r"x \(numeric\)", "--fields x=numeric"),
    of("dates among numbers", column(*["2020-02-01", "17"] * 3), "'x' of the events has 3 numbers among dates; a field is one or the other", "--fields x=numeric", 2),
    of("lists as numbers", column(*[[1, 2]] * 6), "holds lists .*, so it can't be numeric: multi or vector can hold them", "--fields x=numeric", 2),
    of("dates as lists", column(*DAYS), "is of type Date, so it can't be multi", "--fields x=multi", 2),
    of("uneven lists as vectors", column(*([1.5] * (1 + n) for n in SIX)), "has lists of 1 to 6 numbers.*--fields says 'x=vector'", "--fields x=vector", 2),
    of("structs, said", column(*[{"a": 1}] * 6), "is of type Struct.*--fields says", "--fields x=categorical", 2),
    of("lists between other signs", column(*["a;b", "a"] * 3), "'x' of the events has commas or semicolons in 3 values and bars in none; multi wants text like a.b, or JSON lists; --fields says 'x=multi'", "--fields x=multi", 2),
    of("vectors with a word", column(*["1.5 2", "3 four"] * 3), "'x' of the events has 3 values with what is no number, so it can't be a vector", "--fields x=vector", 2),
    of("vectors with a hole", column(*[[1.5, None], [2.5, 3.5]] * 3), FIELDS + r"x \(vector\)"),
    of("text as lists", column(*["a|b", "a"] * 3), FIELDS + r"x \(multi\)", "--fields x=multi"),
    of("text as vectors", column(*["1.5 2", "3,4"] * 3), FIELDS + r"x \(vector\)", "--fields x=vector"),
    of("the time of asking of an item", column(*SIX), "@query is for fields of events", "--fields x=item.numeric@query", 2),
    of("nothing but what is said", column(*SIX), r"(?s)^(?!.*\n  fields ).*6 events", "--fields *=drop"),
    # -- --keep
    of("a condition without sense", column(*SIX), "--keep 'x' is no condition: write COLUMN OP VALUE", "--keep x", 2),
    of("a condition on nothing", column(*SIX), "--keep 'y>1': the events of 'log' have no column 'y'", "--keep 'y>1'", 2),
    of("a condition that nothing meets", column(*SIX), "--keep 'x>9' dropped all 6 events", "--keep 'x > 9'", 2),
    of("two conditions", column(*SIX), "2 users, 2 items, 2 events", "--keep 'x>=2' --keep 'x<4'"),
    # -- tables of items, users and impressions
    tables("a table of items", "--items items.csv", r"of items: price \(numeric\), genre \(categorical\)", items=ITEMS),
    tables("two columns of one name in a table of items", "--items items.csv", "(?s)column 'genre' is left out: two columns have this name.*of items: price", items=b"item_id,price,genre,genre\n10,1.5,a,b\n11,2.5,b,b\n12,2.5,b,b\n"),
    Case("a column of the log named as a field of the items", {"log.parquet": column(*"aabbcc", name="item.genre"), "items.csv": ITEMS}, "--input log.parquet --items items.csv", 2,
         "'item.genre' would be two fields, one of its own table and one of the events; leave one out: --fields 'item.genre=drop'"),
    tables("items that nobody has", "--items items.csv", "1 item without an event left out of the table of items", items=ITEMS + b"13,2.5,a\n"),
    tables("a table of users without its id", "--users users.csv", "has no column 'user_id' with the user id.*--users_column", 2, users=b"who,age\n1,30\n"),
    tables("a table of users", "--users users.csv --users_column who", r"of users: age \(categorical\)", users=b"who,age\n1,30\n2,30\n"),
    tables("an item's column of another scope", "--items items.csv --fields price=event.numeric", "is a column of the table of items", 2, items=ITEMS),
    tables("a column of two tables", "--items items.csv --users users.csv --fields price=numeric", "the tables of item and user have this column; say item.price or user.price", 2,
           items=ITEMS, users=b"user_id,price\n1,3\n"),
    tables("impressions", "--impressions shown.csv --fields place=drop", "2 users, 3 items, 6 events", shown=SHOWN.replace(b"label", b"label,place").replace(b",1\n", b",1,a\n").replace(b",0\n", b",0,b\n")),
    tables("impressions without labels", "--impressions shown.csv", "the impressions have no column 'label'", 2, shown=SHOWN.replace(b"label", b"clicked")),
    tables("impressions of others", "--impressions shown.csv", "none of the 2 shown items is of a user and an item", 2, shown=SHOWN.replace(b",1,1", b",7,1")),
    tables("labels in words", "--impressions shown.csv", "the label of an impression is 1 for clicked or 0 for not, and row 1 of the impressions has 'yes'", 2, shown=SHOWN.replace(b"5,1", b"5,yes")),
    Case("users of a public set", {}, "ml-100k --users x.csv", 2, "--users describes your own log"),
]  # fmt: skip
