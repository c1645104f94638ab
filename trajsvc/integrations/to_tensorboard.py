"""Write a run as TensorBoard's event files, into PROJECT/RUN."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

from trajsvc.integrations.content import Content

SUFFIX: Final = ".trajsvc"
"""of the event files written here: those of an earlier push of the run are replaced"""


def send(content: Content, project: str) -> str:
    """Write scalars by step and figures, and return the folder, for ``tensorboard --logdir PROJECT``."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = Path(project) / content.run
    earlier = list(folder.glob(f"events.out.tfevents.*{SUFFIX}"))
    writer = EventFileWriter(os.fspath(folder), filename_suffix=SUFFIX)
    now = time.time()

    def add(step: int, **value: Any) -> None:
        writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=[Summary.Value(**value)])))

    for step, values in content.by_step():
        for name, value in values.items():
            add(step, tag=name, simple_value=value)
    for name, value in content.numbers.items():
        add(content.last_step, tag=name, simple_value=value)
    for name, png in content.pictures.items():
        add(content.last_step, tag=f"figures/{name}", image=Summary.Image(encoded_image_string=png))
    writer.close()
    for path in earlier:
        path.unlink(missing_ok=True)
    return os.fspath(folder)
