"""The API over the smallest month that shares a cost."""

import shutil

import pytest

from tests.support.api import Api, api_in


@pytest.fixture(scope="module")
def api(made_month, tmp_path_factory) -> Api:
    """The API of a lake that the tests of a module only read."""
    folder, tokens = made_month
    return api_in(shutil.copytree(folder, tmp_path_factory.mktemp("api") / "copy"), tokens)


@pytest.fixture
def own_api(made_month, tmp_path) -> Api:
    """The API of a lake that a test changes."""
    folder, tokens = made_month
    return api_in(shutil.copytree(folder, tmp_path / "copy"), dict(tokens))
