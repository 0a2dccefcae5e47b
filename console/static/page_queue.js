// The work view: one image at a time, one key for each decision.

import { api, imagePage, isLeft, Problem } from "./api.js";
import { Desk } from "./desk.js";
import { dialogIsOpen, openDialog } from "./dialogs.js";
import { append, h, isTyping, put, say } from "./dom.js";
import { icon } from "./icons.js";
import { announce, message } from "./messages.js";
import { knownThresholds } from "./models.js";
import { outbox } from "./outbox.js";
import {
  actionBadge,
  actionChips,
  address,
  adviceList,
  button,
  emptyState,
  flagRules,
  key,
  pictureFacts,
  scoreGroups,
  strongest,
  thresholdsOf,
} from "./parts.js";
import { askReason } from "./reasons.js";
import { remember, remembered } from "./storage.js";
import { holdable, regionsOf, Veil } from "./veil.js";
import {
  ACTIONS,
  actionWords,
  count,
  decisionWords,
  problemWords,
  REJECT_REASONS,
  reasonWords,
  ruleWords,
  scoreText,
  seconds,
} from "./words.js";

const COUNTS_MS = 10_000;
const COUNTS_AFTER_MS = 350;

const KEYS = [
  ["Space", "hold to show the picture, let go to hide it"],
  ["A", "approve"],
  ["R", "reject, for the reason of the rule that matched"],
  ["Shift R", "reject, choose the reason"],
  ["1 – 8", "reject for the reason with this number"],
  ["9", "reject for a reason in your own words"],
  ["S", "skip: leave it to someone else"],
  ["N", "next: put it back undecided (also →)"],
  ["U", "undo your last decision"],
  ["/", "search"],
  ["?", "this help"],
];

export function queuePage({ main, signal }) {
  const chosen = remembered("queue.actions", null);
  const first = Array.isArray(chosen) && chosen.length && chosen.every((one) => ACTIONS.includes(one)) ? chosen : null;
  const desk = new Desk(first);
  let keysOn = remembered("keys", true) !== false;
  let view = null;
  let thresholds = {};
  let countsTimer = null;

  // --- the strip at the top
  const waiting = h("span", { class: "count-value", "data-testid": "waiting-count", text: "–" });
  const oldest = h("span", { class: "count-value", "data-testid": "oldest-age", text: "–" });
  const mine = h("span", { class: "count-value", "data-testid": "today-mine", text: "–" });
  const mineMore = h("span", { class: "count-more" });
  const all = h("span", { class: "count-value", "data-testid": "today-all", text: "–" });
  const allMore = h("span", { class: "count-more" });
  const sending = h("span", { class: "sending", role: "status", "data-testid": "sending" });
  const chips = actionChips(ACTIONS, first, (actions) => {
    remember("queue.actions", actions);
    desk.filter(actions);
    refreshCounts();
  });
  const help = h(
    "button",
    {
      type: "button",
      class: "icon-button",
      title: "Keys (?)",
      "aria-label": "Help: keys",
      "data-testid": "help",
      on: { click: showHelp },
    },
    icon("help"),
  );
  const strip = h(
    "div",
    { class: "strip" },
    h("h1", { class: "visually-hidden", text: "Moderation queue" }),
    h(
      "dl",
      { class: "counts" },
      h("div", { class: "count" }, h("dt", { text: "Waiting" }), h("dd", {}, waiting)),
      h("div", { class: "count" }, h("dt", { text: "Oldest" }), h("dd", {}, oldest)),
      h("div", { class: "count" }, h("dt", { text: "Mine today" }), h("dd", {}, mine, mineMore)),
      h("div", { class: "count count-all" }, h("dt", { text: "Everybody" }), h("dd", {}, all, allMore)),
    ),
    h("div", { class: "strip-end" }, sending, chips.node, help),
  );

  // --- the buttons
  const keep = (node) => (node.setAttribute("data-space", "show"), node);
  const undo = keep(action("Undo", "U", "undo", "undo", "quiet", () => desk.undo()));
  const skip = keep(action("Skip", "S", "skip", "skip", "quiet", () => decide("skip", "")));
  const next = keep(action("Next", "N", "next", "next", "quiet", () => desk.pass()));
  const reject = keep(action("Reject", "R", "reject", "cross", "reject", () => decide("reject", null)));
  const approve = keep(action("Approve", "A", "approve", "check", "approve", () => decide("approve", "")));
  const because = keep(
    h(
      "button",
      {
        type: "button",
        class: "button button-reject-more",
        title: "Reject, choose the reason (Shift R)",
        "aria-label": "Reject, choose the reason",
        "data-testid": "reject-reason",
        on: { click: () => choose(false) },
      },
      icon("list"),
    ),
  );
  const hold = keep(
    h(
      "button",
      { type: "button", class: "button button-hold", "data-testid": "hold" },
      icon("eye"),
      h("span", { class: "hold-words", text: "Hold to show" }),
      key("Space"),
    ),
  );
  const work = [skip, next, reject, because, approve, hold];
  const bar = h(
    "div",
    { class: "actions", role: "toolbar", "aria-label": "Decide" },
    h("div", { class: "actions-side" }, undo, next, skip),
    h("div", { class: "actions-main" }, h("div", { class: "split" }, reject, because), approve),
  );
  const quick = h(
    "div",
    { class: "quick", role: "group", "aria-label": "Reject because of" },
    REJECT_REASONS.map((reason, at) =>
      keep(
        h(
          "button",
          {
            type: "button",
            class: "quick-reason",
            "data-testid": `quick-${reason.code}`,
            on: { click: () => (reason.code === "other" ? choose(true) : decide("reject", reason.code)) },
          },
          key(String(at + 1)),
          reason.words,
        ),
      ),
    ),
  );

  const stage = h("section", { class: "stage", "aria-label": "The picture", "data-testid": "queue-image" });
  const side = h("aside", { class: "side", "aria-label": "Why it was flagged" });
  const desktop = h(
    "div",
    { class: "work", "data-space": "show" },
    h("div", { class: "work-main" }, stage, hold, bar, quick),
    side,
  );
  const nothing = h("div", { class: "work-none", hidden: true });
  const notices = h("div", { class: "notices" });
  append(main, strip, notices, desktop, nothing);

  // A button that was clicked must not keep the focus: the next Space is meant for the picture.
  const giveFocusBack = (event) => {
    if (event.detail > 0 && event.target instanceof Element && event.target.closest("button, summary")) {
      main.focus({ preventScroll: true });
    }
  };
  main.addEventListener("click", giveFocusBack, true);

  // --- showing the picture
  const show = (on) => {
    if (!view?.veil) return;
    view.veil.show(on);
    desktop.classList.toggle("is-shown", view.veil.shown);
  };
  const holds = [
    holdable(stage, { start: () => show(true), end: () => show(false) }),
    holdable(hold, { start: () => show(true), end: () => show(false) }),
  ];

  function draw() {
    const item = desk.front;
    desktop.hidden = item === null && desk.state !== "loading";
    nothing.hidden = !desktop.hidden;
    for (const node of work) node.disabled = item === null;
    for (const node of quick.children) node.disabled = item === null;
    undo.disabled = !desk.canUndo;
    put(notices, item && noticesOf(item));
    if (!nothing.hidden) {
      view = null;
      put(stage);
      put(nothing, noWork());
      return;
    }
    if (item === null) {
      view = null;
      desktop.classList.remove("is-shown");
      put(stage, h("div", { class: "veil veil-stage is-loading" }, h("div", { class: "veil-inner" })));
      put(side, h("p", { class: "quiet", role: "status", text: "Fetching the next image …" }));
      return;
    }
    if (view?.item === item) return;
    // A new picture is always veiled, even if the key is still down: showing is a decision for each one.
    desktop.classList.remove("is-shown");
    const veil = new Veil({
      use: "stage",
      width: item.image.width,
      height: item.image.height,
      alt: `Flagged picture ${item.image.key}`,
      testid: "queue-preview",
      regions: regionsOf(item.image),
    });
    view = { item, veil };
    put(stage, veil.node);
    const follow = () => veil.follow(item.preview, () => (item.reload(), follow()));
    follow();
    put(side, sidePanel(item));
    side.scrollTop = 0;
    announce(spoken(item));
  }

  function noWork() {
    const busy = desk.state === "broken" ? desk.problem : null;
    if (busy) {
      return emptyState({
        iconName: "alert",
        title: "The queue does not answer",
        words: problemWords(busy, "the queue"),
        testid: "queue-broken",
        actions: [button("Try again", { kind: "primary", onClick: () => desk.refill() })],
      });
    }
    const undoButton =
      desk.canUndo &&
      button("Undo the last decision", { iconName: "undo", onClick: () => desk.undo(), testid: "undo-empty" });
    const filtered = remembered("queue.actions", null);
    if (desk.state === "elsewhere") {
      return emptyState({
        iconName: "queue",
        title: "All of it is in good hands",
        testid: "queue-empty",
        words:
          (desk.waiting === 1 ? "The one image that waits is" : `The ${desk.waiting} images that wait are`) +
          " with your colleagues. " +
          "What they pass over comes to you by itself.",
        actions: [undoButton],
      });
    }
    return emptyState({
      iconName: "calm",
      title: "Nothing waits",
      testid: "queue-empty",
      words: filtered
        ? `No image of the kind ${filtered.map(actionWords).join(", ")} is waiting. New ones appear here by themselves.`
        : "Every flagged image has been looked at. Rest your eyes; the next one appears here by itself.",
      actions: [
        filtered &&
          button("Show all kinds", {
            kind: "primary",
            onClick: () =>
              ACTIONS.filter((one) => !filtered.includes(one)).forEach((one) =>
                main.querySelector(`[data-testid=filter-${one}]`).click(),
              ),
          }),
        undoButton,
      ],
    });
  }

  function sidePanel(item) {
    const { image } = item;
    const known = thresholdsOf(image.flag?.rules, thresholds);
    const ruled = new Set((image.flag?.rules ?? []).flatMap((rule) => (rule.conditions ?? []).map((one) => one.model)));
    const others = Object.fromEntries(Object.entries(image.scores ?? {}).filter(([model]) => !ruled.has(model)));
    const advice = adviceList(image.reasons);
    return [
      h(
        "section",
        { class: "panel" },
        h(
          "div",
          { class: "panel-head" },
          h("h2", { text: "Why it was flagged" }),
          image.flag?.rules?.length > 1 && actionBadge(image.flag.action),
        ),
        flagRules(image.flag),
      ),
      h(
        "section",
        { class: "panel" },
        h("h2", { text: "The picture" }),
        h(
          "p",
          { class: "panel-key" },
          h(
            "a",
            { href: imagePage(image.bucket, image.key), "data-testid": "queue-key" },
            address(image.bucket, image.key),
          ),
        ),
        image.outcome !== "scored" && h("p", { class: "note", text: reasonWords(image.reason) }),
        pictureFacts(image),
        h("p", { class: "quiet small" }, `Waiting for ${seconds(item.waitingSeconds)}`),
      ),
      advice && h("section", { class: "panel" }, h("h2", { text: "Advice to the seller" }), advice),
      Object.keys(others).length > 0 &&
        h(
          "section",
          { class: "panel" },
          h(
            "details",
            { class: "fold" },
            h("summary", {}, "What the other models say"),
            scoreGroups({ ...image, scores: others }, { thresholds: known }),
          ),
        ),
    ];
  }

  function noticesOf(item) {
    const found = [];
    if (item.error) {
      found.push(
        note(
          "bad",
          `“${decisionWords(item.error.decision)}” was not taken. ` +
            `${problemWords(item.error.problem, "this decision")} Decide again, or go on with N.`,
          "decision-failed",
        ),
      );
    }
    if (item.lost) {
      found.push(
        note(
          "bad",
          "Your hold on this image ran out, and someone else may be looking at it. " +
            "You can still decide, or go on with N.",
          "lease-lost",
        ),
      );
    }
    if (item.undone && !item.error) {
      found.push(note("plain", `Back again: you had chosen “${decisionWords(item.undone)}”.`, "undone"));
    }
    if (item.seenBefore) found.push(note("plain", "You passed this one over before.", "seen-before"));
    return found;
  }

  // --- deciding
  function decide(decision, reason) {
    const item = desk.front;
    if (!item) return;
    // Without a word from the moderator, the rule's own name is the reason.
    const given = decision === "reject" ? (reason ?? strongest(item.image.flag)?.rule ?? "") : reason;
    show(false);
    desk.decide(decision, given);
  }

  function choose(other) {
    const item = desk.front;
    if (!item) return;
    show(false);
    askReason({ other, chosen: (reason) => desk.front === item && decide("reject", reason) });
  }

  desk.addEventListener("change", draw);
  desk.addEventListener("said", (event) => {
    const { detail } = /** @type {CustomEvent} */ (event);
    if (detail.kind === "sent") signal.aborted || refreshCounts();
    else if (detail.kind === "failed") {
      // An image that is back in front carries the words itself.
      if (desk.front !== detail.item) {
        const what =
          detail.decision === "undo"
            ? "The last decision could not be taken back"
            : `“${decisionWords(detail.decision)}” was not taken`;
        message(`${what}, for ${detail.item.image.key}. ${problemWords(detail.problem, "this decision")}`, {
          tone: "bad",
        });
      }
      if (!signal.aborted) refreshCounts();
    } else if (detail.kind === "undone") announce(`Taken back: ${decisionWords(detail.decision)}.`);
  });
  const told = () => {
    say(
      sending,
      outbox.stuck ? `${outbox.size} ${outbox.size === 1 ? "decision waits" : "decisions wait"} to be sent` : "",
    );
  };
  outbox.addEventListener("change", told);

  // --- counts: asked for, never guessed
  async function readCounts() {
    try {
      const found = await api.queue(signal);
      say(waiting, count(found.waiting));
      say(
        oldest,
        found.oldest_seconds === null || found.oldest_seconds === undefined ? "–" : seconds(found.oldest_seconds),
      );
      tally(found.mine, mine, mineMore);
      tally(found.today, all, allMore);
      chips.counts(found.by_action);
      strip.classList.remove("is-old");
      document.title = found.waiting ? `(${found.waiting}) Queue · Sightline` : "Queue · Sightline";
    } catch (error) {
      if (isLeft(error)) return;
      if (!(error instanceof Problem)) throw error;
      // The last counts stay, marked as old; the work does not depend on them.
      strip.classList.add("is-old");
    }
  }

  function refreshCounts() {
    clearTimeout(countsTimer);
    countsTimer = setTimeout(readCounts, COUNTS_AFTER_MS);
  }

  // --- keys
  function showHelp() {
    show(false);
    const toggle = h("input", {
      type: "checkbox",
      id: "keys-on",
      checked: keysOn,
      on: { change: () => ((keysOn = toggle.checked), remember("keys", keysOn)) },
    });
    openDialog({
      title: "Keys",
      testid: "help-dialog",
      body: [
        h(
          "dl",
          { class: "keys" },
          KEYS.map(([name, words]) => [
            h(
              "dt",
              {},
              name.split(" ").map((one) => (one === "–" ? "–" : key(one))),
            ),
            h("dd", { text: words }),
          ]),
        ),
        h("label", { class: "check", for: "keys-on" }, toggle, "Single keys decide (Space always shows)"),
        h("p", {
          class: "quiet small",
          text:
            "Pictures stay blurred and grey until you hold them open, and again as soon as you let go. " +
            "Space always shows the picture here; press Enter to use a focused button.",
        }),
      ],
    });
  }

  const presses = {
    a: () => decide("approve", ""),
    r: () => decide("reject", null),
    R: () => choose(false),
    s: () => decide("skip", ""),
    n: () => desk.pass(),
    ArrowRight: () => desk.pass(),
    u: () => desk.undo(),
    "?": showHelp,
  };
  const spaceShows = (target) =>
    target === document.body ||
    target === main ||
    (target instanceof Element &&
      target.closest("[data-space=show]") !== null &&
      target.closest("summary, a") === null);
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialogIsOpen() || isTyping(event.target)) return;
    if (event.key === " ") {
      if (!spaceShows(event.target)) return;
      event.preventDefault();
      if (!event.repeat) show(true);
      return;
    }
    // A key that is held down decides once.
    if (event.repeat) return;
    if (event.key === "Enter" && event.target === hold) {
      event.preventDefault();
      show(true);
      return;
    }
    if (!keysOn && event.key !== "?") return;
    const digit = event.shiftKey ? null : REJECT_REASONS[Number(event.key) - 1];
    const name =
      event.key === "R" || (event.shiftKey && event.key.toLowerCase() === "r")
        ? "R"
        : event.key.length === 1
          ? event.key.toLowerCase()
          : event.key;
    const press = digit ? () => (digit.code === "other" ? choose(true) : decide("reject", digit.code)) : presses[name];
    // Shift is for R and ? alone; with caps lock on, R without Shift still rejects at once.
    if (!press || (event.shiftKey && !["R", "?"].includes(name))) return;
    event.preventDefault();
    if (name === "R" && !event.shiftKey) presses.r();
    else press();
  };
  const onKeyUp = (event) => {
    if (event.key === " " || event.key === "Enter") {
      if (event.key === " " && spaceShows(event.target) && !isTyping(event.target) && !dialogIsOpen()) {
        event.preventDefault();
      }
      show(false);
    }
  };
  const onHide = () => show(false);
  document.addEventListener("keydown", onKeyDown);
  document.addEventListener("keyup", onKeyUp);
  window.addEventListener("blur", onHide);
  document.addEventListener("visibilitychange", onHide);
  const onVisible = () => document.visibilityState === "visible" && refreshCounts();
  document.addEventListener("visibilitychange", onVisible);
  const ticking = setInterval(() => document.visibilityState === "visible" && readCounts(), COUNTS_MS);

  signal.addEventListener("abort", () => {
    desk.close();
    clearInterval(ticking);
    clearTimeout(countsTimer);
    for (const one of holds) one.stop();
    outbox.removeEventListener("change", told);
    document.removeEventListener("keydown", onKeyDown);
    document.removeEventListener("keyup", onKeyUp);
    window.removeEventListener("blur", onHide);
    document.removeEventListener("visibilitychange", onHide);
    document.removeEventListener("visibilitychange", onVisible);
  });

  draw();
  told();
  readCounts();
  knownThresholds().then((found) => (thresholds = found));
  desk.refill();
}

function action(words, keyName, testid, iconName, kind, onClick) {
  const node = button(words, { iconName, kind, testid, onClick, "aria-keyshortcuts": keyName });
  node.append(key(keyName));
  return node;
}

const note = (tone, text, testid) =>
  h("p", { class: `note note-${tone}`, "data-testid": testid, role: tone === "bad" ? "alert" : null, text });

function tally(numbers, total, more) {
  const { approve = 0, reject = 0, skip = 0 } = numbers ?? {};
  say(total, count(approve + reject + skip));
  say(more, `${approve} approved · ${reject} rejected · ${skip} skipped`);
}

/** The image in front in one sentence, for those who listen. */
function spoken(item) {
  const rule = strongest(item.image.flag);
  const condition = rule?.conditions?.find((one) => one.model);
  const words = [
    actionWords(item.image.flag?.action ?? "none"),
    rule && ruleWords(rule),
    condition && `score ${scoreText(condition.value)}`,
  ];
  return `Next image. ${words.filter(Boolean).join(", ")}.`;
}
