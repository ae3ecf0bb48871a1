// How <vit-attention> looks.

export const STYLE = `
  /* The host page decides about text colour and background: all here is mixed from them, so light and dark work. */
  :host { display: block; container-type: inline-size; font: 14px/1.45 system-ui, sans-serif; max-width: 960px;
    print-color-adjust: exact; -webkit-print-color-adjust: exact; /* or bars and scales are white on paper */
    --line: color-mix(in srgb, currentColor 22%, transparent); --soft: color-mix(in srgb, currentColor 9%, transparent);
    --quiet: color-mix(in srgb, currentColor 72%, transparent); --accent: #3b82f6; }
  :host([hidden]), [hidden] { display: none !important; }
  * { box-sizing: border-box; }
  .root { display: grid; gap: 12px; padding: 4px; }
  .top { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; }
  .title { font-weight: 600; overflow-wrap: anywhere; flex: 1 1 12ch; }
  .help { padding: 4px 12px 10px; border: 1px solid var(--line); border-radius: 6px; font-size: 13.5px; }
  .help h4 { margin: 8px 0 4px; font-size: 14px; }
  .help dl, .help ul { margin: 0; padding: 0; display: grid; gap: 4px 18px;
    grid-template-columns: repeat(auto-fit, minmax(min(100%, 34ch), 1fr)); }
  .help dt { display: inline; font-weight: 600; }
  .help dd { display: inline; margin: 0; }
  .help li { display: grid; grid-template-columns: 30px 1fr; gap: 8px; align-items: center; list-style: none; }
  .swatch { height: 14px; border-radius: 2px; }
  .note { padding: 6px 10px; border-left: 3px solid var(--accent); background: var(--soft); }
  .strip { display: flex; gap: 6px; overflow-x: auto; padding: 3px; }
  .columns { display: grid; gap: 14px; grid-template: "left" "bars" "many" / minmax(0, 1fr); }
  .paper .columns { grid-template: "paper" "bars" "left" "many" / minmax(0, 1fr); }
  .stage { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 4px; align-items: start; }
  .wide .stage { grid-template-columns: 1fr; }
  figure { margin: 0; display: grid; gap: 4px; min-width: 0; }
  figcaption, .quiet { color: var(--quiet); font-size: 12.5px; }
  canvas { display: block; width: 100%; border-radius: 3px; }
  button canvas { margin: 0 auto; }
  .thumb canvas { image-rendering: pixelated; width: 46px; }
  .stage canvas { cursor: crosshair; touch-action: manipulation; }
  .stage figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .axes { display: grid; grid-template: 14px auto / 11px minmax(0, 1fr); font-size: 10px; line-height: 1;
    color: var(--quiet); }
  .axes > * { position: relative; }
  .axes span { position: absolute; transform: translate(-50%, -50%); top: 50%; left: 50%; }
  .axes .numbers { grid-column: 2; }
  .axes .numbers + .numbers { grid-column: 1; }
  .badge { position: absolute; top: 50%; left: 50%; transform: translate(-50%, -50%); padding: 4px 8px;
    border-radius: 4px; background: #fff; color: #111; border: 1px solid #111; font-size: 14px; line-height: 1.3;
    text-align: center; pointer-events: none; }
  .off canvas { opacity: .2; }
  /* Room for the longest text, so that nothing below it moves. */
  .label { min-height: 7.25em; }
  .two { min-height: 2.9em; }
  .waiting canvas { opacity: .45; }
  button, .bar { font: inherit; color: inherit; background: transparent; border: 1px solid var(--line);
    border-radius: 6px; padding: 3px 9px; min-height: 28px; cursor: pointer; }
  button:hover { background: var(--soft); }
  button[aria-pressed=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
  button:disabled, input:disabled { opacity: .4; cursor: default; }
  :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
  .thumb { padding: 2px; flex: none; min-width: 50px; max-width: 110px; min-height: 0; font-size: 12px;
    overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .chips { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
  .controls { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: 6px 10px; align-items: center; }
  .controls output { min-width: 8ch; font-variant-numeric: tabular-nums; }
  input[type=range] { width: 100%; min-width: 0; margin: 0; min-height: 24px; accent-color: var(--accent); }
  .between { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: 0 8px;
    min-height: 30px; }
  /* Small maps of one kind lie over unseen boxes of the other kind, so that there is room for both. */
  .stack { display: grid; }
  .stack > * { grid-area: 1 / 1; }
  .many { display: grid; grid-template-columns: repeat(auto-fill, minmax(74px, 1fr)); gap: 8px; align-content: start; }
  .wide .many { grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); }
  .many button { padding: 3px; display: block; width: 100%; font-size: 12px; line-height: 1.3; min-height: 0; }
  .many button > span { display: block; height: 2.6em; overflow: hidden; }
  .many .switch { margin-top: 4px; padding: 0; font-size: 14px; min-height: 30px; white-space: nowrap; }
  .unseen { visibility: hidden; }
  .bars { display: grid; gap: 2px; }
  .bar { display: grid; grid-template-columns: minmax(2ch, auto) 1fr 6ch; gap: 8px; align-items: center;
    text-align: left; border-color: transparent; padding: 0 6px; min-height: 24px; font-variant-numeric: tabular-nums; }
  div.bar { cursor: default; }
  .bar span:first-child { max-width: 9ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .bar span:last-child { text-align: right; }
  .bar.said { font-weight: 700; }
  .track { position: relative; height: 12px; background: var(--soft); border-radius: 2px; }
  .fill { height: 100%; background: var(--accent); border-radius: 2px; }
  .ghost { position: absolute; top: -3px; bottom: -3px; width: 2px; background: currentColor; }
  .legend { margin-left: 11px; }
  .legend i { display: block; height: 10px; border-radius: 2px; }
  .legend .numbers { display: flex; justify-content: space-between; min-height: 1.45em; }
  .check { display: flex; gap: 6px; align-items: center; min-height: 28px; cursor: pointer; }
  .check input { width: 16px; height: 16px; margin: 0; accent-color: var(--accent); }
  .copied img { display: block; max-width: 100%; border: 1px solid var(--line); }
  .copied:empty { display: none; }
  @container (min-width: 480px) {
    .paper .columns { grid-template: "paper bars" "left left" "many many" / minmax(0, 5fr) minmax(0, 3fr); }
    .stage { gap: 10px; }
    .axes { grid-template: 15px auto / 17px minmax(0, 1fr); font-size: 11px; }
    .legend { margin-left: 17px; }
    .label { min-height: 4.35em; }
  }
  @container (min-width: 640px) {
    .columns { grid-template: "left bars" auto "left many" 1fr / minmax(0, 5fr) minmax(0, 3fr); }
    .paper .columns { grid-template: "paper bars" auto "left many" auto / minmax(0, 5fr) minmax(0, 3fr); }
    /* where the model is in the page, the paper stands beside the maps, and all is on the first screen */
    .paper.live .columns { grid-template: "left paper" auto "left bars" auto "left many" 1fr
      / minmax(0, 5fr) minmax(0, 3fr); }
    .label { min-height: 5.8em; }
  }
  [data-told] { outline: 3px solid #c2410c; outline-offset: 3px; border-radius: 4px; scroll-margin-bottom: 260px; }
  @container (min-width: 840px) { .label { min-height: 4.35em; } }
  @container (min-width: 1020px) {
    .paper .columns, .paper.live .columns { gap: 10px 20px; grid-template: "paper left bars" auto "paper left many" 1fr
      / 280px minmax(0, 660px) minmax(220px, 1fr); }
  }
  @media (forced-colors: active) {
    .fill, .ghost, .legend i, .swatch, .badge { forced-color-adjust: none; }
    .fill { background: Highlight; }
    .ghost { background: CanvasText; }
    .track { border: 1px solid CanvasText; }
    button[aria-pressed=true] { outline: 3px solid Highlight; outline-offset: -1px; }
    button:disabled { color: GrayText; border-color: GrayText; opacity: 1; }
    :focus-visible { outline: 3px dashed Highlight !important; outline-offset: 2px !important; }
  }
`;
