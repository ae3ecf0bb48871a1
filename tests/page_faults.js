// What a reader can't read on the page as it is now: text too faint, things wider than the page, code cut off.
() => {
  const numbers = (colour) => {
    const found = colour.match(/-?[\d.]+(e-?\d+)?/g).map(Number);
    const srgb = colour.startsWith("color(srgb");
    const [red, green, blue] = found.map((value) => (srgb ? value * 255 : value));
    return [red, green, blue, found.length > 3 ? found[3] : 1];
  };
  const over = ([red, green, blue, alpha], below) =>
    [red, green, blue].map((value, i) => value * alpha + below[i] * (1 - alpha));
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const parent = (node) => node.parentElement || node.getRootNode().host;

  // the colour behind an element, and how opaque the element is with all that it is in
  const papers = new Map();
  const paper = (element) => {
    if (!element) return { colour: [255, 255, 255], opacity: 1 };
    if (!papers.has(element)) {
      const style = getComputedStyle(element), below = paper(parent(element));
      papers.set(element, {
        colour: over(numbers(style.backgroundColor), below.colour),
        opacity: below.opacity * style.opacity,
      });
    }
    return papers.get(element);
  };

  const where = (element) => {
    const names = [];
    for (let at = element; at && names.length < 3; at = parent(at))
      names.unshift(at.localName + (at.id ? `#${at.id}` : "") + [...at.classList].map((name) => `.${name}`).join(""));
    return names.join(" ");
  };
  const seen = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  };

  const faint = new Map();
  const look = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (node.nodeType === Node.ELEMENT_NODE) {
        if (node.shadowRoot) look(node.shadowRoot);
        continue;
      }
      const words = node.data.trim(), element = parent(node);
      if (!words || ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName) || !seen(element)) continue;
      const style = getComputedStyle(element), { colour, opacity } = paper(element);
      const ink = numbers(element instanceof SVGElement ? style.fill : style.color);
      const ratio = contrast(over([...ink.slice(0, 3), ink[3] * opacity], colour), colour);
      if (ratio < 4.5) faint.set(where(element), `${ratio.toFixed(2)} ${where(element)}: ${words.slice(0, 40)}`);
    }
  };
  look(document.body);

  const inBox = (element) => {
    for (let at = parent(element); at && at !== document.body; at = parent(at))
      if (getComputedStyle(at).overflowX !== "visible") return true;
    return false;
  };
  const width = document.documentElement.clientWidth, wide = [];
  if (document.documentElement.scrollWidth > width)
    for (const element of document.body.querySelectorAll("*"))
      if (element.getBoundingClientRect().right > width + 1 && seen(element) && !inBox(element))
        wide.push(`${Math.round(element.getBoundingClientRect().right)} of ${width} px ${where(element)}`);

  const cut = [...document.querySelectorAll("pre")]
    .filter((block) => seen(block) && block.scrollWidth > block.clientWidth + 1)
    .map((block) => ({
      block: `${where(block)}: ${block.textContent.trim().slice(0, 60)}`,
      kind: block.closest(".signature") ? "signature" : block.closest(".cell-output") ? "output" : "code",
    }));
  const scrolls = [...document.querySelectorAll("*")]
    .filter((box) => seen(box) && ["auto", "scroll"].includes(getComputedStyle(box).overflowX) && box.scrollWidth > box.clientWidth + 1)
    .map(where);
  return { faint: [...faint.values()], wide, pageWidth: document.documentElement.scrollWidth, cut, scrolls };
}
