"""Fuzz the judge for minutes: `python tests/fuzz/long_run.py SECONDS SEED FOLDER`.

Every kind of crash, and every input that took longer than ten seconds of a processor or a hundred of the clock, leaves
its checkpoint in FOLDER.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "verify"), str(Path(__file__).parent)]

from hostile_property import holds  # noqa: E402  # found through the path above
from mutations import damaged_copy, files_of  # noqa: E402
from sound_checkpoints import BASES, Sound  # noqa: E402

SLOW = 10


class _TooSlowError(BaseException):
    """Of a class that nothing catches."""


def main(seconds: float, seed: int, folder: Path) -> None:
    """Run, and print what was found."""
    shutil.rmtree(folder / f"sound-{seed}", ignore_errors=True)  # an earlier run's
    sound, place = Sound(folder / f"sound-{seed}"), folder / f"damaged-{seed}"
    bases = sorted({*BASES} - {"hub-cache"})
    found: dict[str, int] = {}
    for kind_of_time in (signal.SIGALRM, signal.SIGPROF):  # a pipe that is waited for takes no time of a processor
        signal.signal(kind_of_time, _too_slow)
    started, count, judged = time.monotonic(), 0, 0
    while time.monotonic() - started < seconds:
        chance = random.Random(f"{seed}-{count}")
        count += 1
        base = chance.choice(bases if chance.random() < 0.7 else ["qwen3-moe"])
        as_source = chance.random() < 0.15
        start = sound.original(base) if as_source else sound(base)
        damaged_copy(start, place, _names(start), chance.randrange)
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        signal.alarm(10 * SLOW)
        try:
            if as_source:
                judged += holds(sound(base), source=place) is not None
            else:
                judged += holds(place, source=sound.original(base) if chance.random() < 0.5 else None) is not None
        except (Exception, _TooSlowError) as error:  # noqa: BLE001
            _stop_the_clocks()
            kind = _kind(error)
            found[kind] = found.get(kind, 0) + 1
            if found[kind] == 1:
                _say(f"--- {seed}-{count - 1} {base} source={as_source}: {kind}")
                traceback.print_exc(limit=-6, file=sys.stdout)
                shutil.copytree(place, folder / f"crash-{seed}-{count - 1}", symlinks=True, ignore=_special)
        finally:
            _stop_the_clocks()
    _say(f"{count} inputs in {time.monotonic() - started:.0f} s, {judged} judged, the others refused")
    for kind, times in found.items():
        _say(f"{times:6} {kind}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _names(directory: Path) -> list[str]:
    """The files to damage; those that decide most are there more often."""
    every = files_of(directory)
    weights = [name for name in every if name.endswith(".safetensors")]
    return [*every, *weights, *weights, "config.json", "config.json", "config.json"]


def _kind(error: BaseException) -> str:
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "pytest_q3omni" in frame.filename]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {place}"


def _special(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not ((Path(folder) / name).is_file() or (Path(folder) / name).is_dir())]


def _stop_the_clocks() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)


def _too_slow(*_: object) -> None:
    raise _TooSlowError


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
