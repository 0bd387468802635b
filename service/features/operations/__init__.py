"""The closed set of typed operations: the only things a feature plan can ask for.

One class is one operation, and says everything about it (`operation.py`); a module is a family of them. To add one,
write its class in the family's module; a new family is a module, a line here, and one in `registry.FAMILIES`.
"""

# ruff: noqa: F403 -- a class that is added to a family is exported without being named a second time

from __future__ import annotations

from service.features.operations.across import *
from service.features.operations.activity import *
from service.features.operations.aggregates import *
from service.features.operations.calendar import *
from service.features.operations.categories import *
from service.features.operations.comparisons import *
from service.features.operations.dates import *
from service.features.operations.encodings import *
from service.features.operations.ends import *
from service.features.operations.events import *
from service.features.operations.groups import *
from service.features.operations.history import *
from service.features.operations.inventories import *
from service.features.operations.lookback import *
from service.features.operations.measures import *
from service.features.operations.operation import *
from service.features.operations.parameters import *
from service.features.operations.places import *
from service.features.operations.registry import *
from service.features.operations.scaling import *
from service.features.operations.sequences import *
from service.features.operations.series import *
from service.features.operations.shaping import *
from service.features.operations.text import *
from service.features.operations.values import *
