// How the panels and the walk look, on screen and on paper. Everything is mixed from the page's own text colour.

export const PANEL_STYLE = `
  .panel { --line: color-mix(in srgb, currentColor 22%, transparent);
    --soft: color-mix(in srgb, currentColor 9%, transparent);
    --quiet: color-mix(in srgb, currentColor 72%, transparent); --accent: #3b82f6;
    container-type: inline-size; display: grid; gap: 10px; min-width: 0; grid-template-columns: minmax(0, 1fr);
    font-variant-numeric: tabular-nums; }
  .panel [hidden], .walk [hidden] { display: none !important; }
  .panel p, .panel h4, .panel figure { margin: 0; }
  .panel h4 { font-size: 14px; margin-bottom: 4px; }
  .panel section { min-width: 0; display: grid; gap: 6px; align-content: start; grid-template-columns: minmax(0, 1fr); }
  .panel canvas { display: block; width: 100%; border-radius: 3px; }
  .panel button, .walk button, .panel select { font: inherit; color: inherit; background: transparent;
    border: 1px solid color-mix(in srgb, currentColor 55%, transparent);
    border-radius: 6px; padding: 3px 9px; min-height: 32px; cursor: pointer; justify-self: start; }
  .panel select option { color: CanvasText; background: Canvas; }
  .panel button:disabled, .walk button:disabled { border-style: dashed; cursor: default;
    color: color-mix(in srgb, currentColor 72%, transparent); }
  .panel :focus-visible, .walk :focus-visible { outline: 3px solid #3b82f6; outline-offset: 2px; }
  .panel input[type=range] { width: 100%; min-width: 0; margin: 0; min-height: 28px; accent-color: #3b82f6; }
  .panel-said { font-weight: 600; min-height: 2.9em; }
  .panel-quiet { color: var(--quiet); font-size: 12.5px; }
  .panel-unseen { visibility: hidden; }
  .panel-scroll { overflow-x: auto; }
  .panel-choices { display: flex; flex-wrap: wrap; gap: 6px 14px; }
  .panel-choice { display: grid; gap: 2px; font-size: 12.5px; }
  .panel-curve { max-width: 560px; }
  .panel table { border-collapse: collapse; width: 100%; }
  .panel th, .panel td { font: inherit; font-variant-numeric: tabular-nums; padding: 1px 3px; text-align: right;
    border: 0; background: none; color: inherit; }
  .panel-numbers { font-size: 12px; }
  .panel-numbers thead th { font-weight: 600; border-bottom: 1px solid var(--line); vertical-align: bottom; }
  .panel-numbers tfoot > tr > * { font-weight: 600; border-top: 1px solid var(--line); }
  .panel-numbers th[scope=row], .panel-numbers thead th:first-child { text-align: left; }
  .panel .panel-numbers .panel-first > * { font-weight: 700; background: var(--soft); }

  .panel-bars th { width: 1%; text-align: left; white-space: nowrap; max-width: 12ch; overflow: hidden;
    text-overflow: ellipsis; }
  .panel-bars td:last-child { width: 1%; white-space: nowrap; min-width: 6ch; font-size: 12.5px; }
  .panel-bars .panel-first > * { font-weight: 700; }
  .panel-track { position: relative; height: 12px; background: var(--soft); border-radius: 2px; }
  .panel-fill { height: 100%; background: var(--accent); border-radius: 2px; }
  .panel-before { position: absolute; top: -3px; bottom: -3px; width: 2px; background: currentColor; }

  .layers-table { table-layout: fixed; font-size: 12.5px; }
  .panel .layers-table th, .panel .layers-table td { text-align: center; padding: 3px 0; }
  .panel .layers-table tr > :first-child { width: 76px; text-align: left; font-size: 12px; }
  .panel .layers-table tbody td { background: color-mix(in srgb, #3b82f6 var(--share, 0%), transparent);
    border: 1px solid var(--line); }
  .panel .layers-table tbody td.layers-first { font-weight: 700; outline: 2px solid currentColor;
    outline-offset: -2px; }
  .layers-lens { display: grid; grid-template-columns: repeat(auto-fit, minmax(64px, 112px)); gap: 8px; }
  .layers-lens figure { margin: 0; }
  .layers-lens figcaption { text-align: center; font-size: 12px; }
  .panel .layers-decided > th { font-weight: 700; text-decoration: underline; }

  .apart-steps { display: grid; gap: 16px; grid-template-columns: minmax(0, 1fr); }
  .apart-map { max-width: 220px; }
  .apart-all { max-height: 340px; overflow-y: auto; }
  .panel summary { cursor: pointer; min-height: 28px; }

  .panel-board { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 4px; }
  .panel-board button { padding: 0; min-height: 30px; width: 100%; position: relative; border-radius: 4px; }
  .panel-board button[aria-checked=true] { box-shadow: inset 0 -4px 0 var(--accent); }
  .panel-board button[aria-checked=false] { border-style: dashed; text-decoration: line-through;
    background: var(--soft); }
  .change-parts, .move-parts { display: grid; gap: 16px; align-items: start; grid-template-columns: minmax(0, 1fr); }
  .change-heads { display: grid; gap: 4px; grid-template-columns: 76px minmax(0, 1fr); }
  .change-patches { position: relative; max-width: 340px; width: 100%; }
  .change-patches .panel-board { position: absolute; inset: 0; gap: 0; grid-auto-rows: 1fr; }
  .change-patches .panel-board button { min-height: 0; border: 0; border-radius: 0; box-shadow: none;
    touch-action: manipulation; }
  .change-patches .panel-board button[aria-checked=false] { text-decoration: none; outline: 1px solid #1e3a8a;
    outline-offset: -1px;
    background: repeating-linear-gradient(45deg, #fff 0 5px, #93b4ee 5px 7px); }
  .change-patches .panel-board button:focus-visible { outline: 3px solid #c2410c; outline-offset: -3px; }

  .move-row { display: grid; grid-template-columns: 84px minmax(0, 1fr) 78px; gap: 8px; align-items: center;
    font-size: 13px; }
  .move-seen { max-width: 240px; }
  .why-maps { display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr));
    max-width: 760px; }
  .why-maps figure { display: grid; gap: 4px; align-content: end; }
  .why-scale { max-width: 320px; }
  .why-scale i { display: block; height: 10px; border-radius: 2px; }
  .why-scale div { display: flex; justify-content: space-between; }
  .panel .why-trust { border-left: 3px solid var(--accent); background: var(--soft); padding: 6px 10px;
    font-size: 13px; }

  .walk { display: grid; gap: 6px; }
  .walk-step { border: 2px solid #3b82f6; border-radius: 8px; padding: 8px 12px; display: grid; gap: 6px; }
  .walk-step h3, .walk-step p { margin: 0; font-size: 14px; }
  .walk-step h3 { font-size: 15px; }
  .walk-do { font-weight: 600; }
  .walk-do::before { content: "→ "; }
  .walk-done .walk-do { text-decoration: line-through; }
  .walk-buttons { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }

  @container (min-width: 640px) {
    .apart-steps { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 20px; }
    .change-parts { grid-template-columns: minmax(0, 4fr) minmax(0, 5fr) minmax(0, 5fr); }
    .move-parts { grid-template-columns: minmax(0, 5fr) minmax(0, 2fr) minmax(0, 4fr); }
  }
  @media (forced-colors: active) {
    .panel-fill, .panel-before, .why-scale i { forced-color-adjust: none; }
    .panel-fill { background: Highlight; }
    .panel-before { background: CanvasText; }
    .panel-track { border: 1px solid CanvasText; }
    .panel-board button[aria-checked=true] { border: 2px solid Highlight; }
    .change-patches .panel-board button[aria-checked=true] { border: 0; forced-color-adjust: none; }
    .panel button:disabled, .walk button:disabled { color: GrayText; border-color: GrayText; opacity: 1; }
    .panel :focus-visible, .walk :focus-visible { outline: 3px dashed Highlight !important; }
  }
  @media print { /* numbers and pictures, nothing to press */
    .panel { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
    .panel button:not(.panel-board button), .walk, .panel-choices, .move-row input { display: none !important; }
    .panel-scroll, .apart-all { overflow: visible; max-height: none; }
    .panel section, .panel figure, .panel tr { break-inside: avoid; }
  }
`;
