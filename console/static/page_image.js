// The page of one image: what is known, what was decided, how it came to be so.

import { api, freshId, isLeft, Problem, untilScored } from "./api.js";
import { append, h, isTyping, put } from "./dom.js";
import { dialogIsOpen } from "./dialogs.js";
import { icon } from "./icons.js";
import { announce, message } from "./messages.js";
import { knownThresholds } from "./models.js";
import { outbox } from "./outbox.js";
import {
  actionBadge,
  address,
  adviceList,
  button,
  decisionSentence,
  emptyState,
  facts,
  flagRules,
  key as keyCap,
  outcomeBadge,
  outcomeSentence,
  pictureFacts,
  scoreGroups,
  severityMeter,
  shortVersion,
  strongest,
  thresholdsOf,
  toneBy,
  workTimes,
} from "./parts.js";
import { Preview } from "./previews.js";
import { askReason } from "./reasons.js";
import { holdable, regionsOf, Veil } from "./veil.js";
import {
  ago,
  clock,
  decisionReason,
  decisionWords,
  milliseconds,
  modelWords,
  outcomeWords,
  plain,
  problemWords,
  reasonWords,
} from "./words.js";

const WAIT_SECONDS = 5;

export function imagePageOf({ main, has, signal, params }) {
  const bucket = params.get("bucket") ?? "";
  const key = params.get("key") ?? "";
  const head = h(
    "div",
    { class: "page-head page-head-image" },
    h("div", {}, h("p", { class: "eyebrow", text: "Image" }), h("h1", { class: "image-title" }, address(bucket, key))),
    h("div", { class: "page-tools" }, button("Copy address", { onClick: copy, testid: "copy-address" })),
  );
  const body = h("div", { class: "image-page" }, h("p", { class: "quiet", role: "status", text: "Looking …" }));
  append(main, head, body);
  document.title = `${key.split("/").pop() || key} · Sightline`;
  let preview = null;
  let hold = null;

  async function copy() {
    try {
      await navigator.clipboard.writeText(`s3://${bucket}/${key}`);
      message("The address is copied.", { tone: "good" });
    } catch {
      message("This browser does not let the address be copied; select it by hand.");
    }
  }

  async function load() {
    try {
      const waiting = () =>
        put(
          body,
          h(
            "div",
            { class: "note under-way", "data-testid": "image-under-way" },
            h("span", { class: "spinner", "aria-hidden": "true" }),
            h("p", { text: "Uploaded and under way; the outcome appears here by itself." }),
          ),
        );
      const image = await untilScored(bucket, key, { wait: WAIT_SECONDS, signal, waiting });
      if (image === null) return;
      draw(image, await knownThresholds());
    } catch (error) {
      if (isLeft(error)) return;
      if (!(error instanceof Problem)) throw error;
      put(
        body,
        h(
          "div",
          { class: "image-wide" },
          emptyState({
            iconName: error.passing ? "alert" : "help",
            title: error.code === "removed_image" ? "Removed" : error.status === 404 ? "Not known" : "No answer",
            words: problemWords(error, "this image"),
            testid: "image-problem",
            actions: [
              error.passing
                ? button("Try again", { kind: "primary", onClick: load })
                : h("a", { class: "button button-primary", href: "/console/search" }, "Search for another"),
            ],
          }),
        ),
      );
      if (error.code === "removed_image") append(body, h("div", { class: "image-wide" }, historyPanel(), storyPanel()));
    }
  }

  function draw(image, thresholds) {
    const known = thresholdsOf(image.flag?.rules, thresholds);
    const toneOf = toneBy(image.flag?.rules);
    const advice = adviceList(image.reasons);
    put(
      body,
      h("div", { class: "image-left" }, pictureOf(image), has("moderate") && decidePanel(image)),
      h(
        "div",
        { class: "image-right" },
        h(
          "section",
          { class: "panel", "aria-label": "Outcome" },
          h(
            "div",
            { class: "panel-head" },
            h("h2", { text: "Outcome" }),
            h("span", { "data-testid": "image-outcome" }, outcomeBadge(image.outcome)),
            image.flag && actionBadge(image.flag.action),
          ),
          image.outcome !== "scored" &&
            h(
              "p",
              { class: "note", text: outcomeSentence(image) },
              image.detail ? h("span", { class: "mono small", text: ` ${image.detail}` }) : null,
            ),
          image.superseded && h("p", { class: "note", text: outcomeSentence(image) }),
          image.pending &&
            h("p", {
              class: "note",
              "data-testid": "image-pending",
              text:
                "A newer upload of this key is under way, since " +
                `${ago(image.pending.since_ms).replace(" ago", "")}.`,
            }),
          pictureFacts(image),
          advice && [h("h3", { text: "Advice to the seller" }), advice],
        ),
        h(
          "section",
          { class: "panel", "aria-label": "Flag" },
          h("h2", { text: image.flag ? "Why it was flagged" : "Flag" }),
          flagRules(image.flag),
        ),
      ),
      h(
        "section",
        { class: "panel image-scores", "aria-label": "Scores" },
        h("h2", { text: "Scores of all models" }),
        h("div", { class: "score-columns" }, scoreGroups(image, { thresholds: known, toneOf })),
      ),
      h("div", { class: "image-wide" }, historyPanel(), storyPanel(), identifiers(image)),
    );
  }

  function pictureOf(image) {
    hold?.stop();
    preview?.drop();
    if (!has("moderate")) {
      return h(
        "section",
        { class: "stage stage-image" },
        h(
          "div",
          { class: "veil veil-stage is-empty" },
          h(
            "div",
            { class: "veil-inner" },
            h(
              "div",
              { class: "veil-words" },
              icon("nopicture"),
              h("p", { class: "veil-words-title", text: "No picture for this key" }),
              h("p", { text: "Looking at pictures needs the scope “moderate”." }),
            ),
          ),
        ),
      );
    }
    const veil = new Veil({
      use: "stage",
      width: image.width,
      height: image.height,
      alt: `Picture ${image.key}`,
      testid: "image-preview",
      regions: regionsOf(image),
    });
    const fetchIt = () => {
      preview = new Preview(image, "stage");
      veil.follow(preview, fetchIt);
    };
    fetchIt();
    const stage = h(
      "section",
      { class: "stage stage-image", "aria-label": "The picture", tabindex: "0" },
      veil.node,
      h(
        "p",
        { class: "stage-hint", "aria-hidden": "true" },
        icon("eye"),
        h("span", { class: "for-keys" }, "Hold ", keyCap("Space"), " or press here"),
        h("span", { class: "for-touch", text: "Press and hold to show" }),
      ),
    );
    const show = (on) => {
      veil.show(on);
      stage.classList.toggle("is-shown", veil.shown);
    };
    hold = holdable(stage, { start: () => show(true), end: () => show(false) });
    showing = show;
    return stage;
  }

  let showing = null;
  const onDown = (event) => {
    if (
      event.key !== " " ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      dialogIsOpen() ||
      isTyping(event.target)
    ) {
      return;
    }
    if (event.target instanceof Element && event.target.closest("button, summary, a") !== null) return;
    if (!showing) return;
    event.preventDefault();
    if (!event.repeat) showing(true);
  };
  const onUp = () => showing?.(false);
  document.addEventListener("keydown", onDown);
  document.addEventListener("keyup", onUp);
  window.addEventListener("blur", onUp);
  document.addEventListener("visibilitychange", onUp);
  signal.addEventListener("abort", () => {
    hold?.stop();
    preview?.drop();
    document.removeEventListener("keydown", onDown);
    document.removeEventListener("keyup", onUp);
    window.removeEventListener("blur", onUp);
    document.removeEventListener("visibilitychange", onUp);
  });

  function decidePanel(image) {
    const decided = image.decision && image.decision.decision !== "skip" ? image.decision : null;
    const buttons = [];
    const send = async (decision, reason, reverses = null) => {
      for (const one of buttons) one.disabled = true;
      try {
        await outbox.send({
          decision_id: freshId(),
          bucket,
          key,
          decision,
          reason,
          ...(image.flag ? { flag_id: image.flag.flag_id } : {}),
          ...(reverses ? { reverses } : {}),
        });
        const words = reverses ? "The decision is taken back." : `${decisionWords(decision)}.`;
        message(words, { tone: "good" });
        if (!signal.aborted) await load();
      } catch (error) {
        if (isLeft(error)) return;
        if (!(error instanceof Problem)) throw error;
        message(`Not taken. ${problemWords(error, "deciding")}`, { tone: "bad" });
      } finally {
        for (const one of buttons) one.disabled = false;
      }
    };
    const rule = strongest(image.flag);
    const panel = h(
      "section",
      { class: "panel decide", "aria-label": "Decision" },
      h("h2", { text: "Decision" }),
      decided
        ? h(
            "p",
            { "data-testid": "image-decision" },
            h("span", { class: `badge badge-${decided.decision}` }, decisionWords(decided.decision)),
            ` by ${decided.moderator}${decided.reason ? `, ${decisionReason(decided.reason)}` : ""}, `,
            h("time", { title: clock(decided.decided_ms), text: ago(decided.decided_ms) }),
          )
        : h("p", {
            class: "quiet",
            "data-testid": "image-decision",
            text: image.decision ? "The last decision was taken back." : "No one has decided yet.",
          }),
    );
    const row = h("div", { class: "decide-row" });
    const add = (node) => (buttons.push(node), row.append(node));
    if (decided) {
      add(
        button("Take it back", {
          iconName: "undo",
          testid: "reverse",
          onClick: () => send("skip", "undo", decided.decision_id),
        }),
      );
    }
    if (decided?.decision !== "reject") {
      add(
        button("Reject", {
          iconName: "cross",
          kind: "reject",
          testid: "reject",
          onClick: () => send("reject", rule?.rule ?? "other", decided?.decision_id),
        }),
      );
    }
    if (decided?.decision !== "reject") {
      add(
        button("Reject because of …", {
          testid: "reject-reason",
          onClick: () => askReason({ chosen: (reason) => send("reject", reason, decided?.decision_id) }),
        }),
      );
    }
    if (decided?.decision !== "approve") {
      add(
        button("Approve", {
          iconName: "check",
          kind: "approve",
          testid: "approve",
          onClick: () => send("approve", "", decided?.decision_id),
        }),
      );
    }
    panel.append(row);
    return panel;
  }

  function historyPanel() {
    const list = h(
      "ol",
      { class: "timeline", "data-testid": "image-history" },
      h("li", { class: "quiet", text: "Fetching …" }),
    );
    const panel = h("section", { class: "panel", "aria-label": "History" }, h("h2", { text: "History" }), list);
    api.history(bucket, key, signal).then(
      (found) => {
        const entries = [
          ...(found.outcomes ?? []).map((one) => ({
            at: one.times?.scored_ms ?? one.times?.uploaded_ms ?? 0,
            node: () => outcomeEntry(one),
          })),
          ...(found.decisions ?? []).map((one) => ({ at: one.decided_ms, node: () => decisionEntry(one) })),
        ].sort((one, other) => other.at - one.at);
        put(
          list,
          entries.length
            ? entries.map((entry) => entry.node())
            : h("li", { class: "quiet", text: "Nothing has happened yet." }),
        );
      },
      (error) => {
        if (isLeft(error)) return;
        if (!(error instanceof Problem)) throw error;
        put(list, h("li", { class: "note note-bad" }, problemWords(error, "the history")));
      },
    );
    return panel;
  }

  function storyPanel() {
    const out = h("div", { class: "story", "aria-live": "polite", "data-testid": "image-story" });
    const ask = button("Tell the whole story", { iconName: "list", testid: "image-explain", onClick: tell });
    const panel = h(
      "section",
      { class: "panel", "aria-label": "Story" },
      h("div", { class: "panel-head" }, h("h2", { text: "Story" }), ask),
      h("p", {
        class: "quiet small",
        text: "Read from the topics: the event, the task, each rule as it stood then. It may take a few seconds.",
      }),
      out,
    );
    async function tell() {
      ask.disabled = true;
      put(
        out,
        h(
          "p",
          { class: "quiet under-way" },
          h("span", { class: "spinner", "aria-hidden": "true" }),
          "Reading the topics …",
        ),
      );
      try {
        put(out, story(await api.explain(bucket, key, signal)));
      } catch (error) {
        if (isLeft(error)) return;
        if (!(error instanceof Problem)) throw error;
        put(out, h("p", { class: "note note-bad", text: problemWords(error, "the story") }));
      } finally {
        ask.disabled = false;
      }
    }
    return panel;
  }

  if (!bucket || !key) {
    put(
      body,
      emptyState({
        iconName: "help",
        title: "Which image?",
        words: "An image has a bucket and a key.",
        actions: [h("a", { class: "button button-primary", href: "/console/search" }, "Search")],
      }),
    );
    return;
  }
  load().then(() => announce("Image loaded"));
}

const when = (ms) =>
  h("time", {
    class: "timeline-time",
    datetime: Number.isFinite(ms) ? new Date(ms).toISOString() : null,
    title: ago(ms),
    text: clock(ms),
  });

function outcomeEntry(one) {
  return h(
    "li",
    { class: `timeline-entry entry-${one.outcome}` },
    when(one.times?.scored_ms),
    h(
      "div",
      {},
      h("strong", { text: outcomeWords(one.outcome) }),
      one.reason ? `: ${reasonWords(one.reason)}` : "",
      " ",
      h("span", {
        class: "quiet",
        text: [
          one.width ? `${one.format} ${one.width} × ${one.height}` : "",
          one.cached ? "from cache" : "",
          one.superseded ? "superseded" : "",
          one.job_id ? `job ${one.job_id}` : "",
        ]
          .filter(Boolean)
          .join(", "),
      }),
      one.sha256 && h("div", { class: "mono small quiet", text: `sha256 ${one.sha256.slice(0, 16)}…` }),
    ),
  );
}

function decisionEntry(one) {
  return h(
    "li",
    { class: `timeline-entry entry-${one.reverses && one.decision === "skip" ? "undo" : one.decision}` },
    when(one.decided_ms),
    h(
      "div",
      {},
      h("strong", { text: decisionSentence(one) }),
      one.policy
        ? h("span", { class: "quiet", text: ` under policy ${one.policy} ${shortVersion(one.policy_version)}` })
        : null,
    ),
  );
}

function identifiers(image) {
  return h(
    "section",
    { class: "panel", "aria-label": "Identifiers" },
    h(
      "details",
      { class: "fold" },
      h("summary", {}, "Identifiers and times"),
      h(
        "div",
        { class: "mono-facts" },
        facts([
          ["Upload", image.upload_id],
          ["sha256", image.sha256],
          ["ETag", image.etag],
          ["Version", image.version_id],
          ["Flag", image.flag?.flag_id],
          ["Job", image.job_id],
          ["Uploaded", clock(image.times?.uploaded_ms)],
          ["Identified", clock(image.times?.identified_ms)],
          ["Scored", clock(image.times?.scored_ms)],
        ]),
      ),
      workTimes(image.times),
    ),
  );
}

/** What `explain --json` tells, in the order in which it happened. */
function story(told) {
  if (told.known === false) {
    return h("p", { class: "note", text: "Nothing is known of it: no outcome, no removal, no dead letter." });
  }
  const outcome = told.outcome ?? {};
  const block = (title, ...children) => h("section", { class: "story-block" }, h("h3", { text: title }), children);
  const wide = (title, ...children) =>
    h("section", { class: "story-block story-wide" }, h("h3", { text: title }), children);
  const raw = (title, value) =>
    value !== null &&
    value !== undefined &&
    h(
      "details",
      { class: "more" },
      h("summary", {}, title),
      h("pre", {
        class: "raw",
        tabindex: "0",
        text: typeof value === "string" ? value : JSON.stringify(value, null, 2),
      }),
    );
  const rules = told.rules ?? [];
  return [
    (told.notes ?? []).map((one) => h("p", { class: "note story-wide", text: one })),
    told.outcome &&
      block(
        "Event",
        facts([
          ["What", [outcome.dialect, outcome.event_name].filter(Boolean).join(" ")],
          ["At", clock(outcome.event_time_ms)],
          ["Order", outcome.order_key ? h("span", { class: "mono", text: outcome.order_key }) : null],
          [
            "Identified",
            Number.isFinite(outcome.identified_at_ms)
              ? `${milliseconds(outcome.identified_at_ms - outcome.event_time_ms)} later`
              : null,
          ],
        ]),
        raw("The event as it came", told.event),
      ),
    told.task &&
      block(
        "Task",
        facts([
          ["Lane", told.task.lane],
          ["Attempt", told.task.attempt],
          ["Deferred before", told.task.defer_reason || null],
          ["Job", told.task.job_id],
          ["Worker", outcome.worker],
          ["Release", outcome.release],
          [
            "Done",
            Number.isFinite(outcome.scored_at_ms)
              ? `${milliseconds(outcome.scored_at_ms - outcome.identified_at_ms)} after it was identified`
              : null,
          ],
        ]),
      ),
    told.outcome &&
      block(
        "Times",
        workTimes(outcome.timings),
        h("p", {
          class: "quiet small",
          text: outcome.cached ? "Answered from what was known of these bytes." : "Computed afresh.",
        }),
      ),
    told.policy &&
      wide(
        `Rules of policy ${told.policy.name} ${shortVersion(told.policy.version)}`,
        h(
          "p",
          { class: "quiet small" },
          `${plain(told.policy.found)}; together: `,
          actionBadge(told.policy.action),
          told.policy.agrees_with_flag === false ? " This is not the action of then." : "",
        ),
        h(
          "ul",
          { class: "story-rules" },
          rules.map((one) =>
            h(
              "li",
              { class: one.matched ? "is-matched" : "" },
              h("span", { class: "story-mark" }, one.matched ? icon("check") : "·"),
              h(
                "div",
                {},
                h("span", { class: "visually-hidden", text: one.matched ? "matched: " : "did not match: " }),
                h("strong", { text: one.rule }),
                ` `,
                one.matched && actionBadge(one.action),
                one.matched && severityMeter(one.severity),
                h("p", { text: one.explanation }),
              ),
            ),
          ),
        ),
      ),
    told.flags?.length > 0 &&
      block(
        "Flags",
        h(
          "ul",
          { class: "plain-list" },
          told.flags.map((one) =>
            h(
              "li",
              {},
              `${clock(one.decided_at_ms)}: ${one.state} `,
              actionBadge(one.action),
              one.changed ? ` before: ${one.previous_action || "none"}` : "",
            ),
          ),
        ),
      ),
    told.history?.length > 0 &&
      block(
        "Outcomes of this key",
        h(
          "ul",
          { class: "plain-list" },
          told.history.map((one) =>
            h("li", {
              text: [
                `${clock(one.scored_at_ms)}: ${outcomeWords(one.outcome)}`,
                one.reason,
                one.cached && "from cache",
                one.job_id && `job ${one.job_id}`,
              ]
                .filter(Boolean)
                .join(", "),
            }),
          ),
        ),
      ),
    told.removals?.length > 0 &&
      block(
        "Removals",
        h(
          "ul",
          { class: "plain-list" },
          told.removals.map((one) => h("li", { text: clock(one.event_time_ms) })),
        ),
      ),
    told.dead_letters?.length > 0 &&
      block(
        "Dead letters",
        h(
          "ul",
          { class: "plain-list" },
          told.dead_letters.map((one) =>
            h(
              "li",
              {},
              `${clock(one.dead_at_ms)}: ${one.agent}, ${plain(one.reason)}. `,
              h("span", { class: "quiet", text: one.detail }),
            ),
          ),
        ),
      ),
    told.outcome &&
      block(
        "Versions",
        facts(Object.entries(outcome.model_versions ?? {}).map(([model, version]) => [modelWords(model), version])),
      ),
    told.known !== false &&
      h("div", { class: "story-wide" }, raw("All of it, as ./sightline explain --json prints it", told)),
  ];
}
