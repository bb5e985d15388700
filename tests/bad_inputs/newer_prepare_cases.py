"""More inputs and options of `recsys-lab prepare`, sought by kind: options without effect, ids, times, types, files."""

# ruff: noqa: E501  (a table: a line is a row)

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal

import polars as pl
from prepare_cases import GOOD, JSON, READ, Case, T, bad, folder, good, parquet, timed

SIX = {"user_id": [1, 1, 1, 2, 2, 2], "item_id": [10, 11, 12] * 2, "timestamp": [T + n for n in range(6)]}
ITEMS = "item_id,title\n10,x\n11,y\n12,z\n"
FLOATS = GOOD.replace(",10,", ",10.0,").replace(",11,", ",11.0,").replace(",12,", ",12.0,")
TITLES = r"of items: title \(text\)"
TYPES = GOOD.replace("timestamp\n", "timestamp,event_type\n").replace("1\n", "1,view\n").replace("2\n", "2,\n")
ARROW = io.BytesIO()
pl.DataFrame(SIX).write_ipc(ARROW)


def six(message: str, name: str, code: int = 2, **columns: object) -> Case:
    return Case(name, {"l.parquet": parquet(**SIX | columns)}, "--input l.parquet", code, message)


def with_items(name: str, log: str, items: str, code: int, message: str, options: str = "--items items.csv") -> Case:
    return folder(name, {"log.csv": log, "items.csv": items}, code, message, f"--input log.csv {options}")


CASES = [
    # -- options that change nothing
    bad("the key of a table that isn't given", GOOD, "--items_column names a column of the file of --items, which is not given", "--items_column sku"),
    bad("the key of users that aren't given", GOOD, "--users_column names a column of the file of --users", "--users_column who"),
    bad("a separator for JSON", JSON, "--separator is for csv, tsv and pairs", "--separator ';'", "l.jsonl"),
    bad("a separator for sequences", "1 2 3\n", "--separator is for csv, tsv and pairs", "--format sequences --separator ';'", "l.txt"),
    bad("names for JSON", JSON, "--names is for csv and tsv without a header line, not for jsonl", "--names a,b", "l.jsonl"),
    bad("names for pairs", "1 2\n", "--names is for csv and tsv", "--format pairs --names a,b", "l.txt"),
    bad("an encoding for Parquet", parquet(**SIX), "--encoding is for text files", "--encoding latin-1", "l.parquet"),
    folder("an encoding for Parquet with a table as text", {"l.parquet": parquet(**SIX), "items.csv": ITEMS.replace("x", "\xe9").encode("latin-1")}, 0, TITLES, "--input l.parquet --items items.csv --encoding latin-1"),
    bad("bad times without times", "1 2\n", "has no time column, so --bad_times drop changes nothing", "--format pairs --bad_times drop", "l.txt"),
    bad("a seed that nothing uses", GOOD, "--seed changes nothing with --tie_order file", "--seed 3"),
    bad("one pass of no filter", GOOD, "--k_core_iterate false changes nothing", "--k_core_iterate false"),
    Case("replace for a public set", {}, "ml-100k --replace", 2, "--replace is for your own data sets"),
    Case("append and replace", {"log.csv": GOOD.encode()}, "shop --append log.csv --replace", 2, "leave --replace out"),
    bad("an order of ties without seed", GOOD, "--tie_order hash needs a seed; give --seed a number", "--tie_order hash"),
    bad("a rating that is no number", GOOD, "argument --min_rating: must be a finite number", "--min_rating nan"),
    # -- a file where a name is wanted, columns
    Case("a file by its place", {"ok.csv": GOOD.encode()}, "ok.csv", 2, "recsys-lab prepare --input ok.csv"),
    Case("a file by its place, with a name", {"my log.csv": GOOD.encode()}, "'my log.csv' --name x", 2, "recsys-lab prepare --input 'my log.csv'"),
    Case("a folder by its place", {"d/ok.csv": GOOD.encode()}, "d", 2, "recsys-lab prepare --input d"),
    Case("an empty input", {}, "--input ''", 2, "--input is empty"),
    bad("two columns missing", GOOD.replace("user_id,item_id", "uid,sku"), "no columns 'user_id' .* and 'item_id' .*; did you mean 'uid'.*--user_column and --item_column"),
    bad("four columns missing", GOOD, "'a' .*'b' .*'c' .*'r'", "--user_column a --item_column b --timestamp_column c --rating_column r"),
    bad("a name that begins with a dash", GOOD, "not with a dot, dash", "--name=-x"),
    # -- ids
    bad("JSON objects as ids", JSON.replace('"user_id": 1', '"user_id": {"a": 1}'), "'user_id' holds JSON objects or lists, first in row 1", file="l.jsonl"),
    bad("JSON lists as ids", JSON.replace('"item_id": 10', '"item_id": [10, 11]'), "a list of items is a row for each", file="l.jsonl"),
    bad("JSON objects in an array", "[" + ",".join(JSON.replace('"user_id": 1', '"user_id": {}').splitlines()) + "]", "^(?!.*data/raw).*l.json: column 'user_id' holds JSON objects", file="l.json"),
    bad("a frame by columns", json.dumps({"user_id": [1, 2], "item_id": [3, 4]}), "holds JSON objects or lists", file="l.json"),
    bad("lists in cells", 'user_id,item_id\n1,"[1, 2, 3]"\n2,"[2, 3]"\n', "'item_id' holds JSON objects or lists, first in row 1: '.1, 2, 3.'"),
    good("lists without brackets in cells", "user_id,item_id\n1,1 2 3\n2,2 3\n", "2 of 2 item_ids look like lists, such as '1 2 3'"),
    bad("JSON objects as event types", JSON.replace('"timestamp"', '"event_type": {"k": 1}, "timestamp"'), "'event_type' holds JSON objects", file="l.jsonl"),
    good("JSON objects as a field", JSON.replace('"timestamp"', '"geo": {"lat": 1}, "timestamp"'), "'geo' holds JSON objects, which are kept as text", file="l.jsonl"),
    good("names in brackets as ids", GOOD.replace("1,10,", "[deleted],10,"), "3 users, 3 items"),
    good("ids in braces", JSON.replace('"user_id": 1', '"user_id": "{4F-1A}"'), READ, file="l.jsonl"),
    good("floats as ids", FLOATS, "'item_id' has ids like 1.0; read as whole numbers.*" + READ),
    with_items("floats as ids, and a table", FLOATS, ITEMS, 0, TITLES),
    with_items("floats as ids of the table", GOOD, ITEMS.replace(",", ".0,").replace("id.0", "id"), 0, TITLES),
    with_items("a table of other numbers", GOOD, "item_id,title\n110,x\n111,y\n", 2, "none of the 3 item_ids of the events has a row in the table of items: there they are like 110, 111, in the events like 10, 11"),
    with_items("a table of words", GOOD, "item_id,title\nA10,x\n", 2, "none of the 1 ids in column 'item_id' can be one of the events', which are whole numbers; the first is 'A10'.*--items_column"),
    with_items("a table with a missing id", GOOD, "item_id,title\n10,x\n,y\n", 0, "items.csv: 1 rows left out: no id"),
    with_items("a table of few", GOOD, "item_id,title\n10,x\n", 0, "2 of 3 item_id have no feature row, such as 11, 12"),
    with_items("a table of ids alone", GOOD, "item_id\n10\n", 0, "items.csv has no column but 'item_id', so it adds nothing"),
    with_items("a table with semicolons", GOOD, ITEMS.replace(",", ";"), 2, "items.csv has one column only.*Save it with commas"),
    folder("a table in a folder", {"log.csv": GOOD, "i/a.csv": ITEMS, "i/b.csv": "item_id,title\n13,w\n"}, 0, TITLES, "--input log.csv --items i"),
    good("a space before an id", GOOD.replace(",10,", ", 10,"), "1 item_ids hold white space at an end or signs that can't be seen, such as ' 10'"),
    good("one id with and without a space", GOOD.replace("1,10,", "1,10\u00a0,"), r"1 item_ids look like others and are not the same, such as '10\\xa0', shown as '10'"),
    good("a sign of no width", GOOD.replace("1,10,", "1,\u200b10,"), r"such as '\\u200b10', shown as '10'"),
    good("a NUL in an id", GOOD.replace("11", "1\x001"), r"signs that can't be seen, such as '1\\x001'"),
    good("one letter in two ways", GOOD.replace("1,10,", "1,cafe\u0301,").replace("2,10,", "2,caf\u00e9,"), "one letter written in two ways"),
    good("shortened by a spreadsheet", GOOD.replace(",10,", ",8.40E+11,").replace(",11,", ",8.40E+11,"), "1 of 2 item_ids look like numbers that a spreadsheet has shortened, such as '8.40E[+]11'"),
    six("'item_id' has 6 ids as large floats", "floats above 2^53", 0, item_id=[2.0**53, 2.0**54, 2.0**55] * 2),
    six("has 6 ids as large floats", "short floats above 2^24", 0, item_id=pl.Series([2.0**24, 2.0**25, 2.0**26] * 2, dtype=pl.Float32)),
    six("'item_id' has 2 floats above 2.63", "floats above 2^63", item_id=[1e30, 2.0, 3.0] * 2),
    six(READ, "whole decimals as ids", 0, item_id=[Decimal(1), Decimal(2), Decimal(3)] * 2),
    six(READ, "huge decimals as ids", 0, item_id=[Decimal(10**30), Decimal(2), Decimal(3)] * 2),
    six("'item_id' is of type Struct", "structs as ids", item_id=[{"a": 1}] * 6),
    # -- types of the other columns
    six("'event_type' is of type Struct.*text or a whole number", "structs as event types", event_type=[{"a": 1}] * 6),
    six("'event_type' is of type Binary", "bytes as event types", event_type=[b"a"] * 6),
    six("'rating' is of type Date.*a number", "dates as ratings", rating=[dt.date(2020, 1, 1)] * 6),
    six("'rating' is of type List", "lists as ratings", rating=[[1]] * 6),
    six("'order' is of type Struct", "structs as the order", order=[{"a": 1}] * 6),
    bad("rows without an event type", TYPES, "3 of 6 rows with a null event_type, the first is row 4; leave those rows out with --keep 'event_type in view'"),
    good("rows without an event type, left out", TYPES, "1 user, 3 items, 3 events", "--keep 'event_type in view'"),
    # -- times
    good("the year 5138", GOOD.replace(f"{T + 61}", "99999999000"), "to 5138-11-16 09:30:00, which is in the future"),
    good("all in the future", timed("2190-01-01"), "which is in the future. Is the unit right"),
    good("ticks of Windows", timed("132444738000000000"), "If it holds ticks of 100 ns"),
    bad("dates with the day first", timed("13/09/2020"), "Day and month can't be told apart there: write the year first, as in 2020-09-13.$"),
    bad("dates with the day first and points", timed("13.09.2020 12:30"), "write the year first"),
    bad("years of two digits", timed("20-09-13"), "Write the year with four digits"),
    bad("no time can be read: no advice to leave all out", timed("never"), "^(?!.*bad_times).*6 timestamps that can't be read"),
    bad("a mix of units without a 0", GOOD.replace(f"{T + 61}", f"{T + 61}000"), "^(?!.*bad_times).*mixes units"),
    six("2020-09-13 00:00:00", "categories as times", 0, timestamp=pl.Series(["2020-09-13"] * 6, dtype=pl.Categorical)),
    six("'timestamp' has no value in any row", "times of no type", timestamp=[None] * 6),
    six("6 timestamps that can't be read, first in row 1: 18446744073709551615", "huge times", timestamp=pl.Series([2**64 - 1] * 6, dtype=pl.UInt64)),
    six("first in row 1: '1960-01-01'", "dates before 1970", timestamp=[dt.date(1960, 1, 1)] * 6),
    # -- files that are something else
    bad("utf-32", GOOD.encode("utf-32"), "is text in UTF-32: --encoding utf-32"),
    good("utf-32, said", GOOD.encode("utf-32"), READ, "--encoding utf-32"),
    bad("an Arrow file named .csv", ARROW.getvalue(), "is an Arrow file: write it as Parquet"),
    bad("an Arrow file named .parquet", ARROW.getvalue(), "is an Arrow file", file="l.parquet"),
    bad("a pickle", b"\x80\x04\x95" + b"x" * 80, "is a Python pickle"),
    bad("a web page", "<!DOCTYPE html>\n<html></html>\n", "is a web page: the address gave no data"),
    bad("XML", '<?xml version="1.0"?>\n<a/>\n', "is an XML file"),
    bad("a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "is a pointer of Git LFS"),
    bad("JSON named .csv", JSON, "looks like JSON: --format jsonl"),
    bad("NaN in JSON", JSON.replace(f'"timestamp": {T + 1}', '"timestamp": NaN'), "line 1 has NaN, which is no JSON; write null", file="l.jsonl"),
    bad("a Parquet file without columns", parquet(), "l.parquet has no columns", file="l.parquet"),
    Case("a device", {}, "--input /dev/null --format csv", 2, "/dev/null can't be read twice"),
]  # fmt: skip
