// A small curve: how probable some classes are along a range, which of them leads where, and where one stands now.

import { mostOf } from "./tokens.js";

const WIDTH = 720,
  HEIGHT = 250,
  LEFT = 84,
  RIGHT = 30,
  TOP = 30,
  BOTTOM = 44;

// Neighbours with the same answer are one stretch: [{ said, from, to }], places counted from 0.
export function stretches(answers) {
  const found = [];
  answers.forEach((said, i) => {
    if (found.at(-1)?.said === said) found.at(-1).to = i;
    else found.push({ said, from: i, to: i });
  });
  return found;
}

// `known`: probabilities at each place, [classes] each, as far as they are known; `ticks`: a text for some places.
export function drawCurve(canvas, { known, count, now, ticks, classes }) {
  const c = canvas.getContext("2d"),
    { color } = getComputedStyle(canvas);
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const x = (i) => LEFT + ((WIDTH - LEFT - RIGHT) * i) / Math.max(count - 1, 1),
    y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
  const line = (points) => {
    c.beginPath();
    points.forEach(([a, b]) => c.lineTo(a, b));
    c.stroke();
  };
  c.font = "22px system-ui, sans-serif";
  c.fillStyle = c.strokeStyle = color;
  c.lineWidth = 1.5;
  c.globalAlpha = 0.35;
  for (const share of [0, 1])
    line([
      [LEFT, y(share)],
      [WIDTH - RIGHT, y(share)],
    ]);
  c.globalAlpha = 1;
  c.textAlign = "right";
  for (const share of [0, 1]) c.fillText(share ? "100 %" : "0 %", LEFT - 8, y(share) + 8);
  c.textAlign = "center";
  for (const [i, text] of ticks) {
    const half = c.measureText(text).width / 2;
    c.fillText(text, Math.min(Math.max(x(i), half), WIDTH - half), HEIGHT - 10);
  }
  const answers = known.map(mostOf),
    here = answers[now ?? 0];
  for (const said of new Set(answers)) {
    // each that leads somewhere, named where it is highest; the answer here is blue
    const heights = known.map((shares) => shares[said]);
    c.strokeStyle = said === here ? "#3b82f6" : color;
    c.lineWidth = said === here ? 6 : 2;
    line(heights.map((share, i) => [x(i), y(share)]));
    c.font = "600 24px system-ui, sans-serif";
    c.fillText(classes[said], Math.max(x(mostOf(heights)), LEFT + 12), Math.max(y(Math.max(...heights)) - 8, 22));
  }
  if (now === null) return;
  c.strokeStyle = "#c2410c";
  c.lineWidth = 4;
  line([
    [x(now), TOP - 8],
    [x(now), HEIGHT - BOTTOM + 8],
  ]);
}
