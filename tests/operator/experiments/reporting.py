"""Reports of routers, from as much as a test is about."""

from tandem_api.experiments import ArmCounts, ExperimentReport, MetricReport, ShareReport


def single(champion: tuple[int, int], challenger: tuple[int, int]) -> ArmCounts:
    """From requests and bad ones of each."""
    (n, bad), (m, worse) = champion, challenger
    return ArmCounts(champion={0.0: n - bad, 1.0: bad}, challenger={0.0: m - worse, 1.0: worse})


def report(id: str, weight: int, router: str = "router-0", **metrics: ArmCounts) -> ExperimentReport:
    """All criteria have seen all requests."""
    counts = next(iter(metrics.values()))
    return ExperimentReport(
        id=id,
        incarnation=router,
        shares=(
            ShareReport(
                weight=weight,
                champion=sum(counts.champion.values()),
                challenger=sum(counts.challenger.values()),
                metrics=tuple(MetricReport(name=name, single=counts) for name, counts in metrics.items()),
            ),
        ),
    )
