import pytest

from whatwhere.datasets import DataError, check_claim
from whatwhere.datasets.opening import as_data_error, naming


def test_claims_are_compared_with_the_limit() -> None:
    check_claim("it", 1000, 1000, limit=1000)
    with pytest.raises(
        DataError, match=r"^it takes 1,001 bytes of memory, more than the limit of 1,000 bytes"
    ):
        check_claim("it", 1001, 1000, limit=1000)
    with pytest.raises(DataError, match="takes 9 GiB of memory, more than the limit of 8 GiB"):
        check_claim("it", 9 * 2**30, 2**30)


def test_claims_are_compared_with_what_is_stored() -> None:
    check_claim("it", 2**26, 1)  # may be one colour
    check_claim("it", 1000 * 2**20, 2**20)
    with pytest.raises(DataError, match="it would take 954 MiB of memory, but only 5 bytes are stored"):
        check_claim("it", 10**9, 5)
    with pytest.raises(DataError, match=r"would take 90\.9 TiB"):
        check_claim("it", 10**14, 2**20, limit=float("inf"))
    check_claim("it", 10**9, 10**5, ratio=20_000)
    with pytest.raises(DataError, match="would take 977 KiB"):
        check_claim("it", 10**6, 5, unsuspicious=0)


def test_what_decoders_raise_names_the_file() -> None:
    for error, reason in (
        (TypeError("x"), "x"),
        (AssertionError(), "AssertionError"),
        (OSError(5, "io"), "io"),
    ):
        with pytest.raises(DataError, match=rf"^a\.png: cannot be read \({reason}\)\.$"):  # noqa: SIM117
            with as_data_error("a.png: cannot be read"):
                raise error
    with pytest.raises(DataError, match=r"^mine$"), as_data_error("a.png: cannot be read"):
        raise DataError("mine")
    with pytest.raises(DataError, match=r"^a\.png: mine$"), naming("a.png"):
        raise DataError("mine")
    with pytest.raises(KeyboardInterrupt), as_data_error("a.png"):
        raise KeyboardInterrupt
