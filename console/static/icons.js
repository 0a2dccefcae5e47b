// Line icons on a grid of 20, drawn in the colour of the text beside them.

import { s } from "./dom.js";

const PATHS = {
  queue: ["M3 5h10v10H3z", "M15.5 6.5v7", "M18 8v4"],
  grid: ["M3 3h6v6H3z", "M11 3h6v6h-6z", "M3 11h6v6H3z", "M11 11h6v6h-6z"],
  search: ["M9 3.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11z", "M13.2 13.2 17 17"],
  pulse: ["M2 10.5h3.5l2-6 4 11 2.3-5H18"],
  sun: [
    "M10 6.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 0 1 0-7z",
    "M10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6 16 16M16 4l-1.4 1.4M5.4 14.6 4 16",
  ],
  moon: ["M16.5 12A7 7 0 0 1 8 3.5a6.8 6.8 0 1 0 8.5 8.5z"],
  auto: ["M10 3a7 7 0 1 1 0 14a7 7 0 0 1 0-14z", "M10 3v14", "M10 6h5.6M10 9h6.9M10 12h6.7M10 15h4.6"],
  out: ["M8 3H4v14h4", "M12 6.5 15.5 10 12 13.5", "M15.5 10H8"],
  check: ["M4 10.5 8.2 14.7 16.2 5.5"],
  cross: ["M5 5l10 10M15 5 5 15"],
  skip: ["M4 5l6 5-6 5z", "M11 5l5 5-5 5"],
  next: ["M4 10h11.5", "M11 5.5l4.5 4.5-4.5 4.5"],
  undo: ["M7.5 4 4 7.5 7.5 11", "M4 7.5h7.5a4.5 4.5 0 0 1 0 9H8"],
  eye: [
    "M2 10c2-3.8 4.7-5.7 8-5.7s6 1.9 8 5.7c-2 3.8-4.7 5.7-8 5.7S4 13.8 2 10z",
    "M10 7.7a2.3 2.3 0 1 1 0 4.6a2.3 2.3 0 0 1 0-4.6z",
  ],
  upload: ["M10 13V3.5", "M6 7.2 10 3.2l4 4", "M3.5 12.5v4h13v-4"],
  help: ["M10 2.5a7.5 7.5 0 1 1 0 15a7.5 7.5 0 0 1 0-15z", "M7.8 8a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.6", "M10 14v.3"],
  alert: ["M10 3 18 16.5H2z", "M10 8v4", "M10 14.2v.2"],
  list: ["M7 5h10M7 10h10M7 15h10", "M3 5h.5M3 10h.5M3 15h.5"],
  nopicture: ["M3 4h14v12H3z", "M3 13l4-4 3 3", "M3 3l14 14"],
  calm: ["M3 12.5c2-2 3.5-2 5 0s3 2 5 0 3-2 4-1", "M3 8c2-2 3.5-2 5 0s3 2 5 0 3-2 4-1"],
  open: ["M8 4H4v12h12v-4", "M11 3.5h5.5V9", "M16.5 3.5 9 11"],
};

/** One icon; decoration, so hidden from those who listen. */
export function icon(name) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" },
    (PATHS[name] ?? []).map((d) => s("path", { d })),
  );
}

/** The mark: an eye on its line of sight. */
export function mark() {
  return s(
    "svg",
    { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" },
    s("path", {
      class: "mark-eye",
      d: "M4.5 16C7.6 10.6 11.5 8 16 8s8.4 2.6 11.5 8c-3.1 5.4-7 8-11.5 8s-8.4-2.6-11.5-8Z",
    }),
    s("circle", { class: "mark-iris", cx: "16", cy: "16", r: "3.4" }),
    s("path", { class: "mark-line", d: "M1 16h9.5M21.5 16H31" }),
  );
}
