// The view as a picture: to copy, or where that is not possible to save, or at least to see.

import { h } from "./dom.js";

const FONT = "system-ui, sans-serif", ACROSS = 8, LINE = 78; // small maps in a row, letters in a line

function lines(text) {
  return text.split(" ").reduce((all, word) => {
    const last = all.at(-1) + word;
    return last.length > LINE ? [...all, word + " "] : [...all.slice(0, -1), last + " "];
  }, [""]);
}

// `view`: title, label, left, middle and right (the titles of the columns), digit and heat (canvases, heat may be
// null), bars [name, share in per cent, words] and many [canvas, words].
export function drawPicture({ title, label, left, middle, right, digit, heat, bars, many }) {
  const canvas = h("canvas"), c = canvas.getContext("2d");
  const text = (words, x, y, font = "24px") => ((c.font = `${font} ${FONT}`), c.fillText(words, x, y));
  const fit = (from, x, y, side) => {
    const scale = side / Math.max(from.width, from.height);
    c.drawImage(from, x, y, scale * from.width, scale * from.height);
  };
  canvas.width = 1480;
  canvas.height = 760 + 170 * Math.ceil(many.length / ACROSS);
  c.fillStyle = "#fff";
  c.fillRect(0, 0, canvas.width, canvas.height);
  c.fillStyle = "#111";
  text(title, 40, 56, "600 30px");
  [left, middle, right].forEach((words, i) => text(words, 40 + 520 * i, 104));
  fit(digit, 40, 120, 480);
  if (heat) fit(heat, 560, 120, 480);
  bars.slice(0, 14).forEach(([name, share, words], i) => {
    c.fillStyle = "#111";
    text(name.slice(0, 9), 1080, 146 + 34 * i);
    text(words, 1360, 146 + 34 * i);
    c.fillStyle = "#3b82f6";
    c.fillRect(1180, 130 + 34 * i, 1.7 * share, 18);
  });
  c.fillStyle = "#111";
  lines(label).forEach((line, i) => text(line, 40, 646 + 32 * i));
  many.forEach(([small, words], i) => {
    const x = 40 + 176 * (i % ACROSS), y = 730 + 170 * Math.floor(i / ACROSS);
    fit(small, x, y, 130);
    text(words, x, y + 152, "18px");
  });
  return canvas;
}

// Returns what to say of it, and nodes to show.
export async function copyPicture(canvas, words, name = "attention.png") {
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    return ["Copied."];
  } catch { // no clipboard here, or not allowed: a file then; and where that may be refused, the picture itself
    if (!mayDownload(window)) {
      const way = "Press the picture with the right button, or long with a finger, to keep it.";
      return [`This page may neither copy nor save. ${way}`, h("img", { src: canvas.toDataURL(), alt: words })];
    }
    const link = h("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    return [`Saved as ${name}.`];
  }
}

// Is a download known to be allowed? A frame may forbid it, and one of another origin does not say whether it does.
function mayDownload(view) {
  if (view === view.parent) return view.origin !== "null" || view.location.protocol === "file:"; // else a sandbox
  try {
    const { sandbox } = view.frameElement; // null where the page around may not be seen
    const allowed = !view.frameElement.hasAttribute("sandbox") || sandbox.contains("allow-downloads");
    return allowed && mayDownload(view.parent);
  } catch {
    return false;
  }
}
