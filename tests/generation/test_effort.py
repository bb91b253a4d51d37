from reasonray.generation.effort import Effort


def test_time_with_any_batch_in_hand_is_busy_and_each_second_is_given_once() -> None:
    now = [0.0]
    effort = Effort(lambda: now[0])
    now[0] = 2.0
    with effort.batch():
        now[0] = 5.0
        with effort.batch():
            now[0] = 6.0
        assert effort.taken() == (4.0, 2.0)
        now[0] = 7.0
    now[0] = 10.0
    assert effort.taken() == (1.0, 3.0)
    assert effort.taken() == (0.0, 0.0)
