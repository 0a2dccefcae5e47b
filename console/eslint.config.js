// Rules of the console's scripts. Layout belongs to prettier, types belong to tsc.

import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["node_modules/"] },
  js.configs.recommended,
  {
    files: ["static/*.js"],
    languageOptions: { globals: globals.browser },
    rules: {
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      // Prettier leaves comments and strings as they are.
      "max-len": ["error", { code: 120 }],
      "no-console": "error",
      // Nodes are built, never parsed (static/dom.js).
      "no-restricted-properties": [
        "error",
        { property: "innerHTML" },
        { property: "outerHTML" },
        { property: "insertAdjacentHTML" },
      ],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  {
    // Runs before any module, so that the first paint has the right theme.
    files: ["static/theme.js"],
    languageOptions: { sourceType: "script" },
  },
];
