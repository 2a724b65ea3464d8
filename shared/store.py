"""The store: the operations of digitq on Redis, which `operations` has by subject.

All failures of Redis are RedisUnavailable. Each script is atomic, so a call whose response was lost has done all of its
work or none, and can be repeated (a lost claim is recovered when its lease expires). A call that failed can be repeated
too: a partial write of a failed script does not count, or the workers repair it.
"""

from __future__ import annotations

from shared.connections.connection import connect as connect
from shared.operations.leases import Leases
from shared.operations.maintenance import Maintenance
from shared.operations.submissions import Submissions
from shared.operations.webhooks import Webhooks
from shared.operations.workers import Workers


class Store(Submissions, Leases, Maintenance, Webhooks, Workers):
    """All operations on one connection."""
