"""The calls of the old package ``lopq``: replace ``lopq`` by ``lopq.compat`` in imports.

docs/lopq.md lists what differs.
"""

from lopq.codes import LOPQCode
from lopq.compat.model import LOPQModel, eigenvalue_allocation
from lopq.compat.search import LOPQSearcher, multisequence

__all__ = ["LOPQCode", "LOPQModel", "LOPQSearcher", "eigenvalue_allocation", "multisequence"]
