"""Nothing is lost in storms: every counter comes back, and every stream ends as it may."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.conservation.conftest import Storming
from tests.conservation.platforms import VLLM_WEATHER, WEATHER, virtual_platform, vllm_platform
from tests.conservation.shots import asks, storm

STORMS = 2_000
TROUBLES = {"expired", "gone", "lost", "refused", "checksum", "cut off"}
"""What befalls some request in that many storms."""


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
    assert report.strikes["stop_decode"] > 0
    missing = TROUBLES - report.troubles.keys()
    assert not missing, f"nothing was {missing}: {report}"
    assert report.complete > report.shots / 3, str(report)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_fifty_storms_on_real_vllm_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, storming: Storming, tiny_llama: Path
) -> None:
    pool = asks(VLLM_WEATHER)
    storms = [storm(seed, VLLM_WEATHER, pool) for seed in range(100, 150)]
    async with vllm_platform(tmp_path_factory.mktemp("vllm"), tiny_llama) as platform, storming(platform) as stormer:
        await stormer.learn(pool, at_once=2)
        report = await stormer.run(storms, at_once=1)
    print(report)
    assert not report.faults, str(report)
    assert report.kills == 5
    assert report.troubles["cut off"], str(report)
    assert report.complete > report.shots / 4, str(report)


KILLS_MIDWAY = replace(WEATHER, span=0.5, max_tokens=(400, 800), kills=1.0, asks=20)
"""Each storm kills a worker, at a time when streams have begun and have not ended yet: most take seconds."""

PLANTED = {
    "skipped_release": ("decode", WEATHER, "not at rest"),
    "lost_cancel": ("decode", WEATHER, "not at rest"),
    "swallowed_error": ("router", KILLS_MIDWAY, "a silent end"),
    "kept_place": ("router", WEATHER, "tandem_router_placed"),
    "forgotten_lease": ("router", WEATHER, "leases expired, and nothing disturbed them"),
}
"""Each fault's program, the weather that meets it before long, and what is said of it."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", PLANTED)
async def test_a_planted_fault_is_found_by_these_storms(
    fault: str, tmp_path_factory: pytest.TempPathFactory, storming: Storming
) -> None:
    role, weather, said = PLANTED[fault]
    pool = asks(weather)
    folder = tmp_path_factory.mktemp(fault)
    program = ("-m", "tests.conservation.planted", fault)
    if role == "router":
        platform = virtual_platform(folder, router_argv=(*program, "router"))
    else:
        platform = virtual_platform(folder, argv={"decode": (*program, "decode")})
    async with platform, storming(platform) as stormer:
        await stormer.learn(pool)
        for seed in range(STORMS):
            report = await stormer.run([storm(seed, weather, pool)], at_once=1)
            if any(said in fault for fault in report.faults):
                return
    raise AssertionError(f"nothing was found by {STORMS} storms")
