import threading
import warnings

import pytest

from reasonray.core.silence import silence


def test_a_thread_that_leaves_does_not_break_the_silence_of_another() -> None:
    inside, left = threading.Event(), threading.Event()

    def short() -> None:
        with silence:
            inside.set()
            left.wait(10)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = threading.Thread(target=short)
        other.start()
        assert inside.wait(10)
        with silence:
            left.set()
            other.join()
            warnings.warn("not heard", stacklevel=1)
        with pytest.raises(UserWarning, match="heard"):
            warnings.warn("heard", stacklevel=1)
