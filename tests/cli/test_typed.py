"""A typed function as a command: its parameters are options, its docstring is their help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from recsys_lab.arguments import Commas, Count, Repeated, Share
from recsys_lab.cli.typed import OneOf, call
from recsys_lab.config import ALLOW_CLASSES, Configurable
from recsys_lab.words import RecsysLabError

CALLS: list[dict[str, Any]] = []


class Cut(Configurable):
    """What `--cut` names."""


class Half(Cut):
    def __init__(self, share: Share = 0.5, date: str | None = None, ids: list[int] | None = None) -> None:
        self.share, self.date, self.ids = share, date, ids


@dataclass(frozen=True)
class Shared:
    """Options that commands share.

    Args:
        file: what is read.
        only: names; repeatable.
    """

    file: str
    only: Annotated[Sequence[str], Repeated] = ()


def command(
    shared: Shared,
    *,
    data_dir: str | None = None,
    bins: Sequence[Count] = (1, 5),
    metric: Annotated[str, OneOf("recsys_lab.ops.rank_metrics:RANKING_METRICS")] = "ndcg",
    format: Literal["text", "json"] = "text",
    force: bool = False,
    again: bool = True,
    tags: Annotated[list[str], Commas] | None = None,
    cut: Cut | None = None,
) -> None:
    """Does something.

    With a second paragraph.

    Args:
        data_dir: where data lies,
            on two lines.
        bins: smallest lengths.
        metric: of the rows.
        format: of the table.
        force: even so.
        again: until it holds.
        tags: with commas.
        cut: where it ends.
    """
    CALLS.append(locals())


def called(*words: str) -> dict[str, Any]:
    call(command, "recsys-lab something", words, ALLOW_CLASSES)
    return CALLS.pop()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        call(command, "recsys-lab something", words)
    assert stopped.value.code == 2
    error, all_options = capsys.readouterr().err.splitlines()
    assert all_options == "All options: recsys-lab something --help"
    return error.removeprefix("recsys-lab something: error: ")


def test_defaults_and_values() -> None:
    found = called("f")
    assert found["shared"] == Shared("f", []) and tuple(found["bins"]) == (1, 5) and found["force"] is False
    words = ["--data-dir", "d", "f", "--bins", "2", "3", "--metric=mrr", "--force", "--only", "a", "--only=b"]
    found = called(*words)
    assert found["data_dir"] == "d" and found["bins"] == [2, 3] and found["metric"] == "mrr" and found["force"]
    assert found["shared"] == Shared("f", ["a", "b"])


def test_a_flag_takes_true_and_false_as_fit_does_and_no_other_word() -> None:
    assert called("f", "--force", "true")["force"] is True and called("--force=True", "f")["force"] is True
    assert called("f", "--force", "false")["force"] is False and called("f", "--force=false")["force"] is False
    assert called("--force", "f")["force"] is True and called("f", "--force")["shared"].file == "f"


def test_an_option_that_is_given_twice_adds_to_its_list() -> None:
    found = called("f", "--bins", "2", "3", "--bins", "4", "--tags", "a, b", "--tags=c")
    assert found["bins"] == [2, 3, 4] and found["tags"] == ["a", "b", "c"]
    assert called("f", "--bins", "2,3", "4")["bins"] == called("f", "--bins", "[2, 3, 4]")["bins"] == [2, 3, 4]
    assert called("f")["tags"] is None and called("f")["again"] is True
    assert called("f", "--again", "False")["again"] is False


def test_an_object_is_a_class_and_its_arguments() -> None:
    half = f"{__name__}.Half"
    words = ["f", "--cut", half, "--cut.share", "0.25", "--cut.date=20200913", "--cut.ids", "[1, 2]"]
    cut = called(*words)["cut"]
    assert type(cut) is Half and (cut.share, cut.date, cut.ids) == (0.25, "20200913", [1, 2])
    assert called("f")["cut"] is None
    for words, message in (
        (["--cut", half, "--cut.share", "2"], "Half: share must be at least 0 and at most 1, not 2"),
        (["--cut", half, "--cut.shaer", "1"], "shaer.*Did you mean 'share'"),
        (["--cut", "recsys_lab.losses.BCE"], "--cut: recsys_lab.losses.BCE is not a class of the type Cut"),
        (["--cut.share", "1"], "--cut.share needs a class: --cut NAME"),
    ):
        with pytest.raises(RecsysLabError, match=message):
            called("f", *words)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "the following arguments are required: FILE"),
        (["f", "--data-dri", "x"], "unrecognized arguments: --data-dri x. Did you mean --data_dir?"),
        (["f", "--bins", "0"], "argument --bins: must be at least 1, not 0"),
        (["f", "--bins", "few"], "argument --bins: must be a whole number, not 'few'"),
        (["f", "--data-dir"], "argument --data-dir: expected one argument"),
        (["f", "--data_dir"], "argument --data_dir: expected one argument"),
        (["f", "--format", "jsno"], "argument --format: must be one of text, json, not 'jsno'. Did you mean 'json'?"),
        (["f", "--metric", "recall"], "argument --metric: must be one of hit_rate, ndcg, mrr"),
        (["f", "--force=maybe"], "argument --force: must be one of true, false, not 'maybe'"),
        (["f", "--data", "x"], "unrecognized arguments: --data x"),
        (["f", "--cut.share"], "argument --cut.share: expected one argument"),
        (["f", "--again", "maybe"], "argument --again: must be one of true, false, not 'maybe'"),
    ],
)
def test_a_mistake_is_a_line_that_names_the_option_as_typed(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refused(capsys, *words)


def test_the_help_is_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        called("--help")
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "Does something. With a second paragraph.",
        "FILE what is read.",
        "--data_dir DATA_DIR where data lies, on two lines.",
        "smallest lengths. (default 1 5)",
        "--metric {hit_rate,ndcg,mrr} of the rows. (default ndcg)",
        "--format {text,json} of the table. (default text)",
        "--again {true,false} until it holds. (default true)",
        "--cut CLASS where it ends.",
        "--allow_classes NAMES",
    ):
        assert text in shown
