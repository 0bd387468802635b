"""Rendered objects, each kustomization once a session."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from tests.k8s.rendering import Object, copied, render

Rendered = Callable[[str], list[Object]]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Gives the objects of one kustomization, as a copy that the test may change."""
    tree = copied(tmp_path_factory.mktemp("kustomize"))
    known: dict[str, list[Object]] = {}

    def of(name: str) -> list[Object]:
        if name not in known:
            known[name] = render(tree, name)
        return copy.deepcopy(known[name])

    return of
