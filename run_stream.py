#!/usr/bin/env python3
"""Camera in, world-space human poses out over ZeroMQ: options -> open everything -> the loop."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Ctrl-C ends the program at once while its libraries load and its source connects
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import logging
import os
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

from composition import open_detector, open_network, open_stream, open_trained
from pipeline.body import open_body
from pipeline.commands import open_commands
from pipeline.console import StatusLine, configure_logging
from pipeline.options import parser, recovery_of
from pipeline.publisher import Publisher
from pipeline.sinks import PublishSink, open_sinks
from pipeline.source import Source, SourceState, open_source, sanitize_camera_id
from pipeline.source_spec import parse_spec, slug
from pipeline.stream import Sink
from pipeline.video_file import check_readable
from pipeline.whmr_body import body_of

log = logging.getLogger("run_stream")


def run(options: argparse.Namespace, stop: threading.Event) -> None:
    """Opens everything, runs until the source ends or `stop` is set, closes everything."""
    with ExitStack() as stack:
        if isinstance(target := parse_spec(options.source).target, Path):
            check_readable(target)  # a wrong name is said at once, not after the networks are built
        camera_id = slug(options.camera_id) if options.camera_id else sanitize_camera_id(options.source)
        network = open_network(options, stack) if recovery_of(options) == "whmr" else None
        body = body_of(network.smpl, str(options.weights)) if network else open_body(options.body)
        publisher = Publisher(camera_id, options.bind, options.curve_keys, body)
        publish = stack.enter_context(closing(PublishSink(publisher)))
        detector = open_detector(options, stack)
        opened = open_source(options.source, camera_id=camera_id, size_wh=options.size, fps=options.fps,
                             realtime=options.realtime, loop=options.loop)  # fmt: skip
        source = stack.enter_context(opened)
        stream = open_stream(options, source, detector, body, network, open_trained(options, stack))
        # Until here a signal ends the program at once, even inside a driver; from here there is something to lose
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        told, serve = open_commands(options, stream, camera_id, publisher.address, stack)
        sinks: list[Sink] = [publish, *told, *open_sinks(options, source, stop, stack)]
        line = stack.enter_context(StatusLine(live=False if options.print else None))
        sinks.append(lambda frame, result: line.update(result, state=str(source.state)))

        def idle(source: Source) -> None:
            serve()
            publish.idle(source)
            if line.live and source.state in (SourceState.STALE, SourceState.RECONNECTING):
                line.message(f"{source.state} · waiting for {source.camera_id}")

        log.info("%s: %dx%d, poses on %s", source.camera_id, *source.size_wh, publisher.address)
        stream.run(source, sinks, stop, idle)
        log.info("%s: %s after %d frames", source.camera_id, "stopped" if stop.is_set() else "ended", publish.frames)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    configure_logging(options.verbose)
    stop = threading.Event()
    try:
        run(options, stop)
    except BrokenPipeError:
        # whoever read our output is gone; without this Python complains again when it flushes at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError) as error:
        log.debug("Where it failed:", exc_info=True)
        sys.stderr.write(f"run_stream.py: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
