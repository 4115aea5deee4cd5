"""The sentences of the tab Plan: what fits, how far, what limits it, and the sum with its numbers.

Knows plans, not components. A size "fits" when weights and cache together do.
"""

from dataclasses import asdict

from turbo_kv.measure.planner import Plan, PlanRequest
from turbo_kv.ui import numbers
from turbo_kv.ui.memory_bar import NAMES


def fits(plan: Plan, packed: bool) -> bool:
    """Whether the planned length fits beside the weights."""
    return plan.tokens <= (plan.longest_after if packed else plan.longest_before)


def fitting(plans: list[Plan], request: PlanRequest) -> str:
    """Which sizes hold the planned texts, in bf16 and packed."""
    exact = [plan for plan in plans if fits(plan, packed=False)]
    packed = [plan for plan in plans if fits(plan, packed=True)]
    asked = f"{_texts(request)} in {_device(request)}"
    if not packed:
        return f"No size of Qwen2.5 holds {asked}, packed or not."
    gained = [plan.card.name for plan in packed if plan not in exact]
    if gained:
        largest = f"the largest is {exact[-1].card.name}" if exact else "none does"
        return (
            f"Packing adds {' and '.join(gained)} to the sizes that hold {asked}; in bf16 "
            f"{largest}."
        )
    return (
        f"The same sizes hold {asked} in bf16 and packed, up to {packed[-1].card.name}: here "
        "packing buys length, not a larger model."
    )


def longest(plan: Plan, request: PlanRequest) -> str:
    """How far one size gets before and after, and what stops it."""
    name, memory = plan.card.name, _device(request)
    if not plan.longest_after:
        weights = numbers.gib(plan.card.weights_bytes)
        return f"{name} does not fit in {memory}: its weights alone take {weights} GiB."
    each = " each" if plan.batch > 1 else ""
    before = f"{plan.longest_before:,}" if plan.longest_before else "no"
    return (
        f"{name} in {memory}: {before} tokens{each} in bf16, {plan.longest_after:,} packed. "
        f"{limit(plan)}"
    )


def limit(plan: Plan) -> str:
    """What ends the context of a packed cache first."""
    trained = plan.card.max_position_embeddings
    if not plan.longest_after:
        return "The weights alone exceed the memory."
    if plan.longest_before >= trained:
        return f"Memory does not limit it: the model is trained for {trained:,} tokens."
    if plan.longest_after >= trained:
        return f"Packed, memory no longer limits it: the model is trained for {trained:,} tokens."
    return f"Memory limits it both times: the model is trained for {trained:,} tokens."


def formula(plan: Plan, request: PlanRequest) -> list[str]:
    """The sizes of both caches and the longest contexts, each with its numbers substituted."""
    card = plan.card
    stored = " + ".join(
        f"{NAMES[name]} {numbers.mib(count)}" for name, count in asdict(plan.after).items() if count
    )
    free = f"({request.memory / numbers.GIB:g} − {numbers.gib(card.weights_bytes)}) GiB"
    exact = card.kv_bytes_per_token() * plan.batch
    packed = (plan.after.total - plan.after.means) // plan.tokens
    sums = [
        f"bf16: 2 × {card.layers} layers × {card.kv_heads} KV heads × {card.head_dim} × "
        f"{plan.tokens:,} tokens × {_count(plan.batch)} × 2 B = "
        f"{numbers.mib(plan.before_bytes)} MiB.",
        f"Packed: {stored} = {numbers.mib(plan.after.total)} MiB, {plan.ratio:.2f}× smaller, "
        f"{plan.bits_per_value:.2f} bits per value.",
    ]
    if plan.longest_after:
        means = " after the means" if plan.after.means else ""
        sums.append(
            f"Longest: {free} ÷ {exact:,} B = {plan.longest_before:,} tokens in bf16; "
            f"÷ {packed:,} B = {plan.longest_after:,} packed{means}."
        )
    return sums


def _device(request: PlanRequest) -> str:
    return f"{request.memory / numbers.GIB:,g} GiB"


def _texts(request: PlanRequest) -> str:
    return f"{_count(request.batch)} of {request.tokens:,} tokens"


def _count(batch: int) -> str:
    return "1 text" if batch == 1 else f"{batch} texts"
