"""Placement of pods near or far from nodes and other pods: Kubernetes' `affinity`, in its own shape."""

from typing import Annotated, Literal

from pydantic import Field

from tandem_api.inference_service.base import LabelKey, Labels, Spec, Text

Weight = Annotated[int, Field(ge=1, le=100)]
Values = Annotated[tuple[Text, ...], Field(max_length=64)]


class LabelSelectorRequirement(Spec):
    """A condition on a label."""

    key: LabelKey
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How key and values are compared."""
    values: Values = ()
    """Of In and NotIn."""


class LabelSelector(Spec):
    """Objects by their labels; all conditions hold."""

    match_labels: Labels = Field(default_factory=dict)
    """Labels that must be there, with these values."""
    match_expressions: Annotated[tuple[LabelSelectorRequirement, ...], Field(max_length=32)] = ()
    """Further conditions."""


class NodeSelectorRequirement(Spec):
    """A condition on a node's label or field."""

    key: LabelKey
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How key and values are compared."""
    values: Values = ()
    """Of In and NotIn; one number of Gt and Lt."""


class NodeSelectorTerm(Spec):
    """Nodes for which all conditions hold."""

    match_expressions: Annotated[tuple[NodeSelectorRequirement, ...], Field(max_length=32)] = ()
    """Conditions on labels."""
    match_fields: Annotated[tuple[NodeSelectorRequirement, ...], Field(max_length=32)] = ()
    """Conditions on fields, such as metadata.name."""


class NodeSelector(Spec):
    """Nodes that fit one term at least."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], Field(min_length=1, max_length=32)]
    """One of them must fit."""


class PreferredSchedulingTerm(Spec):
    """A wish, and how much it counts."""

    weight: Weight
    """1 to 100."""
    preference: NodeSelectorTerm
    """The nodes that are liked."""


class NodeAffinity(Spec):
    """Which nodes a pod must or would like to run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Must."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredSchedulingTerm, ...], Field(max_length=32)
    ] = ()
    """Would like."""


class PodAffinityTerm(Spec):
    """Pods, and what counts as near them."""

    label_selector: LabelSelector | None = None
    """The pods."""
    topology_key: LabelKey
    """Nodes that share this label's value are near."""
    namespaces: Values = ()
    """Namespaces of the pods; empty: this one."""
    namespace_selector: LabelSelector | None = None
    """Namespaces of the pods, by label."""


class WeightedPodAffinityTerm(Spec):
    """A wish, and how much it counts."""

    weight: Weight
    """1 to 100."""
    pod_affinity_term: PodAffinityTerm
    """The pods."""


class PodAffinity(Spec):
    """Which pods a pod must or would like to run near (or, as anti-affinity, far from)."""

    required_during_scheduling_ignored_during_execution: Annotated[
        tuple[PodAffinityTerm, ...], Field(max_length=32)
    ] = ()
    """Must."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[WeightedPodAffinityTerm, ...], Field(max_length=32)
    ] = ()
    """Would like."""


class Affinity(Spec):
    """Placement rules of a pod."""

    node_affinity: NodeAffinity | None = None
    """Near nodes."""
    pod_affinity: PodAffinity | None = None
    """Near pods."""
    pod_anti_affinity: PodAffinity | None = None
    """Far from pods."""
