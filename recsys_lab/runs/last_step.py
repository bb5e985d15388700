"""LastStep: a fit that `max_steps` ends inside an epoch is validated all the same."""

from __future__ import annotations

from typing import Any

import lightning as L


class LastStep(L.Callback):
    """Without it the steps since the last validation would be thrown away: Lightning ends at once, so that there is
    nothing for early stopping and for the best checkpoint to look at. A fit that is told to stop, in contrast,
    validates first."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True
