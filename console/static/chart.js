// Charts over time, drawn as SVG at the width that there is, each with a table of the same numbers.

import { h, put, s, say } from "./dom.js";
import { hourMinute } from "./words.js";

const HEIGHT = 190;
const PAD = { top: 12, right: 12, bottom: 24, left: 44 };

/**
 * A chart that can be given new points for ever. `series`: [{name, key, kind: "bar" | "line", tone: 1 | 2}]; bars are
 * stacked in the order given. `format` writes a value. Points: {at, [key]: number | null}; null leaves a gap.
 */
export class Chart {
  #points = [];
  #width = 0;

  constructor({ title, describe, series, format, testid }) {
    this.title = title;
    this.describe = describe;
    this.series = series;
    this.format = format;
    this.id = `chart-${Math.random().toString(36).slice(2)}`;
    this.readout = h("p", { class: "chart-readout", "aria-hidden": "true" });
    this.plot = h("div", { class: "chart-plot" });
    this.head = h(
      "tr",
      {},
      h("th", { scope: "col", text: "Time" }),
      series.map((one) => h("th", { scope: "col", text: one.name })),
    );
    this.rows = h("tbody");
    this.node = h(
      "figure",
      { class: "chart", "data-testid": testid },
      h(
        "figcaption",
        {},
        h("h3", { text: title }),
        h(
          "ul",
          { class: "legend" },
          series.map((one) => h("li", { class: `legend-${one.tone} legend-${one.kind}`, text: one.name })),
        ),
      ),
      this.readout,
      this.plot,
      h(
        "details",
        { class: "more" },
        h("summary", {}, "The numbers"),
        h(
          "div",
          { class: "table-scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` },
          h("table", {}, h("thead", {}, this.head), this.rows),
        ),
      ),
    );
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width === this.#width || width < 80) return;
      this.#width = width;
      this.#draw();
    }).observe(this.plot);
  }

  #written(value) {
    return Number.isFinite(value) ? this.format(value) : "–";
  }

  update(points) {
    this.#points = points;
    put(
      this.rows,
      [...points].reverse().map((point) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", text: hourMinute(point.at) }),
          this.series.map((one) =>
            h("td", { text: Number.isFinite(point[one.key]) ? this.format(point[one.key]) : "–" }),
          ),
        ),
      ),
    );
    this.#draw();
  }

  #draw() {
    const points = this.#points;
    if (!this.#width) return;
    if (points.length < 1) {
      put(this.plot, h("p", { class: "quiet chart-none", text: "Nothing in this window yet." }));
      return;
    }
    const width = this.#width;
    const innerWidth = width - PAD.left - PAD.right;
    const innerHeight = HEIGHT - PAD.top - PAD.bottom;
    const bars = this.series.filter((one) => one.kind === "bar");
    const lines = this.series.filter((one) => one.kind === "line");
    const tops = points.map((point) =>
      Math.max(
        bars.reduce((sum, one) => sum + (point[one.key] || 0), 0),
        ...lines.map((one) => point[one.key] || 0),
      ),
    );
    const ticks = niceTicks(Math.max(...tops, 0));
    const top = ticks[ticks.length - 1] || 1;
    const step = innerWidth / points.length;
    const x = (at) => PAD.left + step * (at + 0.5);
    const y = (value) => PAD.top + innerHeight * (1 - value / top);
    const svg = s("svg", {
      class: "chart-svg",
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
      role: "img",
      "aria-labelledby": `${this.id}-title ${this.id}-desc`,
    });
    svg.append(
      s("title", { id: `${this.id}-title`, text: this.title }),
      s("desc", { id: `${this.id}-desc`, text: this.describe(points) }),
    );
    for (const tick of ticks) {
      svg.append(
        s("line", { class: "chart-grid", x1: PAD.left, x2: width - PAD.right, y1: y(tick), y2: y(tick) }),
        s("text", {
          class: "chart-tick",
          x: PAD.left - 8,
          y: y(tick) + 4,
          "text-anchor": "end",
          text: this.format(tick),
        }),
      );
    }
    // Whole minutes alone, or the same one would stand there twice.
    const minutes = Math.ceil((points[points.length - 1].at - points[0].at) / 60_000);
    const every = 60_000 * Math.max(1, Math.ceil(minutes / Math.max(2, Math.floor(innerWidth / 60))));
    points.forEach((point, at) => {
      if (point.at % every === 0) {
        svg.append(
          s("text", {
            class: "chart-tick",
            x: x(at),
            y: HEIGHT - 6,
            "text-anchor": "middle",
            text: hourMinute(point.at),
          }),
        );
      }
    });
    const thick = Math.max(1, Math.min(28, step * 0.72));
    points.forEach((point, at) => {
      let base = 0;
      for (const one of bars) {
        const value = point[one.key] || 0;
        if (value <= 0) continue;
        svg.append(
          s("rect", {
            class: `chart-bar chart-${one.tone}`,
            x: x(at) - thick / 2,
            width: thick,
            y: y(base + value),
            height: Math.max(0.5, y(base) - y(base + value)),
          }),
        );
        base += value;
      }
    });
    for (const one of lines) {
      let path = "";
      let open = false;
      points.forEach((point, at) => {
        if (!Number.isFinite(point[one.key])) {
          open = false;
          return;
        }
        path += `${open ? "L" : "M"}${x(at).toFixed(1)} ${y(point[one.key]).toFixed(1)}`;
        open = true;
        svg.append(s("circle", { class: `chart-dot chart-${one.tone}`, cx: x(at), cy: y(point[one.key]), r: 2 }));
      });
      if (path) svg.append(s("path", { class: `chart-line chart-${one.tone}`, d: path }));
    }
    const rule = s("line", { class: "chart-rule", y1: PAD.top, y2: HEIGHT - PAD.bottom, x1: -10, x2: -10 });
    svg.append(rule);
    const tell = (at) => {
      const point = points[at];
      say(
        this.readout,
        [
          hourMinute(point.at),
          this.series.map((one) => `${one.name} ${this.#written(point[one.key])}`).join("  ·  "),
        ].join("  "),
      );
    };
    svg.addEventListener("pointermove", (event) => {
      const at = Math.max(
        0,
        Math.min(points.length - 1, Math.floor((event.clientX - svg.getBoundingClientRect().left - PAD.left) / step)),
      );
      rule.setAttribute("x1", x(at));
      rule.setAttribute("x2", x(at));
      tell(at);
    });
    svg.addEventListener("pointerleave", () => {
      rule.setAttribute("x1", -10);
      rule.setAttribute("x2", -10);
      tell(points.length - 1);
    });
    tell(points.length - 1);
    put(this.plot, svg);
  }
}

/** Round values from 0 to at least `most`. */
function niceTicks(most) {
  if (most <= 0) return [0, 1];
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const ticks = [];
  for (let value = 0; value < most + step; value += step) ticks.push(Number(value.toPrecision(6)));
  return ticks;
}
