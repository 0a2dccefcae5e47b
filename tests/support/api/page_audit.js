// What page_audit.py asks of a page, as one expression: evaluated in it, not loaded by it, which its policy would forbid.
({
  structure: () => {
    const wrong = [];
    const seen = (node) => node.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length > 0;
    const all = (selector) => [...document.querySelectorAll(selector)];
    const tell = (node) => node.outerHTML.slice(0, 120);
    const byIds = (text) => (text ?? "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id));
    for (const node of all("button, a[href], input, select, textarea, [role=button], [tabindex='0']").filter(seen)) {
      const name = node.getAttribute("aria-label") || byIds(node.getAttribute("aria-labelledby")).map((one) => one?.textContent).join(" ")
        || [...(node.labels ?? [])].map((one) => one.textContent).join(" ") || node.innerText || node.textContent || node.title;
      if (!name?.trim()) wrong.push(`without a name: ${tell(node)}`);
      if (Number(node.getAttribute("tabindex")) > 0) wrong.push(`jumps the order: ${tell(node)}`);
    }
    for (const [selector, most] of [["h1", 1], ["main", 1]]) {
      const found = all(selector).length;
      if (found !== most) wrong.push(`${found} of ${selector}`);
    }
    if (document.querySelector("[data-testid=who]") && (!document.querySelector("header nav[aria-label]"))) wrong.push("no navigation");
    if (!document.documentElement.lang) wrong.push("no language");
    if (!document.title) wrong.push("no title");
    for (const node of all("img")) if (!node.hasAttribute("alt")) wrong.push(`no alt: ${tell(node)}`);
    for (const node of all("svg")) if (node.getAttribute("aria-hidden") !== "true" && node.getAttribute("role") !== "img") wrong.push(`svg neither hidden nor an image: ${tell(node)}`);
    const ids = all("[id]").map((node) => node.id);
    for (const id of new Set(ids.filter((one, at) => ids.indexOf(one) !== at))) wrong.push(`id ${id} twice`);
    for (const name of ["aria-describedby", "aria-labelledby", "for"])
      for (const node of all(`[${name}]`)) if (byIds(node.getAttribute(name)).includes(null)) wrong.push(`${name} leads nowhere: ${tell(node)}`);
    let level = 0;
    for (const node of all("h1, h2, h3, h4").filter(seen)) {
      const next = Number(node.tagName[1]);
      if (next > level + 1 && level > 0) wrong.push(`heading ${next} after ${level}: ${node.textContent}`);
      level = next;
    }
    return wrong;
  },

  contrast: (least) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const read = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return { r, g, b, a: a / 255 };
    };
    const over = (top, below, a = top.a) => ({ r: top.r * a + below.r * (1 - a), g: top.g * a + below.g * (1 - a), b: top.b * a + below.b * (1 - a), a: 1 });
    const light = ({ r, g, b }) => {
      const [x, y, z] = [r, g, b].map((v) => ((v /= 255), v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ratio = (one, other) => {
      const [x, y] = [light(one), light(other)].sort((a, b) => b - a);
      return (x + 0.05) / (y + 0.05);
    };
    const wrong = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode.textContent.trim();
      const node = texts.currentNode.parentElement;
      if (!text || !node.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || node.closest("script, noscript, .visually-hidden, :disabled, .is-empty-picture")) continue;
      const box = node.getBoundingClientRect();
      if (box.width <= 1 || box.height <= 1) continue;
      const chain = [];
      for (let one = node; one; one = one.parentElement) chain.unshift(getComputedStyle(one));
      let ground = { r: 255, g: 255, b: 255, a: 1 };
      let opacity = 1;
      for (const style of chain) {
        opacity *= Number(style.opacity);
        ground = over(read(style.backgroundColor), ground);
      }
      const style = chain.at(-1);
      const ink = over({ ...read(node instanceof SVGElement ? style.fill : style.color) }, ground, read(node instanceof SVGElement ? style.fill : style.color).a * opacity);
      const found = ratio(ink, ground);
      if (found < least) wrong.push(`${found.toFixed(2)} for “${text.slice(0, 40)}” (${node.tagName.toLowerCase()}.${node.getAttribute("class") ?? ""})`);
    }
    return [...new Set(wrong)];
  },

  focus: () => {
    const node = document.activeElement;
    if (!node || node === document.body) return null;
    const rings = [node, node.closest("label")].filter(Boolean).some((one) => {
      const style = getComputedStyle(one);
      return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
    });
    window.focusNumber ??= new WeakMap();
    window.focusCount ??= 0;
    if (!window.focusNumber.has(node)) window.focusNumber.set(node, ++window.focusCount);
    const box = (node.closest("label") ?? node).getBoundingClientRect();
    return { number: window.focusNumber.get(node), ring: rings, seen: box.width > 1 && box.height > 1 && box.bottom > 0 && box.top < innerHeight, what: node.outerHTML.slice(0, 140) };
  },

  reachable: () => [...document.querySelectorAll("a[href], button:enabled, input:enabled, summary, [tabindex='0']")]
    .filter((node) => node.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length > 0 && !window.focusNumber?.has(node))
    .map((node) => node.outerHTML.slice(0, 140)),
})
