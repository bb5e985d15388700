"""Inputs and options of `recsys-lab prepare` that are wrong, odd, or look wrong and are right.

`KNOWN` are mistakes that people made with this or other programs; `FOUND` were sought on purpose (options of the reader
times malformed files).
"""

# ruff: noqa: E501  (a table: a line is a row)

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from dataclasses import dataclass

import polars as pl

T = 1_600_000_000


@dataclass(frozen=True)
class Case:
    """One call of `recsys-lab prepare`.

    Attributes:
        name: of the case.
        files: name -> content, in the folder that the command runs in.
        arguments: behind `recsys-lab prepare`.
        code: the exit code that is right.
        message: a regular expression that the error must match (code 2), or what is printed (code 0).
    """

    name: str
    files: dict[str, bytes]
    arguments: str
    code: int
    message: str


def events(time: str = "{}", header: str = "user_id,item_id,timestamp\n", row: str = "{u},{i},{t}\n") -> str:
    """2 users, 3 items, 6 events; a time is `time` with the seconds filled in."""
    rows = [(u, 10 + i, T + 60 * i + u) for u in (1, 2) for i in range(3)]
    return header + "".join(row.format(u=u, i=i, t=time.format(t)) for u, i, t in rows)


def packed(content: str, kind: str) -> bytes:
    data = content.encode()
    if kind == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("log.csv", data)
        return out.getvalue()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](data)


def archive(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, text in members.items():
            file.writestr(name.replace("__", "."), text)
    return out.getvalue()


def parquet(**columns: object) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(columns).write_parquet(out)
    return out.getvalue()


def zst(content: str) -> bytes:
    out = io.BytesIO()
    lines = pl.DataFrame({"line": content.splitlines()})
    lines.lazy().sink_csv(out, include_header=False, separator="\x01", quote_style="never", compression="zstd")
    return out.getvalue()


GOOD = events()
READ = "2 users, 3 items, 6 events"
TIME = r"time      2020-09-13 12:26:41 to 2020-09-13 12:28:42 \(UTC\)"
DATES = r"time      2020-09-13 00:00:00 to 2020-09-13 00:00:00"


def bad(name: str, content: str | bytes, message: str, options: str = "", file: str = "log.csv") -> Case:
    data = content.encode() if isinstance(content, str) else content
    return Case(name, {file: data}, f"--input {file} {options}", 2, message)


def good(name: str, content: str | bytes, message: str = READ, options: str = "", file: str = "log.csv") -> Case:
    data = content.encode() if isinstance(content, str) else content
    return Case(name, {file: data}, f"--input {file} {options}", 0, message)


def folder(name: str, files: dict[str, str | bytes], code: int, message: str, options: str = "--input log") -> Case:
    content = {k: v.encode() if isinstance(v, str) else v for k, v in files.items()}
    return Case(name, content, options, code, message)


def timed(text: str) -> str:
    """The six events, each at the same moment `text`."""
    return events(time=text.replace("{", "{{").replace("}", "}}"))


TSV = GOOD.replace(",", "\t")
QUOTED = "".join("\t".join(f'"{f}"' for f in line.split("\t")) + "\n" for line in TSV.splitlines())
COLONS = GOOD.replace(",", "::")
JSON = "".join(f'{{"user_id": {u}, "item_id": {i}, "timestamp": {t}}}\n' for u, i, t in
               (line.split(",") for line in GOOD.splitlines()[1:]))  # fmt: skip
PAIRS = "".join(f"{u} {i}\n" for u in (1, 2) for i in (10, 11, 12))
LATIN = GOOD.replace("10", "caf\xe9")
DUPLICATE = "user_id,item_id,item_id\n1,2,3\n1,4,5\n"
HALVES = [GOOD, "user_id,item_id,timestamp\n" + "".join(f"3,{10 + i},{T + i}\n" for i in range(3))]
OTHER_ORDER = "timestamp,user_id,item_id\n" + "".join(f"{T + i},3,{10 + i}\n" for i in range(3))
LATE = timed("2020-09-13 12:59:19").rsplit("\n", 2)[0] + "\n2,12,2020-09-13 12:59:19 UTC\n"
NO_TIME = "time      none: the order in the file"

KNOWN = [
    # -- times
    good("times of PostgreSQL", timed("2020-09-13 12:59:19+00"), "2020-09-13 12:59:19"),
    good("times of BigQuery", timed("2020-09-13 12:59:19 UTC"), "2020-09-13 12:59:19"),
    good("compact ISO times", timed("20200913T125919Z"), "2020-09-13 12:59:19"),
    good("calendar numbers", timed("20200913"), DATES),
    good("ISO dates", timed("2020-09-13"), DATES),
    good("milliseconds", events("{}000"), TIME),
    good("nanoseconds", events("{}000000000"), TIME),
    bad("negative times", GOOD.replace(f"{T + 61}", "-5"), r"timestamp before 1970 .*first in row 2: '-5'.*--bad_times"),
    good("negative times dropped", GOOD.replace(f"{T + 61}", "-5"), "left out  1 row without a usable", "--bad_times drop"),
    good("a time of 0 is warned of", GOOD.replace(f"{T + 61}", "0"), "time 0 in 1 row:.*--bad_times drop"),
    good("a time of 0 dropped", GOOD.replace(f"{T + 61}", "0"), "left out  1 row", "--bad_times drop"),
    good("a user in 2477", GOOD.replace(f"{T + 61}", "16000000061"), "times run from 2020.* to 2477"),
    bad("mixed units", GOOD.replace(f"{T + 61}", f"{T + 61}000"), "mixes units: row 1 has .*seconds.*row 2 has"),
    bad("words as times", timed("yesterday"), "6 timestamps that can't be read, first in row 1: 'yesterday'"),
    bad("one missing time", GOOD.replace(f"{T + 61}", ""), "1 timestamp that can't be read, first in row 2"),
    good("one missing time dropped", GOOD.replace(f"{T + 61}", ""), "2 users, 3 items, 5 events", "--bad_times drop"),
    # -- lines, encodings, separators
    good("an empty last line", GOOD + "\n", "left out  1 empty line"),
    good("a byte-order mark", "\ufeff" + GOOD),
    good("a byte-order mark before colons", "\ufeff" + COLONS, READ, "--separator ::"),
    good("a byte-order mark in JSON lines", "\ufeff" + JSON, READ, file="log.jsonl"),
    bad("latin-1", LATIN.encode("latin-1"), "line 2 is not text in UTF-8.*--encoding latin-1"),
    good("latin-1, said", LATIN.encode("latin-1"), READ, "--encoding latin-1"),
    bad("latin-1 far down", (GOOD * 300 + "1,caf\xe9,5\n").encode("latin-1"), "line 2101 is not text in UTF-8"),
    bad("latin-1 in the last byte", f"user_id,timestamp,item_id\n1,{T},caf\xe9".encode("latin-1"), "line 2 is not text in UTF-8.*latin-1"),
    bad("latin-1 in the last byte of pairs", b"1 2\n1 caf\xe9", "line 2 is not text in UTF-8.*latin-1", "--format pairs"),
    bad("latin-1 after a JSON array", b'[{"user_id": 1}]\n\xe9', "line 2 is not text in UTF-8.*latin-1", "", "log.json"),
    bad("UTF-16 cut short", GOOD.encode("utf-16")[:-1], "not text in utf-16.*encoding with --encoding$", "--encoding utf-16"),
    bad("utf-16", GOOD.encode("utf-16"), "is text in UTF-16: --encoding utf-16"),
    good("utf-16, said", GOOD.encode("utf-16"), READ, "--encoding utf-16"),
    bad("semicolons", GOOD.replace(",", ";"), "seem to be separated by semicolons. Say so: --separator ';'"),
    good("semicolons, said", GOOD.replace(",", ";"), READ, "--separator ';'"),
    good("quotes in a tsv", QUOTED, READ, file="log.tsv"),
    bad("a row too long", GOOD.replace(f"{T + 61}", f"{T + 61},x"), r"row 2 \(line 3\) has 4 fields.*header line has 3"),
    bad("two columns of one name", DUPLICATE, "has two columns named 'item_id'"),
    bad("no header line", GOOD.split("\n", 1)[1], "no columns 'user_id' .*name its columns in their order with --names"),
    good("no header line, said", GOOD.split("\n", 1)[1], READ, "--names user_id,item_id,timestamp"),
    bad("names, other number", GOOD.split("\n", 1)[1], "has 3 columns .* but 2 are expected", "--names user_id,item_id"),
    good("Windows line ends", GOOD.replace("\n", "\r\n")),
    good("old Mac line ends", GOOD.replace("\n", "\r")),
    bad("an open quote", GOOD.replace("2,10", '2,"10'), r'a quote \("\) that opens in line 5 is not closed'),
    # -- formats
    good("pairs with tabs", PAIRS.replace(" ", "\t"), READ, "--format pairs", "log.txt"),
    good("pairs with a space behind", PAIRS.replace("\n", " \n"), NO_TIME, "--format pairs", "log.txt"),
    bad("pairs of three", PAIRS.replace("\n", " 5\n"), "has 3 columns when split at white space", "--format pairs", "log.txt"),
    bad("a name without a format", GOOD, "does not tell its format; give --format one of csv", file="log.txt"),
    good("upper case endings", packed(GOOD, "gz"), READ, file="LOG.CSV.GZ"),
    good("zip", packed(GOOD, "zip"), READ, file="log.csv.zip"),
    good("zip whose own name tells no format", archive(log__csv=GOOD), READ, file="archive.zip"),
    bad("zip of a file without a format", archive(log__txt=GOOD), "does not tell its format", file="archive.zip"),
    good("bz2", packed(GOOD, "bz2"), READ, file="log.csv.bz2"),
    good("zst", zst(GOOD), READ, file="log.csv.zst"),
    good("a JSON array", "[" + ",".join(JSON.splitlines()) + "]", READ, file="log.json"),
    bad("cut gzip", packed(GOOD * 500, "gz")[:-20], "can't be unpacked .*damaged or cut", file="log.csv.gz"),
    bad("no Parquet", "hello", "can't be read as parquet", file="log.parquet"),
    bad("an empty file", "", "log.csv is empty"),
    bad("a header only", "user_id,item_id,timestamp\n", "is empty: it has no rows"),
    # -- folders
    folder("Hive folders", {
        "log/date=2020-09-13/0.csv": GOOD.replace(",timestamp", "").replace(f",{T}", ""),
        "log/date=2020-09-13/1.parquet": parquet(user_id=[1])}, 2, "files of several kinds"),
    folder("Hive folders, the date as time", {
        f"log/date=2020-09-1{n}/0.parquet": parquet(user_id=[n, n], item_id=[1, 2]) for n in (3, 4)},
        0, "2 users, 2 items, 4 events\n  time      2020-09-13 00:00:00 to 2020-09-14", "--input log --timestamp_column date"),
    folder("a glob over folders", {"log/a/0.csv": HALVES[0], "log/b/0.csv": HALVES[1]}, 0,
           "log: 3 users, 3 items, 9 events", "--input log/*/*.csv"),
    folder("Spark, one part empty", {"log/part-0.csv": GOOD, "log/part-1.csv": "", "log/_SUCCESS": ""}, 0, READ),
    folder("columns in another order", {"log/a.csv": GOOD, "log/b.csv": OTHER_ORDER}, 0, "3 users, 3 items, 9 events"),
    folder("a column that one part lacks", {"log/a.csv": GOOD, "log/b.csv": "user_id,item_id\n1,2\n"}, 2,
           "b.csv has no column 'timestamp', which a.csv has"),
    folder("item table with another key", {"log.csv": GOOD, "items.csv": "sku,title\n10,x\n"}, 2,
           "no column 'item_id' with the item id; it has: sku, title. Name the right one with --items_column",
           "--input log.csv --items items.csv"),
    folder("item table, its key said", {"log.csv": GOOD, "items.csv": "sku,title\n10,x\n"}, 0, READ,
           "--input log.csv --items items.csv --items_column sku"),
    # -- columns, ids, options
    bad("a missing column", GOOD.replace("user_id", "userid"), "no column 'user_id'.*did you mean 'userid'.*--user_column"),
    bad("a missing id", GOOD.replace("1,11", ",11"), "1 missing id in 6 rows, first in row 2.*--missing_ids drop"),
    good("a missing id dropped", GOOD.replace("1,11", ",11"), "left out  1 row without an id", "--missing_ids drop"),
    good("a word for missing", GOOD.replace("11", "NULL"), r"item_id 'NULL' \(2 events\) looks like a missing id"),
    bad("filters that leave nothing", GOOD, "--min_user_events 9, --min_item_events 1 .* dropped all 6 events", "--min_user_events 9"),
    bad("an unknown format", GOOD, "format", "--format xml"),
    bad("an unknown option", GOOD, "unrecognized arguments: --sepparator.*Did you mean --separator", "--sepparator ';'"),
    bad("a name of 300 characters", GOOD, "name is at most 120 bytes long", "--name " + "x" * 300),
    bad("a public name", GOOD, "'ml-100k' can't be the name .*it is a public data set", "--name ml-100k"),
    Case("no such file", {}, "--input nothing.csv", 2, "there is no file nothing.csv"),
    Case("an unknown public set", {}, "ml-100", 2, "Did you mean 'ml-100k'"),
    Case("neither name nor file", {}, "", 2, "--input FILE, one of them"),
    Case("both", {"log.csv": GOOD.encode()}, "ml-100k --input log.csv", 2, "one of them"),
    Case("data_dir is a file", {"log.csv": GOOD.encode(), "d": b""}, "--input log.csv --data_dir d", 2,
         "is a file, not a folder"),
]  # fmt: skip

FOUND = [
    # -- times
    good("an offset of an hour", timed("2020-09-13 14:59:19 +0200"), "2020-09-13 12:59:19"),
    good("times of Go", timed("2020-09-13 12:59:19 +0000 UTC"), "2020-09-13 12:59:19"),
    good("GMT", timed("2020-09-13 12:59:19 GMT"), "2020-09-13 12:59:19"),
    good("a comma before the fraction", timed('"2020-09-13 12:59:19,250"'), "2020-09-13 12:59:19"),
    good("slashes", timed("2020/09/13"), DATES),
    good("compact without seconds", timed("20200913T1259"), "2020-09-13 12:59:00"),
    good("calendar numbers with a clock", timed("20200913125919"), "2020-09-13 12:59:19"),
    good("the rare form comes late", LATE, "2020-09-13 12:59:19"),
    bad("a day that is none, as number", timed("20200913").replace("2,12,20200913", "2,12,20200931"),
        "no date, beside dates like 20200913, first in row 6: '20200931'"),
    bad("day first", timed("13/09/2020"), "can't be read, first in row 1: '13/09/2020'"),
    bad("a month in words", timed("Sep 13 2020"), "can't be read, first in row 1: 'Sep 13 2020'"),
    bad("PM", timed("2020-09-13 1:05:09 PM"), "can't be read, first in row 1"),
    bad("a year of five digits", timed("12020-09-13"), "can't be read, first in row 1|after the year 5138"),
    bad("the year 9999", timed("9999-12-31"), "timestamps after the year 5138, first in row 1: '9999-12-31'"),
    bad("the year 1", timed("0001-01-01"), "before 1970"),
    bad("February 30", timed("2020-02-30"), "can't be read, first in row 1: '2020-02-30'"),
    bad("infinite", GOOD.replace(f"{T + 61}", "inf"), "can't be read, first in row 2: 'inf'"),
    good("infinite dropped", GOOD.replace(f"{T + 61}", "inf"), "5 events", "--bad_times drop"),
    good("the year 9999 dropped", events("2020-09-13").replace("2,12,2020", "2,12,9999"), "5 events", "--bad_times drop"),
    bad("all times bad, dropped", timed("never"), "all that it has were left out", "--bad_times drop"),
    good("null first, then numbers", GOOD.replace(f"1,10,{T + 1}", "1,10,\\N"), "5 events", "--bad_times drop"),
    good("days of Excel", timed("44087.54"), "times run from 1970-01-01"),
    good("years as times", timed("2020"), "times run from 1970-01-01"),
    good("times in exponents", events("{}e0"), TIME),
    good("dates as text in Parquet", parquet(user_id=[1], item_id=[2], timestamp=["2020-09-13"]), DATES, file="l.parquet"),
    bad("booleans as times", parquet(user_id=[1], item_id=[2], timestamp=[True]), "is of type Boolean", file="log.parquet"),
    bad("lists as times", parquet(user_id=[1], item_id=[2], timestamp=[[1]]), "is of type List", file="log.parquet"),
    # -- lines
    good("empty lines everywhere", "\n\n" + GOOD.replace("\n", "\n\n"), "left out  6 empty lines|left out  7 empty lines"),
    good("empty lines in pairs", PAIRS.replace("\n", "\n\n"), "6 events", "--format pairs", "log.txt"),
    good("empty lines in sequences", "1 10 11\n\n2 10 11 12\n\n", "2 users, 3 items, 5 events", "--format sequences", "l.txt"),
    good("empty lines between colons", COLONS.replace("\n", "\n\n"), "6 events", "--separator ::"),
    good("white lines in JSON", JSON.replace("\n", "\n  \n"), READ, file="log.jsonl"),
    bad("a comment line on top", "# made today\n" + GOOD, "begins with a comment, '# made today': remove it"),
    bad("only spaces", "   \n  \n", "is empty"),
    bad("NUL bytes only", b"\0" * 64, "UTF-16|is not|no column|is empty"),
    bad("utf-16 without a mark", GOOD.encode("utf-16-le"), "looks like text in UTF-16: --encoding utf-16-le"),
    bad("an unknown encoding", GOOD, "unknown --encoding 'klingon'", "--encoding klingon"),
    bad("the wrong encoding", LATIN.encode("latin-1"), "line 2 is not text in ascii", "--encoding ascii"),
    good("cp1252 and gzip", gzip.compress(LATIN.encode("cp1252")), READ, "--encoding cp1252", "log.csv.gz"),
    good("latin-1 in JSON", JSON.replace("10", '"\xe9"').encode("latin-1"), READ, "--encoding latin-1", "log.jsonl"),
    # -- separators and quotes
    bad("tabs in a .csv", TSV, "separated by tabs. Say so: --format tsv"),
    bad("bars", GOOD.replace(",", "|"), "separated by bars. Say so: --separator '|'"),
    bad("commas in a .tsv", GOOD, "separated by commas. Say so: --separator ,", file="log.tsv"),
    bad("colons", COLONS, "--separator", file="log.csv"),
    bad("an empty separator", GOOD, "--separator is ''", "--separator ''"),
    bad("a quote as separator", GOOD, "--separator is '\"'", "--separator '\"'"),
    good("a separator beyond ASCII", GOOD.replace(",", "\u00a6"), READ, "--separator \u00a6"),
    good("a stray quote in a tsv", TSV.replace("\t11\t", '\t1"1\t'), READ, file="log.tsv"),
    good("line breaks in quotes", GOOD.replace("11", '"1\n1"'), READ),
    good("a separator at the end of each line", GOOD.replace("\n", ",\n"), READ),
    bad("a short row", GOOD.replace(f"1,11,{T + 61}", "1,11"), "can't be read, first in row 2: None"),
    bad("a short row of colons", COLONS.replace(f"1::11::{T + 61}", "1::11"), "first in row 2: None", "--separator ::"),
    bad("a long row of colons", COLONS.replace(f"1::11::{T + 61}", f"1::11::{T}::9"), "first in row 2: '1600000000::9'",
        "--separator ::"),
    bad("two columns of one name, colons", DUPLICATE.replace(",", "::"), "two columns named 'item_id'", "--separator ::"),
    bad("two columns of one name, inter", "user_id:token\titem_id:token\titem_id:float\n1\t2\t3\n",
        "two columns named 'item_id'", file="log.inter"),
    good("two junk columns of one name", GOOD.replace("\n", ",x,y\n").replace(",x,y", ",junk,junk", 1), READ),
    bad("names twice", GOOD, "--names has 'a' twice", "--names a,b,a"),
    good("names in brackets", GOOD.split("\n", 1)[1], READ, "--names '[user_id, item_id, timestamp]'"),
    bad("names of a file with a header", GOOD, "can't be read, first in row 1: 'timestamp'",
        "--names user_id,item_id,timestamp"),
    good("3,000 columns", "user_id,item_id," + ",".join(f"c{n}" for n in range(3000)) + "\n1,2" + ",0" * 3000 + "\n", NO_TIME),
    bad("3,000 columns, none right", ",".join(f"c{n}" for n in range(3000)) + "\n", "and 2970 more. Name the right one"),
    # -- formats
    good("xz", packed(GOOD, "xz"), READ, file="log.csv.xz"),
    bad("a zip of two", archive(a__csv=GOOD, b__csv=GOOD), "an archive of 2 files .a.csv, b.csv.: unpack it", file="log.csv.zip"),
    bad("a bare zip of two", archive(a__csv=GOOD, b__csv=GOOD), "an archive of 2 files", file="archive.zip"),
    bad("an empty zip", archive(), "archive of 0 files|is not|damaged", file="log.csv.zip"),
    bad("an Excel file named .csv", archive(**{"[Content_Types]__xml": "x"}), "is an Excel file: save it as CSV"),
    bad("an old Excel file", b"\xd0\xcf\x11\xe0" + b"\0" * 100, "is an Excel file: save it as CSV"),
    bad("a Parquet file named .csv", parquet(user_id=[1], item_id=[2]), "is a Parquet file, not csv: --format parquet"),
    bad("a CSV named .parquet", GOOD, "can't be read as parquet", file="log.parquet"),
    bad("a packed Parquet file", gzip.compress(parquet(user_id=[1], item_id=[2])), "packed .gzip.: unpack it first",
        file="log.parquet"),
    bad("half a Parquet file", parquet(user_id=[1], item_id=[2])[:-30], "can't be read as parquet", file="log.parquet"),
    bad("SQLite", b"SQLite format 3\0" + b"\0" * 100, "is an SQLite database: export", file="log.csv"),
    bad("7z", b"7z\xbc\xaf\x27\x1c" + b"\0" * 40, "is a 7z archive: unpack it first"),
    bad("damaged bz2", b"BZh9" + b"x" * 100, "can't be unpacked", file="log.csv.bz2"),
    bad("damaged zip", b"PK\x03\x04" + b"x" * 100, "can't be unpacked", file="log.csv.zip"),
    bad("JSON of lists", "[1, 2]\n[3, 4]\n", "begins like a JSON array, but is none|entry 1", file="log.jsonl"),
    bad("a JSON array cut", "[" + ",".join(JSON.splitlines()), "begins like a JSON array, but is none", file="log.json"),
    bad("one JSON object over lines", '{\n"user_id": 1}\n', "line 1 is not JSON", file="log.json"),
    bad("bad JSON far down", JSON * 300 + "{\n", "line 1801 is not JSON", file="log.jsonl"),
    bad("a JSON key twice", '{"user_id": 1, "item_id": 2, "item_id": 3}\n', "has the key 'item_id' twice", file="log.jsonl"),
    bad("a JSON number too large", JSON + '{"user_id": 1, "item_id": 2, "timestamp": 1e400}\n',
        "line 7.*too large|can't be read", file="log.jsonl"),
    good("JSON ids above 2^53", JSON.replace('"item_id": 10', '"item_id": 9007199254740993'), READ, file="log.jsonl"),
    bad("a user without items", "1 10\n2\n", "1 missing id in 2 rows, first in row 2", "--format sequences", "log.txt"),
    good("a user without items dropped", "1 10\n2\n", "left out  1 row", "--format sequences --missing_ids drop", "l.txt"),
    bad("pairs, one of three", PAIRS + "1 2 3\n", "missing id in 7 rows, first in row 7", "--format pairs", "log.txt"),
    # -- folders
    folder("an empty folder", {"log/.keep": ""}, 2, "the folder log holds no file to read"),
    folder("all parts empty", {"log/a.csv": "", "log/b.csv": ""}, 2, "all 2 files are empty|is empty"),
    folder("a Delta table", {"log/part-0.parquet": parquet(user_id=[1], item_id=[2]), "log/_delta_log/0.json": "{}"}, 2,
           "log is a Delta table"),
    folder("a README beside the data", {"log/a.csv": GOOD, "log/README.md": "hello"}, 2,
           "files of several kinds, such as .*--input 'log/\\*.csv'"),
    folder("a header in the first part only", {"log/a.csv": GOOD, "log/b.csv": HALVES[1].split("\n", 1)[1]}, 2,
           "b.csv has no column 'user_id', which a.csv has"),
    folder("parts of other types", {
        "log/a.parquet": parquet(user_id=[1], item_id=[2]), "log/b.parquet": parquet(user_id=["x"], item_id=[3])}, 0,
        "mixes numbers and text, so all its ids are text.*2 users, 2 items, 2 events"),
    folder("parts of other whole numbers", {
        "log/a.parquet": parquet(user_id=[1], item_id=[2]),
        "log/b.parquet": parquet(user_id=pl.Series([2], dtype=pl.Int8), item_id=[3])}, 0, "2 users, 2 items, 2 events"),
    folder("Hive, no value", {
        "log/day=__HIVE_DEFAULT_PARTITION__/0.csv": GOOD, "log/day=x%20y/0.csv": HALVES[1]}, 0, "9 events"),
    folder("a name with brackets", {"log[1].csv": GOOD}, 0, READ, "--input log[1].csv --name brackets"),
    folder("a glob without a file", {"log.csv": GOOD}, 2, "there is no file", "--input *.parquet"),
    folder("packed and plain parts", {"log/a.csv": HALVES[0], "log/b.csv.gz": packed(HALVES[1], "gz")}, 0, "9 events"),
    folder("item table with two keys", {"log.csv": GOOD, "items.csv": "item_id,item_id\n10,x\n"}, 2,
           "has two columns named 'item_id'", "--input log.csv --items items.csv"),
    folder("item table that is empty", {"log.csv": GOOD, "items.csv": ""}, 2, "items.csv is empty",
           "--input log.csv --items items.csv"),
    folder("item table in a foreign form", {"log.csv": GOOD, "items.xml": "<a/>"}, 2, "does not tell its format",
           "--input log.csv --items items.xml"),
    folder("item table, ragged", {"log.csv": GOOD, "items.csv": "item_id,title\n10,x\n11,a,b\n"}, 2,
           "items.csv.* row 2 .* has 3 fields", "--input log.csv --items items.csv"),
    # -- ids
    bad("fractions as ids", parquet(user_id=[1.5, 2.0], item_id=[1, 2]), "has fractions, first in row 1: 1.5", file="l.parquet"),
    bad("lists as ids", parquet(user_id=[[1]], item_id=[2]), "is of type List", file="log.parquet"),
    bad("dates as ids", parquet(user_id=pl.Series(["2020-01-01"]).str.to_date(), item_id=[2]), "is of type Date",
        file="log.parquet"),
    bad("no id at all", parquet(user_id=pl.Series([None], dtype=pl.Int64), item_id=[2]), "1 missing id in 1 row, first in row 1",
        file="log.parquet"),
    bad("no id at all, dropped", parquet(user_id=pl.Series([None], dtype=pl.Int64), item_id=[2]),
        "all that it has were left out", "--missing_ids drop", "log.parquet"),
    good("words for missing, dropped", GOOD.replace("11", "nan"), "2 users, 2 items, 4 events", "--missing_ids drop"),
    good("a backslash N as item", GOOD.replace("11", "\\N"), r"item_id '\\\\N' \(2 events\) looks like a missing id"),
    bad("a white id", GOOD.replace("1,11", "  ,11"), "missing id in 6 rows, first in row 2"),
    bad("one column for two", GOOD, "column 'user_id' is named for both", "--item_column user_id"),
    bad("a rating in words", GOOD.replace("timestamp", "rating").replace(f"{T + 61}", "good"),
        "column 'rating' has 1 values that are not numbers, first in row 2: 'good'"),
    bad("a filter of a rating that isn't there", GOOD, "has no column 'rating', which --min_rating needs", "--min_rating 3"),
    bad("event types that aren't there", GOOD, "has no column 'event_type', which --event_types needs", "--event_types view,buy"),
    bad("an unknown rule", GOOD, "missing_ids", "--missing_ids ignore"),
    bad("a minimum below one", GOOD, "min_user_events", "--min_user_events 0"),
    bad("a minimum in words", GOOD, "min_user_events", "--min_user_events many"),
    bad("a name with a slash", GOOD, "holds no slashes", "--name a/b"),
    bad("a name that leads out", GOOD, "not with a dot", "--name ../x"),
    bad("a name with a line end", GOOD, "control characters", "--name 'a\nb'"),
    bad("the name of the raw folder", GOOD, "raw files lie there", "--name raw"),
    Case("an option of files for a public set", {}, "ml-100k --items_column x", 2, "--items_column describes your own log"),
    Case("an unknown protocol", {}, "--input gopher://host/log.csv", 2, "gopher://host/log.csv can't be read"),
    Case("a password in an address", {}, "--input memory://anna:geheim@host/none.csv?token=abc123", 2,
         "^(?!.*(geheim|abc123|anna)).*memory://host/none.csv.* can't be read"),
]  # fmt: skip

CASES = KNOWN + FOUND
