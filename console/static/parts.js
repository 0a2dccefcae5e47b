// Pieces that several pages show: badges, score bars, rules, facts.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import {
  actionWords,
  adviceWords,
  ago,
  bytes,
  clock,
  decisionReason,
  decisionWords,
  milliseconds,
  modelWords,
  outcomeWords,
  percent,
  plain,
  reasonWords,
  ruleWords,
  scoreText,
} from "./words.js";

export const actionBadge = (action) =>
  h("span", { class: `badge badge-${action}`, "data-action": action }, actionWords(action));

export const outcomeBadge = (outcome) => h("span", { class: `badge badge-${outcome}` }, outcomeWords(outcome));

export const key = (name) => h("kbd", { text: name });

/**
 * A button with words and, where it has one, an icon. Further options become attributes.
 * @param {string} words
 * @param {{iconName?: string, kind?: string, testid?: string, onClick?: (event: Event) => unknown, type?: string} &
 *   Record<string, unknown>} [options]
 */
export function button(words, { iconName, kind = "quiet", testid, onClick, type = "button", ...more } = {}) {
  return h(
    "button",
    { type, class: `button button-${kind}`, "data-testid": testid, on: onClick ? { click: onClick } : {}, ...more },
    iconName && icon(iconName),
    h("span", { text: words }),
  );
}

/** An s3 address as it is spoken of, broken where a long one may break. */
export function address(bucket, objectKey) {
  return h(
    "span",
    { class: "address" },
    h("span", { class: "address-bucket" }, `${bucket}/`),
    h("bdi", { text: objectKey }),
  );
}

export const severityMeter = (severity) =>
  h(
    "span",
    { class: "severity", title: `severity ${severity} of 100` },
    h("span", { class: "visually-hidden" }, "severity "),
    String(severity),
  );

/**
 * One score as a bar from 0 to 1; the marks stand at its threshold and, for a band, at the threshold that it is below.
 * `tone` colours a bar that is over its threshold, or that a rule matched.
 * @param {{label: string, value: number, threshold?: number, below?: number, matched?: boolean, tone?: string,
 *   testid?: string}} score
 */
function scoreBar({ label, value, threshold = null, below = null, matched = false, tone = "plain", testid }) {
  const known = Number.isFinite(value);
  const over = matched || (known && threshold !== null && value >= threshold);
  const track = h("span", { class: "bar-track", "aria-hidden": "true" });
  const filled = h("span", { class: `bar-fill ${over ? `tone-${tone}` : ""}` });
  filled.style.width = `${known ? Math.max(0, Math.min(1, value)) * 100 : 0}%`;
  track.append(filled);
  for (const at of [threshold, below]) {
    if (at === null) continue;
    const mark = h("span", { class: "bar-mark" });
    mark.style.left = `${at * 100}%`;
    track.append(mark);
  }
  const limits =
    threshold === null
      ? below === null
        ? ""
        : `below ${below}`
      : below === null
        ? `/ ${threshold}`
        : `/ ${threshold} to ${below}`;
  return h(
    "div",
    { class: `bar ${over ? "is-over" : ""}`, "data-testid": testid },
    h("span", { class: "bar-label", title: plain(label) }, plain(label)),
    track,
    h(
      "span",
      { class: "bar-value" },
      scoreText(value),
      limits && h("span", { class: "bar-threshold", title: "threshold" }, ` ${limits}`),
    ),
  );
}

/** One rule that matched: what it asks for, in words, and each score against its threshold. */
export function ruleCard(rule) {
  return h(
    "li",
    { class: `rule rule-${rule.action}`, "data-testid": `rule-${rule.rule}` },
    h(
      "div",
      { class: "rule-head" },
      actionBadge(rule.action),
      h("strong", { text: ruleWords(rule) }),
      severityMeter(rule.severity),
    ),
    h("p", { class: "rule-words", text: rule.explanation }),
    scoresOfRule(rule.conditions ?? []).map((one) => conditionRow(one, rule.action)),
  );
}

/** The conditions of a rule by score: two of one label are the band between two thresholds. */
function scoresOfRule(conditions) {
  const found = new Map();
  for (const condition of conditions) {
    // The outcome and facts of the picture are no scores of a model; the rule's words tell them.
    if (!condition.model || ["outcome", "picture"].includes(condition.model)) continue;
    const name = `${condition.model} ${condition.label}`;
    const one = found.get(name) ?? { ...condition, threshold: null, below: null };
    if (String(condition.op).startsWith("<")) one.below = condition.threshold;
    else one.threshold = condition.threshold;
    found.set(name, one);
  }
  return [...found.values()];
}

function conditionRow({ model, version, label, value, threshold, below, cached }, tone) {
  return h(
    "div",
    { class: "condition" },
    scoreBar({ label, value, threshold, below, matched: true, tone, testid: `condition-${model}` }),
    h("p", { class: "condition-words" }, `Model ${model} ${version}, ${cached ? "from cache" : "computed afresh"}`),
  );
}

/** The rules of a flag, and the policy that they stand in. */
export function flagRules(flag) {
  if (!flag) return h("p", { class: "quiet", text: "Not flagged: no rule of the policy asks for anything." });
  return h(
    "div",
    { class: "flag" },
    flag.state === "cleared" && h("p", { class: "note", text: "Cleared: a rescoring took this flag back." }),
    h("ul", { class: "rules" }, (flag.rules ?? []).map(ruleCard)),
    h(
      "p",
      { class: "quiet small" },
      `Policy ${flag.policy} `,
      h("span", { class: "mono", text: shortVersion(flag.policy_version), title: flag.policy_version }),
    ),
  );
}

/** `1+85d0c1b2…` with the digest cut to what tells two apart. */
export function shortVersion(version) {
  const [own, digest] = String(version ?? "").split("+");
  return digest ? `${own}+${digest.slice(0, 7)}` : own;
}

/** Thresholds by model and label, from the rules that matched and from what /v1/models tells. */
export function thresholdsOf(rules, models) {
  const found = {};
  for (const [model, labels] of Object.entries(models ?? {})) found[model] = { ...labels };
  for (const rule of rules ?? []) {
    for (const { model, label, op, threshold } of rule.conditions ?? []) {
      if (model && model !== "picture" && String(op).startsWith(">")) (found[model] ??= {})[label] = threshold;
    }
  }
  return found;
}

/**
 * All scores, a group for each model. `fewest`: how many labels of an exclusive model are shown before the rest folds
 * away.
 * @param {any} view
 * @param {{thresholds?: object, toneOf?: (model: string, label: string) => string, fewest?: number}} [options]
 */
export function scoreGroups(view, { thresholds = {}, toneOf = () => "advise", fewest = 3 } = {}) {
  const groups = Object.entries(view.scores ?? {}).map(([model, labels]) => {
    const entries = Object.entries(labels).sort(([, one], [, other]) => other - one);
    const exclusive = !thresholds[model] && entries.length > 4;
    const shown = exclusive ? entries.slice(0, fewest) : entries;
    const rest = entries.slice(shown.length);
    const bar = ([label, value]) =>
      scoreBar({ label, value, threshold: thresholds[model]?.[label] ?? null, tone: toneOf(model, label) });
    return h(
      "section",
      { class: "scores", "data-testid": `score-model-${model}`, "aria-label": modelWords(model) },
      h("h3", {}, modelWords(model), h("small", { class: "mono" }, ` ${view.models?.[model] ?? ""}`)),
      view.skipped?.[model] && h("p", { class: "quiet small", text: `Did not need to run: ${view.skipped[model]}` }),
      shown.map(bar),
      rest.length > 0 && h("details", { class: "more" }, h("summary", {}, `${rest.length} more`), rest.map(bar)),
    );
  });
  return groups.length ? groups : [h("p", { class: "quiet", text: "No scores: the picture could not be read." })];
}

/** Advice to the seller, in words. */
export function adviceList(reasons) {
  if (!reasons?.length) return null;
  return h(
    "ul",
    { class: "advice" },
    reasons.map((code) => h("li", { text: adviceWords(code), title: code })),
  );
}

/** The category that was guessed, with its score. */
function categoryGuess(view) {
  const entries = Object.entries(view.scores?.category ?? {}).sort(([, one], [, other]) => other - one);
  if (!entries.length) return null;
  const [label, value] = entries[0];
  return `${plain(label)} (${percent(value)})`;
}

/** A list of facts; those without a value are left out. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => [h("dt", { text: name }), h("dd", {}, value)]),
  );
}

/** Whether a product may show it, as the field `publishable` says. */
export const publishable = (view) =>
  view.publishable === undefined
    ? null
    : h("span", { "data-testid": "publishable", text: view.publishable ? "yes" : "no" });

/** What is known of the picture itself. */
export function pictureFacts(image) {
  const times = image.times ?? {};
  return facts([
    [
      "Picture",
      image.width ? `${image.format ?? "picture"}, ${image.width} × ${image.height}` : (image.format ?? null),
    ],
    ["Frames", image.frames > 1 ? String(image.frames) : null],
    ["File", image.truncated ? "truncated: scored as far as it goes" : null],
    ["Size", Number.isFinite(image.size_bytes) ? bytes(image.size_bytes) : null],
    [
      "Uploaded",
      Number.isFinite(times.uploaded_ms)
        ? h(
            "time",
            { datetime: new Date(times.uploaded_ms).toISOString(), title: clock(times.uploaded_ms) },
            ago(times.uploaded_ms),
          )
        : null,
    ],
    ["Category", categoryGuess(image)],
    [
      "Scores",
      image.outcome === "scored" ? (image.cached ? "from cache, these bytes were known" : "computed afresh") : null,
    ],
    ["Publishable", publishable(image)],
  ]);
}

/** The outcome in one sentence. */
export function outcomeSentence(image) {
  if (image.outcome === "scored") {
    return image.superseded
      ? "Scored; the object had been overwritten meanwhile, what is there now was scored."
      : "Scored.";
  }
  return `${outcomeWords(image.outcome)}: ${reasonWords(image.reason)}`;
}

/** A decision in one sentence. */
export function decisionSentence(decision) {
  const reason = decisionReason(decision.reason);
  if (decision.reverses && decision.decision === "skip") return `${decision.moderator} took a decision back`;
  return `${decisionWords(decision.decision)} by ${decision.moderator}${reason ? ` (${reason})` : ""}`;
}

/** Times of the work, in milliseconds. */
export function workTimes(times) {
  return facts(
    [
      ["Queued", milliseconds(times?.queued_ms ?? times?.queued)],
      ["Fetched in", milliseconds(times?.fetch_ms ?? times?.fetch)],
      ["Decoded in", milliseconds(times?.decode_ms ?? times?.decode)],
      ["Models", milliseconds(times?.infer_ms ?? times?.infer)],
      ["In all", milliseconds(times?.total_ms ?? times?.total)],
    ].filter(([, value]) => value !== "–"),
  );
}

/**
 * A calm place that says why there is nothing, and the way on.
 * @param {{iconName?: string, title: string, words: string, actions?: Node[], testid?: string}} state
 */
export function emptyState({ iconName = "calm", title, words, actions = [], testid }) {
  return h(
    "div",
    { class: "empty", "data-testid": testid },
    h("div", { class: "empty-icon" }, icon(iconName)),
    h("h2", { text: title }),
    words && h("p", { text: words }),
    actions.length > 0 && h("div", { class: "empty-actions" }, actions),
  );
}

/** Chips for actions, several of which may be on. `changed` gets the list, or null for all. */
export function actionChips(actions, chosen, changed) {
  let on = new Set(chosen ?? actions);
  const chips = actions.map((action) => {
    const tally = h("span", { class: "chip-count" });
    const chip = h(
      "button",
      {
        type: "button",
        class: `chip chip-${action}`,
        "data-testid": `filter-${action}`,
        "aria-pressed": String(on.has(action)),
        on: {
          click: () => {
            if (on.has(action)) on.delete(action);
            else on.add(action);
            // Nothing chosen would be an empty page for ever: it means everything.
            if (on.size === 0) on = new Set(actions);
            for (const each of chips) each.chip.setAttribute("aria-pressed", String(on.has(each.action)));
            changed(on.size === actions.length ? null : actions.filter((one) => on.has(one)));
          },
        },
      },
      h("span", { class: "chip-dot", "aria-hidden": "true" }),
      actionWords(action),
      tally,
    );
    return { action, chip, tally };
  });
  return {
    node: h(
      "div",
      { class: "chips", role: "group", "aria-label": "Show images by action" },
      chips.map((one) => one.chip),
    ),
    counts: (byAction) => {
      for (const { action, tally } of chips) tally.textContent = byAction ? String(byAction[action] ?? 0) : "";
    },
  };
}

/** The rule of a flag that asks for most. */
export function strongest(flag) {
  const rules = flag?.rules ?? [];
  return rules.reduce((best, rule) => (best === null || rule.severity > best.severity ? rule : best), null);
}

/** Of a label of a model: the action of the first rule that asked for it. */
export function toneBy(rules) {
  return (model, label) =>
    (rules ?? []).find((rule) => (rule.conditions ?? []).some((one) => one.model === model && one.label === label))
      ?.action ?? "advise";
}
