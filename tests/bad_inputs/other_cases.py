"""The commands beside `fit` and `prepare`: wrong options, wrong folders, wrong files."""

from __future__ import annotations

# ruff: noqa: E501  (a table: a line is a row)
from case import Case

NOT_A_RUN = {"some/notes.txt": "no run"}
STUDY = """question: Which is better?
base:
  model: {class_path: SASRec, init_args: {embedding_dim: 8, num_layers: 1}}
  data: {dataset: small, data_dir: $DATA, max_length: 5}
  trainer: {max_epochs: 1}
seeds: [0]
axes:
  width: {8: {model.embedding_dim: 8}, 16: {model.embedding_dim: 16}}
"""


def study(name: str, says: str, text: str) -> Case:
    return Case(f"study: {name}", "study plan s.yaml", says, {"s.yaml": text})


def with_width(value: str) -> str:
    return STUDY.replace("model.embedding_dim: 16", f"model.embedding_dim: {value}")


LONG = "x" * 300

CASES = [
    # places that can't be written to
    Case(
        "audit into a name of 300 letters",
        f"audit small --data_dir $DATA --output {LONG}",
        "x{300}.*too long.*--output",
    ),
    Case("audit where nothing can be made", "audit small --data_dir $DATA --output /proc/no", "/proc/no.*--output"),
    Case(
        "a shuffle into a name of 300 letters", f"diagnose shuffle $RUN --seeds 1 --output {LONG}", "x{300}.*--output"
    ),
    Case(
        "a shuffle where nothing can be made", "diagnose shuffle $RUN --seeds 1 --output /proc/no", "/proc/no.*--output"
    ),
    Case(
        "predict into a name of 300 letters",
        f"predict $RUN --run.folder p --recommendations.path {LONG}.parquet",
        "x{300}",
        may_leave=("data/**", "p/predict/config.yaml"),
    ),
    Case("predict where nothing can be made", "predict $RUN --run.folder /proc/no", "/proc/no"),
    Case("test where nothing can be made", "test $RUN --run.folder /proc/no", "/proc/no"),
    Case(
        "prepare where nothing can be made",
        "prepare --input log.csv --data_dir /proc/no",
        "/proc/no",
        {"log.csv": "user_id,item_id\n1,2\n"},
    ),
    Case("study run where nothing can be made", "study run s.yaml --root /proc/no", "/proc/no", {"s.yaml": STUDY}),
    Case("study run below a file", "study run s.yaml --root s.yaml", "s.yaml", {"s.yaml": STUDY}),
    Case("no such command", "fitt", "unknown command 'fitt'.*Did you mean 'fit'"),
    Case("an option before the command", "--seed 3 fit", "unknown command '--seed'"),
    Case("sources with arguments", "sources all", "no arguments"),
    # test, validate, predict
    Case("test of nothing", "test", "RUN_FOLDER|model"),
    Case("test of a folder that is gone", "test gone", "gone is not a run folder"),
    Case("test of a folder that is no run", "test some", "some is not a run folder", NOT_A_RUN),
    Case("test of a file", "test some/notes.txt", "notes.txt is not a run folder", NOT_A_RUN),
    Case("test with a checkpoint that is gone", "test $RUN --ckpt_path gone.ckpt", "no checkpoint at gone.ckpt"),
    Case("predict with a short option", "predict $RUN --top 5", "'top'. Did you mean --recommendations.top_k"),
    Case("test with a key that is unknown", "test $RUN --model.width 3", "'width'"),
    Case("test with a batch of 0", "test $RUN --data.eval_batch_size 0", "--data.eval_batch_size must be at least 1"),
    Case("test without memory", "test $RUN --evaluation.max_score_mb 0", "max_score_mb must be at least 1"),
    Case("test with cutoffs of 0", "test $RUN --evaluation.cutoffs [0]", "cutoffs.*at least 1"),
    Case("test on other lengths", "test $RUN --data.max_length 40", "max_length"),
    Case("test of another model's settings", "test $RUN --model.embedding_dim 16", "embedding_dim"),
    Case("test with another split", "test $RUN --data.split GlobalTemporal", "split"),
    Case("test on data that is gone", "test $RUN --data.dataset gone", "'gone'"),
    Case("test into a file", "test $RUN --run.folder taken", "taken", {"taken": "a file"}),
    Case("validate of nothing", "validate gone", "gone is not a run folder"),
    Case("validate 0 batches", "validate $RUN --trainer.limit_val_batches 0", "limit_val_batches"),
    Case("predict of nothing", "predict gone", "gone is not a run folder"),
    Case("predict no items", "predict $RUN --recommendations.top_k 0", "--recommendations.top_k must be at least 1"),
    Case(
        "predict half an item",
        "predict $RUN --recommendations.top_k 1.5",
        "--recommendations.top_k must be a whole number, not '1.5'",
    ),
    Case("predict into a CSV file", "predict $RUN --run.folder p --recommendations.path x.csv", r"x\.csv.*\.parquet"),
    Case(
        "predict below a file",
        "predict $RUN --run.folder taken",
        "taken",
        {"taken": "a file"},
    ),
    Case("allow_classes without a name", "test $RUN --allow_classes", "--allow_classes needs the names"),
    # verify
    Case("verify of nothing", "verify", "run", may_leave=()),
    Case("verify of a folder that is gone", "verify gone", "gone is not a finished run|gone"),
    Case("verify of a folder that is no run", "verify some", "some", NOT_A_RUN),
    Case("verify with a tolerance of nan", "verify $RUN --tolerance nan", "--tolerance"),
    Case("verify with a tolerance of inf", "verify $RUN --tolerance inf", "--tolerance"),
    Case("verify with a tolerance below 0", "verify $RUN --tolerance -1", "--tolerance"),
    Case("verify with a tolerance as text", "verify $RUN --tolerance few", "--tolerance"),
    Case("verify with ranks below 0", "verify $RUN --differing_ranks -1", "--differing_ranks"),
    Case("verify with half a rank", "verify $RUN --differing_ranks 0.5", "--differing_ranks"),
    # compare
    Case("compare nothing", "compare", "runs"),
    Case("compare a folder that is gone", "compare gone", "gone does not exist"),
    Case("compare a folder without runs", "compare some", "no run|left out", NOT_A_RUN),
    Case("compare at 0", "compare $RUN --cutoff 0 --no-baselines", "cutoff"),
    Case("compare at -1", "compare $RUN --cutoff -1 --no-baselines", "cutoff"),
    Case("compare at a cutoff that was not measured", "compare $RUN --cutoff 7 --no-baselines", "cutoff|@7", code=0),
    Case("compare with alpha 0", "compare $RUN --alpha 0 --no-baselines", "alpha"),
    Case("compare with alpha 2", "compare $RUN --alpha 2 --no-baselines", "alpha"),
    Case("compare with alpha nan", "compare $RUN --alpha nan --no-baselines", "alpha"),
    Case("compare with a seed below 0", "compare $RUN --seed -1 --no-baselines", "seed"),
    Case("compare with no resamples", "compare $RUN --resamples 0 --no-baselines", "resamples"),
    Case("compare with -5 resamples", "compare $RUN --resamples -5 --no-baselines", "resamples"),
    Case("compare in another format", "compare $RUN --format html --no-baselines", "format.*markdown"),
    Case(
        "compare another metric",
        "compare $RUN --metrics recall --no-baselines",
        "recall is of queries with several targets",
    ),
    Case("compare with another test", "compare $RUN --test wilcoxon --no-baselines", "test"),
    Case("compare against nobody", "compare $RUN --baseline nobody --no-baselines", "nobody"),
    # audit
    Case("audit of nothing", "audit", "dataset|required"),
    Case("audit of a data set that is gone", "audit gone", "'gone'"),
    Case("audit with another split", "audit small --data_dir $DATA --split LeaveTwoOut", "split.*LeaveOneOut"),
    Case("audit with an unknown check", "audit small --data_dir $DATA --fail_on nothing=0.1", "nothing"),
    Case("audit with a share of 2", "audit small --data_dir $DATA --fail_on cold_targets=2", "2"),
    Case("audit with a share as text", "audit small --data_dir $DATA --fail_on cold_targets=few", "few"),
    Case("audit into a file", "audit small --data_dir $DATA --output taken", "taken.*--output", {"taken": "a file"}),
    Case(
        "audit of recommendations that are gone", "audit small --data_dir $DATA --recommendations r.parquet", "r.parq"
    ),
    Case(
        "audit of recommendations that are text",
        "audit small --data_dir $DATA --recommendations r.parquet",
        "r.parquet",
        {"r.parquet": "text"},
    ),
    # diagnose
    Case("diagnose nothing", "diagnose", "shuffle"),
    Case("diagnose something else", "diagnose weather $RUN", "weather.*shuffle"),
    Case("diagnose shuffle of nothing", "diagnose shuffle gone", "gone"),
    Case("diagnose shuffle with no seeds", "diagnose shuffle $RUN --seeds 0", "seeds"),
    Case("diagnose shuffle with a cutoff of 0", "diagnose shuffle $RUN --cutoff 0", "cutoff"),
    Case("diagnose shuffle of another kind", "diagnose shuffle $RUN --kinds upside", "kinds.*upside|upside"),
    Case("diagnose calibration of nothing", "diagnose calibration gone", "gone"),
    Case("diagnose calibration with no bins", "diagnose calibration $RUN --num_bins 0", "num_bins|bins"),
    # slices
    Case("slices of nothing", "slices", "runs"),
    Case("slices of a folder that is gone", "slices gone", "gone"),
    Case("slices at 0", "slices $RUN --cutoff 0", "cutoff"),
    Case("slices by something else", "slices $RUN --by weather", "by.*weather|weather|unrecognized"),
    Case("slices in another format", "slices $RUN --format html", "format"),
    # study
    Case("study of nothing", "study", "plan"),
    Case("study something else", "study dance s.yaml", "dance.*plan|plan.*dance"),
    Case("study of a file that is gone", "study plan gone.yaml", "gone.yaml"),
    Case("study of a folder", "study plan some", "some", NOT_A_RUN),
    study("empty", "s.yaml", ""),
    study("a list", "s.yaml", "[1, 2]"),
    study("cut short", "s.yaml", "base: {model: "),
    study("not UTF-8 is read as text", "s.yaml", "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")),
    study("an unknown key", "bsae", STUDY.replace("base:", "bsae:")),
    study("an unknown setting", "modle", STUDY.replace("model.embedding_dim: 16", "modle.embedding_dim: 16")),
    study("a setting out of range", "embedding_dim.*0", with_width("0")),
    study("heads that do not divide", "num_heads", with_width("15")),
    study(
        "a trainer setting out of range",
        "--trainer.accumulate_grad_batches must be at least 1, not 0",
        STUDY.replace("model.embedding_dim: 16", "trainer.accumulate_grad_batches: 0"),
    ),
    study(
        "patience below 0",
        "--early_stopping.patience must be at least 0, not -1",
        STUDY.replace("model.embedding_dim: 16", "early_stopping.patience: -1"),
    ),
    study("seeds as text", "seeds", STUDY.replace("seeds: [0]", "seeds: some")),
    study("seeds below 0", "seed", STUDY.replace("seeds: [0]", "seeds: [-1]")),
    study("a seed twice", "seed", STUDY.replace("seeds: [0]", "seeds: [0, 0]")),
    study("no seeds", "seed", STUDY.replace("seeds: [0]", "seeds: []")),
    study("an axis without values", "width", STUDY.split("  width:")[0] + "  width: {}\n"),
    study("an axis as text", "width|axes", STUDY.split("  width:")[0] + "  width: wide\n"),
    study(
        "two variants that are one",
        "same",
        with_width("8"),
    ),
    Case("study plan of one seed", "study plan s.yaml --seeds 0", "2 runs of 2", {"s.yaml": STUDY}, 0),
    Case("study run with no workers", "study run s.yaml --workers 0", "workers", {"s.yaml": STUDY}),
    Case("study run with a limit below 0", "study run s.yaml --limit -1", "limit", {"s.yaml": STUDY}),
]
