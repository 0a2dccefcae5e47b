// What this browser remembers for one person. A browser that keeps nothing loses the wishes, never the work.

const PREFIX = "sightline.";

export function remembered(name, otherwise) {
  try {
    const text = window.localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    window.localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Private windows and full disks.
  }
}

/** The theme is kept as a bare word, because theme.js reads it before any module runs. */
export function chosenTheme() {
  return document.documentElement.dataset.theme ?? "system";
}

export function chooseTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") window.localStorage.removeItem(`${PREFIX}theme`);
    else window.localStorage.setItem(`${PREFIX}theme`, theme);
  } catch {
    // As above: it holds for this page.
  }
}
