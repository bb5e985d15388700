"""A typed function as a command: its parameters are options, its docstring is their help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from recsys_lab.arguments import Count, Repeated
from recsys_lab.cli.typed import OneOf, call

CALLS: list[dict[str, Any]] = []


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
    """
    CALLS.append(locals())


def called(*words: str) -> dict[str, Any]:
    call(command, "recsys-lab something", words)
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
        (["f", "--data", "x"], "unrecognized arguments: --data x"),
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
        "--allow_classes NAMES",
    ):
        assert text in shown
