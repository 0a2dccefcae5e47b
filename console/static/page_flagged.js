// What waits, as a grid in the queue's order. Looking here leases nothing.

import { api, imagePage, isLeft, Problem } from "./api.js";
import { append, h, put, say } from "./dom.js";
import { icon } from "./icons.js";
import { announce } from "./messages.js";
import { actionBadge, actionChips, button, emptyState, severityMeter } from "./parts.js";
import { Preview } from "./previews.js";
import { remember, remembered } from "./storage.js";
import { holdable, regionsOf, Veil } from "./veil.js";
import { ACTIONS, clock, count, problemWords, ruleWords, seconds } from "./words.js";

const STEP = 48;
const MOST = 480;
const REFRESH_MS = 15_000;
const HOLD_MS = 180;

export function flaggedPage({ main, signal }) {
  const kept = remembered("queue.actions", null);
  let actions = Array.isArray(kept) && kept.length && kept.every((one) => ACTIONS.includes(one)) ? kept : null;
  let limit = STEP;
  let reading = 0;
  const tiles = new Map();
  const status = h("p", {
    class: "quiet",
    role: "status",
    "data-testid": "flagged-status",
    text: "Fetching what waits …",
  });
  const chips = actionChips(ACTIONS, actions, (next) => {
    actions = next;
    limit = STEP;
    remember("queue.actions", next);
    read();
  });
  const grid = h("ul", { class: "grid", "data-testid": "flagged-grid" });
  const place = h("div");
  const more = button("Show more", {
    onClick: () => ((limit = Math.min(MOST, limit + STEP)), read()),
    testid: "flagged-more",
  });
  more.hidden = true;
  append(
    main,
    h(
      "div",
      { class: "page-head" },
      h("div", {}, h("h1", { text: "Flagged" }), status),
      h(
        "div",
        { class: "page-tools" },
        chips.node,
        button("Refresh", { onClick: () => read(), testid: "flagged-refresh" }),
      ),
    ),
    place,
    grid,
    h("div", { class: "page-more" }, more),
  );

  // Previews are made by the service on demand: only those in sight are asked for.
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        tiles.get(/** @type {HTMLElement} */ (entry.target).dataset.upload)?.load();
      }
    },
    { rootMargin: "200px" },
  );

  async function read() {
    const mine = ++reading;
    try {
      const [found, queue] = await Promise.all([api.flagged(limit, actions, signal), api.queue(signal)]);
      if (mine !== reading) return;
      chips.counts(queue.by_action);
      draw(
        found.images ?? [],
        (actions ?? ACTIONS).reduce((sum, action) => sum + (queue.by_action[action] ?? 0), 0),
      );
    } catch (error) {
      if (isLeft(error) || mine !== reading) return;
      if (!(error instanceof Problem)) throw error;
      if (tiles.size) say(status, `Not refreshed: ${problemWords(error, "the queue")}`);
      else {
        say(status, "");
        put(
          place,
          emptyState({
            iconName: "alert",
            title: "The queue does not answer",
            words: problemWords(error, "the queue"),
            actions: [button("Try again", { kind: "primary", onClick: read })],
            testid: "flagged-broken",
          }),
        );
      }
    }
  }

  function draw(images, counted) {
    put(place);
    const here = new Set(images.map((one) => one.image.upload_id));
    for (const [id, tile] of tiles) {
      if (here.has(id)) continue;
      tile.drop();
      tiles.delete(id);
    }
    let before = null;
    for (const entry of images) {
      const id = entry.image.upload_id;
      let tile = tiles.get(id);
      if (!tile) {
        tile = new Tile(entry);
        tiles.set(id, tile);
        seen.observe(tile.node);
      }
      tile.update(entry);
      // Tiles that stay where they are keep their focus.
      const wanted = before === null ? grid.firstElementChild : before.nextElementSibling;
      if (wanted !== tile.node) grid.insertBefore(tile.node, wanted);
      before = tile.node;
    }
    more.hidden = images.length < limit || limit >= MOST;
    const leased = images.filter((one) => one.leased_by).length;
    const cut = images.length >= limit && counted > images.length;
    const words = images.length
      ? `${count(cut ? counted : images.length)} waiting, the most urgent first` +
        (cut ? `; the first ${count(images.length)} are shown` : "") +
        (leased ? `; ${leased} being looked at` : "")
      : "";
    if (status.textContent !== words) announce(words);
    say(status, words);
    if (!images.length) {
      put(
        place,
        emptyState({
          title: "Nothing waits",
          words: actions ? "No flagged image of this kind is waiting." : "Every flagged image has been looked at.",
          testid: "flagged-empty",
        }),
      );
    }
  }

  const refresh = setInterval(() => document.visibilityState === "visible" && read(), REFRESH_MS);
  const hide = () => tiles.forEach((tile) => tile.show(false));
  window.addEventListener("blur", hide);
  document.addEventListener("keyup", hide);
  signal.addEventListener("abort", () => {
    clearInterval(refresh);
    seen.disconnect();
    window.removeEventListener("blur", hide);
    document.removeEventListener("keyup", hide);
    tiles.forEach((tile) => tile.drop());
  });
  read();
}

class Tile {
  #preview = null;

  constructor({ image }) {
    this.image = image;
    this.veil = new Veil({
      use: "thumb",
      width: image.width,
      height: image.height,
      alt: "",
      testid: "flagged-thumb",
      regions: regionsOf(image),
    });
    this.age = h("span", { class: "tile-age" });
    this.leased = h("span", { class: "tile-leased", "data-testid": "leased-by" });
    const rule = image.flag?.rules?.[0];
    const link = h(
      "a",
      {
        class: "tile-link",
        href: imagePage(image.bucket, image.key),
        "data-testid": "flagged-tile",
        draggable: "false",
      },
      this.veil.node,
      h(
        "div",
        { class: "tile-text" },
        h(
          "div",
          { class: "tile-head" },
          actionBadge(image.flag?.action ?? "none"),
          severityMeter(image.flag?.severity ?? 0),
          this.age,
        ),
        h("p", { class: "tile-rule", text: rule ? ruleWords(rule) : "" }),
        h("p", { class: "tile-key", title: image.key }, h("bdi", { text: image.key.split("/").pop() || image.key })),
        this.leased,
      ),
    );
    this.hold = holdable(link, { start: () => this.show(true), end: () => this.show(false), delayMs: HOLD_MS });
    link.addEventListener("click", (event) => {
      // A press that showed the picture is not a wish to leave; the keyboard's Enter is no press.
      if (event.detail > 0 && this.hold.wasHeld()) event.preventDefault();
    });
    link.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      if (!event.repeat) this.show(true);
    });
    link.addEventListener("blur", () => this.show(false));
    this.node = h("li", { class: "tile", "data-upload": image.upload_id }, link);
  }

  update({ waiting_seconds: waiting, leased_by: by, image }) {
    say(this.age, seconds(waiting));
    this.age.title = `flagged ${clock(image.flag?.decided_ms)}`;
    put(this.leased, by ? [icon("eye"), `with ${by}`] : []);
    this.node.classList.toggle("is-leased", Boolean(by));
  }

  load() {
    this.#preview = new Preview(this.image, "thumb");
    this.veil.follow(this.#preview);
  }

  show(on) {
    this.veil.show(on);
    this.node.classList.toggle("is-shown", this.veil.shown);
  }

  drop() {
    this.hold.stop();
    this.#preview?.drop();
    this.node.remove();
  }
}
