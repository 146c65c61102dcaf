"""Each experiment of `make faults` in its smallest form."""

from collections.abc import Iterator

import pytest

from loadtest.faults.run import experiments, one, what
from loadtest.faults.site import Site
from loadtest.faults.sizes import Form

pytestmark = [pytest.mark.kafka, pytest.mark.kill]
FOUND = experiments()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A broker and an engine for all of them."""
    started = Site(tmp_path_factory.mktemp("site"))
    yield started
    started.close()


@pytest.mark.parametrize("number", FOUND, ids=[what(module) for module in FOUND.values()])
def test_an_experiment(number: int, site: Site) -> None:
    row = one(number, FOUND[number], site, Form.CI, print)
    print(row)
    assert not row.failures
