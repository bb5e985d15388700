"""Public sets with event types, contexts and items: each parser on a made file in its publisher's format."""

# ruff: noqa: E501  (lines of files are lines here)

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
from test_sources_public import events, made

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset

T = 1_511_544_070


def rows(table: pl.LazyFrame | None) -> list[dict[str, Any]]:
    assert table is not None
    return table.collect().to_dicts()


def prepared(name: str, raw: Path, files: dict[str, str], **settings: Any) -> ProcessedDataset:
    """Prepared with the source's own settings, but for the filters."""
    source = made(name, raw, files)
    own = {**source.default_settings, "min_user_events": 1, "min_item_events": 1, **settings}
    return prepare(source, PrepareSettings(**own), raw / "prepared" / name, raw)


def test_taobao(tmp_path: Path) -> None:
    text = f"1,2268318,2520377,pv,{T}\n1,2268318,2520377,buy,{T + 9}\n2,7,11,fav,{T}\n"
    data = prepared("taobao", tmp_path, {"UserBehavior.csv": text})
    assert data.event_type_names == ["buy", "fav", "pv"]
    assert data.fields["item.category"].kind == "categorical"
    assert data.field_values("item.category").to_list() == [11, 2520377]


def test_rees46(tmp_path: Path) -> None:
    head = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    text = head + (
        "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n"
        "2019-10-01 00:00:09 UTC,cart,3900821,2053013552326770905,appliances.kitchen,aqua,33.20,541312140,72d76fde\n"
        "2019-10-01 00:00:19 UTC,purchase,3900821,2053013552326770905,appliances.kitchen,aqua,33.20,5,ab\n"
    )
    data = prepared("rees46", tmp_path, {"2019-Oct.csv": text})
    assert data.event_type_names == ["cart", "purchase", "view"] and data.manifest["first_time"] == 1_569_888_000
    kinds = {key: field.kind for key, field in data.fields.items()}
    assert kinds["price"] == "numeric" and kinds["item.brand"] == kinds["item.category_code"] == "categorical"
    assert data.field_values("item.brand").to_list() == ["aqua", "shiseido"] and "category_id" not in kinds


def test_online_retail(tmp_path: Path) -> None:
    head = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
    text = head + (
        "489434,85048,15CM CHRISTMAS GLASS BALL,12,2009-12-01 07:45:00,6.95,13085.0,United Kingdom\n"
        "489434,79323P,PINK CHERRY LIGHTS,12,2009-12-01 07:45:00,6.75,13085.0,United Kingdom\n"
        "C489449,79323P,PINK CHERRY LIGHTS,-1,2009-12-01 10:33:00,6.75,16321.0,Australia\n"
        "489500,21523,DOOR MAT,1,2009-12-01 11:00:00,5.95,,United Kingdom\n"
    )
    tables = made("online-retail", tmp_path, {"online_retail_II.csv": text}).tables(tmp_path)
    found = events(tables)
    assert found["event_type"] == ["purchase", "purchase", "cancel"] and found["price"] == [6.95, 6.75, 6.75]
    assert found["item_id"] == ["85048", "79323P", "79323P"] and found["quantity"] == [12, 12, -1]
    assert {row["item_id"]: row["title"] for row in rows(tables.items)}["79323P"] == "PINK CHERRY LIGHTS"
    assert tables.left_out == {"rows without an id": 1}


def test_globo_news(tmp_path: Path, monkeypatch: Any) -> None:
    names = "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,"
    names += "click_deviceGroup,click_os,click_country,click_region,click_referrer_type\n"
    hours = {
        f"clicks_hour_{n:03d}.csv": names + f"{n},15068{n},1506825423000,2,{n},{1506826828020 + n},4,1,17,1,25,2\n"
        for n in range(385)
    }
    articles = "article_id,category_id,created_at_ts,publisher_id,words_count\n0,0,1513144419000,0,168\n1,1,1405341936000,0,189\n"
    source = made("globo-news", tmp_path, {**hours, "articles_metadata.csv": articles})
    tables = source.tables(tmp_path)
    first = rows(tables.interactions)[0]
    assert (first["user_id"], first["item_id"], int(first["timestamp"]), first["deviceGroup"]) == (0, 0, 1506826828, 1)
    assert len(rows(tables.interactions)) == 385
    assert rows(tables.items)[1]["words_count"] == 189 and rows(tables.items)[1]["created"].year == 2014


def test_yelp(tmp_path: Path) -> None:
    review = {
        "review_id": "r",
        "user_id": "u1",
        "business_id": "b1",
        "stars": 4.0,
        "text": "x, y",
        "date": "2018-07-07 22:09:11",
    }
    business = {
        "business_id": "b1",
        "name": "Pizzeria",
        "city": "Tampa",
        "state": "FL",
        "categories": "Pizza, Food",
        "attributes": {"WiFi": "no"},
    }
    files = {
        "yelp_academic_dataset_review.json": json.dumps(review) + "\n",
        "yelp_academic_dataset_business.json": json.dumps(business) + "\n",
    }
    tables = made("yelp", tmp_path, files).tables(tmp_path)
    assert events(tables) == {
        "user_id": ["u1"],
        "item_id": ["b1"],
        "timestamp": [1_531_001_351],
        "rating": [4.0],
        "order": [0],
    }
    assert rows(tables.items) == [
        {"item_id": "b1", "title": "Pizzeria", "city": "Tampa", "state": "FL", "categories": ["Pizza", "Food"]}
    ]


def test_trivago(tmp_path: Path) -> None:
    head = "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices\n"
    text = head + (
        f'U1,s1,{T},1,search for poi,Newtown,AU,"Sydney, Australia",mobile,,,\n'
        f'U1,s1,{T + 5},2,interaction item image,666856,AU,"Sydney, Australia",mobile,,,\n'
        f'U1,s1,{T + 9},3,clickout item,109038,AU,"Sydney, Australia",mobile,,3400638|109038,95|66\n'
    )
    files = {"train.csv": text, "item_metadata.csv": "item_id,properties\n109038,WiFi|Pool\n"}
    tables = made("trivago", tmp_path, files).tables(tmp_path)
    found = events(tables)
    assert found["item_id"] == [666856, 109038] and found["event_type"] == ["interaction item image", "clickout item"]
    assert found["device"] == ["mobile"] * 2 and tables.left_out == {"actions on no item": 1}
    shown = rows(tables.shown)
    assert [(r["item_id"], r["price"], r["label"], r["position"]) for r in shown] == [
        (3400638, 95, 0, 1),
        (109038, 66, 1, 2),
    ]
    assert rows(tables.items) == [{"item_id": 109038, "properties": ["WiFi", "Pool"]}]


def test_amazon_2018(tmp_path: Path) -> None:
    review = {"overall": 5.0, "reviewerID": "A1", "asin": "B1", "reviewText": "good", "unixReviewTime": 1_400_000_000}
    meta = {
        "asin": "B1",
        "title": "Digital scale",
        "brand": "Acme",
        "category": ["Industrial", "Scales"],
        "description": ["A", "B"],
        "price": "$1,012.99",
        "also_buy": ["B2"],
    }
    name = "amazon-2018-industrial-and-scientific"
    files = {"Industrial_and_Scientific_5.json.gz": json.dumps(review) + "\n"}
    source = made(name, tmp_path, files)
    (tmp_path / name / "meta_Industrial_and_Scientific.json.gz").write_bytes(
        gzip.compress("".join(json.dumps(m) + "\n" for m in (meta, {**meta, "title": "again"})).encode())
    )
    tables = source.tables(tmp_path)
    assert events(tables)["rating"] == [5.0]
    assert rows(tables.items) == [
        {
            "item_id": "B1",
            "title": "Digital scale",
            "brand": "Acme",
            "category": ["Industrial", "Scales"],
            "description": "A B",
            "price": 1012.99,
        }
    ]


def test_retailrocket_with_categories(tmp_path: Path) -> None:
    head = "timestamp,visitorid,event,itemid,transactionid\n"
    properties = "timestamp,itemid,property,value\n1435460400000,7,categoryid,1338\n1431226800000,7,categoryid,9\n1431226800000,7,888,n12\n"
    files = {"events.csv": head + "1433221332117,257597,view,7,\n", "item_properties_part1.csv": properties}
    tables = made("retailrocket", tmp_path, files).tables(tmp_path)
    assert rows(tables.items) == [{"item_id": 7, "category": "9"}], "the first that was known"


def test_atomic_files_of_recbole_are_read_as_they_are(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(f"{u}\t{u + s}\t{T + 60 * s}\t{s}.5\n" for u in range(4) for s in range(5))
    Path("x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\tprice:float\n" + text)
    items = "".join(f"{i}\tGood film {i}\t{'Drama Comedy' if i % 2 else 'War'}\t{i}.0\n" for i in range(8))
    Path("x.item").write_text("item_id:token\tname:token_seq\tclass:token_seq\tweight:float\n" + items)
    Path("x.user").write_text("user_id:token\tage:token\n" + "".join(f"{u}\t{20 + u % 2}\n" for u in range(4)))
    line = ["prepare", "--input", "x.inter", "--items", "x.item", "--users", "x.user", "--name", "x"]
    assert main(line) == 0
    data = SequenceDataModule("x", data_dir="data", fields="all").processed
    kinds = {key: field.kind for key, field in data.fields.items()}
    assert kinds == {
        "price": "numeric", "item.name": "multi", "item.class": "multi", "item.weight": "numeric", "user.age": "categorical",
    }  # fmt: skip
    assert data.field_values("item.class").to_list() == ["Comedy", "Drama", "War"]
