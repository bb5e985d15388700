"""Texts of items -> a file of vectors for `--model.item_vectors`.

    python scripts/embed_items.py --dataset ml-100k --fields item.title,item.genres --out titles.parquet
    recsys-lab fit --model SASRec --data.dataset ml-100k --model.item_vectors titles.parquet

`ngrams` (the default) counts character n-grams of words, hashed, weighs them by tf-idf and keeps the directions of a
truncated singular value decomposition: scikit-learn, no network, the floor that a text model has to beat. `wordllama`
is the mean of the token vectors that the package of this name brings with it. Both: pip install 'recsys-lab[text]'.

Texts are those of all items, also of such that never train: a text is known before anything is predicted. A fitted
transform (`--model.item_vectors_preprocessing`) is the model's matter, and sees the items of the training part only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl

from recsys_lab.data.locate import DATA_DIR, locate
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.words import ITEM_ID, RecsysLabError

FEATURES = 1 << 18
"""Columns that n-grams are hashed into."""


def texts_of(data: ProcessedDataset, keys: list[str]) -> list[str]:
    """The values of fields of the items as one text for each item; empty where all are missing.

    Raises:
        RecsysLabError: for a field that the items don't have.
    """
    table = data.item_table
    known = table.columns[1:]
    for key in keys:
        scope, dot, name = key.partition(".")
        if scope != "item" or not dot or name not in known:
            has = ", ".join(f"item.{name}" for name in known) or "none"
            raise RecsysLabError(f"--fields: {data.name} has no {key!r}; columns of its items: {has}")
    names = [key.partition(".")[2] for key in keys]
    parts = [
        pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(" ")
        if isinstance(table.schema[name], pl.List)
        else pl.col(name).cast(pl.String)
        for name in names
    ]
    found = table.select(pl.concat_str([part.fill_null("") for part in parts], separator=" ").str.strip_chars())
    return found.to_series().to_list()


def ngram_vectors(texts: list[str], width: int, seed: int) -> np.ndarray:
    """(N, width) float32 by hashed character n-grams (2 to 5 signs, inside words), tf-idf and truncated SVD."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    counts = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), n_features=FEATURES, alternate_sign=False, norm=None
    ).transform(texts)
    weighed = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    most = min(weighed.shape) - 1
    if width > most:
        raise RecsysLabError(f"--width {width}: {len(texts)} texts have at most {most} directions")
    return TruncatedSVD(width, random_state=seed).fit_transform(weighed).astype(np.float32)


def wordllama_vectors(texts: list[str], width: int) -> np.ndarray:
    """(N, width) float32: means of the token vectors of the package wordllama, which brings them in its wheel."""
    import wordllama

    sizes = (64, 128, 256)
    if width not in sizes:
        raise RecsysLabError(f"--width {width}: wordllama has vectors of {', '.join(map(str, sizes))} numbers")
    own = Path(wordllama.__file__).parent  # version 0.4 looks for its tokenizer beside its package, where it is not
    narrower = width if width < 256 else None
    model = wordllama.WordLlama.load(cache_dir=own, trunc_dim=narrower, disable_download=True)
    return np.asarray(model.embed(texts), dtype=np.float32)


def control_of(vectors: np.ndarray, control: str, seed: int) -> np.ndarray:
    """Vectors that say nothing of their items: those of others (`shuffled`), or drawn at `random` with the same mean
    and covariance, exactly."""
    rng = np.random.default_rng(seed)
    if control == "shuffled":
        return vectors[rng.permutation(len(vectors))]
    centred = vectors.astype(np.float64) - vectors.mean(0)
    left, _ = np.linalg.qr(_without_mean(rng.normal(size=vectors.shape)))
    singular, right = np.linalg.svd(centred, full_matrices=False)[1:]
    return (left[:, : len(singular)] * singular @ right + vectors.mean(0)).astype(np.float32)


def _without_mean(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(0)


def main(arguments: list[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="a prepared data set, as of --data.dataset")
    parser.add_argument("--data_dir", type=Path, default=Path(DATA_DIR))
    parser.add_argument("--fields", required=True, help="of the items, joined in this order: item.title,item.brand")
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file")
    parser.add_argument("--method", choices=("ngrams", "wordllama"), default="ngrams")
    parser.add_argument("--width", type=int, default=64, help="numbers of a vector")
    parser.add_argument("--seed", type=int, default=0, help="of the decomposition")
    parser.add_argument("--control", choices=("shuffled", "random"), help="vectors that say nothing, to compare with")
    asked = parser.parse_args(arguments)
    try:
        data = locate(asked.dataset, asked.data_dir, None)
        texts = texts_of(data, asked.fields.split(","))
        if asked.method == "ngrams":
            vectors = ngram_vectors(texts, asked.width, asked.seed)
        else:
            vectors = wordllama_vectors(texts, asked.width)
    except RecsysLabError as error:
        print(f"embed_items: error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"embed_items: error: {error.name} is not installed: pip install 'recsys-lab[text]'", file=sys.stderr)
        return 2
    if asked.control is not None:
        vectors = control_of(vectors, asked.control, asked.seed)
    has_text = np.array([bool(text) for text in texts])
    ids = pl.Series(ITEM_ID, data.item_ids_raw).filter(pl.Series(has_text))
    pl.DataFrame({ITEM_ID: ids, "vector": vectors[has_text].tolist()}).write_parquet(asked.out)
    print(f"{asked.out}: {len(ids)} vectors of {vectors.shape[1]} numbers ({len(texts) - len(ids)} items have no text)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
