"""Named sources: each parser on a small made file in its publisher's format, and how files are found and checked."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys_lab.data.reading.download import ChecksumError
from recsys_lab.data.reading.raw_files import Counts
from recsys_lab.data.reading.source import PublicSource
from recsys_lab.data.sources import DownloadError, RawTables, Source, get_source, ml_100k, source_names
from recsys_lab.words import RecsysLabError

T = 1_400_000_000


def events(tables: RawTables) -> dict[str, list[Any]]:
    return tables.interactions.collect().to_dict(as_series=False)


def made(name: str, raw: Path, files: dict[str, str], counts: Counts | None = None) -> PublicSource:
    """The source with its real parser, over made files, whose checksums and counts can't be the published ones."""
    source = get_source(name)
    assert isinstance(source, PublicSource)
    folder = raw / name
    folder.mkdir(parents=True)
    for file, text in files.items():
        data = text.encode("latin-1")
        (folder / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    without = tuple(dataclasses.replace(f, checksum=None) for f in source.files)
    return dataclasses.replace(source, files=without, counts=counts)


def test_names_are_found_by_scanning_and_every_source_is_complete() -> None:
    names = source_names()
    assert names == sorted(names)
    wanted = {"ml-100k", "ml-1m", "ml-20m", "steam", "lastfm-hetrec", "ml-1m-sasrec", "amazon-beauty-s3rec",
              "amazon-sports-s3rec", "lastfm-s3rec", "retailrocket", "diginetica", "yoochoose", "synthetic",
              "amazon-2014-beauty", "amazon-2014-toys-and-games", "amazon-2018-office-products", "trivago", "taobao",
              "rees46", "online-retail", "globo-news", "yelp"}  # fmt: skip
    assert wanted <= set(names)
    for name in names:
        source = get_source(name)
        assert isinstance(source, Source)
        assert source.name == name and source.licence and source.homepage and source.citation and source.checked_by
        assert all(url.startswith("https://") for url in source.urls)
        assert source.urls or source.homepage == "built in" or getattr(source, "instructions", "")


def test_names_are_forgiving_and_unknown_ones_are_listed() -> None:
    assert get_source("amazon-2014-Toys_and_Games").name == "amazon-2014-toys-and-games"
    with pytest.raises(RecsysLabError, match="unknown data set 'ml-100'. Did you mean 'ml-100k'.* Known: .*ml-1m"):
        get_source("ml-100")


# ---------------------------------------------------------------------------------------------------------- parsers


def test_ml_1m(tmp_path: Path) -> None:
    source = made("ml-1m", tmp_path, {
        "ratings.dat": f"1::1193::5::{T}\n1::661::3::{T + 9}\n",
        "movies.dat": "661::James and the Giant Peach (1996)::Animation|Children's\n1193::Café (Le) (1975)::Drama\n",
        "users.dat": "1::F::1::10::48067\n",
    })  # fmt: skip
    tables = source.tables(tmp_path)
    assert events(tables) == {
        "user_id": [1, 1], "item_id": [1193, 661], "timestamp": [T, T + 9], "rating": [5.0, 3.0], "order": [0, 1],
    }  # fmt: skip
    assert tables.items is not None and tables.users is not None
    assert tables.items.collect().rows() == [
        (661, "James and the Giant Peach", 1996, ["Animation", "Children's"]),
        (1193, "Café (Le)", 1975, ["Drama"]),
    ]
    assert tables.users.collect().rows() == [(1, "F", "under 18", "10", "48067")]


def test_ml_20m(tmp_path: Path) -> None:
    source = made("ml-20m", tmp_path, {
        "ratings.csv": f"userId,movieId,rating,timestamp\n1,2,3.5,{T}\n",
        "movies.csv": 'movieId,title,genres\n2,"Jumanji, again (1995)",Adventure|Children\n',
    })  # fmt: skip
    tables = source.tables(tmp_path)
    assert events(tables) == {"user_id": [1], "item_id": [2], "timestamp": [T], "rating": [3.5], "order": [0]}
    assert tables.items is not None
    assert tables.items.collect().rows() == [(2, "Jumanji, again", 1995, ["Adventure", "Children"])]


@pytest.mark.parametrize("file", ["reviews_Beauty_5.json.gz", "reviews_Beauty_5.json"])
def test_amazon_2014_packed_or_unpacked(file: str, tmp_path: Path) -> None:
    line = '{"reviewerID": "A2", "asin": "0007", "helpful": [2, 3], "overall": 5.0, "unixReviewTime": 1252800000}\n'
    source = made("amazon-2014-beauty", tmp_path, {file: line})
    assert events(source.tables(tmp_path)) == {
        "user_id": ["A2"], "item_id": ["0007"], "timestamp": [1252800000], "rating": [5.0], "order": [0],
    }  # fmt: skip


def test_steam_python_literals(tmp_path: Path) -> None:
    lines = (
        "{u'username': u'Ann', u'product_id': u'70', u'date': u'2017-12-17', u'text': u\"it's u'product_id': u'9'\"}\n"
        "{u'username': u'Bob', u'hours': 1.5, u'product_id': u'80', u'date': u'2018-01-02'}\n"
    )
    source = made("steam", tmp_path, {"steam_reviews.json.gz": lines})
    expected = {
        "user_id": ["Ann", "Bob"], "item_id": [70, 80], "timestamp": [1513468800, 1514851200], "order": [0, 1],
    }  # fmt: skip
    assert events(source.tables(tmp_path)) == expected
    assert (tmp_path / "steam" / "steam_reviews.parquet").exists()
    assert events(source.tables(tmp_path)) == expected  # from the parsed copy


def test_steam_names_the_bad_line(tmp_path: Path) -> None:
    source = made("steam", tmp_path, {"steam_reviews.json.gz": "{u'username': u'Ann'}\n"})
    with pytest.raises(RecsysLabError, match="line 1 is not a review"):
        source.tables(tmp_path)
    assert not (tmp_path / "steam" / "steam_reviews.parquet").exists()


def test_lastfm_tags_at_one_moment_are_one_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = made("lastfm-hetrec", tmp_path, {
        "user_taggedartists-timestamps.dat": "userID\tartistID\ttagID\ttimestamp\n"
        f"2\t52\t13\t{T}000\n2\t52\t15\t{T}000\n2\t63\t13\t{T + 5}000\n3\t52\t1\t-428720400000\n",
        "artists.dat": 'id\tname\turl\tpictureURL\n52\tMorcheeba\thttp://x\t\n63\tThe "Q"\thttp://y\thttp://z\n',
    })  # fmt: skip
    tables = source.tables(tmp_path)
    assert events(tables) == {"user_id": [2, 2], "item_id": [52, 63], "timestamp": [T, T + 5], "order": [0, 1]}
    assert "1 rows with a time before 2002 left out" in caplog.text
    assert tables.items is not None
    assert tables.items.collect().rows() == [(52, "Morcheeba"), (63, 'The "Q"')]


def test_retailrocket(tmp_path: Path) -> None:
    text = f"timestamp,visitorid,event,itemid,transactionid\n{T}117,257597,view,355908,\n{T}119,1,transaction,9,4\n"
    source = made("retailrocket", tmp_path, {"events.csv": text})
    assert events(source.tables(tmp_path)) == {
        "user_id": [257597, 1], "item_id": [355908, 9], "timestamp": [T + 0.117, T + 0.119],
        "event_type": ["view", "transaction"], "order": [0, 1], "transactionid": [None, 4],
    }  # fmt: skip


def test_diginetica_time_is_day_plus_milliseconds(tmp_path: Path) -> None:
    text = "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n1;NA;31331;1031018;2016-05-09\n"
    day = 1462752000
    found = events(made("diginetica", tmp_path, {"train-item-views.csv.gz": text}).tables(tmp_path))
    assert found.pop("timestamp") == pytest.approx([day + 526.309, day + 1031.018], abs=1e-5)
    assert found == {"user_id": [1, 1], "item_id": [81766, 31331], "order": [0, 1]}


def test_yoochoose(tmp_path: Path) -> None:
    text = "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,S\n"
    source = made("yoochoose", tmp_path, {"yoochoose-clicks.dat": text})
    assert events(source.tables(tmp_path)) == {
        "user_id": [1, 1], "item_id": [214536502, 214536500], "timestamp": [1396867869.277, 1396868049.868],
        "order": [0, 1], "category": ["0", "S"],
    }  # fmt: skip


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_sasrec_and_s3rec_texts(packed: str, tmp_path: Path) -> None:
    expected = {"user_id": [1, 1, 2], "item_id": [1, 2, 1], "order": [0, 1, 2]}
    pairs = made("ml-1m-sasrec", tmp_path, {f"ml-1m.txt{packed}": "1 1\n1 2\n2 1\n"})
    lines = made("amazon-beauty-s3rec", tmp_path, {f"Beauty.txt{packed}": "1 1 2\n2 1\n"})
    assert events(pairs.tables(tmp_path)) == events(lines.tables(tmp_path)) == expected


# ------------------------------------------------------------------------------------------------- finding, checking


def test_account_only_sets_say_what_to_do(tmp_path: Path) -> None:
    for name, file in [
        ("retailrocket", "events.csv"),
        ("diginetica", "train-item-views.csv"),
        ("yoochoose", "yoochoose-clicks.dat"),
    ]:
        with pytest.raises(DownloadError) as caught:
            get_source(name).tables(tmp_path)
        assert "https://" in str(caught.value)
        assert f"put {file} (gzipped or not) into {tmp_path / name}" in str(caught.value)


def test_published_counts_are_compared(tmp_path: Path) -> None:
    text = f"timestamp,visitorid,event,itemid,transactionid\n{T}117,1,view,2,\n{T}118,1,view,3,\n"
    source = made("retailrocket", tmp_path, {"events.csv": text}, Counts(events=3, users=1, items=4))
    with pytest.raises(RecsysLabError, match="retailrocket: 2 events instead of 3, 2 items instead of 4"):
        source.tables(tmp_path)
    dataclasses.replace(source, counts=Counts(events=2, users=1, items=2)).tables(tmp_path)


@pytest.mark.parametrize("file", ["ml-1m.txt", "ml-1m.txt.gz"])
def test_a_wrong_file_of_the_user_is_named_and_kept(file: str, tmp_path: Path) -> None:
    made("ml-1m-sasrec", tmp_path, {file: "1 1\n"})
    with pytest.raises(ChecksumError, match="is not the published ml-1m.txt: its sha256 is .*Remove it"):
        get_source("ml-1m-sasrec").tables(tmp_path)
    assert (tmp_path / "ml-1m-sasrec" / file).exists()


def test_a_broken_gzip_of_the_user(tmp_path: Path) -> None:
    made("ml-1m-sasrec", tmp_path, {})
    (tmp_path / "ml-1m-sasrec" / "ml-1m.txt.gz").write_bytes(gzip.compress(b"1 1\n" * 99)[:-9])
    with pytest.raises(ChecksumError, match="can't be unpacked"):
        get_source("ml-1m-sasrec").tables(tmp_path)


def test_files_come_out_of_the_users_zip(tmp_path: Path) -> None:
    source = made("ml-20m", tmp_path, {})
    archive = tmp_path / "ml-20m" / "ml-20m.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("ml-20m/ratings.csv", f"userId,movieId,rating,timestamp\n1,2,3.5,{T}\n")
        out.writestr("ml-20m/links.csv", "not needed")
    with pytest.raises(ChecksumError, match="is not the published ml-20m.zip: its md5 is"):
        source.tables(tmp_path)
    assert source.archive is not None
    checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    source = dataclasses.replace(source, archive=dataclasses.replace(source.archive, checksum=checksum))
    assert events(source.tables(tmp_path))["rating"] == [3.5]
    assert sorted(p.name for p in archive.parent.iterdir()) == ["ml-20m.zip", "ratings.csv"]
    first = source.fingerprint(tmp_path)
    (archive.parent / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,4.5,1\n")
    assert source.fingerprint(tmp_path) != first


def test_a_broken_zip(tmp_path: Path) -> None:
    source = made("ml-20m", tmp_path, {"ml-20m.zip": "no zip"})
    assert source.archive is not None
    source = dataclasses.replace(source, archive=dataclasses.replace(source.archive, checksum=None))
    with pytest.raises(RecsysLabError, match="not a readable zip"):
        source.tables(tmp_path)


# ---------------------------------------------------------------------------------------------------------- ml-100k

ROWS = [(196, 242, 3, 881250949), (186, 302, 3, 891717742), (196, 302, 4, 881250949)]
U_DATA = "".join("\t".join(map(str, row)) + "\n" for row in ROWS)
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + U_DATA
U_ITEM = (
    "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "302|Café \xe9 (1997)|01-Jan-1997||http://y|0|0|0|0|0|0|1|0|0|0|1|0|0|1|0|0|1|0|0\n"
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "242\tKolya\t1996\tComedy\n302\tCafé é\t1997\tCrime Film-Noir Mystery Thriller\n"
)
U_USER = "186|24|M|student|85711\n196|49|F|writer|05201\n"
USER = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n" + U_USER.replace("|", "\t")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three made ratings take the place of the published ones."""
    monkeypatch.setattr(ml_100k, "TABLE_SHA256", hashlib.sha256(U_DATA.encode()).hexdigest())


@pytest.mark.usefixtures("small")
def test_ml_100k_is_the_same_from_both_sides(tmp_path: Path) -> None:
    there = made("ml-100k", tmp_path / "a", {"u.data": U_DATA, "u.item": U_ITEM, "u.user": U_USER}).tables(
        tmp_path / "a"
    )
    here = made("ml-100k", tmp_path / "b", {"ml-100k.inter": INTER, "ml-100k.user": USER})
    (tmp_path / "b" / "ml-100k" / "ml-100k.item").write_text(ITEM, encoding="utf-8")
    wheel = here.tables(tmp_path / "b")
    assert events(there) == events(wheel)
    assert events(there)["timestamp"] == [row[3] for row in ROWS]
    for one, other in ((there.items, wheel.items), (there.users, wheel.users)):
        assert one is not None and other is not None
        assert one.collect().equals(other.collect())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("file", ["u.data", "ml-100k.inter"])
def test_ml_100k_other_rows_or_another_order_are_refused(file: str, tmp_path: Path) -> None:
    text = INTER if file.endswith("inter") else U_DATA
    lines = text.splitlines(keepends=True)
    lines[-1], lines[-2] = lines[-2], lines[-1]
    source = made("ml-100k", tmp_path, {file: "".join(lines)})
    with pytest.raises(ChecksumError, match="is not the published MovieLens-100K"):
        source.tables(tmp_path)


def unreachable(source: PublicSource) -> PublicSource:
    assert source.archive is not None
    return dataclasses.replace(
        source, archive=dataclasses.replace(source.archive, urls=("http://127.0.0.1:9/ml-100k.zip",))
    )


def fake_pip(monkeypatch: pytest.MonkeyPatch, files: dict[str, str] | None) -> list[list[str]]:
    """pip that "downloads" a wheel with these files, or fails. Returns the commands it was called with."""
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if files is None:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")
        with zipfile.ZipFile(Path(command[-1]) / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
            for name, text in files.items():
                wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


@pytest.mark.usefixtures("small")
def test_ml_100k_falls_back_to_the_wheel_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, {"ml-100k.inter": INTER, "ml-100k.item": ITEM, "ml-100k.user": USER})
    source = unreachable(made("ml-100k", tmp_path, {}))
    for _ in range(2):
        assert events(source.tables(tmp_path))["item_id"] == [242, 302, 302]
    source.fingerprint(tmp_path)
    assert len(calls) == 1  # the second time the files are there
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "recbole==1.2.1"} <= set(calls[0])


def test_ml_100k_both_ways_failing_says_all_that_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, None)
    source = unreachable(made("ml-100k", tmp_path, {}))
    with pytest.raises(DownloadError) as caught:
        source.tables(tmp_path)
    text = str(caught.value)
    assert "http://127.0.0.1:9/ml-100k.zip: can't be reached (connection refused)" in text
    assert "put the file at" in text
    assert "pip could not fetch recbole==1.2.1 either: ERROR: No matching distribution" in text


def test_ml_100k_a_wheel_without_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, {"other.inter": INTER})
    with pytest.raises(DownloadError, match="holds no ml-100k.inter"):
        unreachable(made("ml-100k", tmp_path, {})).tables(tmp_path)


def test_ml_100k_a_wrong_zip_of_the_user_is_not_gone_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, {"ml-100k.inter": INTER})
    source = made("ml-100k", tmp_path, {"ml-100k.zip": "something else"})
    with pytest.raises(ChecksumError, match="is not the published ml-100k.zip"):
        source.tables(tmp_path)
    assert calls == []


def test_timestamps_are_announced_as_they_are(tmp_path: Path) -> None:
    for name, files in {
        "ml-1m-sasrec": {"ml-1m.txt": "1 1\n"},
        "ml-1m": {"ratings.dat": f"1::2::5::{T}\n"},
    }.items():
        source = made(name, tmp_path, files)
        assert source.has_timestamps == ("timestamp" in source.tables(tmp_path).interactions.collect_schema())
        assert isinstance(source.tables(tmp_path).interactions, pl.LazyFrame)


def test_what_a_parser_of_ones_own_gives(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "order": [0]})
    made_tables = RawTables(frame, items=frame.select("item_id"))  # type: ignore[arg-type]
    assert made_tables.interactions.collect().equals(frame) and isinstance(made_tables.items, pl.LazyFrame)
    own = PublicSource("shop", "ours", "none", "none", files=(), parse=lambda files: None)  # type: ignore[arg-type]
    with pytest.raises(RecsysLabError, match="the source 'shop': parse gives NoneType, and not RawTables"):
        own.tables(tmp_path)
