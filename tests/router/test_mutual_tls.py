"""With `--tls` everything between router and workers, and between workers, is mutual TLS. Real programs, real files."""

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tandem_proto.channels import Tls, sync_channel
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_proto.tandem.v1.worker_pb2_grpc import DecodeWorkerStub, PrefillWorkerStub

from tests.authority import Authority
from tests.router.platforms import MESSAGES, Platform, platform

ASK = {"model": "sky", "messages": MESSAGES, "max_tokens": 4}


def test_router_and_workers_of_one_authority_serve(tmp_path: Path) -> None:
    authority = Authority.make()
    router = ("--tls", str(authority.secret(tmp_path / "router")))
    workers = ("--tls", str(authority.secret(tmp_path / "workers")))
    with platform(tmp_path, "prefill-0", "decode-0", worker_options=workers, router_options=router) as here:
        answer = here.http.post("/v1/chat/completions", json=ASK)
        assert answer.status_code == 200
        # The KV came over TLS as well: that port's server has the same credentials.
        assert "transferred" in answer.headers["server-timing"]
        for name in here.workers():
            for tls in (None, Tls(Authority.make().secret(tmp_path / f"stranger-to-{name}"))):
                assert _refused(here, name, tls)
            assert not _refused(here, name, Tls(tmp_path / "router"))


def test_a_renewed_secret_is_shown_to_who_connects_next_and_who_is_connected_stays_so(tmp_path: Path) -> None:
    before, after = Authority.make(), Authority.make()
    mounted, renewed = tmp_path / "mounted", tmp_path / "renewed"
    mounted.symlink_to(before.secret(tmp_path / "first"))
    options = ("--tls", str(mounted))
    with platform(tmp_path, "prefill-0", "decode-0", worker_options=options, router_options=options) as here:
        assert here.http.post("/v1/chat/completions", json=ASK).status_code == 200
        renewed.symlink_to(after.secret(tmp_path / "second"))
        renewed.replace(mounted)  # as a kubelet does it: all files at once
        assert not _refused(here, "decode-0", Tls(tmp_path / "second"))
        assert _refused(here, "decode-0", Tls(tmp_path / "first"))
        assert here.workers()["decode-0"]["connected"]
        assert here.http.post("/v1/chat/completions", json=ASK).status_code == 200


def _refused(here: Platform, name: str, tls: Tls | None) -> bool:
    """Whether a worker turns away who comes with that."""
    stub = PrefillWorkerStub if name.startswith("prefill") else DecodeWorkerStub
    with sync_channel(here.workers()[name]["address"], tls) as channel:
        try:
            stub(channel).Describe(pb.DescribeRequest(), timeout=60)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return True
            raise
    return False


@pytest.mark.parametrize("makes", [lambda _: (), lambda folder: ("--tls", str(Authority.make().secret(folder)))],
                         ids=["no certificate", "a foreign one"])  # fmt: skip
def test_a_router_with_another_authority_or_none_gets_no_session(
    tmp_path: Path, makes: Callable[[Path], tuple[str, ...]]
) -> None:
    workers = ("--tls", str(Authority.make().secret(tmp_path / "workers")))
    options = makes(tmp_path / "router")
    with platform(tmp_path, "decode-0", ready=False, worker_options=workers, router_options=options) as here:
        # The worker listens, and answers those whom it knows; the router has tried for as long as it will wait.
        end = time.monotonic() + 60
        while _refused(here, "decode-0", Tls(tmp_path / "workers")) or here.http.get("/readyz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert not here.workers()["decode-0"]["connected"]
        assert here.http.post("/v1/chat/completions", json=ASK).status_code == 503
