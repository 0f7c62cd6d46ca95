"""What a Coordinator must do: a suite to subclass for your own.

    from mpfora.testing.conformance import CoordinatorConformance, Rig

    class TestMine(CoordinatorConformance):
        @pytest.fixture
        async def rig(self):
            rig = MyRig()          # see Rig: one empty cluster, and the hands of its clients
            yield rig
            await rig.close()

Needs pytest with pytest-asyncio in auto mode. mpfora's own tests run it against etcd and against memory.
"""

from mpfora.testing.conformance.case import COMPLETED as COMPLETED
from mpfora.testing.conformance.case import TTL_S as TTL_S
from mpfora.testing.conformance.claiming import Claiming
from mpfora.testing.conformance.membership import Membership
from mpfora.testing.conformance.rig import Rig as Rig
from mpfora.testing.conformance.settling import Settling
from mpfora.testing.conformance.telling import Telling
from mpfora.testing.conformance.waking import Waking
from mpfora.testing.conformance.watcher import Watcher as Watcher
from mpfora.testing.conformance.watching import Watching


class CoordinatorConformance(Watching, Membership, Claiming, Settling, Telling, Waking):
    """All cases. Derive from it, and give it a fixture `rig`."""
