"""What a user sees during training: a bar on a terminal, elsewhere a line every few seconds."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

SECONDS_BETWEEN_LINES = 5.0


class TrainingProgress:
    """Progress of one training; a context manager.

    Args:
        label: what is trained.
        console: where it is shown; None shows nothing.
    """

    def __init__(self, label: str, console: Console | None):
        self._label = label
        self._console = console
        self._last_line = time.monotonic()
        self._bar = None
        if console is not None and console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(label, total=None, status="compiling")

    def __enter__(self) -> "TrainingProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(
        self, step: int, total: int, steps_per_second: float, loss: float, last: bool
    ) -> None:
        """Shows where training stands.

        Args:
            step: that was reached.
            total: where training ends.
            steps_per_second: of the whole batch of runs, lately.
            loss: the median over the runs that are still training.
            last: whether training has ended.
        """
        left = _clock((total - step) / steps_per_second)
        status = f"{steps_per_second:,.0f} steps/s · " + ("done" if last else f"{left} left")
        status += f" · loss {loss:.3g}"
        if self._bar:
            self._bar.update(self._task, completed=step, total=total, status=status)
        elif self._console and (last or self._line_is_due()):
            self._last_line = time.monotonic()
            self._console.print(f"{self._label} {step}/{total} steps · {status}", highlight=False)

    def _line_is_due(self) -> bool:
        return time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
