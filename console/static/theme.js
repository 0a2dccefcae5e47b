// Runs before the first paint, so that no one is flashed with the other theme. A classic script: modules wait for the
// document.
(function () {
  "use strict";
  try {
    const chosen = window.localStorage.getItem("sightline.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // A browser that keeps no storage follows the system.
  }
})();
