"""MovieLens-1M as published with SASRec: the frozen file that most replications use.

5-core, ids renumbered, every rating an event, in the order of time; no timestamps.
Kang, McAuley: Self-Attentive Sequential Recommendation, ICDM 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables


def parse(files: Mapping[str, Path]) -> RawTables:
    return RawTables(read_interactions([files["ml-1m.txt"]], "pairs", Columns()))


SOURCES = [
    PublicSource(
        name="ml-1m-sasrec",
        licence="GroupLens: research use only, no redistribution, cite the authors",
        homepage="https://github.com/kang205/SASRec",
        citation="Kang, McAuley: Self-Attentive Sequential Recommendation, ICDM 2018",
        files=(
            PublicFile(
                "ml-1m.txt",
                ("https://raw.githubusercontent.com/kang205/SASRec/master/data/ml-1m.txt",),
                # of the publisher's file; git blob 9ab8e3edb8742f8d8cc4911e3dee25e82a6fcc24 of that repository
                "sha256:b725f3acb3986fe3130bffd1e77a74d182a1f51799567a236dbd60270f95b0a2",
            ),
        ),
        parse=parse,
        counts=Counts(events=999_611, users=6_040, items=3_416),
        has_timestamps=False,
    )
]
