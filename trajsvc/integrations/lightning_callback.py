"""A callback of Lightning's Trainer that has every checkpoint analysed in the background.

::

    from trajsvc.integrations.lightning_callback import TrajsvcCallback

    keep = ModelCheckpoint("checkpoints", every_n_train_steps=500, save_top_k=-1)
    trainer = Trainer(callbacks=[keep, TrajsvcCallback(store="trajsvc-store")])
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from trajsvc.integrations.feed import CheckpointFeed


class TrajsvcCallback(Callback):
    """Starts ``trajsvc watch`` on the folder of the trainer's ``ModelCheckpoint`` at the first save; it ends with the training.

    ``options`` are those of ``CheckpointFeed``. Where only the best checkpoints are kept (``save_top_k``), the
    parameters of all are copied into the store. Of several processes the first alone does this.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.feed: CheckpointFeed | None = None

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Start the feed at the first save."""
        keeper = trainer.checkpoint_callback
        if not trainer.is_global_zero or keeper is None or keeper.dirpath is None:
            return
        if self.feed is None:
            deleted = getattr(keeper, "save_top_k", -1) != -1
            self.feed = CheckpointFeed(keeper.dirpath, **{"copy": deleted, **self.options})
        self.feed.saved()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """End the feed once it has read the last checkpoint, without waiting for it."""
        if self.feed is not None:
            self.feed.finish()
