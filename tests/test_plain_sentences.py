"""Pages can be read once: no sentence is longer than 35 words, and no paragraph holds more than 6 numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recsys_lab.study.pages.readme import MARK

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "experiments/README.md")]
PAGES += [ROOT / "scripts" / "cluster" / "README.md"]
PAGES += [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("experiments/*/README.md"))]
WORDS = 35
NUMBERS = 6

BLOCK = re.compile(r"^( *)```.*?^\1```|<!--.*?-->", flags=re.DOTALL | re.MULTILINE)
APART = ("|", "#", "![", "<", "---")
"""What begins a line that is no prose: a row of a table, a heading, a picture, HTML."""
ITEM = re.compile(r"(?:[-*]|\d+\.|!!! \w+) +|> *")
END = re.compile(r"(?<!et al\.)(?<!e\.g\.)(?<!i\.e\.)(?<!\.\.)(?:(?<=[.!?])|(?<=[.!?][)\"*_]))[)\"*_]*\s+")
NUMBER = re.compile(r"(?<![\w@.,/-])[+-]?\.?\d[\d,.]*")
YEAR = re.compile(r"(?:19|20)\d\d\b")


def paragraphs(text: str) -> list[str]:
    """Of prose; each item of a list is one."""
    found: list[list[str]] = [[]]
    for line in map(str.strip, BLOCK.sub("", text).splitlines()):
        item = ITEM.match(line)
        if not line or item or line.startswith(APART):
            found.append([])
        if line and not line.startswith(APART):
            found[-1].append(line[item.end() if item else 0 :])
    return [" ".join(lines) for lines in found if lines]


def plain(paragraph: str) -> str:
    """A link is its text, and a span of code is one word."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "X", paragraph))


def words(sentence: str) -> int:
    return sum(re.search(r"\w", word) is not None for word in sentence.split())


def numbers(paragraph: str) -> int:
    """Years are of papers and dates."""
    return len(NUMBER.findall(YEAR.sub("", plain(paragraph))))


def prose(page: Path) -> list[str]:
    return paragraphs(page.read_text(encoding="utf-8").partition(MARK)[0])


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    found = [sentence for paragraph in prose(page) for sentence in END.split(plain(paragraph))]
    assert not [(words(sentence), sentence) for sentence in found if words(sentence) > WORDS]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paragraphs_hold_few_numbers(page: Path) -> None:
    assert not [(numbers(paragraph), paragraph) for paragraph in prose(page) if numbers(paragraph) > NUMBERS]


STARTS = (
    "recsys-lab",
    "scripts/",
    "python",
    ".venv/bin/",
    "wandb",
    "tensorboard",
    "pip",
    "curl",
    "sbatch",
    "ln",
    "tail",
)
STARTS += ("#", "for ", "done", "{class_path:", "json=", "$", "export ")
"""How a line of a shell begins: a line that begins with a word was wrapped as if it were prose."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_of_a_shell_begin_with_a_command(page: Path) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    assert not [line for line in lines if line and not line.startswith(STARTS)]
    assert not [line for line in lines if re.search(r"# .*\b(?:scripts/\S+|recsys-lab) .*#", line)]


def test_the_counts_see_prose_alone() -> None:
    prose = "One `two three` [four five](six.md).\n(Seven eight.) Nine et al. 2023 ten"
    (paragraph,) = paragraphs(f"# A title\n\n{prose}\n\n| 1 | 2 |\n\n```\n3\n```\n")
    assert [words(sentence) for sentence in END.split(plain(paragraph))] == [4, 2, 5]
    assert paragraphs("a\n- b\n  c\n2. d\n> e") == ["a", "b c", "d", "e"]
    assert numbers("0.5 [+.1, -1,000] to 20 % of MovieLens-1M in 2023, as `5` of ndcg@10 says") == 4
