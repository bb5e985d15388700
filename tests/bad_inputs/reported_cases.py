"""Failures that people reported of this and of other programs (Lightning, RecBole, polars, Arrow, cuDF, Merlin), typed as
they would be here: each works, or is refused in a line. The names say where a report is from."""

# ruff: noqa: E501  (a table: a line is a row)

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from case import Case, PythonCase, filled
from fit_cases import TINY
from prepare_cases import GOOD, OTHER_ORDER, PAIRS, QUOTED, T, parquet, timed

from recsys_lab.cli import main

WROTE = ("data/**", "runs/**", "r/**", "lightning_logs/**")
SHOWN = r"test +ndcg@10 0\.\d+"
FIVE = "user_id,item_id,timestamp\n" + "".join(
    f"{u},{(u + i) % 5},{T + 9 * u + i}\n" for u in range(20) for i in range(8)
)
READ = "2 users, 3 items, 6 events"


def fit(name: str, words: str, says: str, code: int = 0) -> Case:
    return Case(name, f"{TINY} --run.folder r {words}", says, code=code, may_leave=WROTE if code == 0 else ("data/**",))


def prepare(name: str, file: str, content: str | bytes, says: str = READ, words: str = "", code: int = 0) -> Case:
    may_leave = ("data/**",) if code == 0 else ("data/raw/**", "data/.*.lock")
    return Case(name, f"prepare --input {file} {words}", says, {file: content}, code, may_leave)


def in_a_thread(places: Mapping[str, str]) -> str:
    codes: list[int] = []
    words = filled(f"{TINY} --run.folder r", places).split()
    thread = threading.Thread(target=lambda: codes.append(main(words)))
    thread.start()
    thread.join()
    return f"exit codes {codes}"


def audit(places: Mapping[str, str]) -> str:
    return f"exit code {main(['audit', 'small', '--data_dir', places['DATA'], '--output', '/proc/nothing'])}"


def five(words: str) -> Callable[[Mapping[str, str]], str]:
    """A fit on five items that every user has had."""

    def call(places: Mapping[str, str]) -> str:
        assert main(["prepare", "--input", "five.csv", "--name", "five"]) == 0
        own = TINY.replace("--data.dataset small --data.data_dir $DATA", "--data.dataset five")
        return f"exit code {main(f'{own} --run.folder r {words}'.split())}"

    return call


GOES_ON = "a run that goes on keeps its settings.*"
CASES = [
    fit("Lightning 9855: max_steps inside an epoch", "--trainer.max_steps 2", SHOWN),
    fit(
        "Lightning 12095: no validation",
        "--trainer.limit_val_batches 0",
        "--trainer.limit_val_batches 0 leaves no validation",
        2,
    ),
    fit(
        "Lightning 12095: cutoffs without 10",
        "--evaluation.cutoffs [5]",
        "early_stopping.monitor is val/ndcg@5.*test +ndcg@5",
    ),
    fit("Lightning 21259: a limit of 1", "--trainer.limit_val_batches 1", SHOWN),
    fit(
        "terratorch 436: no checkpoints",
        "--trainer.enable_checkpointing false",
        "no checkpoints were written.*" + SHOWN,
    ),
    fit("terratorch 436: barebones", "--trainer.barebones true", "--trainer.barebones true logs no metric", 2),
    fit(
        "Lightning 14813: an average of weights",
        "--trainer.callbacks+=StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.01",
        "take --trainer.callbacks.=EMAWeightAveraging",
        2,
    ),
    fit("Lightning 14813: its successor", "--trainer.callbacks+=EMAWeightAveraging", SHOWN),
    Case(
        "Lightning 4044: another learning rate on resume",
        "fit $RUN --trainer.max_epochs 2 --model.optimization.lr 0.5",
        GOES_ON + "model.optimization.lr: it began with",
    ),
    Case(
        "Lightning 17115: another size on resume",
        "fit $RUN --model.embedding_dim 16",
        GOES_ON + "model.embedding_dim: it began with 8, asked 16",
    ),
    Case(
        "Lightning 4044: another loss on resume",
        "fit $RUN --trainer.max_epochs 4 --model.loss BPRMax",
        GOES_ON + "model.loss: it began with",
    ),
    Case(
        "Lightning 12095: another batch size on resume",
        "fit $RUN --trainer.max_epochs 5 --data.batch_size 16",
        GOES_ON + "data.batch_size: it began with",
    ),
    fit(
        "Lightning 4226: a finder of the batch size",
        "--trainer.callbacks+=BatchSizeFinder",
        "leave it out and give --data.batch_size",
        2,
    ),
    PythonCase("Lightning 9590: a thread", in_a_thread, r"exit codes \[0\]", code=0, may_leave=WROTE),
    Case("a second fit in a folder", TINY + "--run.folder $RUN", "holds a run already|is at work"),
    fit("Lightning 7143: fast_dev_run", "--trainer.fast_dev_run true", "nothing was written"),
    fit(
        "Lightning 12095: a monitor that nothing logs",
        "--early_stopping.monitor val/ndcg@7",
        "nothing logs that; known: .*--evaluation.cutoffs",
        2,
    ),
    fit("Lightning 12095: a checkpoint's monitor", "--checkpoint.monitor val_loss", "nothing logs that; known: ", 2),
    PythonCase(
        "RecBole 1823: every target is hidden",
        five(""),
        r"targets \(100 %\) are hidden.*exit code 0",
        {"five.csv": FIVE},
        0,
        WROTE,
    ),
    PythonCase(
        "K above the catalogue",
        five("--data.exclude_seen none"),
        "hit_rate@10 is 1 there.*exit code 0",
        {"five.csv": FIVE},
        0,
        WROTE,
    ),
    PythonCase("data that can only be read", audit, "--output.*exit code 2", code=0),
    prepare("polars 23601: times of PostgreSQL", "log.csv", timed("2020-09-13 12:59:19+00"), "2020-09-13 12:59:19"),
    prepare("polars 23601: compact ISO times", "log.csv", timed("20200913T125919Z"), "2020-09-13 12:59:19"),
    prepare("times with UTC behind them", "log.csv", timed("2020-09-13 12:59:19 UTC"), "2020-09-13 12:59:19"),
    prepare("polars 27755: an empty last line", "log.csv", GOOD + "\n", "left out +1 empty line"),
    prepare(
        "cuDF 5694: a byte-order mark before ::", "log.csv", "\ufeff" + GOOD.replace(",", "::"), READ, "--separator ::"
    ),
    prepare(
        "cuDF 5694: a byte-order mark before JSON",
        "log.jsonl",
        "\ufeff"
        + "".join(f'{{"user_id": {u}, "item_id": {i}, "timestamp": {T + i}}}\n' for u in (1, 2) for i in (10, 11, 12)),
    ),
    prepare(
        "Merlin models 310: latin-1",
        "log.csv",
        GOOD.replace("10", "caf\xe9").encode("latin-1"),
        "line 2 is not text in UTF-8.*--encoding latin-1",
        code=2,
    ),
    prepare("SASRec's text: tabs", "log.txt", PAIRS.replace(" ", "\t"), READ, "--format pairs"),
    prepare("SASRec's text: a space at the end", "log.txt", PAIRS.replace("\n", " \n"), READ, "--format pairs"),
    prepare("an export with semicolons", "log.csv", GOOD.replace(",", ";"), "Say so: --separator ';'", code=2),
    prepare("an export with quotes", "log.tsv", QUOTED),
    prepare(
        "a ragged row", "log.csv", GOOD.replace(f"{T + 61}", f"{T + 61},x"), r"row 2 \(line 3\) has 4 fields", code=2
    ),
    prepare(
        "a doubled header", "log.csv", "user_id,item_id,item_id\n1,2,3\n1,4,5\n", "two columns named 'item_id'", code=2
    ),
    prepare(
        "a negative time",
        "log.csv",
        GOOD.replace(f"{T + 61}", "-5"),
        "timestamp before 1970.*--bad_times drop",
        code=2,
    ),
    prepare("a time of 0", "log.csv", GOOD.replace(f"{T + 61}", "0"), "time 0 in 1 row:"),
    prepare("names without brackets", "log.csv", GOOD.split("\n", 1)[1], READ, "--names user_id,item_id,timestamp"),
    prepare("a name of 300 letters", "log.csv", GOOD, "at most 120 bytes", f"--name {'x' * 300}", 2),
    prepare("a name without a format", "log.txt", GOOD, "give --format one of csv", code=2),
    Case(
        "Hive folders",
        "prepare --input log --timestamp_column date",
        "2 users, 2 items, 4 events",
        {f"log/date=2020-09-1{n}/0.parquet": parquet(user_id=[n, n], item_id=[1, 2]) for n in (3, 4)},
        0,
    ),
    Case(
        "Spark with an empty part",
        "prepare --input log",
        READ,
        {"log/part-0.csv": GOOD, "log/part-1.csv": "user_id,item_id,timestamp\n", "log/_SUCCESS": ""},
        0,
    ),
    Case(
        "columns in another order",
        "prepare --input log",
        "3 users, 3 items, 9 events",
        {"log/0.csv": GOOD, "log/1.csv": OTHER_ORDER},
        0,
    ),
    Case(
        "items under another key",
        "prepare --input log.csv --items items.csv --items_column key",
        READ,
        {"log.csv": GOOD, "items.csv": "key,title\n10,a\n11,b\n12,c\n"},
        0,
    ),
]
