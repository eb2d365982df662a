"""What can be closed is a context manager of both kinds."""

import pytest

from kor_core.closing import Closing


class Door(Closing):
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


async def test_it_closes_at_the_end_of_either_kind_of_block_and_when_the_block_fails():
    door = Door()

    with door as entered:
        assert door is entered
    async with door as entered:
        assert door is entered
    with pytest.raises(KeyError), door:
        raise KeyError

    assert 3 == door.closed


def test_what_does_not_say_how_it_closes_is_an_error():
    with pytest.raises(NotImplementedError), Closing():
        pass
