"""What a pod template holds."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tandem_api.inference_service import InferenceService
from tandem_api.worker import WorkerConfig
from tandem_operator.planning import RolePlan, Settings, plan_service, plan_services

from tests.operator.making import service, version


def roles(asked: InferenceService, settings: Settings | None = None) -> list[RolePlan]:
    return list(plan_service(asked, settings).revisions[0].roles)


def pod(asked: InferenceService, role: str = "decode", settings: Settings | None = None) -> dict[str, Any]:
    plan = next(one for one in roles(asked, settings) if one.role == role)
    spec: dict[str, Any] = plan.pod_template["spec"]
    return spec


def worker(asked: InferenceService, role: str = "decode", settings: Settings | None = None) -> dict[str, Any]:
    container: dict[str, Any] = pod(asked, role, settings)["containers"][0]
    return container


def named(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    made = {item["name"]: item for item in items}
    assert len(made) == len(items), "names must be unique"
    return made


def all_samples(samples: Mapping[str, InferenceService]) -> Iterator[RolePlan]:
    for service_plan in plan_services(samples.values()):
        for revision in service_plan.revisions:
            yield from revision.roles


def test_each_role_runs_its_own_program() -> None:
    assert worker(service(), "prefill")["command"] == ["python", "-m", "tandem_prefill"]
    assert worker(service(), "decode")["command"] == ["python", "-m", "tandem_decode"]


def test_every_mount_has_its_volume_and_every_volume_a_mount(samples: dict[str, InferenceService]) -> None:
    for role in all_samples(samples):
        spec = role.pod_template["spec"]
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        assert mounted == set(named(spec["volumes"])), role.name


def test_every_path_in_arguments_is_in_a_mount(samples: dict[str, InferenceService]) -> None:
    for role in all_samples(samples):
        spec = role.pod_template["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            paths = [f"{argument}/" for argument in container["args"] if argument.startswith("/")]
            mounts = tuple(mount["mountPath"] + "/" for mount in container["volumeMounts"])
            assert all(path.startswith(mounts) for path in paths), container


def test_no_path_stands_in_a_workers_configuration(samples: dict[str, InferenceService]) -> None:
    for role in all_samples(samples):
        facts = json.loads(role.config_map["data"]["config.json"])
        texts = [value for value in facts.values() if isinstance(value, str)]
        assert not any(text.startswith("/") for text in texts)


def test_a_worker_reads_back_the_configuration_that_was_planned(samples: dict[str, InferenceService]) -> None:
    for role in all_samples(samples):
        assert WorkerConfig.model_validate_json(role.config_map["data"]["config.json"]) == role.config


def test_the_model_is_fetched_to_where_the_worker_looks_for_it() -> None:
    spec = pod(service())
    fetch, served = spec["initContainers"][0]["args"], spec["containers"][0]["args"]
    assert fetch[fetch.index("--source") + 1] == "hf://org/name"
    assert fetch[fetch.index("--to") + 1] == served[served.index("--model-dir") + 1]


def test_sources_do_not_share_a_folder() -> None:
    one, two = (
        worker(service(versions=[version(source=source)]))["args"][-1] for source in ("hf://a/b", "hf://a/b@main")
    )
    assert one != two


def test_a_claim_is_mounted_for_reading_in_both_containers() -> None:
    spec = pod(service(versions=[version(source="pvc://models/llama/8b")]))
    volume = named(spec["volumes"])["tandem-source"]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    for container in (spec["initContainers"][0], spec["containers"][0]):
        assert named(container["volumeMounts"])["tandem-source"]["readOnly"]
    assert spec["initContainers"][0]["args"][-2:] == ["--mount", "/source"]


def test_the_sources_secret_reaches_the_fetching_and_not_the_worker() -> None:
    spec = pod(service(versions=[version(sourceSecret={"name": "hf"})]))
    assert spec["initContainers"][0]["envFrom"] == [{"secretRef": {"name": "hf"}}]
    assert "envFrom" not in spec["containers"][0]
    assert "hf" not in json.dumps(spec["containers"][0]["env"])


def test_a_virtual_engine_fetches_nothing() -> None:
    spec = pod(service(versions=[version(engine={"type": "virtual"})]))
    assert "initContainers" not in spec
    assert "--model-dir" not in spec["containers"][0]["args"]


def test_a_model_cache_takes_the_place_of_the_pods_own_folder() -> None:
    cache = {"persistentVolumeClaim": {"claimName": "cache"}}
    assert named(pod(service())["volumes"])["tandem-model"]["emptyDir"] == {}
    assert named(pod(service(decode={"modelCache": cache}))["volumes"])["tandem-model"] == {
        "name": "tandem-model",
        **cache,
    }


def test_probes_ask_the_health_port_for_what_they_decide() -> None:
    # Liveness is asked once the engine has loaded: the startup probe waits for readiness.
    probed = worker(service())
    asked = {name: probed[f"{name}Probe"]["grpc"] for name in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"port": 9001, "service": "readiness"},
        "liveness": {"port": 9001, "service": "liveness"},
        "readiness": {"port": 9001, "service": "readiness"},
    }


def test_each_rank_of_a_prefill_worker_has_a_port() -> None:
    asked = service(prefill={"parallelism": {"tensor": 2}})
    ports = {port["name"]: port["containerPort"] for port in worker(asked, "prefill")["ports"]}
    assert ports == {"grpc": 9000, "health": 9001, "metrics": 9002, "kv-0": 9100, "kv-1": 9101}
    assert "kv-0" not in {port["name"] for port in worker(asked, "decode")["ports"]}


def test_several_ranks_get_shared_memory() -> None:
    asked = service(prefill={"parallelism": {"tensor": 2}})
    assert named(pod(asked, "prefill")["volumes"])["tandem-shm"]["emptyDir"] == {"medium": "Memory"}
    assert "tandem-shm" not in named(pod(asked, "decode")["volumes"])


@given(st.integers(20, 3600))
def test_a_worker_ends_before_its_pod_does(seconds: int) -> None:
    asked = service(decode={"terminationGracePeriodSeconds": seconds})
    decode = roles(asked)[1]
    assert decode.pod_template["spec"]["terminationGracePeriodSeconds"] == seconds
    assert decode.config.grace_seconds == seconds - 10


def test_pods_are_as_restricted_namespaces_demand(samples: dict[str, InferenceService]) -> None:
    for role in all_samples(samples):
        spec = role.pod_template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["automountServiceAccountToken"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]


def test_an_added_capability_is_the_workers_alone_and_drops_stay() -> None:
    spec = pod(service(decode={"securityContext": {"capabilities": {"add": ["IPC_LOCK"]}}}))
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert spec["initContainers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_manifests_variables_go_before_an_installations_and_after_the_pods_own() -> None:
    env = [{"name": "A", "value": "manifest"}, {"name": "POD_IP", "value": "1.2.3.4"}, {"name": "HOME", "value": "/x"}]
    settings = Settings(env={"A": "installation", "B": "installation"})
    found = named(worker(service(decode={"env": env}), settings=settings)["env"])
    assert found["A"]["value"] == "manifest"
    assert found["B"]["value"] == "installation"
    assert found["HOME"]["value"] == "/x"
    assert found["POD_IP"] == {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def test_a_variable_may_come_from_a_secret() -> None:
    source = {"secretKeyRef": {"name": "licenses", "key": "a"}}
    found = named(worker(service(decode={"env": [{"name": "KEY", "valueFrom": source}]}))["env"])
    assert found["KEY"] == {"name": "KEY", "valueFrom": source}


def test_placement_goes_into_the_pod_as_it_is_written() -> None:
    placement = {
        "nodeSelector": {"gpu": "h200"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "acme"}],
    }
    spec = pod(service(decode=placement))
    assert {name: spec[name] for name in placement} == placement


def test_spread_counts_the_roles_own_pods() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    asked = service(decode={"topologySpreadConstraints": [spread]})
    (found,) = pod(asked)["topologySpreadConstraints"]
    assert found["labelSelector"]["matchLabels"].items() <= roles(asked)[1].pod_template["metadata"]["labels"].items()
    assert found.items() >= spread.items()


def test_mutual_tls_is_mounted_where_a_secret_is_named() -> None:
    settings = Settings(tls_secret="tandem-tls")
    assert named(pod(service(), settings=settings)["volumes"])["tandem-tls"]["secret"] == {"secretName": "tandem-tls"}
    assert "--tls" in worker(service(), settings=settings)["args"]
    assert "--tls" not in worker(service())["args"]


def test_a_role_is_selected_by_labels_that_nobody_can_override() -> None:
    asked = service(decode={"labels": {"tandem.dev/role": "prefill", "team": "a"}})
    decode = roles(asked)[1]
    labels = decode.pod_template["metadata"]["labels"]
    assert labels["team"] == "a"
    assert decode.selector.items() <= labels.items()
    assert decode.selector["tandem.dev/role"] == "decode"


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


@given(names, names)
def test_names_are_dns_labels_however_long_the_service_and_its_version_are_called(name: str, one: str) -> None:
    for role in roles(service(name, versions=[version(name=one)])):
        assert len(role.name) <= 63
        assert role.name.endswith(f"-{role.role}-{role.config.revision}")
        assert role.config_map["metadata"]["name"] == role.name


def test_long_names_that_begin_alike_stay_different() -> None:
    def base(name: str) -> str:
        decode = roles(service(name))[1]
        return decode.name.removesuffix(f"-decode-{decode.config.revision}")

    assert base("a" * 60 + "b") != base("a" * 60 + "c")


def test_names_that_look_alike_when_joined_stay_different() -> None:
    one = service("a-b", model="m", versions=[version(name="c")])
    two = service("a", model="m", versions=[version(name="b-c")])
    assert roles(one)[0].name != roles(two)[0].name
