"""Where Ray has room for workers: on its nodes, or in the bundles of a placement group. All pools count by this."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import ray
from ray._private import state
from ray.util import get_current_placement_group, placement_group_table
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.ray_connection import inside
from pargrad.parallel.workers import Request

FREE_SECONDS = 5.0  # that what was ended a moment ago may take to be free again


class Seat(NamedTuple):
    """Room for one worker and its resources: in a bundle of a placement group, or without one on this machine.

    number: of those in the same bundle, or on this machine.
    """

    resources: dict[str, float]
    group: PlacementGroup | None
    bundle: int
    number: int

    def options(self) -> dict[str, Any]:
        """Ray's options for the actor that takes this seat."""
        others = dict(self.resources)
        named: dict[str, Any] = {"num_cpus": others.pop("CPU"), "memory": others.pop("memory", None)}
        if self.group is None:
            strategy: Any = NodeAffinitySchedulingStrategy(this_node(), soft=False)
        else:
            strategy = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=self.bundle)
        return named | {"resources": others, "scheduling_strategy": strategy}


class Place(NamedTuple):
    """A node, or a bundle of a placement group that is on it, and what it has of the resources asked for."""

    name: str
    node: str
    bundle: int
    total: dict[str, float]
    free: dict[str, float]

    def seats(self, request: Request, amounts: dict[str, float]) -> list[Seat]:
        """The seats for which these amounts, its free ones or its total, are enough."""
        # Ray counts in parts of ten thousand, so that a quotient may lie below a whole number.
        count = math.floor(min(amounts[name] / each for name, each in request.resources.items()) + 1e-6)
        return [Seat(request.resources, request.group, self.bundle, number) for number in range(count)]

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(f'{self.free[n]:g} of {self.total[n]:g} {n}' for n in self.free)} free"


def places_of(request: Request, node: str | None = None) -> list[Place]:
    """The nodes, or the bundles of the request's group, those of this machine first; of one node, if it is named."""
    nodes = {each["NodeID"]: each for each in ray.nodes() if each["Alive"] and node in (None, each["NodeID"])}
    if request.group is None:
        found = [(each["NodeManagerAddress"], there, 0, each["Resources"], "") for there, each in nodes.items()]
    else:
        table = placement_group_table(request.group)
        found = [
            (f"bundle {i}", there, i, table["bundles"][i], suffix_of(request.group, i))
            for i, there in table["bundles_to_node_id"].items()
            if there in nodes
        ]
    free, here = state.available_resources_per_node(), this_node()
    places = [
        Place(
            name, there, bundle, {each: total.get(each, 0.0) for each in request.resources},
            {each: free.get(there, {}).get(each + suffix, 0.0) for each in request.resources},
        )
        for name, there, bundle, total, suffix in found
    ]  # fmt: skip
    return sorted(places, key=lambda place: (place.node != here, place.bundle))


def suffix_of(group: PlacementGroup, bundle: int) -> str:
    """What a bundle has are resources of its node, under names that end so."""
    return f"_group_{bundle}_{group.id.hex()}"


def free_seats(request: Request, count: int, patience: float, node: str | None = None) -> list[Seat]:
    """The seats that are free, at least `count`; where so many may get free, it waits for them."""
    may_grow = request.group is None and node is None  # a cluster may; a node and a placement group do not
    deadline = time.monotonic() + patience
    while True:
        places = places_of(request, node)
        free = [seat for place in places for seat in place.seats(request, place.free)]
        if len(free) >= count:
            return free
        possible = sum(len(place.seats(request, place.total)) for place in places)
        if possible < count and not may_grow:
            remedy = f"write num_workers={possible}"
        elif time.monotonic() > deadline:
            remedy = f"write num_workers={len(free)}, or wait until others have ended"
        else:
            time.sleep(0.1)
            continue
        who = "the placement group" if request.group is not None else "Ray" if node else "the cluster"
        raise ResourcesError(
            f"asked for {count} workers of {said_of_each(request)}, but {who} has {said_of_free(request, len(free))} "
            f"({said_of(places)}): {remedy}{', or give it more bundles' * (request.group is not None)}"
        )


def said_of_each(request: Request) -> str:
    if request.resources == {"CPU": 1}:
        return "one core each"
    return ", ".join(f"{amount:g} {name}" for name, amount in request.resources.items()) + " each"


def said_of_free(request: Request, count: int) -> str:
    return f"{count} free cores" if request.resources == {"CPU": 1} else f"room for {count}"


def said_of(places: list[Place]) -> str:
    return "; ".join(map(str, places))


def count_free(request: Request) -> int:
    """The workers for whom there is room now in the Ray that this process is in, or would join."""
    with inside(request.address):
        request = with_group(request, FREE_SECONDS)
        return sum(len(place.seats(request, place.free)) for place in places_of(request))


def with_group(request: Request, patience: float) -> Request:
    """The request with the placement group that holds: what runs in one that captures its children stays there.

    Waits until Ray has placed the group's bundles, and until their nodes have said so.
    """
    captures = ray.get_runtime_context().should_capture_child_tasks_in_placement_group
    group = get_current_placement_group() if request.group is None and captures else request.group
    if group is None:
        return request
    if not isinstance(group, PlacementGroup):
        raise TypeError(f"expected placement_group to be one of Ray's, got {type(group).__name__}")
    deadline = time.monotonic() + patience
    try:
        is_placed = group.wait(patience)
    except Exception as error:  # Ray has no type for one that is not there
        raise ResourcesError(f"placement_group cannot be used, it may have been removed: {error}") from error
    if not is_placed:
        raise ResourcesError(
            f"Ray had no room for the bundles {group.bundle_specs} of placement_group after {patience:g} s: make it "
            "smaller, or wait until others have ended"
        )
    while not is_told_of(group) and time.monotonic() < deadline:
        time.sleep(0.02)
    return request._replace(group=group)


def is_told_of(group: PlacementGroup) -> bool:
    """Whether the nodes of a group's bundles have told what these have: a moment after Ray has placed them."""
    told = state.total_resources_per_node()
    placed = placement_group_table(group)["bundles_to_node_id"].items()
    return all(f"bundle{suffix_of(group, bundle)}" in told.get(node, {}) for bundle, node in placed)


def this_node() -> str:
    return ray.get_runtime_context().get_node_id()
