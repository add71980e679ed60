import pytest

from tests.store.places import Place, Places


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    """Every database server, started at the first need."""
    made = Places(tmp_path_factory.mktemp("store"))
    yield made
    made.stop()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def place(request, places) -> Place:
    """An empty database of each kind."""
    return places.new(request.param)


@pytest.fixture
def store(place):
    """The store of an empty database, with its table."""
    return place.created()


@pytest.fixture
def postgres_place(places):
    return places.new("postgresql")


@pytest.fixture
def mysql_place(places):
    return places.new("mysql")


@pytest.fixture
def sqlite_place(places):
    return places.new("sqlite")
