"""The sentences of the tab Plan: what fits, how far, what limits it, and the sum with its numbers.

Knows plans, not components. A size "fits" when weights and cache together do.
"""

from dataclasses import asdict

from turbo_kv.measure.planner import Plan, PlanRequest
from turbo_kv.ui import memory_bar, numbers
from turbo_kv.ui.language import counted, say


def fits(plan: Plan, packed: bool) -> bool:
    """Whether the planned length fits beside the weights."""
    return plan.tokens <= (plan.longest_after if packed else plan.longest_before)


def fitting(plans: list[Plan], request: PlanRequest) -> str:
    """Which sizes hold the planned texts, in bf16 and packed."""
    exact = [plan for plan in plans if fits(plan, packed=False)]
    packed = [plan for plan in plans if fits(plan, packed=True)]
    asked = say(
        "plan.asked",
        texts=counted("texts", request.batch),
        tokens=f"{request.tokens:,}",
        memory=_gib(request),
    )
    if not packed:
        return say("plan.none", asked=asked)
    gained = [plan.card.name for plan in packed if plan not in exact]
    if not gained:
        return say("plan.same", asked=asked, largest=packed[-1].card.name)
    names = say("list.and").join(gained)
    if not exact:
        return say("plan.all_gained", names=names, asked=asked)
    return say("plan.gained", names=names, asked=asked, largest=exact[-1].card.name)


def longest(plan: Plan, request: PlanRequest) -> str:
    """How far one size gets before and after, and what stops it."""
    parts = {"model": plan.card.name, "memory": _gib(request)}
    if not plan.longest_after:
        return say("plan.no_room", weights=numbers.gib(plan.card.weights_bytes), **parts)
    before = say("plan.no") if not plan.longest_before else f"{plan.longest_before:,}"
    return say(
        "plan.longest_each" if plan.batch > 1 else "plan.longest",
        before=before,
        after=f"{plan.longest_after:,}",
        limit=limit(plan),
        **parts,
    )


def limit(plan: Plan) -> str:
    """What ends the context of a packed cache first."""
    trained = plan.card.max_position_embeddings
    if not plan.longest_after:
        return say("plan.limit.weights")
    if plan.longest_before >= trained:
        reason = "trained"
    else:
        reason = "unlocked" if plan.longest_after >= trained else "memory"
    return say(f"plan.limit.{reason}", tokens=f"{trained:,}")


def formula(plan: Plan, request: PlanRequest) -> list[str]:
    """The sizes of both caches and the longest contexts, each with its numbers substituted."""
    card = plan.card
    stored = " + ".join(
        f"{memory_bar.name(part)} {numbers.mib(count)}"
        for part, count in asdict(plan.after).items()
        if count
    )
    exact = card.kv_bytes_per_token() * plan.batch
    packed = (plan.after.total - plan.after.means) // plan.tokens
    sums = [
        say(
            "plan.sum.exact",
            layers=card.layers,
            kv_heads=card.kv_heads,
            head_dim=card.head_dim,
            tokens=f"{plan.tokens:,}",
            texts=counted("texts", plan.batch),
            size=numbers.mib(plan.before_bytes),
        ),
        say(
            "plan.sum.packed",
            stored=stored,
            size=numbers.mib(plan.after.total),
            ratio=f"{plan.ratio:.2f}",
            bits=f"{plan.bits_per_value:.2f}",
        ),
    ]
    if plan.longest_after:
        sums.append(
            say(
                "plan.sum.longest_means" if plan.after.means else "plan.sum.longest",
                memory=f"{request.memory / numbers.GIB:g}",
                weights=numbers.gib(card.weights_bytes),
                exact=f"{exact:,}",
                before=f"{plan.longest_before:,}",
                packed=f"{packed:,}",
                after=f"{plan.longest_after:,}",
            )
        )
    return sums


def _gib(request: PlanRequest) -> str:
    return f"{request.memory / numbers.GIB:,g}"
