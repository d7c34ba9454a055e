"""Records a stream into an .mcap file that a kill cannot spoil, and makes cut files whole.

python -m bridges.record --connect tcp://127.0.0.1:5556 --out x.mcap
python -m bridges.record recover x.mcap
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from pathlib import Path

from bridges.feed import add_feed_options, bridge_parser, exit_status, positive, run_bridge
from bridges.items import Item
from pipeline import messages

log = logging.getLogger(__name__)

PROG = "python -m bridges.record"
KINDS = ("pose", "calibration", "status")


def record(options: argparse.Namespace, stop: threading.Event) -> None:
    """Records until `stop`, a signal, --seconds or the end of a recording; options as `main` makes them.

    Raises FileExistsError for a file that is there, OSError for one that cannot be written or a disk that fills up.
    """
    from pipeline.mcap_file import McapWriter

    end_s = time.monotonic() + options.seconds if options.seconds else None
    with McapWriter(options.out) as writer:

        def keep(item: Item) -> None:
            if writer.count == 0:
                log.info("Recording camera %r to %s; Ctrl-C ends it.", item.message.camera, writer.path)
            writer.write(item.raw, item.message, item.log_time_ns)
            look_at_clock(0.0)

        def look_at_clock(_silent_s: float) -> None:
            writer.tick()
            if end_s is not None and time.monotonic() >= end_s:
                stop.set()

        try:
            run_bridge(options, keep, stop, (*KINDS, *options.also), on_silence=look_at_clock)
        finally:
            log.info("%s holds %d messages.", writer.path, writer.count)


def recover(cut: Path, out: Path | None = None) -> Path:
    """Makes a whole, indexed file of one that a kill left without its end; returns its path, x.recovered.mcap.

    `cut` stays. Raises ValueError when it is no MCAP file, FileExistsError when `out` is there, OSError.
    """
    from pipeline.mcap_file import make_whole

    target = out or cut.with_name(f"{cut.stem}.recovered.mcap")
    try:
        count = make_whole(cut, target)
    except FileExistsError as error:
        raise FileExistsError(f"{target} exists already: name another file with --out.") from error
    log.info("%s holds %d messages.", target, count)
    return target


def _parser() -> argparse.ArgumentParser:
    parser = bridge_parser(
        PROG,
        "Record a stream into an .mcap file. A kill costs a quarter of a second at most.",
        f"{PROG} --connect tcp://127.0.0.1:5556 --out x.mcap\n"
        "python -m bridges.play x.mcap            publishes it again\n"
        f"{PROG} recover x.mcap   makes a file whole that was cut",
    )
    add_feed_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="MCAP", help="a new file")
    others = sorted(set(messages.KINDS) - set(KINDS))
    also = "record this topic too (more than once: more of them)"
    parser.add_argument("--also", action="append", default=[], choices=others, help=also)
    parser.add_argument("--seconds", type=positive, metavar="S", help="end after this long")
    return parser


def _recover_parser() -> argparse.ArgumentParser:
    parser = bridge_parser(
        f"{PROG} recover", "Make a whole file of one that a kill left without its end.", f"{PROG} recover x.mcap"
    )
    parser.add_argument("cut", type=Path, metavar="MCAP", help="the file that was cut; it stays")
    parser.add_argument("--out", type=Path, metavar="MCAP", help="default: x.recovered.mcap")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["recover"]:
        options = _recover_parser().parse_args(given[1:])
        return exit_status(options, PROG, lambda: _say(recover(options.cut, options.out)))
    options = _parser().parse_args(given)
    return exit_status(options, PROG, lambda: record(options, threading.Event()))


def _say(path: Path) -> None:
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main())
