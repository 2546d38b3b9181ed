"""Manifests that nobody should take: what is changed in a good one, the field to blame, and words of the error."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]


def good() -> dict[str, Any]:
    """A manifest that is taken."""
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "llama"},
        "spec": {
            "versions": [{"name": "v1", "source": "hf://org/name"}],
            "prefill": {"replicas": 1},
            "decode": {"replicas": 1},
        },
    }


@dataclass(frozen=True)
class Refused:
    """One of them."""

    name: str
    change: Callable[[Spec], Any]
    """Spoils the `spec` of a good one."""
    path: str
    says: str
    """Part of what a file's reader is told."""

    def manifest(self) -> dict[str, Any]:
        made = good()
        self.change(made["spec"])
        return made


def _two(first: Spec, second: Spec) -> Callable[[Spec], Any]:
    versions = [
        {"name": "v1", "source": "hf://org/name", **first},
        {"name": "v2", "source": "hf://org/other", **second},
    ]
    return lambda spec: spec.update(versions=versions)


def _experiment(**fields: Any) -> Callable[[Spec], Any]:
    def change(spec: Spec) -> None:
        _two({}, {})(spec)
        decide = [{"metric": "errorRate"}]
        given = {"champion": "v1", "challenger": "v2", "weight": 10, "decide": decide, **fields}
        spec["experiment"] = {name: value for name, value in given.items() if value is not None}

    return change


def _version(**fields: Any) -> Callable[[Spec], Any]:
    return lambda spec: spec["versions"][0].update(fields)


def _decode(**fields: Any) -> Callable[[Spec], Any]:
    return lambda spec: spec["decode"].update(fields)


def _set(**fields: Any) -> Callable[[Spec], Any]:
    return lambda spec: spec.update(fields)


def _args(*args: str) -> Callable[[Spec], Any]:
    return _version(engine={"args": list(args)})


_VIRTUAL_MODEL = "spec.versions[0].engine.virtualModel"


def _virtual_model(fields: Spec | None) -> Callable[[Spec], Any]:
    return _version(engine={"type": "virtualModel", **({} if fields is None else {"virtualModel": fields})})


def _upstream(*changes: Spec) -> Callable[[Spec], Any]:
    endpoints = [{"label": "a", "url": "http://a", "model": "m", **change} for change in changes]
    return _version(engine={"type": "upstream", "upstream": {"endpoints": endpoints}})


REFUSED = (
    Refused("weights that do not sum to 100", _two({"weight": 90}, {"weight": 20}), "spec.versions", "90 and 20"),
    Refused("a version without weight", _two({"weight": 90}, {}), "spec.versions[1]", "weight is missing"),
    Refused("a single version of 50", _version(weight=50), "spec.versions[0].weight", "gets 100"),
    Refused("a weight over 100", _version(weight=101), "spec.versions[0].weight", "must be 100 or less"),
    Refused("a name twice", _two({"weight": 50}, {"weight": 50, "name": "v1"}), "spec.versions", "'v1'"),
    Refused("no version", _set(versions=[]), "spec.versions", "must have 1 or more"),
    Refused("a bad name", _version(name="V_1"), "spec.versions[0].name", "DNS label"),
    Refused("no source", lambda spec: spec["versions"][0].pop("source"), "spec.versions[0]", "must have a source"),
    Refused("an unknown scheme", _version(source="http://x/y"), "spec.versions[0].source", "hf://org/name@revision"),
    Refused("half a repository", _version(source="hf://org"), "spec.versions[0].source", "hf://org/name@revision"),
    Refused("a relative file", _version(source="file://x"), "spec.versions[0].source", "file:///path"),
    Refused("an unknown bundle", _version(source="bundled://gpt2"), "spec.versions[0].source", "smollm2-135m"),
    Refused("a climbing path", _version(source="pvc://claim/../x"), "spec.versions[0].source", "'..'"),
    Refused(
        "an unknown engine",
        _version(engine={"type": "vlm"}),
        "spec.versions[0].engine.type",
        '"vllm", "virtual", "upstream" or "virtualModel"',
    ),
    Refused(
        "an upstream without servers",
        _version(engine={"type": "upstream"}),
        "spec.versions[0].engine",
        "upstream.endpoints",
    ),
    Refused("no model", _virtual_model(None), "spec.versions[0].engine", "must have virtualModel"),
    Refused("a model that says nothing", _virtual_model({}), _VIRTUAL_MODEL, "must have either use"),
    Refused(
        "a model of the house with words of one's own",
        _virtual_model({"use": "echo-model", "content": "Hi"}),
        _VIRTUAL_MODEL,
        "must have either use",
    ),
    Refused("a model that nobody knows", _virtual_model({"use": "gpt-5"}), f"{_VIRTUAL_MODEL}.use", "virtual-gpt-4"),
    Refused(
        "a model that calls and fails",
        _virtual_model({"toolCall": [{"name": "f"}], "failure": {}}),
        _VIRTUAL_MODEL,
        "at most one of",
    ),
    Refused(
        "a model of two contents", _virtual_model({"content": "a", "streamChunks": ["a"]}), _VIRTUAL_MODEL, "not both"
    ),
    Refused(
        "a sequence that thinks",
        _virtual_model({"sequence": {}, "thinking": "Hm."}),
        _VIRTUAL_MODEL,
        "no sequence",
    ),
    Refused(
        "chunks of a call",
        _virtual_model({"toolCall": [{"name": "f"}], "streamChunks": ["a"]}),
        _VIRTUAL_MODEL,
        "streamChunks only",
    ),
    Refused(
        "more cached than asked",
        _virtual_model({"content": "a", "usage": {"prompt": 1, "cached": 2}}),
        f"{_VIRTUAL_MODEL}.usage",
        "parts of prompt",
    ),
    Refused(
        "a step of no error",
        _virtual_model({"sequence": {"steps": [{"status": 302}]}}),
        f"{_VIRTUAL_MODEL}.sequence.steps[0]",
        "from 400 to 599",
    ),
    Refused(
        "prefill before a virtual model",
        _version(engine={"type": "virtualModel", "virtualModel": {"content": "a"}}, prefill={"replicas": 1}),
        "spec.versions[0]",
        "no prefill",
    ),
    Refused("no server", _upstream(), "spec.versions[0].engine.upstream.endpoints", "1 or more"),
    Refused("no URL", _upstream({"url": "llama:8080"}), "spec.versions[0].engine.upstream.endpoints[0].url", "http://"),
    Refused(
        "a URL with a password",
        _upstream({"url": "http://a:b@c"}),
        "spec.versions[0].engine.upstream.endpoints[0].url",
        "without user",
    ),
    Refused(
        "an unknown capability",
        _upstream({"capabilities": ["chat", "sing"]}),
        "spec.versions[0].engine.upstream.endpoints[0].capabilities[1]",
        '"chat", "embedding"',
    ),
    Refused(
        "embeddings of no dimension",
        _upstream({"capabilities": ["embedding"]}),
        "spec.versions[0].engine.upstream.endpoints[0]",
        "dimension",
    ),
    Refused(
        "one label twice", _upstream({}, {"url": "http://b"}), "spec.versions[0].engine.upstream.endpoints", "label"
    ),
    Refused(
        "one server twice", _upstream({}, {"label": "b"}), "spec.versions[0].engine.upstream", "same url and model"
    ),
    Refused("the model as argument", _args("--model=x"), "spec.versions[0].engine.args[0]", "the version's `source`"),
    Refused("the short flag", _args("--seed=1", "-tp", "2"), "spec.versions[0].engine.args[1]", "parallelism.tensor"),
    Refused("underscores", _args("--kv_transfer_config={}"), "spec.versions[0].engine.args[0]", "spec.kvTransfer"),
    Refused("a dotted flag", _args("--kv-transfer-config.x=1"), "spec.versions[0].engine.args[0]", "spec.kvTransfer"),
    Refused("a key", _args("--api-key", "x"), "spec.versions[0].engine.args[0]", "to the router"),
    Refused("both counts", _decode(autoscaling={"max": 2}), "spec.decode", "replicas or autoscaling, not both"),
    Refused("min over max", _set(prefill={"autoscaling": {"min": 3, "max": 2}}), "spec.prefill.autoscaling", "3 and 2"),
    Refused("min without max", _set(prefill={"autoscaling": {"min": 3}}), "spec.prefill.autoscaling.max", "is missing"),
    Refused("no replica at all", _decode(replicas=-1), "spec.decode.replicas", "must be 0 or more"),
    Refused("a number as text", _decode(replicas="2"), "spec.decode.replicas", 'found "2": must be a whole number'),
    Refused("half a GPU", _decode(resources={"limits": {"a": "x"}}), "spec.decode.resources.limits.a", "quantity"),
    Refused("a bare number for a duration", _set(kvTransfer={"leaseTtl": 60}), "spec.kvTransfer.leaseTtl", '"30s"'),
    Refused("a lease of no time", _set(kvTransfer={"leaseTtl": "0s"}), "spec.kvTransfer.leaseTtl", "more than 0"),
    Refused("an unknown connector", _set(kvTransfer={"connector": "nccl"}), "spec.kvTransfer.connector", '"nixl"'),
    Refused("no way to move", _set(rollout={"maxSurge": 0}), "spec.rollout", "must not both be 0"),
    Refused("no way to move, in percent", _set(rollout={"maxSurge": "0%"}), "spec.rollout", "must not both be 0"),
    Refused("a surge in words", _set(rollout={"maxSurge": "one"}), "spec.rollout.maxSurge", "share of the replicas"),
    Refused(
        "two sticky keys",
        _set(routing={"stickyBy": {"user": True, "header": "x"}}),
        "spec.routing.stickyBy",
        "one key at most",
    ),
    Refused(
        "2 and 3 ranks",
        _set(prefill={"parallelism": {"tensor": 2}}, decode={"parallelism": {"tensor": 3}}),
        "spec.versions[0]",
        "multiple of the other",
    ),
    Refused(
        "2 and 3 ranks, by an override",
        lambda spec: (
            spec["prefill"].update(parallelism={"tensor": 2}),
            spec["versions"][0].update(decode={"parallelism": {"tensor": 3}}),
        ),
        "spec.versions[0]",
        "multiple of the other",
    ),
    Refused(
        "more ranks than GPUs",
        _decode(parallelism={"tensor": 2}, resources={"limits": {"nvidia.com/gpu": 1}}),
        "spec.decode.parallelism.tensor",
        "each rank needs one",
    ),
    Refused(
        "more ranks than GPUs, by an override",
        lambda spec: (
            spec["decode"].update(resources={"limits": {"nvidia.com/gpu": "1"}}),
            spec["versions"][0].update(decode={"parallelism": {"tensor": 2}}),
        ),
        "spec.versions[0].decode.parallelism.tensor",
        "each rank needs one",
    ),
    Refused("an unnamed variable", _decode(env=[{"value": "x"}]), "spec.decode.env[0].name", "is missing"),
    Refused("a number for a variable", _decode(env=[{"name": "A", "value": 1}]), "spec.decode.env[0].value", "quotes"),
    Refused("a variable twice", _decode(env=[{"name": "A"}, {"name": "A"}]), "spec.decode.env", "'A'"),
    Refused(
        "a variable from two places",
        _decode(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]),
        "spec.decode.env[0]",
        "not both",
    ),
    Refused(
        "a source of nothing", _decode(env=[{"name": "A", "valueFrom": {}}]), "spec.decode.env[0].valueFrom", "one of"
    ),
    Refused(
        "a volume of Tandem's name",
        _decode(volumes=[{"name": "tandem-model", "emptyDir": {}}]),
        "spec.decode.volumes[0]",
        "are Tandem's",
    ),
    Refused("a volume of nothing", _decode(volumes=[{"name": "x"}]), "spec.decode.volumes[0]", "exactly one of"),
    Refused(
        "an impatient pod", _decode(terminationGracePeriodSeconds=5), "spec.decode.terminationGracePeriodSeconds", "20"
    ),
    Refused(
        "a weight beside an experiment",
        lambda spec: (_experiment()(spec), spec["versions"][0].update(weight=90)),
        "spec.versions[0].weight",
        "spec.experiment",
    ),
    Refused("no such champion", _experiment(champion="v3"), "spec.experiment.champion", "versions are v1, v2"),
    Refused("no such challenger", _experiment(challenger="v3"), "spec.experiment.challenger", "versions are v1, v2"),
    Refused("itself as challenger", _experiment(challenger="v1"), "spec.experiment", "different versions"),
    Refused("steps and weight", _experiment(steps=[{"weight": 5}]), "spec.experiment", "exactly one of steps"),
    Refused("no split", _experiment(weight=None), "spec.experiment", "exactly one of steps"),
    Refused("nothing that decides", _experiment(decide=None), "spec.experiment", "must have `decide`"),
    Refused(
        "steps that fall",
        _experiment(weight=None, steps=[{"weight": 10}, {"weight": 5}]),
        "spec.experiment",
        "they are 10, 5",
    ),
    Refused(
        "a quantile of errors",
        _experiment(decide=[{"metric": "errorRate", "quantile": 0.9}]),
        "spec.experiment.decide[0]",
        "ttft and tpot alone",
    ),
    Refused(
        "two margins",
        _experiment(decide=[{"metric": "ttft", "tolerate": {"absolute": "5ms", "relative": "1%"}}]),
        "spec.experiment.decide[0].tolerate",
        "exactly one of absolute",
    ),
    Refused(
        "a margin of errors in seconds",
        _experiment(decide=[{"metric": "errorRate", "tolerate": {"absolute": "50ms"}}]),
        "spec.experiment.decide[0]",
        "a share below 1",
    ),
    Refused(
        "a margin of more than all errors",
        _experiment(decide=[{"metric": "errorRate", "tolerate": {"absolute": "100%"}}]),
        "spec.experiment.decide[0]",
        "a share below 1",
    ),
    Refused(
        "a margin of a quantile in percent of requests",
        _experiment(decide=[{"metric": "ttft", "tolerate": {"absolute": "5%"}}]),
        "spec.experiment.decide[0]",
        "is a time",
    ),
    Refused(
        "a margin beside a threshold without a unit",
        _experiment(decide=[{"metric": "tpot", "threshold": "1s", "tolerate": {"absolute": "5"}}]),
        "spec.experiment.decide[0]",
        "a time, such as",
    ),
    Refused(
        "a margin of tokens in percent of requests",
        _experiment(decide=[{"metric": "tokens", "tolerate": {"absolute": "5%"}}]),
        "spec.experiment.decide[0]",
        "a number of them",
    ),
    Refused(
        "a score that may be anything",
        _experiment(decide=[{"metric": "score", "tolerate": {"relative": "100%"}}]),
        "spec.experiment.decide[0]",
        "less than 100%",
    ),
    Refused(
        "a metric that decides twice",
        _experiment(decide=[{"metric": "ttft"}, {"metric": "ttft", "quantile": 0.95}]),
        "spec.experiment",
        "name each metric once",
    ),
    Refused("an alpha of 1", _experiment(alpha=1), "spec.experiment.alpha", "must be less than 1"),
    Refused("a misspelt field", _set(rolout={}), "spec.rolout", 'did you mean "rollout"?'),
    Refused("a Python name", _set(kv_transfer={}), "spec.kv_transfer", 'did you mean "kvTransfer"?'),
)
