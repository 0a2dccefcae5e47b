// How the stream does, read again every five seconds while someone looks.

import { api, imagePage, isLeft, Problem } from "./api.js";
import { Chart } from "./chart.js";
import { append, h, put, say } from "./dom.js";
import { address, button, emptyState, shortVersion } from "./parts.js";
import { ago, clock, count, decimal, percent, plain, problemWords, seconds } from "./words.js";

const EVERY_MS = 5000;
const FRESH = { good: 10, fair: 60 };
const LAG = { good: 15, fair: 120 };
/** The bar of a lane is full at this lag; it grows with the logarithm, so that a second and an hour both show. */
const FULL_LAG_SECONDS = 3600;

export function operationsPage({ main, signal }) {
  const state = h("p", { class: "quiet", role: "status", "data-testid": "op-state", text: "Reading …" });
  const notes = h("div", { "data-testid": "op-notes" });
  const throughput = tile("Throughput", "op-throughput");
  const freshness = tile("Freshness p50", "op-freshness");
  const late = tile("Freshness p95", "op-freshness-p95");
  const hits = tile("Cache hits", "op-cache");
  const outcomes = h("div", { class: "panel", "data-testid": "op-outcomes" });
  const lanes = h("div", { class: "lanes", "data-testid": "op-lanes" });
  const letters = h("div", { "data-testid": "op-dead-letters" });
  const models = h("div", { "data-testid": "op-models" });
  const policies = h("div", { "data-testid": "op-policies" });
  const work = new Chart({
    title: "Outcomes every 10 seconds",
    testid: "op-chart-outcomes",
    format: count,
    series: [
      { name: "computed afresh", key: "fresh", kind: "bar", tone: 1 },
      { name: "from cache", key: "cached", kind: "bar", tone: 2 },
    ],
    describe: (points) =>
      `Outcomes of each ten seconds of the last ${seconds(points.length * 10)}, ` +
      `${count(points.reduce((sum, one) => sum + one.fresh + one.cached, 0))} in all.`,
  });
  const delay = new Chart({
    title: "From upload to outcome",
    testid: "op-chart-freshness",
    format: seconds,
    series: [
      { name: "p50", key: "p50", kind: "line", tone: 1 },
      { name: "p95", key: "p95", kind: "line", tone: 3 },
    ],
    describe: (points) =>
      "Seconds from upload to outcome, median and 95th percentile, for each ten seconds of the last " +
      `${seconds(points.length * 10)}.`,
  });
  const board = h(
    "div",
    { class: "board", hidden: true },
    h("div", { class: "tiles" }, throughput.node, freshness.node, late.node, hits.node),
    h(
      "div",
      { class: "board-charts" },
      h("div", { class: "panel" }, work.node),
      h("div", { class: "panel" }, delay.node),
    ),
    h(
      "div",
      { class: "board-columns" },
      h("section", { class: "panel", "aria-label": "Lanes" }, h("h2", { text: "Lag per lane" }), lanes),
      h("section", { class: "panel", "aria-label": "Dead letters" }, h("h2", { text: "Dead letters" }), letters),
    ),
    h(
      "div",
      { class: "board-thirds" },
      h("section", { "aria-label": "Outcomes" }, outcomes),
      h("section", { class: "panel", "aria-label": "Models" }, h("h2", { text: "Models seen" }), models),
      h("section", { class: "panel", "aria-label": "Policies" }, h("h2", { text: "Policies" }), policies),
    ),
  );
  const broken = h("div");
  append(
    main,
    h("div", { class: "page-head" }, h("div", {}, h("h1", { text: "Operations" }), state)),
    notes,
    broken,
    board,
  );

  let last = null;
  let busy = false;
  async function read() {
    if (busy) return;
    busy = true;
    try {
      const found = await api.operations(signal);
      last = Date.now();
      put(broken);
      draw(found);
    } catch (error) {
      if (isLeft(error)) return;
      if (!(error instanceof Problem)) throw error;
      const words = problemWords(error, "the figures");
      if (last === null) {
        say(state, "");
        put(
          broken,
          emptyState({
            iconName: "alert",
            title: "No figures",
            words,
            actions: [button("Try again", { kind: "primary", onClick: read })],
            testid: "op-broken",
          }),
        );
      } else say(state, `Not refreshed since ${ago(last)}: ${words}`);
      state.classList.add("is-bad");
    } finally {
      busy = false;
    }
  }

  function draw(found) {
    board.hidden = false;
    state.classList.remove("is-bad");
    const fresh = found.freshness ?? {};
    const span = seconds(found.window_seconds);
    say(state, `The last ${span}, read every 5 seconds`);
    put(
      notes,
      (found.notes ?? []).map((one) => h("p", { class: "note", text: one })),
    );
    const total = Object.values(found.outcomes ?? {}).reduce((sum, one) => sum + one, 0);
    throughput.set(decimal(found.throughput_per_second), "images a second", `${count(total)} outcomes in ${span}`);
    freshness.set(
      seconds(fresh.p50_seconds),
      "upload to outcome",
      `of ${count(fresh.count)} uploads`,
      level(fresh.p50_seconds, FRESH),
    );
    late.set(
      seconds(fresh.p95_seconds),
      "95 of 100 are faster",
      `slowest ${seconds(fresh.max_seconds)}`,
      level(fresh.p95_seconds, FRESH),
    );
    hits.set(percent(found.cache_hit_ratio), "of contents were known", `${count(found.cached)} answered from cache`);
    const series = (found.series ?? []).map((one) => ({
      at: one.at_ms,
      cached: one.cached ?? 0,
      fresh: Math.max(0, (one.outcomes ?? 0) - (one.cached ?? 0)),
      p50: one.p50_seconds,
      p95: one.p95_seconds,
    }));
    work.update(series);
    delay.update(series);
    put(outcomes, h("h2", { text: "Outcomes" }), outcomeBars(found, total));
    put(lanes, laneRows(found.lanes ?? []));
    drawLetters(found.dead_letters ?? {});
    put(
      models,
      found.models?.length
        ? table(
            ["Model", "Version", "Images"],
            found.models.map((one) => [one.model, h("span", { class: "mono", text: one.version }), count(one.images)]),
          )
        : h("p", { class: "quiet", text: "None in this window." }),
    );
    put(
      policies,
      found.policies?.length
        ? table(
            ["Policy", "Version", "Flags"],
            found.policies.map((one) => [
              one.policy,
              h("span", { class: "mono", text: shortVersion(one.version), title: one.version }),
              count(one.flags),
            ]),
          )
        : h("p", { class: "quiet", text: "No flag in this window." }),
    );
  }

  function drawLetters({ open = 0, reasons = [], latest = [] }) {
    const unfolded = letters.querySelector("details")?.open ?? false;
    put(
      letters,
      h(
        "p",
        { class: `big-line ${open ? "is-bad" : ""}` },
        h("strong", { "data-testid": "op-dead-open", text: count(open) }),
        open ? " open" : " open: every record was handled",
      ),
      reasons.length > 0 &&
        table(
          ["Agent", "Reason", "Count", "Latest"],
          reasons.map((one) => [
            one.agent,
            plain(one.reason),
            count(one.count),
            h("span", { title: clock(one.latest_ms), text: ago(one.latest_ms) }),
          ]),
        ),
      latest.length > 0 &&
        h(
          "details",
          { class: "more", open: unfolded },
          h("summary", {}, "The latest ones"),
          h(
            "ul",
            { class: "letters" },
            latest.map((one) =>
              h(
                "li",
                {},
                h(
                  "p",
                  {},
                  h("strong", { text: plain(one.reason) }),
                  ` in ${one.agent}, `,
                  h("time", { title: clock(one.dead_ms), text: ago(one.dead_ms) }),
                ),
                one.bucket && one.key && h("a", { href: imagePage(one.bucket, one.key) }, address(one.bucket, one.key)),
                one.detail && h("p", { class: "quiet small", text: one.detail }),
                h("p", { class: "mono small quiet", text: one.letter_id }),
              ),
            ),
          ),
        ),
      open > 0 &&
        h(
          "p",
          { class: "quiet small" },
          "To put them back: ",
          h("span", { class: "mono", text: "./sightline dead-letters redrive" }),
        ),
    );
  }

  const timer = setInterval(() => document.visibilityState === "visible" && read(), EVERY_MS);
  const seen = () => document.visibilityState === "visible" && read();
  document.addEventListener("visibilitychange", seen);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", seen);
  });
  read();
}

function tile(title, testid) {
  const value = h("span", { class: "tile-value", "data-testid": testid, text: "–" });
  const unit = h("span", { class: "tile-unit" });
  const more = h("span", { class: "tile-more" });
  const node = h(
    "div",
    { class: "stat" },
    h("h2", { class: "stat-title", text: title }),
    h("p", { class: "stat-value" }, value, unit),
    h("p", { class: "stat-more" }, more),
  );
  return {
    node,
    set: (text, unitText, moreText, mood = "") => {
      say(value, text);
      say(unit, unitText);
      say(more, moreText);
      node.dataset.level = mood;
    },
  };
}

const level = (value, limits) =>
  !Number.isFinite(value) ? "" : value <= limits.good ? "good" : value <= limits.fair ? "fair" : "bad";

function outcomeBars(found, total) {
  const outcomes = found.outcomes ?? {};
  const share = (value) => (total ? value / total : 0);
  const rows = ["scored", "rejected", "gone"].map((name) => {
    const value = outcomes[name] ?? 0;
    const fill = h("span", { class: `bar-fill tone-${name}` });
    fill.style.width = `${share(value) * 100}%`;
    return h(
      "div",
      { class: "bar" },
      h("span", { class: "bar-label", text: plain(name) }),
      h("span", { class: "bar-track", "aria-hidden": "true" }, fill),
      h("span", { class: "bar-value", text: count(value) }),
    );
  });
  const why = Object.entries(found.rejections ?? {}).sort(([, one], [, other]) => other - one);
  return [
    rows,
    why.length > 0 && [
      h("h3", { text: "Why rejected" }),
      h(
        "ul",
        { class: "plain-list two" },
        why.map(([reason, number]) => h("li", {}, plain(reason), " ", h("strong", { text: count(number) }))),
      ),
    ],
  ];
}

const LEVEL_WORDS = { good: "keeping up", fair: "behind", bad: "far behind", "": "not known" };

function laneRows(lanes) {
  if (!lanes.length) return h("p", { class: "quiet", text: "No lane could be read." });
  return h(
    "ul",
    { class: "lane-list" },
    lanes.map((one) => {
      const mood = one.lag_records === 0 ? "good" : level(one.lag_seconds, LAG);
      const fill = h("span", { class: `lane-fill lane-${mood || "none"}` });
      const share = Math.log1p(Math.max(0, one.lag_seconds ?? 0)) / Math.log1p(FULL_LAG_SECONDS);
      fill.style.width = `${Math.min(1, share) * 100}%`;
      return h(
        "li",
        { class: "lane", "data-level": mood },
        h(
          "div",
          { class: "lane-name" },
          h("strong", { text: one.agent }),
          h("span", { class: "mono small quiet", text: one.topic }),
        ),
        h("span", { class: "lane-track", "aria-hidden": "true" }, fill),
        h(
          "div",
          { class: "lane-value" },
          h("strong", { text: one.lag_records === 0 ? "0 s" : seconds(one.lag_seconds) }),
          h("span", { class: "quiet small", text: `${count(one.lag_records)} records, ${LEVEL_WORDS[mood]}` }),
        ),
      );
    }),
  );
}

function table(heads, rows) {
  return h(
    "div",
    { class: "table-scroll" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((one) => h("th", { scope: "col", text: one })),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((cells) =>
          h(
            "tr",
            {},
            cells.map((cell) => h("td", {}, cell)),
          ),
        ),
      ),
    ),
  );
}
