"""The folder of a run: its lock, its log and its checkpoints, written by one of the run's processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .checkpoint import Checkpoint, CheckpointError
from .checkpoint_file import save_checkpoint
from .distributed import Process
from .folder_lock import FolderLock, FolderLockedError
from .run_log import EvaluationLines, JSONLog, LogSink, TensorBoardLog

__all__ = ["RunFolder"]


class RunFolder:
    """What a run writes; the other processes of the run, and a run without a folder, write nothing.

    All processes call the same methods, except `write` and `save_best`: where the main one fails, all do.
    Should the folder or the log be removed or renamed while the run goes on, both are made anew.

    Args:
        path: the folder; nothing is written where None.
        process: this process's place among several.

    Attributes:
        path: as above.
        writes: whether this process writes.
    """

    def __init__(self, path: str | Path | None, process: Process) -> None:
        self.path = None if path is None else Path(path)
        self._process = process
        self.writes = process.is_main and path is not None
        self._lock = None if path is None or not process.is_main else FolderLock(path)
        self._sinks: list[LogSink] = []

    @property
    def checkpoint(self) -> Path | None:
        """The file of the run's checkpoint."""
        return None if self.path is None else self.path / "checkpoint.pt"

    @property
    def best(self) -> Path | None:
        """The file of the best parameters."""
        return None if self.path is None else self.path / "best.pt"

    @property
    def holds_checkpoint(self) -> bool:
        """Whether the file of the checkpoint is there; for the process that writes."""
        return self.writes and self.checkpoint is not None and self.checkpoint.exists()

    @property
    def holds_best(self) -> bool:
        """Whether the file of the best parameters is there; for the process that writes."""
        return self.writes and self.best is not None and self.best.exists()

    def refuse_earlier(self, parts: Iterable[Path] = (), own: bool = False) -> None:
        """Refuse a folder that holds an earlier run; to be called by all processes.

        Args:
            parts: folders in it whose checkpoints are such a run's too.
            own: whether what this process finds there is of this run.

        Raises:
            CheckpointError: it, or one of these, holds a checkpoint.
        """
        folders = [self.path, *parts] if self.writes and self.path is not None else []
        found = [path for folder in folders if (path := folder / "checkpoint.pt").exists()]
        if self._process.any([bool(found) and not own])[0]:
            raise CheckpointError(
                f"`{found[0] if found else self.checkpoint}` is the checkpoint of an earlier run; go on with "
                "it (`--resume`), start anew (`--overwrite`), or choose another folder (`--output`)"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse other runs within the block; blocks may be inside each other.

        Raises:
            FolderLockedError: another run is there.
            OSError: the folder cannot be written to.
        """
        with ExitStack() as stack:
            if self._lock is not None:
                lock = self._lock
                self._together(lambda: stack.enter_context(lock))
            else:
                self._together(None)
            yield

    @contextmanager
    def logging(self, step: int, *, tensorboard: bool, lines: bool) -> Iterator[None]:
        """Keep the log open within the block.

        Args:
            step: the step the run continues from.
            tensorboard: log for TensorBoard too.
            lines: print a line for each evaluation.
        """
        with ExitStack() as stack:
            sinks: list[LogSink] = []
            if lines and self._process.is_main:
                sinks.append(EvaluationLines())
            if self.writes and self.path is not None:
                sinks.append(JSONLog(self.path / "log.jsonl", step))
                stack.callback(sinks[-1].close)
                if tensorboard:
                    sinks.append(TensorBoardLog(self.path / "tensorboard", step))
                    stack.callback(sinks[-1].close)
            self._sinks = sinks
            stack.callback(self._sinks.clear)
            yield

    def write(self, step: int, event: str, seconds: float, values: Mapping[str, float]) -> None:
        """Write a record into the log."""
        for sink in self._sinks:
            sink.write(step, event, seconds, values)

    def save(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Write the run's checkpoint, after what is in the log.

        Raises:
            FolderLockedError: the folder was removed, and another run has made it anew.
            OSError: it cannot be written.
        """
        self._together(lambda: self._save(checkpoint()) if self.writes else None)

    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Write the best parameters."""
        if self.writes and self.best is not None:
            save_checkpoint(self.best, checkpoint())

    def _save(self, checkpoint: Checkpoint) -> None:
        assert self._lock is not None
        assert self.checkpoint is not None
        self._lock.renew()
        for sink in self._sinks:
            sink.sync()
        save_checkpoint(self.checkpoint, checkpoint)

    def _together(self, action: Callable[[], object] | None) -> None:
        """Do something in this process, and fail in all if one does."""
        error: Exception | None = None
        try:
            if action is not None:
                action()
        except (FolderLockedError, OSError) as caught:
            error = caught
        if self._process.any([error is not None])[0]:
            raise error or OSError(f"the main process could not write into `{self.path}`")
