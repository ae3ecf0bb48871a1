// Panel: one head taken apart. For one query and one key, each number on the way from the tokens to what is handed on.
//
//   score = q . k / sqrt(d)      share = e^score / (the sum of e^score over all keys)      handed on = share x value

import { h } from "./dom.js";
import { scaleOf } from "./colours.js";
import { begin, drawMap, drawRing } from "./canvas.js";
import { isOff } from "./state.js";
import { asImage, attentionOf, mostOf, queryOf, tokenName, tokenOf } from "./tokens.js";

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

// All numbers of one head, one query and one key, from those that the forward pass has left.
export function takeApart(model, result, { layer, head, query, key }) {
  const { tokens: n, dim_head: d } = model,
    all = Array.from({ length: n }, (_, token) => token);
  const row = (table, token) => Array.from(table[layer].subarray((head * n + token) * d, (head * n + token + 1) * d));
  const q = row(result.queries, query),
    k = row(result.keys, key),
    value = row(result.values, key);
  const products = q.map((x, i) => x * k[i]);
  const scores = all.map((token) => dot(q, row(result.keys, token)) / Math.sqrt(d)),
    highest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - highest)); // less the highest: no share changes, none overflows
  const total = powers.reduce((a, b) => a + b, 0),
    shares = powers.map((power) => power / total);
  const handed = value.map((x) => shares[key] * x);
  const output = value.map((_, i) => all.reduce((sum, token) => sum + shares[token] * row(result.values, token)[i], 0));
  return {
    q,
    k,
    products,
    dot: dot(q, k),
    score: scores[key],
    scores,
    highest,
    powers,
    total,
    shares,
    value,
    handed,
    output,
  };
}

// Numbers as they are read, and their sum: that of the numbers as they are read, so that whoever adds them up agrees.
export function addUp(numbers, digits = 5) {
  const unit = 10 ** digits,
    whole = numbers.map((x) => Math.round(x * unit));
  const text = (x) => (x / unit).toFixed(digits).replace(/^-(?=[0.]+$)/, "");
  return { shown: whole.map(text), sum: text(whole.reduce((a, b) => a + b, 0)) };
}

// Shares as they are read, 100 together: what rounding down leaves goes to those that lost most by it.
export function perCent(shares, digits = 2) {
  const unit = 100 * 10 ** digits,
    whole = shares.map((share) => Math.floor(share * unit));
  const rest = Math.round(unit - whole.reduce((a, b) => a + b, 0));
  const order = shares.map((share, i) => i).sort((a, b) => shares[b] * unit - whole[b] - (shares[a] * unit - whole[a]));
  for (const i of order.slice(0, rest)) whole[i]++;
  return whole.map((x) => (x / 10 ** digits).toFixed(digits));
}

function numberTable(label, columns, rows, last) {
  const line = (cells, tag = "td") =>
    cells.map((cell, i) =>
      i ? h(tag, tag === "th" ? { scope: "col" } : {}, cell) : h("th", { scope: tag === "th" ? "col" : "row" }, cell),
    );
  return h(
    "table",
    { class: "panel-numbers", "aria-label": label },
    h("thead", {}, h("tr", {}, ...line(columns, "th"))),
    h(
      "tbody",
      {},
      ...rows.map(({ cells, chosen }) => h("tr", { class: chosen ? "panel-first" : null }, ...line(cells))),
    ),
    ...(last ? [h("tfoot", {}, h("tr", {}, ...line(last)))] : []),
  );
}

export function apartPanel(host) {
  const { model } = host,
    { depth, heads, tokens: n, dim_head: d } = model,
    root = Math.sqrt(d);
  const digits = d > 16 ? 6 : 5; // so that the rounding of all of them together stays below 1e-4
  let key = null,
    shown = null; // key null: the token that is attended to most
  const names = Array.from({ length: n }, (_, token) => tokenName(model, token));
  const choice = (name, label, texts, change) => {
    const select = h(
      "select",
      { "data-apart": name, onchange: (e) => change(e.target.value) },
      ...texts.map((text, i) => h("option", { value: i }, text)),
    );
    return { select, node: h("label", { class: "panel-choice" }, label, select) };
  };
  const count = (size, word) => Array.from({ length: size }, (_, i) => `${word} ${i}`);
  const layer = choice("layer", "Layer", count(depth, "layer"), (i) => host.set({ layer: +i }));
  const head = choice("head", "Head", count(heads, "head"), (i) => host.set({ head: +i }));
  const query = choice("query", "Query, who looks", names, (i) => host.set({ query: queryOf(model, +i) }));
  const keys = choice("key", "Key, who is looked at", ["most attended", ...names], (i) => {
    key = +i ? i - 1 : null;
    show(shown);
  });
  const said = h("p", { class: "panel-said", "aria-live": "polite" }),
    note = h("p", { class: "panel-quiet", hidden: "" });
  const canvas = h("canvas", { role: "img" }),
    products = h("div"),
    softmax = h("div"),
    values = h("div");
  const rest = h("details", {}, h("summary", {}, `The scores of all ${n} tokens`), h("div", { class: "apart-all" }));
  const step = (title, formula, ...parts) =>
    h("section", {}, h("h4", {}, title), h("p", { class: "panel-quiet" }, formula), ...parts);
  const steps = h(
    "div",
    { class: "apart-steps" },
    step(
      "1. Query times key",
      `Each of the ${d} numbers of the query meets one of the key; their products are added up, and the sum is ` +
      `divided by √${d} = ${+root.toFixed(4)}.`,
      products,
    ),
    step(
      "2. Softmax",
      `e^score of every token, divided by the sum over all ${n}: shares, 100 % together. The highest score is taken ` +
      `off all of them first, which changes no share.`,
      h("div", { class: "apart-map" }, canvas),
      softmax,
      rest,
    ),
    step(
      "3. Value",
      "The key's value, times its share, is what this token hands on to the query. The head's output adds up what " +
      "all tokens hand on.",
      values,
    ),
  );

  function fill(view, at) {
    const {
      q,
      k,
      products: product,
      scores,
      highest,
      powers,
      shares,
      value,
      handed,
      output,
    } = takeApart(model, view.result, at);
    const decimal = (x) => x.toFixed(digits),
      added = addUp(product, digits),
      dotted = +added.sum,
      hundred = perCent(shares);
    products.replaceChildren(
      numberTable(
        "Query times key",
        ["", "query", "key", "query × key"],
        product.map((_, i) => ({ cells: [String(i), decimal(q[i]), decimal(k[i]), added.shown[i]] })),
        ["sum", "", "", added.sum],
      ),
      h(
        "p",
        {},
        `${added.sum} / ${+root.toFixed(4)} = `,
        h("b", { "data-apart": "score" }, decimal(dotted / root)),
        ", the score.",
      ),
    );
    const raised = addUp(powers, digits),
      score = decimal(scores[at.key]);
    softmax.replaceChildren(
      h(
        "p",
        {},
        `e^(${score} − ${decimal(highest)}) = ${raised.shown[at.key]}; all ${n} together are ${raised.sum}. `,
        `${raised.shown[at.key]} / ${raised.sum} = `,
        h("b", { "data-apart": "share" }, `${hundred[at.key]} %`),
        ", the share.",
      ),
    );
    const line = (i) => ({ chosen: i === at.key, cells: [names[i], decimal(scores[i]), raised.shown[i], hundred[i]] });
    rest.lastChild.replaceChildren(
      numberTable(
        "Softmax over all tokens",
        ["key", "score", "e^(score − highest)", "share, %"],
        names.map((_, i) => line(i)),
        ["sum", "", raised.sum, "100.00"],
      ),
    );
    values.replaceChildren(
      numberTable(
        "Share times value",
        ["", "value", "share × value", "head's output"],
        value.map((x, i) => ({ cells: [String(i), decimal(x), decimal(handed[i]), decimal(output[i])] })),
      ),
    );
    said.textContent =
      `Layer ${at.layer}, head ${at.head}: ${names[at.query]} gives ${hundred[at.key]} % of its attention to ` +
      `${names[at.key]}; ` +
      `evenly shared, each token would get ${(100 / n).toFixed(2)} %.`;
    const grid = [model.rows, model.columns],
      image = asImage(model, view.pixels),
      { c, pixel } = begin(canvas, image, 0, 336);
    const map = attentionOf(model, view.result, { ...at, query: queryOf(model, at.query) });
    drawMap(c, image, 0, grid, map, scaleOf(map), 0);
    for (const token of [at.query, at.key])
      if (token >= model.cls) drawRing(c, image, 0, grid, queryOf(model, token), pixel);
    canvas.setAttribute("aria-label", `Shares of all patches; most: ${names[model.cls + mostOf(map)]}`);
  }

  function show(view) {
    shown = view;
    const { state, result } = view,
      mixed = state.query === "mean" || state.head === null;
    steps.hidden = !result;
    note.hidden = !mixed || !result;
    const at = { layer: state.layer, head: state.head ?? 0, query: tokenOf(model, state.query) };
    const instead = [state.head === null && "head 0", state.query === "mean" && names[at.query]].filter(Boolean);
    const are = instead.length > 1 ? "are" : "is";
    note.textContent = `A mean has no numbers of its own: ${instead.join(" and ")} ${are} taken apart.`;
    for (const [{ select }, value] of [
      [layer, at.layer],
      [head, at.head],
      [query, at.query],
      [keys, key === null ? 0 : key + 1],
    ])
      select.value = value;
    if (!result) return void (said.textContent = "Nothing is drawn yet, so no token has anything to say.");
    const off = isOff({ off: state.off, layer: at.layer }, at.head);
    at.key =
      key ??
      mostOf(result.attention[at.layer].subarray((at.head * n + at.query) * n, (at.head * n + at.query + 1) * n));
    fill(view, at);
    if (off) said.textContent += " The head is switched off: what it hands on is multiplied by 0.";
  }

  return {
    name: "apart",
    title: "One head taken apart",
    about: "For one query and one key: each number on the way from the tokens to what is handed on.",
    node: h(
      "div",
      { class: "panel" },
      h("div", { class: "panel-choices" }, layer.node, head.node, query.node, keys.node),
      said,
      note,
      steps,
    ),
    show,
  };
}
