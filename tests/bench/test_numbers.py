import pytest

from bench.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("inf"), "–"),
        (0, "0"),
        (0.0, "0"),
        (7, "7"),
        (7.421, "7.42"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (38.14, "38.1"),
        (99.96, "100"),
        (1240.4, "1,240"),
        (-3.14159, "-3.14"),
    ],
)
def test_decimal(value: float | None, text: str) -> None:
    assert numbers.decimal(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.50 KiB"),
        (300 << 20, "300 MiB"),
        (int(23.5 * (1 << 30)), "23.5 GiB"),
        (2 << 40, "2.00 TiB"),
    ],
)
def test_size(value: int, text: str) -> None:
    assert numbers.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.84, "840 ns"),
        (7.42, "7.42 µs"),
        (999.6, "1.00 ms"),
        (1300, "1.30 ms"),
        (2e6, "2.00 s"),
    ],
)
def test_micros(value: float | None, text: str) -> None:
    assert numbers.micros(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (5.0, "5 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (7500, "2 h 5 min"),
        (-4, "−4 s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (20, "20"), (1500, "1.5k"), (2e5, "200k"), (2e6, "2M"), (3e9, "3G")],
)
def test_compact(value: float, text: str) -> None:
    assert numbers.compact(value) == text


def test_sparkline_shows_the_last_values_from_zero() -> None:
    assert numbers.sparkline([9.0, 0.0, 4.0, 8.0], 3) == "▁▅█"
    assert numbers.sparkline([0.0, 0.0], 3) == "▁▁"
    assert numbers.sparkline([], 3) == ""
