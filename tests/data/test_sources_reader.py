"""The generic reader: every format, and every way in which a file can be wrong."""

from __future__ import annotations

import datetime
import functools
import gzip
import logging
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from recsys_lab.config import from_config, to_config
from recsys_lab.data.reading.spelling import command_line
from recsys_lab.data.sources import Columns, FileSource
from recsys_lab.words import RecsysLabError

T = 1_400_000_000
TEXTS = {
    "a.csv": f"user_id,item_id,timestamp\n1,10,{T}\n1,11,{T + 5}\n2,10,{T + 3}\n",
    "a.tsv": f"user_id\titem_id\ttimestamp\n1\t10\t{T}\n1\t11\t{T + 5}\n2\t10\t{T + 3}\n",
    "a.inter": f"user_id:token\titem_id:token\ttimestamp:float\n1\t10\t{T}\n1\t11\t{T + 5}\n2\t10\t{T + 3}\n",
    "a.jsonl": "".join(
        f'{{"user_id": {u}, "item_id": {i}, "timestamp": {t}, "more": {{"x": [1]}}}}\n'
        for u, i, t in [(1, 10, T), (1, 11, T + 5), (2, 10, T + 3)]
    ),
}
EXPECTED = {"user_id": [1, 1, 2], "item_id": [10, 11, 10], "timestamp": [T, T + 5, T + 3], "order": [0, 1, 2]}


def write(path: Path, text: str, packed: bool = False) -> Path:
    if packed:
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def read(path: Path | str, tmp_path: Path, **options: Any) -> dict[str, list[Any]]:
    return FileSource(path, **options).tables(tmp_path / "raw").interactions.collect().to_dict(as_series=False)


def read_csv(text: str, tmp_path: Path, **options: Any) -> dict[str, list[Any]]:
    return read(write(tmp_path / "data.csv", text), tmp_path, **options)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


def fails(text: str, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(RecsysLabError) as caught:
        read_csv(text, tmp_path, **options)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_text_formats(name: str, packed: bool, tmp_path: Path) -> None:
    found = read(write(tmp_path / name, TEXTS[name], packed), tmp_path)
    assert found.pop("more", None) == (['{"x": [1]}'] * 3 if "jsonl" in name else None)
    assert found == EXPECTED


def test_parquet_file_folder_and_glob(tmp_path: Path) -> None:
    frame = pl.DataFrame(EXPECTED).drop("order")
    folder = tmp_path / "parts"
    folder.mkdir()
    frame[:2].write_parquet(folder / "1.parquet")
    frame[2:].write_parquet(folder / "2.parquet")
    frame.write_parquet(tmp_path / "one.parquet")
    for path in (tmp_path / "one.parquet", folder, folder / "*.parquet"):
        assert read(path, tmp_path) == EXPECTED


@pytest.mark.parametrize("packed", [False, True])
def test_pairs_and_sequences_are_in_file_order(packed: bool, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.txt", "1 7\n1 5\n2 7\n", packed)
    sequences = write(tmp_path / "sequences.txt", "1 7 5\n2 7 \n", packed)
    expected = {"user_id": [1, 1, 2], "item_id": [7, 5, 7], "order": [0, 1, 2]}
    assert read(pairs, tmp_path, format="pairs") == expected
    assert read(sequences, tmp_path, format="sequences") == expected


@pytest.mark.parametrize("packed", [False, True])
def test_movielens_double_colon(packed: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.dat", f"1::10::5::{T}\n2::10::4::{T + 1}\n", packed)
    names = ("user_id", "item_id", "rating", "timestamp")
    found = read(path, tmp_path, format="csv", separator="::", names=names)
    assert found["item_id"] == [10, 10] and found["rating"] == [5.0, 4.0] and found["timestamp"] == [T, T + 1]


def test_memory_filesystem_is_read_and_a_change_is_seen(tmp_path: Path) -> None:
    url = "memory://bucket/a.csv"
    with fsspec.open(url, "w") as out:
        out.write(TEXTS["a.csv"])
    source = FileSource(url)
    assert read(url, tmp_path) == EXPECTED
    before = source.fingerprint(tmp_path / "raw")
    with fsspec.open(url, "w") as out:
        out.write(TEXTS["a.csv"] + f"3,10,{T}\n")
    assert read(url, tmp_path)["user_id"] == [1, 1, 2, 3]
    assert source.fingerprint(tmp_path / "raw") != before
    fsspec.filesystem("memory").rm("bucket/a.csv")
    assert read(url, tmp_path)["user_id"] == [1, 1, 2, 3]  # gone there, still here


def test_http_address(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", TEXTS["a.csv"], packed=True)
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.csv.gz?version=1"
        try:
            assert read(url, tmp_path) == EXPECTED
        finally:
            server.shutdown()
    assert read(url, tmp_path) == EXPECTED  # the server is gone, the copy is not


def test_unreachable_address_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match="memory://nowhere/b.csv can't be read"):
        read("memory://nowhere/b.csv", tmp_path)


def test_column_mapping_and_every_optional_column(tmp_path: Path) -> None:
    text = f"when,who,what,how,stars,nr,junk\n{T},u,x,view,3.5,2,?\n{T},u,y,buy,,1,?\n"
    columns = Columns(user="who", item="what", timestamp="when", event_type="how", rating="stars", order="nr")
    assert read_csv(text, tmp_path, columns=columns) == {
        "user_id": ["u", "u"],
        "item_id": ["x", "y"],
        "timestamp": [T, T],
        "event_type": ["view", "buy"],
        "rating": [3.5, None],
        "order": [2, 1],
        "junk": ["?", "?"],
    }


def test_order_column_stands_in_for_time(tmp_path: Path) -> None:
    found = read_csv("user_id,item_id,step\n1,5,2\n1,6,1\n", tmp_path, columns=Columns(order="step"))
    assert found == {"user_id": [1, 1], "item_id": [5, 6], "order": [2, 1]}


def test_item_table_follows_the_type_of_the_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", TEXTS["a.csv"].replace("item_id", "sku"))
    items = write(tmp_path / "items.csv", "sku,price,kind\n10,1.5,a\nx1,2,b\n11,3,c\n")
    table = FileSource(path, items=items, columns=Columns(item="sku")).tables(tmp_path).items
    assert table is not None
    assert table.collect().to_dict(as_series=False) == {"item_id": [10, 11], "price": [1.5, 3.0], "kind": ["a", "c"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("items.tsv", "item_id\tprice\n010\t1.5\n"),
        ("items.item", "item_id:token\tprice:float\n010\t1.5\n"),
        ("items.jsonl", '{"item_id": "010", "price": 1.5}\n'),
    ],
)
def test_item_table_formats_keep_text_ids(name: str, text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user_id,item_id\n1,010\n")
    table = FileSource(path, items=write(tmp_path / name, text)).tables(tmp_path).items
    assert table is not None
    assert table.collect().to_dict(as_series=False) == {"item_id": ["010"], "price": [1.5]}


def test_item_table_without_its_id(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", TEXTS["a.csv"])
    items = write(tmp_path / "items.csv", "sku,price\n10,1.5\n")
    with pytest.raises(RecsysLabError, match="no column 'item_id' with the item id; it has: sku, price"):
        FileSource(path, items=items).tables(tmp_path)


# -------------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["10", "9"], [10, 9]),
        (["a", "b"], ["a", "b"]),
        (["007", "7"], ["007", "7"]),  # two items, not one
        (["-1", "12345678901234567890"], ["-1", "12345678901234567890"]),  # too long for a number
        (["1.0", "2"], ["1.0", "2"]),
    ],
)
def test_ids_of_text_files(ids: list[str], expected: list[Any], tmp_path: Path) -> None:
    text = "user_id,item_id\n" + "".join(f"u,{i}\n" for i in ids)
    assert read_csv(text, tmp_path)["item_id"] == expected


def test_mixed_json_ids_become_text_with_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.jsonl", '{"user_id": 1, "item_id": "x"}\n\n{"user_id": 2, "item_id": 7}\n')
    with caplog.at_level(logging.INFO):
        assert read(path, tmp_path)["item_id"] == ["x", "7"]
    assert "'item_id' mixes numbers and text" in caplog.text


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pl.Series([1.0, 2.0]), [1, 2]),
        (pl.Series(["b", "a"], dtype=pl.Categorical), ["b", "a"]),
        (pl.Series([2**63 + 1, 2], dtype=pl.UInt64), [2**63 + 1, 2]),
        (pl.Series([3, 4], dtype=pl.Int16), [3, 4]),
    ],
)
def test_ids_of_parquet(series: pl.Series, expected: list[Any], tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [1, 1], "item_id": series}).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", tmp_path)["item_id"] == expected


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (pl.Series([1.5, 2.0]), "column 'item_id' has fractions"),
        (pl.Series([1.0, float("nan")]), "column 'item_id' has 1 missing id in 2 rows"),
        (pl.Series([None, None], dtype=pl.Int64), "column 'item_id' has 2 missing ids in 2 rows"),
        (pl.Series([[1], [2]]), "column 'item_id' is of type List"),
    ],
)
def test_bad_ids_of_parquet(series: pl.Series, message: str, tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [1, 1], "item_id": series}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(RecsysLabError, match=message):
        read(tmp_path / "a.parquet", tmp_path)


def test_missing_ids_are_counted(tmp_path: Path) -> None:
    assert "column 'user_id' has 2 missing ids in 3 rows" in fails("user_id,item_id\n,a\n  ,b\nu,c\n", tmp_path)
    path = write(
        tmp_path / "a.jsonl", '{"user_id": 1, "item_id": null}\n{"user_id": 1, "item_id": 3}\n{"user_id": 1}\n'
    )
    with pytest.raises(RecsysLabError, match="column 'item_id' has 2 missing ids in 3 rows"):
        read(path, tmp_path)


# ------------------------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([f"{T}", f"{T + 1}"], [T, T + 1]),
        ([f"{T}.0", f"{T + 1}.0"], [T, T + 1]),
        ([f"{T}.25", f"{T}.5"], [T + 0.25, T + 0.5]),
        ([f"{T}000", f"{T + 1}000"], [T, T + 1]),
        ([f"{T}250", f"{T}500"], [T + 0.25, T + 0.5]),  # the order within a second is kept
        ([f"{T}000000", f"{T + 1}000000"], [T, T + 1]),
        ([f"{T}000000000", f"{T + 1}000000000"], [T, T + 1]),
        (["0", "1"], [0, 1]),
        (["2014-05-13T16:53:20Z", "2014-05-13T18:53:21+02:00"], [T, T + 1]),
        (["2014-05-13 16:53:20", "2014-05-13 16:53"], [T, T - 20]),
        (["2014-05-13T16:53:20.250Z", "2014-05-13T16:53:20Z"], [T + 0.25, T]),
        (["2014-05-13", "2014-05-14"], [T - 60800, T - 60800 + 86400]),
    ],
)
def test_times_of_text_files(values: list[str], expected: list[float], tmp_path: Path) -> None:
    text = "user_id,item_id,timestamp\n" + "".join(f"u,i,{v}\n" for v in values)
    assert read_csv(text, tmp_path)["timestamp"] == expected


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pl.Series([T, T + 1], dtype=pl.Int32), [T, T + 1]),
        (pl.Series([T + 0.5, T + 1.0]), [T + 0.5, T + 1]),
        (pl.Series([T * 1000, (T + 1) * 1000]), [T, T + 1]),
        (pl.Series([datetime.datetime(2014, 5, 13, 16, 53, 20)]), [T]),
        (pl.Series([datetime.datetime(2014, 5, 13, 18, 53, 20)]).dt.replace_time_zone("Europe/Berlin"), [T]),
        (pl.Series([datetime.datetime(2014, 5, 13, 16, 53, 20)], dtype=pl.Datetime("ns")), [T]),
        (pl.Series([datetime.date(2014, 5, 13)]), [T - 60800]),
    ],
)
def test_times_of_parquet(series: pl.Series, expected: list[float], tmp_path: Path) -> None:
    ids = list(range(len(series)))
    pl.DataFrame({"user_id": ids, "item_id": ids, "timestamp": series}).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", tmp_path)["timestamp"] == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [f"{T}", "yesterday", "soon"],
            "column 'when' has 2 timestamps that can't be read, first in row 2: 'yesterday'",
        ),
        ([f"{T}", "", f"{T}"], "column 'when' has 1 timestamp that can't be read, first in row 2: None"),
        ([f"{T}", "nan"], "first in row 2: 'nan'"),
        ([f"{T}", "-5"], "column 'when' has 1 timestamp before 1970 (negative), first in row 2: '-5'"),
        (["2014-05-13", f"{T}"], f"first in row 2: '{T}'"),
        (["2014-05-13", "2014-13-45"], "first in row 2: '2014-13-45'"),
        (["1969-12-31"], "before 1970"),
        ([f"{T}000", f"{T}"], f"mixes units: row 2 has {T} (seconds) and row 1 has {T}000 (milliseconds)"),
        ([f"{T}000", "0"], "row 2 has 0 (seconds)"),
        ([f"{T}", f"{T}", f"{T}000000"], f"row 3 has {T}000000 (microseconds)"),
    ],
)
def test_bad_times(values: list[str], message: str, tmp_path: Path) -> None:
    text = "user_id,item_id,when\n" + "".join(f"u,i,{v}\n" for v in values)
    assert message in fails(text, tmp_path, columns=Columns(timestamp="when"))


# ------------------------------------------------------------------------------------------------------------ errors


def test_missing_column_names_it_lists_the_others_and_suggests(tmp_path: Path) -> None:
    text = fails("userid,item_id,time\n1,2,3\n", tmp_path)
    assert "has no column 'user_id'" in text
    assert "did you mean 'userid'?" in text
    assert "'userid', 'item_id', 'time'" in text
    assert "Columns(user=...)" in text and "--" not in text
    with command_line():
        assert "--user_column" in fails("userid,item_id,time\n1,2,3\n", tmp_path)
    text = fails("user_id,item_id,time\n1,2,3\n", tmp_path, columns=Columns(timestamp="Tme"))
    assert "has no column 'Tme' (for timestamp); did you mean 'time'?" in text


def test_one_column_with_two_meanings(tmp_path: Path) -> None:
    assert "'a' is named for both" in fails("a,b\n1,2\n", tmp_path, columns=Columns(user="a", item="a"))


@pytest.mark.parametrize("name", [*TEXTS, "a.csv.gz"])
def test_empty_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    with pytest.raises(RecsysLabError, match="is empty"):
        read(path, tmp_path)


def test_tables_without_rows_are_empty(tmp_path: Path) -> None:
    assert "is empty" in fails("user_id,item_id\n", tmp_path)
    pl.DataFrame(schema={"user_id": pl.Int64, "item_id": pl.Int64}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(RecsysLabError, match="is empty"):
        read(tmp_path / "a.parquet", tmp_path)


def test_bad_ratings_and_orders_name_the_row(tmp_path: Path) -> None:
    text = fails("user_id,item_id,rating\n1,2,3\n1,3,good\n", tmp_path)
    assert "column 'rating' has 1 values that are not numbers, first in row 2: 'good'" in text
    text = fails("user_id,item_id,nr\n1,2,\n1,3,4\n", tmp_path, columns=Columns(order="nr"))
    assert "column 'nr' has 1 values that are not numbers, first in row 1: None" in text


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", b"1 2\n", {}, "does not tell its format"),
        ("a.csv", b"1 2\n", {"format": "xml"}, "unknown format 'xml'; known: csv, tsv"),
        ("a.parquet", b"no parquet", {}, "can't be read as parquet"),
        ("a.csv", b"PAR1\xff\xfe\x00", {}, "is a Parquet file, not csv: format='parquet'"),
        ("a.csv", b"\xfc\xff\xfe\x00", {}, "line 1 is not text in UTF-8 .* for example encoding='latin-1'"),
        ("a.csv", b"user_id,item_id\n1,2\n1,2,3,4\n", {}, r"row 2 \(line 3\) has 4 fields, but the header line has 2"),
        ("a.txt", b"1 2 3\n", {"format": "pairs"}, "has 3 columns"),
        ("a.txt", b"1 2\n1\n", {"format": "pairs"}, "1 missing id"),
        ("a.txt", b"1 2 3\n2\n", {"format": "sequences"}, "1 missing id"),
        ("a.jsonl", b'{"user_id": 1, "item_id": 2}\n{"user_id"\n', {}, "line 2 is not JSON"),
        ("a.jsonl", b"[1, 2]\n", {}, "entry 1 of the JSON array is not an object: '1'"),
        ("a.jsonl", b'{"user_id": 1, "item_id": 2}\n[1]\n', {}, "line 2 is not a JSON object"),
        (
            "a.csv",
            b"1,2\n",
            {"names": ("user_id", "item_id", "rating")},
            "has 2 columns when split at ',', but 3 are expected: user_id, item_id, rating",
        ),
    ],
)
def test_unreadable_files(name: str, content: bytes, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecsysLabError, match=message):
        read(tmp_path / name, tmp_path, **options)


def test_truncated_gzip(tmp_path: Path) -> None:
    text = "user_id,item_id\n" + "".join(f"{n},{n * 7919 % 1000}\n" for n in range(5000))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode())[:-500])
    with pytest.raises(RecsysLabError, match="a.csv.gz"):
        read(tmp_path / "a.csv.gz", tmp_path)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match="there is no file"):
        read(tmp_path / "nothing.csv", tmp_path)


# ------------------------------------------------------------------------------------------------------- the source


def test_fingerprint_changes_with_content_and_mapping(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", TEXTS["a.csv"])
    first = FileSource(path).fingerprint(tmp_path)
    assert FileSource(path).fingerprint(tmp_path) == first
    assert FileSource(path, columns=Columns(item="timestamp")).fingerprint(tmp_path) != first
    path.write_text(TEXTS["a.csv"].replace("10", "12"))
    assert FileSource(path).fingerprint(tmp_path) != first


def test_name_and_plain_config(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "logs.csv.gz", columns=Columns(user="who"), names=("a", "b"))
    assert source.name == "logs"
    copy = from_config(to_config(source))
    assert copy.columns == source.columns and str(copy.path) == str(source.path) and copy.names == ("a", "b")
