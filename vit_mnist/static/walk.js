// A guided walk: eleven short steps, each a sentence or two and one thing to do.
//
// Each step names the part of the page that it speaks of; the host outlines it. What has been done is seen from the
// state, so a step can also be passed over, left and taken up at any time; the host keeps its number in `state.walk`.

import { h } from "./dom.js";

// The parts of a page: elements with data-part="pad" and so on.
export const PARTS = ["pad", "seen", "query", "map", "layer", "head", "bars", "panels"];

const differs = (name) => (view, start) => JSON.stringify(view.state[name]) !== JSON.stringify(start.state[name]);
const opens = (panel) => (view) => view.state.panel === panel;

export const STEPS = [
  {
    title: "Patches",
    part: "seen",
    do: "Draw a digit, or press an example.",
    done: (view) => Boolean(view.pixels),
    words:
      "The model never sees your line. It sees 28 × 28 pixels, cut into squares: these patches are all that it reads.",
  },
  {
    title: "Tokens",
    part: "query",
    do: "Press any patch that has ink.",
    done: (view, start) => Array.isArray(view.state.query) && differs("query")(view, start),
    words:
      "Each patch becomes a token: a row of numbers, made from its pixels by one learned table that is the same for " +
      "all patches.",
  },
  {
    title: "Position",
    part: "panels",
    do: "Open “Move, turn, grow” and move the drawing.",
    done: (view, start) => differs("move")(view, start),
    words:
      "Cut up, a picture is a heap. So each token is given a learned position: the same ink elsewhere is another " +
      "token, and the answer can tip.",
  },
  {
    title: "Query",
    part: "query",
    do: "Press another patch, or move the frame with the arrow keys.",
    done: differs("query"),
    words:
      "Every token asks a question, its query. The framed patch is the one that looks; the map beside it shows how " +
      "much it takes from each other patch.",
  },
  {
    title: "Key",
    part: "panels",
    do: "Open “One head taken apart”.",
    done: opens("apart"),
    words:
      "Every token also carries a key, which answers questions. Query times key, added up, is the score; a softmax " +
      "makes shares of all scores. Here are the numbers.",
  },
  {
    title: "Head",
    part: "head",
    do: "Go through the heads with the slider.",
    done: differs("head"),
    words:
      "In each layer several heads look at the same time, each with queries and keys of its own: one may follow " +
      "strokes, one may look for corners.",
  },
  {
    title: "Layer",
    part: "layer",
    do: "Go through the layers with the slider.",
    done: differs("layer"),
    words:
      "What the heads bring together is mixed and handed to the next layer, which looks again: at tokens that know " +
      "more by now.",
  },
  {
    title: "Residual stream",
    part: "panels",
    do: "Open “Switch off, empty” and switch a whole layer off.",
    done: (view, start) => differs("off")(view, start),
    words:
      "A layer only adds to each token; what was there stays. This stream runs through the model, and without a " +
      "layer's heads it often still arrives.",
  },
  {
    title: "CLS",
    part: "panels",
    do: "Open “After every layer”.",
    done: opens("layers"),
    words:
      "One token belongs to no patch: CLS collects what the answer needs, and the last layer's CLS is read as ten " +
      "probabilities. Read earlier, it shows when the decision falls.",
  },
  {
    title: "Why",
    part: "panels",
    do: "Open “Why this and not that” and choose the second class.",
    done: (view, start) => opens("why")(view) && differs("other")(view, start),
    words:
      "Empty one patch after the other: where the lead over another digit shrinks, there the model found its reason. " +
      "How far that can be trusted was measured, and stands below.",
  },
  {
    title: "What it can't do",
    part: "pad",
    do: "Clear the pad and draw something that is no digit.",
    done: (view, start) =>
      Boolean(view.drawn ?? view.pixels) && String(view.drawn ?? view.pixels) !== String(start.drawn ?? start.pixels),
    words:
      "It knows ten digits and nothing else: of a house, too, it says a digit. Shares add up to 100 %, whatever is " +
      "drawn; being sure is not being right.",
  },
];

// The model that is read as the mean of its tokens has no CLS to speak of.
export const stepsFor = (model) => STEPS.filter(({ title }) => model.cls || title !== "CLS");

export function walk(host, outline) {
  // outline(part): frame that part of the page; null: none
  const steps = stepsFor(host.model);
  let begun = null,
    at = null,
    done = false,
    latest = null; // begun: the view as it was when the step came up
  const title = h("h3", { tabindex: -1 }),
    words = h("p"),
    task = h("p", { class: "walk-do" }),
    state = h("span", { class: "walk-state", role: "status" });
  const go = (step) => host.set({ walk: step === null ? null : Math.min(Math.max(step, 0), steps.length - 1) });
  const next = () => (at === steps.length - 1 ? go(null) : go(at + 1));
  const back = h("button", { "data-walk": "back", onclick: () => go(at - 1) }, "Back");
  const on = h("button", { "data-walk": "next", onclick: next }, "Next");
  const leave = h("button", { "data-walk": "leave", onclick: () => go(null) }, "Leave");
  const step = h(
    "div",
    { class: "walk-step", hidden: "" },
    title,
    words,
    task,
    h("div", { class: "walk-buttons" }, back, on, leave, state),
  );
  let kept = 0; // where it is taken up again
  const start = h("button", { "data-walk": "start", onclick: () => go(kept) }, "Guided walk");
  const node = h(
    "section",
    {
      class: "walk",
      "aria-label": "Guided walk",
      onkeydown: (event) => {
        if (event.key === "Escape" && at !== null) go(null);
        else if (event.key === " " && at !== null && event.target.tagName !== "BUTTON") next();
        else return;
        event.preventDefault();
        event.stopPropagation();
      },
    },
    start,
    step,
  );

  function enter(view) {
    const before = at;
    at = view.state.walk === null ? null : Math.min(view.state.walk, steps.length - 1);
    begun = view;
    done = false;
    step.hidden = at === null;
    start.hidden = at !== null;
    start.textContent = kept ? `Guided walk: go on at step ${kept + 1}` : "Guided walk";
    outline(at === null ? null : steps[at].part);
    if (at === null) return void (before !== null && start.focus());
    kept = at === steps.length - 1 ? 0 : at;
    title.textContent = `${at + 1} of ${steps.length}: ${steps[at].title}`;
    words.textContent = steps[at].words;
    task.textContent = steps[at].do;
    back.disabled = at === 0;
    on.textContent = at === steps.length - 1 ? "End" : "Next";
    title.focus(); // so that it is read out, and space goes on
  }

  return {
    node,
    steps,
    show(view) {
      latest = view;
      const wanted = view.state.walk === null ? null : Math.min(view.state.walk, steps.length - 1);
      if (begun === null || wanted !== at) enter(latest);
      if (at === null) return;
      done ||= Boolean(steps[at].done(view, begun));
      step.classList.toggle("walk-done", done);
      state.textContent = done ? "Done." : "";
    },
  };
}
