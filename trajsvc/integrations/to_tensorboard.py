"""Write a run as TensorBoard's event files, into PROJECT/RUN."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

from storage_schema.files.outputs import whole_file, writing_result
from trajsvc.integrations.content import Content

SUFFIX: Final = ".trajsvc"
"""of the event files written here: those of an earlier push of the run are replaced"""


def send(content: Content, project: str) -> str:
    """Write scalars by step and figures, and return the folder, for ``tensorboard --logdir PROJECT``."""
    folder = Path(project) / content.run
    now = time.time()
    file = folder / f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}{SUFFIX}"
    with writing_result(folder, folder):
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [path for path in folder.glob(f"events.out.tfevents.*{SUFFIX}") if path != file]
        with whole_file(file) as out:
            _write(content, out, now)
        for path in earlier:
            path.unlink(missing_ok=True)
    return os.fspath(folder)


def _write(content: Content, out: BinaryIO, now: float) -> None:
    """Write the records of a file of events, in this thread: TensorBoard's own writer has one, whose errors nobody sees."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    writer = RecordWriter(out)
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())

    def add(step: int, **value: Any) -> None:
        event = Event(wall_time=now, step=step, summary=Summary(value=[Summary.Value(**value)]))
        writer.write(event.SerializeToString())

    for step, values in content.by_step():
        for name, value in values.items():
            add(step, tag=name, simple_value=value)
    for name, value in content.numbers.items():
        add(content.last_step, tag=name, simple_value=value)
    for name, png in content.pictures.items():
        add(content.last_step, tag=f"figures/{name}", image=Summary.Image(encoded_image_string=png))
