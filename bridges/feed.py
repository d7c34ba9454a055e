"""What every bridge stands on: messages of a live stream or of a recording, and the loop that hands them on.

A bridge is a parser, something that takes an `Item`, and two calls::

    parser = bridge_parser("python -m bridges.NAME", "What it does.", "python -m bridges.NAME --connect ...")
    add_feed_options(parser)
    options = parser.parse_args(arguments)
    return exit_status(options, parser.prog, lambda: run_bridge(options, handle, threading.Event()))
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from bridges.items import Feed, Item
from bridges.live_feed import LiveFeed
from pipeline import messages
from pipeline.console import configure_logging
from pipeline.subscriber import DEFAULT_CONNECT

__all__ = [
    "Feed",
    "Item",
    "LiveFeed",
    "add_feed_options",
    "bridge_parser",
    "exit_status",
    "open_feed",
    "pump",
    "run_bridge",
]

log = logging.getLogger(__name__)

#: A bridge looks at its `stop` this often, and says after this long that nothing comes.
STEP_S = 0.1
SILENCE_S = 5.0


def add_feed_options(parser: argparse.ArgumentParser) -> None:
    """Where messages come from: a live stream, or a recording at its own times."""
    group = parser.add_argument_group("messages in")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--connect", default=DEFAULT_CONNECT, metavar="ADDRESS", help="stream, default %(default)s")
    where.add_argument("--recording", type=Path, metavar="FILE", help="read this recording instead (.mcap, .npz)")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=positive, metavar="X", help="of a recording, default 1")
    pace.add_argument("--fast", action="store_true", help="a recording as fast as it can be taken")
    group.add_argument("--camera", metavar="NAME", help="take this camera's messages (default: the first that comes)")
    group.add_argument("--curve-keys", type=Path, metavar="DIR", help="the client/ folder of --make-keys")


def positive(text: str) -> float:
    """A positive, finite number of the command line."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def open_feed(options: argparse.Namespace, kinds: Sequence[str] = ("pose",), newest_only: bool = False) -> Feed:
    """The feed that the options of `add_feed_options` name.

    Raises ValueError for an address, camera, key folder or file that cannot be used, OSError for a file that cannot
    be read, ImportError when reading it needs a package that is not there.
    """
    if options.camera:
        messages.topic("pose", options.camera)
    if options.recording is None:
        if options.speed or options.fast:
            raise ValueError("--speed and --fast are for a recording: expected --recording FILE with them, got none.")
        return LiveFeed(options.connect, kinds, options.camera, newest_only, options.curve_keys)
    from bridges.recorded_feed import RecordedFeed

    speed = math.inf if options.fast else options.speed or 1.0
    return RecordedFeed(options.recording, kinds, options.camera, newest_only, speed)


def run_bridge(
    options: argparse.Namespace,
    handle: Callable[[Item], None],
    stop: threading.Event,
    kinds: Sequence[str] = ("pose",),
    newest_only: bool = False,
    on_silence: Callable[[float], None] | None = None,
) -> None:
    """Hands every item to `handle` until `stop` is set, a signal comes, or the recording is over.

    `on_silence` is called about ten times a second while nothing comes, with the seconds since the last item.
    Raises what `open_feed` and `handle` raise.
    """
    with open_feed(options, kinds, newest_only) as feed, signals_set(stop):
        pump(feed, handle, stop, on_silence)


def pump(
    feed: Feed,
    handle: Callable[[Item], None],
    stop: threading.Event,
    on_silence: Callable[[float], None] | None = None,
) -> None:
    """The loop of `run_bridge` on a feed that is open."""
    count, told = 0, False
    last_s = time.monotonic()
    while not stop.is_set() and not feed.ended:
        item = feed.receive(STEP_S)
        silent_s = time.monotonic() - last_s
        if item is None:
            if silent_s > SILENCE_S and not told and (sentence := feed.silence()):
                log.warning("Nothing for %.0f s. %s", silent_s, sentence)
                told = True
            if on_silence is not None and not feed.ended:
                on_silence(silent_s)
            continue
        if told:
            log.info("Messages come again, of camera %r.", item.message.camera)
        handle(item)
        count, told, last_s = count + 1, False, time.monotonic()
    if feed.ended:
        level = logging.INFO if count else logging.WARNING
        log.log(level, "%s", f"The recording is over after {count} messages. {feed.silence()}".rstrip())


@contextmanager
def signals_set(stop: threading.Event) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM sets `stop`, the second ends the program. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def set_stop(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, set_stop)
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class BridgeParser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the dozen lines of usage that hide it."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2."""
        self.exit(2, f"{self.prog}: {message}; type --help for the options.\n")


def bridge_parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose errors are one sentence and whose help ends with `example`; has -v."""
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    parser = BridgeParser(
        prog=prog,
        description=description,
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    return parser


def exit_status(options: argparse.Namespace, prog: str, work: Callable[[], None]) -> int:
    """Does `work` with the log on standard error; an error that a user can mend is one sentence and status 2."""
    configure_logging(options.verbose)
    try:
        work()
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        log.debug("Where it failed:", exc_info=True)
        sys.stderr.write(f"{prog}: {error}\n")
        return 2
    return 0
