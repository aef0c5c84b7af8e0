"""Hedging: what is learned is the quantile of what was seen, and the spend has a cap."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.graph.rules.hedging import Hedge
from orchestra.policies.hedge import (
    AGE_S,
    BURST,
    COMMITS_MIN,
    RACES_MAX,
    WINDOW,
    Hedges,
    Learned,
    Seen,
    quantile_s,
)

times_s = st.integers(0, 40).map(lambda n: n / 4)
hundredths = st.integers(1, 99)
seen = st.lists(st.builds(Seen, times_s, st.booleans(), st.just(0.0)), max_size=60)


def plain(took_s: list[float], hundredth: int) -> float:
    """The smallest time that is at least as long as this share of all."""
    ordered = sorted(took_s)
    return next(
        one
        for place, one in enumerate(ordered, 1)
        if Fraction(place, len(ordered)) >= Fraction(hundredth, 100)
    )


def handed_on(observed: list[Seen], hundredth: int) -> float | None:
    """Efron's way: whoever was cut hands its weight on to those who were seen for longer."""
    left = sorted(observed, key=lambda one: (one.took_s, one.cut))
    weights = [Fraction(1, len(left)) for _ in left]
    reached, longest_s = Fraction(0), None
    for place, one in enumerate(left):
        behind = len(left) - place - 1
        if one.cut:
            for other in range(place + 1, len(left)):
                weights[other] += weights[place] / behind
        else:
            reached += weights[place]
            longest_s = one.took_s
            if reached >= Fraction(hundredth, 100):
                break
    return longest_s


@given(st.lists(times_s, min_size=1, max_size=WINDOW), hundredths)
def test_where_all_were_seen_to_their_commit_it_is_the_plain_quantile(
    took_s: list[float], hundredth: int
) -> None:
    learned = quantile_s((Seen(each, False, 0.0) for each in took_s), hundredth / 100)
    assert learned == plain(took_s, hundredth)


@given(seen, hundredths)
def test_who_was_cut_counts_for_as_long_as_it_was_watched(
    observed: list[Seen], hundredth: int
) -> None:
    assert quantile_s(observed, hundredth / 100) == handed_on(observed, hundredth)


@given(seen, hundredths)
def test_who_was_cut_never_makes_the_arm_look_faster(observed: list[Seen], hundredth: int) -> None:
    committed = [one.took_s for one in observed if not one.cut]
    learned = quantile_s(observed, hundredth / 100)
    if committed:
        assert learned is not None
        assert plain(committed, hundredth) <= learned <= max(committed)
    else:
        assert learned is None


histories = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, AGE_S / 30, AGE_S]),
        times_s,
        st.sampled_from([True, True, True, False]),
    ),
    max_size=60,
).flatmap(lambda part: st.integers(1, 8).map(lambda times: part * times))


@given(histories, hundredths)
@example([(1.0, 0.25, False)] * 16 + [(1.0, 1.0, True)] * WINDOW, 50)
def test_it_remembers_the_last_of_the_last_hour_and_no_more(
    history: list[tuple[float, float, bool]], hundredth: int
) -> None:
    """Against all that was ever seen, cut to the window afterwards."""
    learned, everything, now_s = Learned(Hedge(hundredth / 100)), [], 0.0
    for pause_s, took_s, committed in history:
        now_s += pause_s
        learned.saw(took_s, now_s, committed=committed)
        everything.append(Seen(took_s, not committed, now_s))
        if len(everything) % 16:
            continue
        kept = [one for one in everything[-WINDOW:] if one.at_s > now_s - AGE_S]
        enough = sum(not one.cut for one in kept) >= COMMITS_MIN
        assert learned.within_s(hundredth / 100, now_s) == (
            quantile_s(kept, hundredth / 100) if enough else None
        )
    assert learned.within_s(hundredth / 100, now_s + AGE_S) is None


shares = st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0])


@given(st.lists(st.booleans(), max_size=400), shares)
def test_in_any_history_the_extra_arms_keep_to_their_share(asks: list[bool], share: float) -> None:
    """True: an arm is asked for; False: a race begins. All of it is spent that is there."""
    learned, races, extra = Learned(Hedge(0.95, share)), 0, 0
    for asked in asks:
        if asked:
            extra += learned.take()
        else:
            learned.began()
            races += 1
        assert extra <= BURST + share * races + 1e-9
    if asks and all(asks):
        assert extra == min(len(asks), BURST)


@given(shares)
def test_what_is_saved_up_has_a_bound_and_what_was_paid_in_is_paid_out(share: float) -> None:
    learned = Learned(Hedge(0.95, share))
    for _ in range(1000):
        learned.began()
    assert sum(learned.take() for _ in range(1000)) == BURST
    extra = 0
    for _ in range(1000):
        learned.began()
        extra += learned.take()
    assert extra >= share * 1000 - 1


def test_an_engine_remembers_a_bounded_number_of_races() -> None:
    """The one that was not run for the longest time is forgotten."""
    hedges, hedge = Hedges(), Hedge(0.95)
    kept = hedges.of(0, hedge)
    others = []
    for race in range(1, 2 * RACES_MAX):
        others.append((race, hedges.of(race, hedge)))
        assert hedges.of(0, hedge) is kept
    known = [hedges.of(race, hedge) is learned for race, learned in reversed(others)]
    assert known == [True] * (RACES_MAX - 1) + [False] * RACES_MAX


def test_an_engine_remembers_a_bounded_number_of_models() -> None:
    hedges = Hedges()
    times = {name: hedges.of_model(name) for name in map(str, range(RACES_MAX + 1))}
    assert [
        name for name, each in reversed(times.items()) if hedges.of_model(name) is not each
    ] == ["0"]
