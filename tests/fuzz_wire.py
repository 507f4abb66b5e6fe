"""Streams that the wire gets wrong, sought by atheris for as long as one likes: ``make fuzz``.

What must hold stands in ``test_wire_fuzz.py``.  As in the corpus, ``{a*5000}`` in a stream is a run of
bytes, so that short streams meet limits too.  Where one is split follows from its bytes: a file that is
left in ``.fuzz/found`` says all, ``python tests/fuzz_wire.py FILE`` looks at it once more and tells the
bytes.  They become one of the tests' ``FOUND``.
"""

import random
import re
import sys
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hangup"]):
    import hangup._http1.request_head  # noqa: F401

import test_wire_fuzz as suite

WORK = Path(__file__).parent.parent / ".fuzz"
RUN = re.compile(rb"\{(.)\*(\d{1,4})\}", re.DOTALL)
RUNS = 3  # in a stream: more would only be slow
LONG = re.compile(rb"(.)\1{99,9998}", re.DOTALL)
SECONDS = 300


def look(data: bytes) -> None:
    data = RUN.sub(lambda run: run[1] * int(run[2]), data, count=RUNS)
    chance = random.Random(zlib.crc32(data))
    cuts = [chance.randrange(1 << 16) for _ in range(chance.randrange(6))]
    try:
        suite.check(data, cuts)
    except BaseException:
        print(f"check({data!r}, {cuts})", file=sys.stderr)
        raise


def arguments() -> list[str]:
    """What libFuzzer is told: where to begin, what to put in, and where to leave what it finds."""
    for name in ("corpus", "seeds", "found"):
        (WORK / name).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*suite.SEEDS, *suite.FOUND.values()]):
        seed = LONG.sub(lambda run: b"{%s*%d}" % (run[1], len(run[0])), data)
        (WORK / "seeds" / f"{number:04}").write_bytes(seed)
    words = [*suite.WORDS, b"{a*4200}", b"{0*4400}", b"{a*9000}"]
    lines = ('"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word)) for word in words)
    (WORK / "words").write_text("".join(lines))
    return [
        f"-dict={WORK / 'words'}",
        f"-artifact_prefix={WORK / 'found'}/",
        "-max_len=1024",
        "-timeout=30",
        str(WORK / "corpus"),  # what led to code that no other stream reached: the next run begins there
        str(WORK / "seeds"),
    ]


def main() -> None:
    said = sys.argv[1:]
    if said and not said[0].isdigit():
        for name in said:
            look(Path(name).read_bytes())
        return
    seconds = int(said[0]) if said else SECONDS
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *arguments()], look)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
