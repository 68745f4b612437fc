"""Which work is measured next, so that all of them get their rounds within the time that there is. No I/O, no clock."""

PEER_EVERY = 3  # peers take part in every third round: they are slow, and no goal is near them


class Schedule:
    def __init__(self, works, rounds, random):
        self._works = works
        self._rounds = rounds  # a bound for every work, or None
        self._random = random
        self._done = {work.name: 0 for work in works}
        self._cost = {}  # by (work, contestant): seconds of the last sample
        self._failed = set()

    def next(self, remaining):
        """(work, round, contestants in a new order) of the work with the fewest rounds for its weight among those that
        fit into `remaining` seconds; None when there is none. What is cheap does not go on alone at the end."""
        unfinished = [w for w in self._works if self._done[w.name] < self._limit(w) and self._participants(w)]
        behind = min((self._turns(w) for w in unfinished), default=0)
        candidates = [w for w in unfinished if self.cost(w) <= remaining and self._turns(w) < behind + 1]
        if not candidates:
            return None
        work = min(candidates, key=self._turns)  # the first of equals
        participants = self._participants(work)
        self._random.shuffle(participants)
        self._done[work.name] += 1
        return work, self._done[work.name] - 1, participants

    def took(self, work, contestant, seconds):
        self._cost[work.name, contestant] = seconds

    def failed(self, work, contestant):
        """Once is enough: it does not take part any more."""
        self._failed.add((work.name, contestant))

    def done(self, work):
        return self._done[work.name]

    def cost(self, work):
        """Of the next round, by what the last ones took; of the first by a guess."""
        guess = 3 * work.seconds + 0.2
        return sum(self._cost.get((work.name, c), guess) for c in self._participants(work))

    def _turns(self, work):
        return self._done[work.name] / work.weight

    def _limit(self, work):
        return work.rounds if self._rounds is None else min(work.rounds, self._rounds)

    def _participants(self, work):
        with_peers = self._done[work.name] % PEER_EVERY == 0
        everybody = list(work.contestants) + (list(work.peers) if with_peers else [])
        return [c for c in everybody if (work.name, c) not in self._failed]
