"""Shards from S3: a real server on this machine (moto), spoken to over HTTP; also by worker processes and a command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import made_events, prepared

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.shards.cut_shards import cut
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("s3") / "small"
    prepared(folder, made_events(num_users=60))
    cut(folder, folder.with_name("sharded"), 6)
    return folder.with_name("sharded")


@pytest.fixture(scope="module")
def address(sharded: Path) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "very-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        store = boto3.client("s3")
        store.create_bucket(Bucket="logs")
        for path in sharded.rglob("*"):
            if path.is_file():
                store.upload_file(str(path), "logs", f"small/{path.relative_to(sharded).as_posix()}")
        yield "s3://logs/small"
    server.stop()


def module(dataset: str, folder: Path, workers: int = 0) -> SequenceDataModule:
    return SequenceDataModule(dataset, max_length=7, batch_size=8, cache_dir=str(folder), num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_s3_are_those_of_the_folder(sharded: Path, address: str, tmp_path: Path, workers: int) -> None:
    """Worker processes open connections of their own."""
    found = [batch.item_ids for batch in module(address, tmp_path, workers).train_dataloader()]
    expected = [batch.item_ids for batch in module(str(sharded), tmp_path, workers).train_dataloader()]
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))


def test_a_fit_from_s3(address: str, tmp_path: Path) -> None:
    words = ["--model", "GRU4Rec", "--model.embedding_dim", "8", "--data.dataset", address, "--trainer.max_epochs", "1"]
    words += ["--data.cache_dir", str(tmp_path / "cache"), "--run.folder", str(tmp_path / "run")]
    assert main(["fit", *words, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]) == 0
    assert (tmp_path / "run" / "ranks.parquet").is_file()


def test_what_is_not_there_is_one_line(address: str, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match=r"shards\.json of s3://logs/other can't be read") as error:
        np.asarray(module("s3://logs/other", tmp_path).processed.item_ids)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)
