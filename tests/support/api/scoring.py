"""The scoring half of the query service on toy models and twins."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.domain.policy import Policy, parse_policy
from app.inference.engine import Engine
from app.pipeline.contents import Contents
from app.serving.admission import Admission
from app.serving.score_content import ContentScorer
from app.settings import Settings
from app.systems.clock import SystemClock
from tests.support.decoding.inline import InlineDecoding
from tests.support.memory.contents import MemoryContents
from tests.support.memory.index import MemoryIndex
from tests.support.streaming.counted import CountedMeters
from tests.support.toy_models import ToyModels

POLICY: Policy = parse_policy(
    """
policy: toy
version: "1"
description: greens are notified, what cannot be read is looked at
rules:
  - id: green
    description: too much green
    action: notify
    severity: 10
    when: {model: tint, label: green, op: ">=", threshold: 0.5}
  - id: unreadable
    description: no picture
    action: review
    severity: 20
    when: {outcome: rejected, reasons: [undecodable]}
tests:
  - name: grey
    scores: {tint: {green: 0.1}}
    expect: none
    rules: []
""",
    "toy",
)


@dataclass(slots=True)
class ToyScorer:
    """A ContentScorer and everything around it that a test looks at."""

    models: ToyModels = field(default_factory=ToyModels)
    index: MemoryIndex = field(default_factory=MemoryIndex)
    meters: CountedMeters = field(default_factory=CountedMeters)
    settings: Settings = field(default_factory=Settings)
    most: int = 32
    cache: MemoryContents = field(init=False)
    engine: Engine = field(init=False)
    contents: Contents = field(init=False)
    admission: Admission = field(init=False)
    scorer: ContentScorer = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.cache = MemoryContents(self.index)
        self.engine = Engine(
            self.models.registry, settings.limits, settings.inference, settings.engine, InlineDecoding()
        )
        self.restart()

    def restart(self) -> None:
        """Forget what the process knows; the shared cache stays."""
        clock = SystemClock()
        self.contents = Contents(self.engine)
        self.admission = Admission(self.most, clock)
        self.scorer = ContentScorer(
            self.contents, self.cache, self.admission, policy=POLICY, clock=clock, meters=self.meters
        )

    def answers(self) -> dict[str, int]:
        """How often each answer was given."""
        return {key[1]: count for key, count in self.meters.counts.items() if key[0] == "sightline_api_scores_total"}

    async def close(self) -> None:
        await self.scorer.close()
        await self.engine.close()
