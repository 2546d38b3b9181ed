"""Nothing is lost in storms: every counter comes back, and every stream ends as it may."""

import pytest

from tests.conservation.conftest import Storming
from tests.conservation.shots import asks, storm
from tests.conservation.virtual import WEATHER, virtual_platform

STORMS = 2_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_two_thousand_storms_on_virtual_engines_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, storming: Storming
) -> None:
    pool = asks(WEATHER)
    async with virtual_platform(tmp_path_factory.mktemp("storms")) as platform, storming(platform) as stormer:
        await stormer.learn(pool)
        report = await stormer.run([storm(seed, WEATHER, pool) for seed in range(STORMS)], at_once=4)
    print(report)
    assert not report.faults, str(report)
    assert report.storms == STORMS
    assert report.kills > STORMS * WEATHER.kills / 2
    assert report.complete > report.shots / 3, str(report)
