// Panel: what the model would answer if it ended after each of its layers.
//
// The model's own norm and classifier read the tokens after every layer (the logit lens): vit.js has done so already.

import { h } from "./dom.js";
import { percent } from "./words.js";
import { shares } from "./model.js";
import { mostOf } from "./tokens.js";

const stepName = (step) => (step ? `layer ${step - 1}` : "the embedding");

// The step from which on the last answer is kept: 0 is the embedding, 1 is layer 0.
export function whereDecided(answers) {
  const said = answers.map(mostOf);
  let from = said.length - 1;
  while (from && said[from - 1] === said.at(-1)) from--;
  return from;
}

export function layersPanel({ model }) {
  const { classes, depth } = model;
  const cells = Array.from({ length: depth + 1 }, () => classes.map(() => h("td")));
  const head = h("tr", {}, h("td", {}, "after"), ...classes.map((name) => h("th", { scope: "col" }, name)));
  const rows = cells.map((row, i) =>
    h("tr", {}, h("th", { scope: "row" }, i ? `layer ${i - 1}` : "embedding"), ...row),
  );
  const table = h(
    "table",
    { class: "layers-table", "aria-label": "Probability of each class after every layer, per cent" },
    h("thead", {}, head),
    h("tbody", {}, ...rows),
  );
  const said = h("p", { class: "panel-said", "aria-live": "polite" });
  const constant = model.cls
    ? " Before the first layer CLS has seen no patch: that row is the same for every drawing."
    : "";
  const hint = h("p", { class: "panel-quiet" }, `Per cent; the answer of each row is framed.${constant}`);
  return {
    name: "layers",
    title: "After every layer",
    about: "What the model would answer if it ended there: its own head reads the tokens after every layer.",
    node: h("div", { class: "panel" }, said, h("div", { class: "panel-scroll" }, table), hint),
    show({ result }) {
      table.classList.toggle("panel-unseen", !result);
      if (!result) return void (said.textContent = "Nothing is drawn yet, so there is nothing to answer.");
      const probs = result.answers.map(shares),
        from = whereDecided(result.answers),
        last = mostOf(probs.at(-1));
      cells.forEach((row, i) =>
        row.forEach((cell, j) => {
          const share = probs[i][j],
            per = 100 * share;
          cell.textContent = per >= 0.5 ? String(Math.round(per)) : "";
          cell.setAttribute("aria-label", percent(share));
          cell.style.setProperty("--share", `${(0.6 * per).toFixed(1)}%`);
          cell.classList.toggle("layers-first", j === mostOf(probs[i]));
        }),
      );
      rows.forEach((row, i) => row.classList.toggle("layers-decided", i === from));
      const before = from && mostOf(probs[from - 1]);
      said.textContent =
        from === 0
          ? `The answer ${classes[last]} is there from the start: no layer changes it.`
          : `The decision falls in layer ${from - 1}: from there on the answer is ${classes[last]}. ` +
            `After ${stepName(from - 1)} it would have been ${classes[before]}, ${percent(probs[from - 1][before])}.`;
    },
  };
}
