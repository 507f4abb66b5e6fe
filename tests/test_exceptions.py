"""The errors: which except clause catches what."""

import errno

import pytest

from hangup import BodyTimeout, ClientDisconnected, ConfigError, HangupError, RequestRejected


@pytest.mark.parametrize(
    "clause",
    [
        BrokenPipeError,
        ConnectionResetError,
        ConnectionAbortedError,
        ConnectionError,
        OSError,
        ClientDisconnected,
    ],
)
def test_every_clause_that_people_have_written_catches_a_departure(clause: type) -> None:
    with pytest.raises(clause):
        raise ClientDisconnected


def test_a_departure_has_an_errno_and_a_reason() -> None:
    assert ClientDisconnected().errno == errno.EPIPE
    error = ClientDisconnected("reset", errno.ECONNRESET)
    assert (error.errno, error.strerror) == (errno.ECONNRESET, "reset")


def test_the_others_are_hangups() -> None:
    assert issubclass(ConfigError, HangupError)
    assert issubclass(BodyTimeout, TimeoutError)
    refusal = RequestRejected(400, "Bad")
    assert (refusal.status, refusal.reason, str(refusal)) == (400, "Bad", "400 Bad")
