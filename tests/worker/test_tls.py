"""Mutual TLS on the worker protocol, and probes that need none."""

import datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tandem_proto.channels import SERVER_NAME, Tls, aio_channel
from tandem_proto.tandem.v1 import worker_pb2 as pb


def secret(folder: Path) -> Tls:
    """A Secret as cert-manager makes it, of an authority of its own."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tandem")])
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.crt").write_bytes(pem)
    (folder / "ca.crt").write_bytes(pem)
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Tls(folder)


async def test_a_router_of_the_same_authority_is_served(running, tmp_path):
    async with running(tls=secret(tmp_path / "tls")) as worker, worker.session() as router:
        await router.submit(1, {"words": ["a"]})
        assert isinstance((await router.end_of(1)).end, pb.Finished)


@pytest.mark.parametrize("other", [True, False])
async def test_a_router_of_another_authority_or_of_none_is_refused(running, tmp_path, other):
    async with running(tls=secret(tmp_path / "tls")) as worker:
        tls = secret(tmp_path / "other") if other else None
        async with aio_channel(f"127.0.0.1:{worker.ports.grpc}", tls) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await worker.stub(channel).Describe(pb.DescribeRequest(), timeout=60)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_probes_need_no_certificate(running, tmp_path):
    async with running(tls=secret(tmp_path / "tls")) as worker, worker.channel(worker.ports.health) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
