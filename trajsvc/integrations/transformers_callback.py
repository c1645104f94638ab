"""A callback of transformers' Trainer that has every checkpoint analysed in the background.

::

    from trajsvc.integrations.transformers_callback import TrajsvcCallback

    trainer = Trainer(model, arguments, callbacks=[TrajsvcCallback(store="trajsvc-store")])
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from trajsvc.integrations.feed import CheckpointFeed


class TrajsvcCallback(TrainerCallback):
    """Starts ``trajsvc watch`` on the output folder at the first save; it ends with the training.

    ``options`` are those of ``CheckpointFeed``. Where the trainer deletes old checkpoints (``save_total_limit``), their parameters are
    copied into the store. Of several processes the first alone does this.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.feed: CheckpointFeed | None = None

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the feed at the first save."""
        if not state.is_world_process_zero:
            return
        if self.feed is None:
            deleted = args.save_total_limit is not None
            self.feed = CheckpointFeed(args.output_dir, **{"copy": deleted, **self.options})
        self.feed.saved()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """End the feed once it has read the last checkpoint, without waiting for it."""
        if self.feed is not None:
            self.feed.finish()
