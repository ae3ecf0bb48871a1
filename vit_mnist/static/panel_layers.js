// Panel: what the model would answer if it ended after each of its layers.
//
// The model's own norm and classifier read the tokens after every layer (the logit lens): vit.js has done so already.
// Below, they read each patch's own token in the same way.

import { h } from "./dom.js";
import { percent } from "./words.js";
import { begin, drawMap } from "./canvas.js";
import { sequential } from "./colours.js";
import { shares } from "./model.js";
import { asImage, mostOf } from "./tokens.js";

const stepName = (step) => (step ? `layer ${step - 1}` : "the embedding");

// The step from which on the last answer is kept: 0 is the embedding, 1 is layer 0.
export function whereDecided(answers) {
  const said = answers.map(mostOf);
  let from = said.length - 1;
  while (from && said[from - 1] === said.at(-1)) from--;
  return from;
}

// The probability of a class that is read off each patch's token; every token is that one, so CLS and mean are, too.
export function patchLens(model, tokens, said) {
  const { dim, tokens: n, cls, patches } = model,
    alike = new Float32Array(n * dim);
  return Float32Array.from({ length: patches }, (_, i) => {
    const token = tokens.subarray((cls + i) * dim, (cls + i + 1) * dim);
    for (let j = 0; j < n; j++) alike.set(token, j * dim);
    return shares(model.read(alike))[said];
  });
}

export function layersPanel({ model }) {
  const { classes, depth, rows: high, columns: wide } = model;
  let lens = [];
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
  const maps = cells.map((_, i) => ({ canvas: h("canvas", { role: "img" }), name: i ? `${i - 1}` : "embedding" }));
  const figures = h(
    "div",
    { class: "layers-lens" },
    ...maps.map(({ canvas, name }) => h("figure", {}, canvas, h("figcaption", {}, name))),
  );
  const read = h("p", { class: "panel-quiet" });
  const hint = h("p", { class: "panel-quiet" }, `Per cent; the answer of each row is framed.${constant}`);
  return {
    name: "layers",
    title: "After every layer",
    about: "What the model would answer if it ended there: its own head reads the tokens after every layer.",
    node: h("div", { class: "panel" }, said, h("div", { class: "panel-scroll" }, table), hint, figures, read),
    get lens() {
      return lens; // by step, the probability of the answer for each patch
    },
    show({ pixels, result }) {
      table.classList.toggle("panel-unseen", !result);
      figures.hidden = read.hidden = !result;
      lens = [];
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
      lens = result.tokens.map((tokens) => patchLens(model, tokens, last));
      const image = asImage(model, pixels);
      maps.forEach(({ canvas }, i) => {
        drawMap(begin(canvas, image, 0, 112).c, image, 0, [high, wide], lens[i], { colour: sequential }, 0);
        canvas.setAttribute("aria-label", `After ${stepName(i)}, ${classes[last]} read off each patch: at most ${percent(Math.max(...lens[i]))}`);
      });
      read.textContent =
        `The same head on the token of each patch, after every layer: how probable it finds ${classes[last]}, ` +
        `dark 0, bright 1.${model.cls ? " It has learnt to read CLS alone; what it says of a patch is a hint." : ""}`;
      const before = from && mostOf(probs[from - 1]);
      said.textContent =
        from === 0
          ? `The answer ${classes[last]} is there from the start: no layer changes it.`
          : `The decision falls in layer ${from - 1}: from there on the answer is ${classes[last]}. ` +
            `After ${stepName(from - 1)} it would have been ${classes[before]}, ${percent(probs[from - 1][before])}.`;
    },
  };
}
